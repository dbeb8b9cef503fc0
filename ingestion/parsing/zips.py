"""Zip containers, looked at before anything unpacks them.

Sizes declared in a zip are claims. `names` reads only the table of contents, and refuses one
that would itself be a burden; `check_unpacked_size` unpacks every entry in small pieces and
counts what really comes out; `part` reads one entry within a limit.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from ingestion.errors import ParseError

MAX_ENTRIES = 10_000
MAX_UNPACKED_BYTES = 512 * 1024 * 1024
MAX_PART_BYTES = 128 * 1024 * 1024
MAX_RATIO = 100
# Sheets of like rows shrink to less than a hundredth; so little of them is no burden.
RATIO_APPLIES_ABOVE_BYTES = 32 * 1024 * 1024
_MAX_TABLE_BYTES = 4 * 1024 * 1024
_PIECE_BYTES = 256 * 1024
ENCRYPTED = 0x1
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, struct.error)


@dataclass(frozen=True, slots=True)
class Contents:
    """What the table of contents says: the entries' names, and whether any is encrypted."""

    names: frozenset[str]
    is_encrypted: bool


def contents(path: Path) -> Contents:
    """Read the table of contents.

    Raises:
        ParseError: `corrupt` or `too_large` (too many entries).
    """
    with opened(path) as archive:
        entries = archive.infolist()
        return Contents(
            names=frozenset(info.filename for info in entries),
            is_encrypted=any(info.flag_bits & ENCRYPTED for info in entries),
        )


def part(path: Path, name: str, *, max_bytes: int = MAX_PART_BYTES) -> bytes:
    """The bytes of one entry; empty if there is no such entry.

    Raises:
        ParseError: `corrupt`, `password` or `too_large`.
    """
    with opened(path) as archive:
        try:
            info = archive.getinfo(name)
        except KeyError:
            return b""
        if info.flag_bits & ENCRYPTED:
            raise ParseError("encrypted entry", code="password")
        try:
            with archive.open(info) as entry:
                content = entry.read(max_bytes + 1)
        except DAMAGED as exc:
            raise ParseError(f"damaged entry: {exc}", code="corrupt") from exc
        except NotImplementedError as exc:
            raise ParseError(f"unknown compression: {exc}", code="unsupported") from exc
    if len(content) > max_bytes:
        raise ParseError("entry over the limit", code="too_large")
    return content


def check_unpacked_size(path: Path) -> None:
    """Unpack everything to nowhere, within the limits.

    Raises:
        ParseError: `too_large` for a zip bomb, `password`, `corrupt`, `unsupported`.
    """
    total = 0
    with opened(path) as archive:
        if any(info.flag_bits & ENCRYPTED for info in archive.infolist()):
            raise ParseError("encrypted entries", code="password")
        if sum(info.file_size for info in archive.infolist()) > MAX_UNPACKED_BYTES:
            raise ParseError("declared size over the limit", code="too_large")
        for info in archive.infolist():
            try:
                total += _unpacked_bytes(archive, info, MAX_UNPACKED_BYTES - total)
            except DAMAGED as exc:
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


def opened(path: Path) -> zipfile.ZipFile:
    """Open a zip whose table of contents is no burden.

    Raises:
        ParseError: `corrupt`, `unsupported` or `too_large`.
    """
    if _table_bytes(path) > _MAX_TABLE_BYTES:
        raise ParseError("table of contents over the limit", code="too_large")
    try:
        archive = zipfile.ZipFile(path)
    except DAMAGED as exc:
        raise ParseError(f"not a readable zip: {exc}", code="corrupt") from exc
    except NotImplementedError as exc:
        raise ParseError(f"a newer kind of zip: {exc}", code="unsupported") from exc
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        archive.close()
        raise ParseError(f"{len(entries)} entries", code="too_large")
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
