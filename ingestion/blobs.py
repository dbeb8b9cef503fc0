"""Uploaded bytes on disk: `blobs/<2 hex>/<key>`, under random keys that no person chose.

A blob is written to `blobs/incoming/` first, brought to the disk with fsync and renamed into
its place, so that a blob that has its name is whole. What a dead process left in `incoming/`
is swept away later.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
import unicodedata
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ingestion.errors import UploadRefused

READ_BYTES = 1024 * 1024
CHECK_DISK_EVERY_BYTES = 64 * 1024 * 1024
MAX_NAME_BYTES = 255
NAMELESS = "file"
STALE_DRAFT_SECONDS = 6 * 60 * 60
# Controls, bidirectional and other invisible format characters, lone surrogates, line ends.
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


@dataclass(frozen=True, slots=True)
class Draft:
    """An upload that lies whole on the disk but has no place yet."""

    path: Path
    size_bytes: int
    sha256: str


def blob_file(folder: Path, key: str) -> Path:
    """Where the blob of this key lies."""
    return folder / key[:2] / key


def clean_name(name: str) -> str:
    """A file's name as it is shown and stored: a label, never a path.

    The last part of a path of any system, in NFC, without control, bidirectional and other
    invisible characters, at most 255 bytes of UTF-8; a name that is too long keeps its
    extension. A name of which nothing is left becomes "file".
    """
    base = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    base = unicodedata.normalize("NFC", base)
    shown = "".join(c for c in base if unicodedata.category(c) not in _UNPRINTABLE)
    shown = " ".join(shown.split())
    if not shown.strip(". "):
        return NAMELESS
    if len(shown.encode()) <= MAX_NAME_BYTES:
        return shown
    suffix = PurePosixPath(shown).suffix
    if len(suffix.encode()) > 20:
        suffix = ""
    room = MAX_NAME_BYTES - len(suffix.encode())
    return shown.encode()[:room].decode(errors="ignore").rstrip() + suffix


def write_draft(
    content: BinaryIO, folder: Path, key: str, *, max_bytes: int, floor_bytes: int
) -> Draft:
    """Copy a stream to the disk, counting and hashing on the way.

    Args:
        content: read to its end in pieces; never held in memory as a whole.
        folder: the folder of all blobs.
        key: the blob's random name.
        max_bytes: refuse what is larger.
        floor_bytes: refuse when less than this would stay free on the disk.

    Raises:
        UploadRefused: `empty`, `too_large` or `disk_full`; nothing is left behind.
    """
    incoming = folder / "incoming"
    incoming.mkdir(parents=True, exist_ok=True)
    path = incoming / key
    size = 0
    digest = hashlib.sha256()
    try:
        _check_room(folder, floor_bytes)
        with path.open("xb") as file:
            while piece := content.read(READ_BYTES):
                before, size = size, size + len(piece)
                if size > max_bytes:
                    raise UploadRefused(f"more than {max_bytes} bytes", code="too_large")
                if before // CHECK_DISK_EVERY_BYTES != size // CHECK_DISK_EVERY_BYTES:
                    _check_room(folder, floor_bytes)
                digest.update(piece)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        if not size:
            raise UploadRefused("no bytes", code="empty")
    except OSError as exc:
        path.unlink(missing_ok=True)
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UploadRefused(str(exc), code="disk_full") from exc
        raise
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return Draft(path=path, size_bytes=size, sha256=digest.hexdigest())


def publish(draft: Draft, folder: Path, key: str) -> Path:
    """Give a draft its place, in one step that survives a power cut."""
    place = blob_file(folder, key)
    place.parent.mkdir(parents=True, exist_ok=True)
    draft.path.rename(place)
    _sync_folder(place.parent)
    return place


def remove(folder: Path, key: str) -> None:
    """Take a blob off the disk; one that is gone already is fine."""
    place = blob_file(folder, key)
    place.unlink(missing_ok=True)
    if place.parent.exists():
        _sync_folder(place.parent)


def sweep_drafts(folder: Path) -> int:
    """Remove drafts whose process died hours ago. Returns how many."""
    swept = 0
    for path in (folder / "incoming").glob("*"):
        try:
            if path.stat().st_mtime < time.time() - STALE_DRAFT_SECONDS:
                path.unlink()
                swept += 1
        except FileNotFoundError:
            continue
    return swept


def _check_room(folder: Path, floor_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < floor_bytes:
        raise UploadRefused(f"{free} bytes free, floor {floor_bytes}", code="disk_full")


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
