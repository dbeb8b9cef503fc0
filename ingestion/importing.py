"""Imports of corpora, beside the request that uploaded them: each ends as done or as failed.

A worker takes an import with one conditional UPDATE that sets a lease, writes after each document
how far it is, and another one goes on there if it was killed. One that workers die of without
getting further fails. The archive lies under `imports/` until then.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from celery import current_app
from django.db import Error as DatabaseError
from django.db import transaction
from django.utils import timezone

from ingestion import audit, blobs, corpus_archive, nudges
from ingestion.audit import Action
from ingestion.conf import ingestion_settings
from ingestion.errors import UploadRefused
from ingestion.models import CorpusImport, new_key

if TYPE_CHECKING:
    from django.contrib.auth.models import User

logger = logging.getLogger(__name__)

# Then the archive is given back, so that other upkeep gets its turn.
TURN_SECONDS = 600.0
MAX_DEATHS = 3
MOST_REFUSALS = 500
# An archive gets its place just before its row is committed.
GRACE_SECONDS = 3600


class _Stopped(Exception):
    """The turn is over, or the import is another worker's by now."""


def request_import(*, owner: User, name: str, content: BinaryIO) -> CorpusImport:
    """Keep an archive to be imported: when this returns it survives a power cut.

    Raises:
        UploadRefused: `empty`, `too_large`, `disk_full`, and what `corpus_archive.opened` finds.
            Nothing is left behind.
    """
    given, key = ingestion_settings(), new_key()
    draft = blobs.write_draft(
        content,
        given.imports_dir,
        key,
        max_bytes=given.upload_max_bytes,
        floor_bytes=given.disk_floor_bytes,
    )
    try:
        with corpus_archive.opened(draft.path) as export:
            total = len(export.rows)
        blobs.publish(draft, given.imports_dir, key)
        row = CorpusImport.objects.create(
            owner=owner, name=blobs.clean_name(name), blob_key=key, total=total
        )
    except BaseException:
        draft.path.unlink(missing_ok=True)
        blobs.remove(given.imports_dir, key)
        raise
    transaction.on_commit(nudge_imports, robust=True)
    return row


def nudge_imports() -> None:
    """Send a message for each import that waits. A broker that is away is logged."""
    try:
        for pk in CorpusImport.objects.due().values_list("pk", flat=True):
            current_app.send_task("ingestion.tasks.import_corpus", [pk])
    except nudges.BROKER_ERRORS as exc:
        logger.warning("no worker could be told of imports: %s", exc)


def work_on(import_id: int) -> bool:
    """Go on with an import until it ended or the turn is over; False if it is not to be had.

    Never raises for an archive: what became of it is in its row.
    """
    row = CorpusImport.objects.claim(import_id)
    if row is None:
        return False
    try:
        if row.deaths > MAX_DEATHS:
            raise UploadRefused("workers died of it", code="import_crashed")
        _take_all(row)
    except _Stopped:
        row.release(deaths=0)
    except UploadRefused as exc:
        if exc.code == "disk_full":  # which passes
            row.release(deaths=0)
        else:
            _finish(row, exc.code)
    except DatabaseError as exc:
        logger.warning("import %d has to wait until its lease runs out: %s", row.pk, exc)
    except Exception:
        logger.exception("import %d failed", row.pk)
        _finish(row, "internal_error")
    else:
        _finish(row, "")
    return True


def _take_all(row: CorpusImport) -> None:
    """Make the corpus and take in what is left, writing after each document how far it is."""
    until = time.monotonic() + TURN_SECONDS
    path = blobs.blob_file(ingestion_settings().imports_dir, row.blob_key)
    if not path.is_file():
        raise UploadRefused("its archive is gone", code="file_missing")
    with corpus_archive.opened(path) as export:
        if row.corpus is None:
            if row.is_begun:
                raise UploadRefused("its corpus was purged", code="corpus_gone")
            with transaction.atomic():
                corpus = export.make_corpus(row.owner)
                if not row.write(corpus=corpus, is_begun=True, deaths=0):
                    raise _Stopped
        first, into = row.position, row.corpus
        assert into is not None
        for number in range(first, len(export.rows)):
            if time.monotonic() > until:
                raise _Stopped
            code = export.take(number, corpus=into, person=row.owner, again=number == first)
            taken, refused = row.documents + (not code), row.refused
            if code and len(refused) < MOST_REFUSALS:
                refused = [*refused, [export.rows[number]["name"][:255], code]]
            changes = {"documents": taken, "refused": refused, "position": number + 1}
            if not row.write(**changes, deaths=0):
                raise _Stopped


def sweep(folder: Path) -> None:
    """Remove archives that no import waits for any more, and drafts whose process died."""
    blobs.sweep_drafts(folder)
    waiting = CorpusImport.objects.filter(finished_at=None)
    wanted = set(waiting.values_list("blob_key", flat=True))
    for path in folder.glob("[0-9a-f][0-9a-f]/*"):
        if path.name not in wanted and path.stat().st_mtime < time.time() - GRACE_SECONDS:
            blobs.remove(folder, path.name)


def _finish(row: CorpusImport, code: str) -> None:
    """End it: the row first, then the archive, which `sweep` removes where this does not."""
    with transaction.atomic():
        if not row.release(finished_at=timezone.now(), error_code=code):
            return
        audit.record(
            Action.CORPUS_IMPORTED,
            person=row.owner,
            about=row.corpus,
            name="" if row.corpus else row.name,
            documents=row.documents,
            error=code,
        )
    blobs.remove(ingestion_settings().imports_dir, row.blob_key)
