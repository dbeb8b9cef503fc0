"""`manage.py ingest`: files and folders into a corpus."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from tqdm import tqdm

from ingestion import folders
from ingestion.command_options import add_person_and_corpus, person
from ingestion.errors import SENTENCES, UploadRefused
from ingestion.gathering import expanded, files_under, fits
from ingestion.models import Corpus, Document
from ingestion.waiting import CannotFinish, until_finished


@dataclass(slots=True)
class _File:
    """One file of the command line and what became of it."""

    path: Path
    document: Document | None = None
    refused: str = ""
    members: list[_File] = field(default_factory=list)
    was_there: bool = False
    is_told: bool = False
    begun_at: datetime = field(default_factory=timezone.now)

    @property
    def is_finished(self) -> bool:
        return self.document is None or self.document.is_terminal

    @property
    def has_failed(self) -> bool:
        return self.document is None or self.document.is_failed

    @property
    def error_code(self) -> str:
        return self.refused or (self.document.error_code if self.document else "")

    @property
    def sentence(self) -> str:
        return SENTENCES.get(self.error_code, SENTENCES["internal_error"])

    @property
    def seconds(self) -> float:
        """From the upload to the end of the work on it, also where it failed before."""
        if self.document is None or self.was_there or not self.document.is_terminal:
            return 0.0
        began = max(self.begun_at, self.document.created_at)
        return (self.document.state_since - began).total_seconds()

    def as_json(self) -> dict[str, Any]:
        """The fields that scripts rely on."""
        row = self.document
        return {
            "path": str(self.path),
            "document_id": row.pk if row else None,
            "state": row.state if row else "refused",
            "already_there": self.was_there,
            "error_code": self.error_code,
            "error": self.sentence if self.error_code else "",
            "notice": row.notice if row else "",
            "pages": row.pages if row else 0,
            "chunks": row.chunk_count if row else 0,
            "seconds": round(self.seconds, 2),
        }

    def as_line(self) -> str:
        """What a person reads."""
        row = self.document
        if row is None or row.is_failed:
            return f"✗ {self.path}: {self.sentence}"
        if self.was_there:
            return f"= {self.path}: already there as document {row.pk} ({row.get_state_display()})"
        if row.state != Document.State.READY:
            return f"✓ {self.path}: received as document {row.pk}"
        pages = f"{row.pages} pages, " if row.pages else ""
        notice = f"\n  {row.notice}" if row.notice else ""
        version = f", version {row.version}" if row.version > 1 else ""
        said = f"{pages}{row.chunk_count} passages, {self.seconds:.1f} s"
        return f"✓ {self.path}: {said}{version}{notice}"


class Command(BaseCommand):
    """Upload files and folders into a corpus, which is made if it is missing."""

    help = "Bring files or folders into a corpus; --wait until they can be searched."

    def add_arguments(self, parser: CommandParser) -> None:
        """`PATH…`, `--corpus`, `--as`, `--wait`, `--json`."""
        parser.add_argument(
            "paths",
            nargs="+",
            type=Path,
            metavar="PATH",
            help="Files, folders, or patterns in quotes such as 'reports/**/*.pdf'.",
        )
        for name in ("include", "exclude"):
            parser.add_argument(
                f"--{name}",
                action="append",
                default=[],
                metavar="PATTERN",
                help=f"{name.capitalize()} files whose name or path fits, such as '*.pdf'.",
            )
        add_person_and_corpus(parser)
        parser.add_argument("--wait", action="store_true", help="until every file is searchable")
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *args: object, **options: Any) -> None:
        """Exit status 1 if any file was refused or failed."""
        uploader = person(options)
        corpus = _corpus(uploader, options["corpus"])
        self._as_json = bool(options["json"])
        wanted = {"include": options["include"], "exclude": options["exclude"]}
        paths = files_under(expanded(options["paths"]))
        files = [_File(path) for path in paths if fits(path, **wanted)]
        if not files:
            raise CommandError("There are no files there that fit. Check the paths and patterns.")
        with (
            _quiet(verbosity=options["verbosity"]),
            tqdm(total=len(files), unit="file", disable=None, leave=False) as bar,
        ):
            given, files = files, []
            for asked in given:
                bar.set_description(f"receiving {asked.path.name}"[:40])
                _receive(asked, corpus, uploader)
                found = asked.members or [asked]
                bar.total = (bar.total or 0) + len(found) - 1
                files += found
                for file in found:
                    if not options["wait"] or file.is_finished:
                        self._tell(file, bar)
            if options["wait"]:
                self._wait(files, bar)
        if self._as_json:
            report = {"corpus": corpus.name, "documents": [file.as_json() for file in files]}
            self.stdout.write(json.dumps(report, ensure_ascii=False, indent=1))
        if any(file.has_failed for file in files):
            sys.exit(1)

    def _wait(self, files: Sequence[_File], bar: tqdm[Any]) -> None:
        waiting = [file for file in files if file.document is not None]

        def tell(rows: Sequence[Document]) -> None:
            current = {row.pk: row for row in rows}
            for file in waiting:
                if file.document is None or file.is_told:
                    continue
                file.document = current.get(file.document.pk)
                if file.document is None:
                    file.refused = "deleted"
                if file.is_finished:
                    self._tell(file, bar)
                elif file.document and (file.document.lease_until or file.document.error_code):
                    bar.set_description(_activity(file.document))

        try:
            until_finished({file.document.pk for file in waiting if file.document}, tell=tell)
        except CannotFinish as exc:
            raise CommandError(str(exc)) from exc

    def _tell(self, file: _File, bar: tqdm[Any]) -> None:
        file.is_told = True
        if not self._as_json:
            bar.clear()
            self.stdout.write(file.as_line())
        bar.update()


@contextmanager
def _quiet(*, verbosity: int) -> Iterator[None]:
    """Keep the log's account of every document out of the progress bar, unless asked for it."""
    log = logging.getLogger("ingestion")
    before = log.level
    if verbosity < 2:
        log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(before)


def _corpus(owner: User, name: str) -> Corpus:
    """The person's corpus of this name; made if there is none."""
    try:
        return folders.corpus_named(owner, name)
    except ValidationError as exc:
        raise CommandError(f"The corpus cannot be made: {' '.join(exc.messages)}") from exc


def _receive(file: _File, corpus: Corpus, uploader: User) -> None:
    """Hand a file in; an archive's files become `members`, each with its path in the archive."""
    try:
        file.document = folders.unchanged(corpus, file.path)
        if file.document is not None:
            file.was_there = True
            return
        received = folders.take_in(corpus=corpus, person=uploader, path=file.path)
    except UploadRefused as exc:
        _refuse(file, exc)
    except FileNotFoundError:
        file.refused = "not_found"
    except OSError:
        file.refused = "unreadable"
    else:
        if not received.is_archive:
            file.document = received.documents[0][1]
            return
        for path, document in received.documents:
            file.members.append(_File(Path(f"{file.path}/{path}"), document=document))
        for refusal in received.refusals:
            member = _File(Path(f"{file.path}/{refusal.path}"))
            _refuse(member, refusal.error)
            file.members.append(member)


def _refuse(file: _File, exc: UploadRefused) -> None:
    file.refused = exc.code
    if exc.document_id is not None:
        file.document = Document.objects.filter(pk=exc.document_id).first()
        file.was_there = file.document is not None
        file.refused = "" if file.was_there else exc.code


def _activity(document: Document) -> str:
    """A document's stage and how far it is, for the progress bar."""
    if document.error_code:
        return document.error_sentence
    share = ""
    if document.progress_total:
        share = f" {100 * document.progress_done // document.progress_total} %"
    return f"{document.name[:24]}: {document.get_state_display().lower()}{share}"
