"""The files in a ZIP that was uploaded, one after the other, as streams; nothing is extracted.

A name in an archive is a label, never a path. What a table of contents declares is a claim:
what really comes out is counted.
"""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, cast

from ingestion.errors import ParseError, UploadRefused
from ingestion.parsing import zips
from ingestion.parsing.decoding import decode

MAX_MEMBERS = 2_000
_UTF8_NAME = 0x800
# What systems leave in archives beside the files that people put there.
_LITTER = frozenset({"thumbs.db", "desktop.ini"})


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive. `path` is its name there, for people to find it by."""

    path: str
    info: zipfile.ZipInfo


class Archive:
    """An open ZIP."""

    def __init__(self, file: zipfile.ZipFile, *, most_bytes: int) -> None:
        self._file = file
        self._most = self._left = most_bytes

    def members(self, *, most: int = MAX_MEMBERS) -> list[Member]:
        """The files that people put there, in the archive's order, `most` of them.

        Raises:
            UploadRefused: `too_large` (too many or too much), `empty` (none) or `password`
                (every one is encrypted).
        """
        entries = [info for info in self._file.infolist() if not info.is_dir()]
        found = [Member(_path(info), info) for info in entries]
        found = [member for member in found if not _is_litter(member.path)]
        if len(found) > most:
            raise UploadRefused(f"{len(found)} files", code="too_large")
        if sum(member.info.file_size for member in found) > self._most:
            raise UploadRefused("declared size over the limit", code="too_large")
        if not found:
            raise UploadRefused("no files", code="empty")
        if all(member.info.flag_bits & zips.ENCRYPTED for member in found):
            raise UploadRefused("every file is encrypted", code="password")
        return found

    @contextmanager
    def content(self, member: Member) -> Iterator[BinaryIO]:
        """The bytes of a member, to be read once.

        Raises:
            UploadRefused: `password`, `corrupt`, `unsupported` or `too_large`, also while the
                stream is read.
        """
        info = member.info
        if info.flag_bits & zips.ENCRYPTED:
            raise UploadRefused("encrypted", code="password")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise UploadRefused("a link to another file", code="unsupported")
        with _translated(), self._file.open(info) as entry:
            yield cast(BinaryIO, _Counted(self, entry, info.compress_size))

    def take(self, count: int) -> None:
        """Count bytes that came out of any member."""
        self._left -= count
        if self._left < 0:
            raise UploadRefused("unpacked size over the limit", code="too_large")


class _Counted(io.RawIOBase):
    """A member's stream that stops where the archive turns out to be a bomb."""

    def __init__(self, archive: Archive, entry: IO[bytes], packed_bytes: int) -> None:
        self._archive, self._entry = archive, entry
        self._packed, self._count = packed_bytes, 0

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        with _translated():
            piece = self._entry.read(size)
        self._archive.take(len(piece))
        self._count += len(piece)
        is_checked = self._count > zips.RATIO_APPLIES_ABOVE_BYTES
        if is_checked and self._count > zips.MAX_RATIO * self._packed:
            raise UploadRefused("compression ratio over the limit", code="too_large")
        return piece


@contextmanager
def opened(path: Path, *, most_bytes: int | None = None) -> Iterator[Archive]:
    """Open a ZIP of which at most so many bytes are unpacked, by default what a ZIP may be.

    Raises:
        UploadRefused: `corrupt` or `too_large`.
    """
    try:
        file = zips.opened(path)
    except ParseError as exc:
        raise UploadRefused(str(exc), code=exc.code) from exc
    with file:
        yield Archive(file, most_bytes=most_bytes or zips.MAX_UNPACKED_BYTES)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except NotImplementedError as exc:
        raise UploadRefused(f"unknown compression: {exc}", code="unsupported") from exc
    except RuntimeError as exc:
        raise UploadRefused(str(exc), code="password") from exc
    except zips.DAMAGED as exc:
        raise UploadRefused(f"damaged: {exc}", code="corrupt") from exc


def _path(info: zipfile.ZipInfo) -> str:
    """The name in its own letters: old archives do not say how it is encoded."""
    if info.flag_bits & _UTF8_NAME or info.filename.isascii():
        return info.filename
    try:
        return decode(info.filename.encode("cp437"))
    except (UnicodeEncodeError, ParseError):
        return info.filename


def _is_litter(path: str) -> bool:
    parts = PurePosixPath(path.replace("\\", "/")).parts
    name = parts[-1] if parts else ""
    return "__MACOSX" in parts or name.startswith(".") or name.lower() in _LITTER
