"""Which files a path on the command line stands for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path


def files_under(paths: Iterable[Path]) -> Iterator[Path]:
    """The files that these paths name: files as they are, folders with all that is in them.

    Inside a folder, hidden files and folders and what is no regular file are left out, links
    are followed, and no folder is entered twice, so that links in a circle come to an end.
    Sorted within a folder; a file that is reached twice comes once. A path that does not
    exist is passed on, for the caller to report.
    """
    seen: set[tuple[int, int]] = set()
    for path in paths:
        if path.is_dir():
            yield from _in_folder(path, seen)
        elif not path.exists() or _first_time(path, seen):
            yield path


def _in_folder(folder: Path, seen: set[tuple[int, int]]) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder, followlinks=True):
        if not _first_time(Path(parent), seen):
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(parent, name)
            if not name.startswith(".") and path.is_file() and _first_time(path, seen):
                yield path


def _first_time(path: Path, seen: set[tuple[int, int]]) -> bool:
    try:
        found = path.stat()
    except OSError:
        return False
    identity = (found.st_dev, found.st_ino)
    if identity in seen:
        return False
    seen.add(identity)
    return True
