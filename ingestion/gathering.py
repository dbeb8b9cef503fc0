"""Which files a path on the command line stands for."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path


def expanded(paths: Iterable[Path]) -> Iterator[Path]:
    """These paths, patterns such as `reports/**/*.pdf` in place of which come what fits them.

    A path that exists is no pattern, whatever is in its name; a pattern that nothing fits is
    passed on, for the caller to report.
    """
    for path in paths:
        is_pattern = glob.has_magic(str(path)) and not path.exists()
        found = sorted(glob.glob(str(path.expanduser()), recursive=True)) if is_pattern else []
        yield from map(Path, found) if found else (path,)


def fits(path: Path, *, include: Iterable[str], exclude: Iterable[str]) -> bool:
    """Whether a file's name or path fits one of `include`, if there are any, and no `exclude`."""

    def one_of(patterns: Iterable[str]) -> bool:
        return any(fnmatch(path.name, one) or fnmatch(str(path), one) for one in patterns)

    wanted = list(include)
    return (not wanted or one_of(wanted)) and not one_of(exclude)


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
