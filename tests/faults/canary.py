"""Looking for a text and for vectors in every byte of a folder."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# Chroma writes vectors as they come and, in the index of cosine collections, once more divided
# by their length; both differ from SQL's by rounding alone.
TOLERANCE = 2e-3
PREFIX = 8


def files_with_text(folders: Sequence[Path], words: Sequence[str]) -> list[str]:
    """Files in which one of these words stands, in UTF-8 or UTF-16, whatever its case."""
    wanted = [
        needle
        for word in words
        for text in (word, word.lower())
        for needle in (text.encode(), text.encode("utf-16-le"))
    ]
    return [str(path) for path, content in _contents(folders) if any(w in content for w in wanted)]


def files_with_vector(folders: Sequence[Path], vectors: NDArray[np.float32]) -> list[str]:
    """Files in which the beginning of one of these vectors stands, as float32 or float16."""
    return [
        str(path)
        for path, content in _contents(folders)
        if any(
            _stands_in(content, vector[:PREFIX], kind)
            for kind in ("<f4", "<f2")
            for vector in vectors
        )
    ]


def _stands_in(content: bytes, prefix: NDArray[np.float32], kind: str) -> bool:
    size = np.dtype(kind).itemsize
    for shift in range(size):
        usable = (len(content) - shift) // size * size
        numbers = np.frombuffer(content[shift : shift + usable], dtype=kind)
        if len(numbers) < len(prefix):
            continue
        with np.errstate(invalid="ignore", over="ignore"):
            last = len(numbers) - len(prefix) + 1
            places = np.flatnonzero(np.abs(numbers[:last] - prefix[0]) < TOLERANCE)
            for step in range(1, len(prefix)):
                places = places[np.abs(numbers[places + step] - prefix[step]) < TOLERANCE]
        if len(places):
            return True
    return False


def _contents(folders: Sequence[Path]) -> Iterator[tuple[Path, bytes]]:
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                yield path, _read_apart(path)


def _read_apart(path: Path) -> bytes:
    """The bytes of a file, read by another process; of one that has gone meanwhile, none.

    To open and close a file that SQLite has open in this process would drop SQLite's locks on
    it: https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_
    """
    return subprocess.run(["cat", str(path)], capture_output=True, check=False).stdout
