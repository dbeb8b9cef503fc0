"""The uploaded files: each document's is there and whole, and there are no others."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ingestion.blobs import blob_file, remove
from ingestion.models import Document
from ingestion.services import FILE_LOST
from ingestion.types import IngestionSettings
from ingestion.verification.findings import Examination, Finding

NAME = "blobs"
# A file gets its place just before its row is committed.
GRACE_SECONDS = 3600


def examine(run: Examination) -> Iterator[Finding]:
    """Existence and size of every file; deep: its digest, too."""
    folder = run.settings.blobs_dir
    there = _files(folder)
    # Work that is under way finds out by itself.
    documents = Document.objects.exclude(state__in=Document.WORK_STATES).order_by("pk")
    for document in documents.iterator():
        run.examined["files"] += 1
        if document.error_code in FILE_LOST:
            continue
        if code := _problem(document, folder, deep=run.deep):
            restore = partial(_restore, document, run.settings, code)
            yield Finding(code, str(document), repair=restore)
    owned = set(Document.objects.values_list("blob_key", flat=True))
    for key, path in there.items():
        if key not in owned:
            yield Finding("ownerless_blob", path.name, repair=partial(remove, folder, key))


def is_whole(path: Path, document: Document) -> bool:
    """Whether this is the file that was uploaded, by size and digest."""
    if not path.is_file() or path.stat().st_size != document.size_bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == document.sha256


def _files(folder: Path) -> dict[str, Path]:
    """What has lain there for a while, by key."""
    before = time.time() - GRACE_SECONDS
    found = {}
    for path in folder.glob("[0-9a-f][0-9a-f]/*"):
        if path.is_file() and path.stat().st_mtime < before:
            found[path.name] = path
    return found


def _problem(document: Document, folder: Path, *, deep: bool) -> str:
    path = blob_file(folder, document.blob_key)
    whole = path.is_file()
    if whole and (path.stat().st_size != document.size_bytes or deep):
        if is_whole(path, document):
            return ""
        code = "damaged_blob"
    else:
        code = "" if whole else "lost_blob"
    return code if _is_there(document) else ""  # not deleted in this moment


def _is_there(document: Document) -> bool:
    present = Document.objects.exclude(state=Document.State.DELETING)
    return present.filter(pk=document.pk).exists()


def _restore(document: Document, settings: IngestionSettings, code: str) -> None:
    """Take the bytes from another document with the same, or tell the person.

    A document that is ready goes on answering: its text and vectors are in SQL.
    """
    place = blob_file(settings.blobs_dir, document.blob_key)
    others = Document.objects.filter(sha256=document.sha256).exclude(pk=document.pk)
    for other in others.exclude(state=Document.State.DELETING):
        twin = blob_file(settings.blobs_dir, other.blob_key)
        if is_whole(twin, document):
            place.parent.mkdir(parents=True, exist_ok=True)
            draft = place.with_suffix(".draft")
            shutil.copyfile(twin, draft)
            draft.replace(place)
            return
    told = "file_missing" if code == "lost_blob" else "file_damaged"
    Document.objects.filter(pk=document.pk).update(error_code=told)
