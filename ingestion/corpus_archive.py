"""A corpus as one ZIP: its settings, its documents with their files, its passages.

    corpus.json       what it is called and how it is set
    documents.jsonl   one document a line; `file` names its bytes in the archive
    files/000001 …    the files as they were uploaded
    chunks.jsonl      one passage a line, for other programs

An import makes a new corpus and reads the files anew, as if they were uploaded: what an archive
says of passages is not believed, and its files pass every check of an upload.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from django.core.exceptions import ValidationError

from ingestion import archives, labels, services
from ingestion.errors import UploadRefused
from ingestion.models import Chunk, Corpus, Document, IndexGeneration
from ingestion.parsing import zips

if TYPE_CHECKING:
    from django.contrib.auth.models import User

FORMAT = "ragsite-corpus"
VERSION = 1
SETTINGS = (
    *("description", "language", "doubtful", "instructions", "chunk_strategy"),
    *("chunk_max_tokens", "chunk_overlap_tokens", "context", "context_max_tokens"),
)
MAX_MEMBERS = 100_000
# Of all that is unpacked, in sizes of the archive; text shrinks to a fifth.
MAX_GROWTH = 20
MAX_KNOBS = 50
MAX_JSON_BYTES = 64 * 1024 * 1024
BLOCK_BYTES = 256 * 1024


class _Pipe(io.RawIOBase):
    """Where the ZIP is written; what was written is taken out in pieces."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:
        self._pieces.append(bytes(piece))
        return len(piece)

    def taken(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def exported(corpus: Corpus) -> Iterator[bytes]:
    """The ZIP of a corpus in pieces, whatever its size; earlier versions are left out."""
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        about = {"format": FORMAT, "version": VERSION, "name": corpus.name}
        about |= {name: getattr(corpus, name) for name in SETTINGS}
        archive.writestr("corpus.json", _json(about | {"retrieval": corpus.retrieval}))
        documents = Document.objects.filter(corpus=corpus).newest().order_by("pk")
        documents = documents.exclude(state=Document.State.DELETING).prefetch_related("labels")
        files: dict[str, Path] = {}
        with archive.open("documents.jsonl", "w") as lines:
            for number, document in enumerate(documents, 1):
                path = services.blob_path(document)
                name = f"files/{number:06}" if path.is_file() else ""
                if name:
                    files[name] = path
                lines.write(_json(_fields(document, name)) + b"\n")
        yield pipe.taken()
        for name, path in files.items():
            with path.open("rb") as source, archive.open(name, "w", force_zip64=True) as target:
                while block := source.read(BLOCK_BYTES):
                    target.write(block)
                    yield pipe.taken()
        with archive.open("chunks.jsonl", "w", force_zip64=True) as lines:
            for row in _chunks(corpus):
                lines.write(_json(row) + b"\n")
                yield pipe.taken()
    yield pipe.taken()


def _fields(document: Document, file: str) -> dict[str, Any]:
    return {
        "id": document.pk,
        "name": document.name,
        "title": document.title,
        "sha256": document.sha256,
        "size_bytes": document.size_bytes,
        "state": document.state,
        "error_code": document.error_code,
        "enabled": document.enabled,
        "labels": [[one.name, one.value] for one in document.labels.all()],
        "file": file,
    }


def _chunks(corpus: Corpus) -> Iterator[dict[str, Any]]:
    names = ("document_id", "ordinal", "heading_path", "page_from", "page_to", "tokens", "text")
    rows = Chunk.objects.filter(
        generation__corpus=corpus,
        generation__state=IndexGeneration.State.LIVE,
        document__in=Document.objects.searchable(),
    )
    for row in rows.order_by("document_id", "ordinal").values("id", *names).iterator(500):
        yield dict(row)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode(errors="replace")


@dataclass(frozen=True, slots=True)
class Export:
    """An archive that `exported` gave, or says so: what it tells of the corpus, and its documents.

    Nothing in it is believed that is not checked.
    """

    about: dict[str, Any]
    rows: Sequence[dict[str, Any]]
    _archive: archives.Archive
    _members: Mapping[str, archives.Member]

    def make_corpus(self, owner: User) -> Corpus:
        """The empty corpus, private, with the settings that are valid here; its name is free."""
        return _made(owner, self.about)

    def take(self, number: int, *, corpus: Corpus, person: User, again: bool = False) -> str:
        """Upload one of `rows` into the corpus.

        Args:
            again: whether it may be there already, from a run that was killed.

        Returns:
            Why it was not taken, as a code; empty if it was.

        Raises:
            UploadRefused: `disk_full` or `corpus_gone`: no other can be taken, either.
        """
        row = self.rows[number]
        if row["file"] not in self._members:
            return "file_missing"
        try:
            with self._archive.content(self._members[row["file"]]) as content:
                pk = services.receive(
                    corpus=corpus,
                    person=person,
                    name=row["name"],
                    content=_Checked(content, row["sha256"]),  # type: ignore[arg-type]
                ).pk
        except UploadRefused as exc:
            if exc.code in ("disk_full", "corpus_gone"):
                raise
            if exc.code != "duplicate" or not again or exc.document_id is None:
                return exc.code
            pk = exc.document_id
        mine = Document.objects.filter(pk=pk)
        services.label(documents=mine, add=row["labels"])
        if not row["enabled"]:
            mine.update(enabled=False)
        return ""


@contextmanager
def opened(path: Path) -> Iterator[Export]:
    """Open what `exported` gave.

    Args:
        path: the ZIP, from anybody.

    Raises:
        UploadRefused: `no_export` where it is no such archive or its tables are malformed; also
            `corrupt`, `too_large`, `password`.
    """
    most = max(zips.MAX_UNPACKED_BYTES, MAX_GROWTH * path.stat().st_size)
    with archives.opened(path, most_bytes=most) as archive:
        members = {member.path: member for member in archive.members(most=MAX_MEMBERS)}
        about = _table(archive, members, "corpus.json")
        kept = {name: about[0].get(name) for name in ("format", "version")} if about else {}
        if len(about) != 1 or kept != {"format": FORMAT, "version": VERSION}:
            raise UploadRefused("no manifest of ours", code="no_export")
        name = about[0].get("name")
        if not _is_text(name) or not str(name).strip():
            raise UploadRefused("no name", code="no_export")
        rows = [_checked(row) for row in _table(archive, members, "documents.jsonl")]
        yield Export(about[0], rows, archive, members)


class _Checked(io.RawIOBase):
    """A stream that is refused at its end if it is not what the table says."""

    def __init__(self, content: BinaryIO, sha256: str) -> None:
        self._content, self._wanted, self._digest = content, sha256, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        piece = self._content.read(size)
        self._digest.update(piece)
        if not piece and self._digest.hexdigest() != self._wanted:
            raise UploadRefused("not the bytes of its table", code="corrupt")
        return piece


def _table(
    archive: archives.Archive, members: dict[str, archives.Member], name: str
) -> list[dict[str, Any]]:
    """The JSON objects of a member, one a line."""
    if name not in members:
        raise UploadRefused(f"no {name}", code="no_export")
    text = b""
    with archive.content(members[name]) as content:
        while piece := content.read(BLOCK_BYTES):
            text += piece
            if len(text) > MAX_JSON_BYTES:
                raise UploadRefused(f"{name} is too large", code="too_large")
    try:
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as exc:
        raise UploadRefused(f"{name}: {exc}", code="no_export") from exc
    if not all(isinstance(row, dict) for row in rows):
        raise UploadRefused(f"{name}: not objects", code="no_export")
    return rows


def _checked(row: dict[str, Any]) -> dict[str, Any]:
    """What an import uses of a document's line."""
    pairs = row.get("labels", [])
    texts = [row.get(name) for name in ("name", "sha256", "file")]
    if not all(isinstance(text, str) for text in texts) or not isinstance(pairs, list):
        raise UploadRefused("documents.jsonl: a field is missing", code="no_export")
    if not all(isinstance(p, list) and len(p) == 2 and all(map(_is_text, p)) for p in pairs):
        raise UploadRefused("documents.jsonl: a label is malformed", code="no_export")
    return {
        **dict(zip(("name", "sha256", "file"), texts, strict=True)),
        "labels": labels.read_all(labels.key((one, two)) for one, two in pairs)[
            : labels.MAX_LABELS
        ],
        "enabled": row.get("enabled") is not False,
    }


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and "\x00" not in value


def _made(owner: User, about: dict[str, Any]) -> Corpus:
    name = str(about["name"]).strip()[:100]
    taken = set(Corpus.objects.filter(owner=owner).values_list("name", flat=True))
    free = next(
        one
        for one in (name, *(f"{name} ({number})" for number in range(2, 10_000)))
        if one not in taken
    )
    corpus = Corpus(owner=owner, name=free)
    for setting in SETTINGS:
        value = about.get(setting)
        if value is None or isinstance(value, bool) or not isinstance(value, str | int):
            continue
        before = getattr(corpus, setting)
        setattr(corpus, setting, value)
        try:
            corpus.clean_fields(exclude=[f.name for f in Corpus._meta.fields if f.name != setting])
        except (ValidationError, TypeError, ValueError):
            setattr(corpus, setting, before)
    corpus.retrieval = _knobs(about.get("retrieval"))
    corpus.save(force_insert=True)
    return corpus


def _knobs(value: Any) -> dict[str, Any]:
    """Knobs by name, plain values only; what none of them can be, the search leaves out."""
    if not isinstance(value, dict) or len(value) > MAX_KNOBS:
        return {}
    plain = (str, int, float, bool)
    return {name: one for name, one in value.items() if one is None or isinstance(one, plain)}
