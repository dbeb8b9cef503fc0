"""Zip containers, looked at before anything unpacks them.

Sizes declared in a zip are claims. `names` reads only the table of contents, and refuses one
that would itself be a burden; `check_unpacked_size` unpacks every entry in small pieces and
counts what really comes out.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

from ingestion.errors import ParseError

MAX_ENTRIES = 10_000
MAX_UNPACKED_BYTES = 512 * 1024 * 1024
MAX_RATIO = 100
RATIO_APPLIES_ABOVE_BYTES = 1024 * 1024
_MAX_TABLE_BYTES = 4 * 1024 * 1024
_PIECE_BYTES = 256 * 1024
_ENCRYPTED = 0x1
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, struct.error)


def names(path: Path) -> frozenset[str]:
    """The entries' names.

    Raises:
        ParseError: `corrupt`, `password` (an entry is encrypted) or `too_large` (too many).
    """
    with _opened(path) as archive:
        return frozenset(archive.namelist())


def check_unpacked_size(path: Path) -> None:
    """Unpack everything to nowhere, within the limits.

    Raises:
        ParseError: `too_large` for a zip bomb, else as `names`.
    """
    total = 0
    with _opened(path) as archive:
        if sum(info.file_size for info in archive.infolist()) > MAX_UNPACKED_BYTES:
            raise ParseError("declared size over the limit", code="too_large")
        for info in archive.infolist():
            try:
                total += _unpacked_bytes(archive, info, MAX_UNPACKED_BYTES - total)
            except _DAMAGED as exc:
                raise ParseError(f"damaged entry: {exc}", code="corrupt") from exc
            except NotImplementedError as exc:
                raise ParseError(f"unknown compression: {exc}", code="unsupported") from exc


def _unpacked_bytes(archive: zipfile.ZipFile, info: zipfile.ZipInfo, allowed: int) -> int:
    count = 0
    with archive.open(info) as entry:
        while piece := entry.read(_PIECE_BYTES):
            count += len(piece)
            if count > allowed:
                raise ParseError("unpacked size over the limit", code="too_large")
            if count > RATIO_APPLIES_ABOVE_BYTES and count > MAX_RATIO * info.compress_size:
                raise ParseError("compression ratio over the limit", code="too_large")
    return count


def _opened(path: Path) -> zipfile.ZipFile:
    if _table_bytes(path) > _MAX_TABLE_BYTES:
        raise ParseError("table of contents over the limit", code="too_large")
    try:
        archive = zipfile.ZipFile(path)
    except _DAMAGED as exc:
        raise ParseError(f"not a readable zip: {exc}", code="corrupt") from exc
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        archive.close()
        raise ParseError(f"{len(entries)} entries", code="too_large")
    if any(info.flag_bits & _ENCRYPTED for info in entries):
        archive.close()
        raise ParseError("encrypted entries", code="password")
    return archive


def _table_bytes(path: Path) -> int:
    """Size of the central directory as its end record tells it; 0 if there is no such record.

    `zipfile` reads exactly so many bytes into memory, so a false number is no way round.
    Source: APPNOTE.TXT 6.3.10, sections 4.3.14 to 4.3.16.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 65_557 - 76))
        tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or end + 22 > len(tail):
        return 0
    zip64 = tail.rfind(b"PK\x06\x06", 0, end)
    if zip64 >= 0 and zip64 + 48 <= len(tail):
        return int(struct.unpack_from("<Q", tail, zip64 + 40)[0])
    return int(struct.unpack_from("<L", tail, end + 12)[0])
