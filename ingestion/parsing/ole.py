"""Containers of old Office and Outlook files, opened with olefile, the only module that does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import olefile

from ingestion.errors import ParseError

MAX_STREAM_BYTES = 128 * 1024 * 1024


class Container:
    """An open container: its streams by name, and the folders in it."""

    def __init__(self, file: olefile.OleFileIO) -> None:
        self._file = file

    def stream(self, *names: str) -> bytes:
        """The bytes of a stream; empty if there is none.

        Raises:
            ParseError: `too_large` or `corrupt`.
        """
        place = list(names)
        if not self._file.exists(place):
            return b""
        if self._file.get_size(place) > MAX_STREAM_BYTES:
            raise ParseError("stream over the limit", code="too_large")
        try:
            content: bytes = self._file.openstream(place).read()
        except (OSError, ValueError) as exc:
            raise ParseError(f"damaged stream: {exc}", code="corrupt") from exc
        return content

    def names(self, *folder: str) -> list[str]:
        """The names directly below a folder, in the file's order."""
        depth = len(folder)
        entries = self._file.listdir(streams=True, storages=True)
        below = [e[depth] for e in entries if len(e) > depth and tuple(e[:depth]) == folder]
        return list(dict.fromkeys(below))


@contextmanager
def opened(path: Path) -> Iterator[Container]:
    """Open a container.

    Raises:
        ParseError: `corrupt`.
    """
    try:
        file = olefile.OleFileIO(str(path))
    except (OSError, ValueError, IndexError) as exc:
        raise ParseError(f"not an OLE container: {exc}", code="corrupt") from exc
    with file:
        yield Container(file)
