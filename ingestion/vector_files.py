"""Chroma's files, where this machine can reach them: what deleting leaves, and runaway growth.

Chroma 1.5 forgets a deleted vector but keeps its bytes: in the index file of the collection
until that is dropped, in its SQLite file until that is vacuumed, and in the folder of a dropped
collection for ever. So a collection is copied into a new one, the old one is dropped, folders
that belong to no collection are removed and the SQLite file is vacuumed; all of it while the
server runs, which was tried on 1.5.9.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from uuid import UUID

from ingestion.errors import VectorStoreError

WAIT_SECONDS = 30.0
# A killed server's link_lists.bin grew to 725 GB beside a data_level0.bin of megabytes; with
# M = 32 a healthy one has about a tenth of the other's size.
BLOAT_FACTOR = 10
BLOAT_FLOOR_BYTES = 64 * 2**20


def holds(folder: Path, collection: str) -> bool:
    """Whether this is the folder of the server that has the collection."""
    if not _database(folder).is_file():
        return False
    with _opened(folder) as database:
        found = database.execute("SELECT 1 FROM collections WHERE name = ?", [collection])
        return found.fetchone() is not None


def ownerless_folders(folder: Path) -> list[Path]:
    """Folders of collections that are dropped. A collection has its row before its folder."""
    if not _database(folder).is_file():
        return []
    there = [path for path in folder.iterdir() if path.is_dir() and _is_uuid(path.name)]
    with _opened(folder) as database:
        known = {row[0] for row in database.execute("SELECT id FROM segments")}
    return sorted(path for path in there if path.name not in known)


def bloated(folder: Path) -> list[str]:
    """Collections whose index file has grown out of all proportion: their index is broken."""
    if not _database(folder).is_file():
        return []
    with _opened(folder) as database:
        rows = database.execute(
            "SELECT s.id, c.name FROM segments s JOIN collections c ON c.id = s.collection"
        ).fetchall()
    return sorted(name for segment, name in rows if _is_bloated(folder / segment))


def remove_ownerless(folder: Path) -> None:
    """Remove the folders that dropped collections left.

    Raises:
        VectorStoreError: one cannot be removed.
    """
    try:
        for path in ownerless_folders(folder):
            shutil.rmtree(path)
    except (OSError, sqlite3.Error) as exc:
        raise VectorStoreError(f"{folder} cannot be cleaned: {exc}") from exc


def erase(folder: Path) -> None:
    """Remove what dropped collections left, and what is free in the SQLite file.

    Raises:
        VectorStoreError: the server is at it for too long, or a folder cannot be removed.
    """
    remove_ownerless(folder)
    try:
        with _opened(folder) as database:
            database.execute("VACUUM")
    except (OSError, sqlite3.Error) as exc:
        raise VectorStoreError(f"{folder} cannot be cleaned: {exc}") from exc


def _is_bloated(segment: Path) -> bool:
    links, vectors = segment / "link_lists.bin", segment / "data_level0.bin"
    if not links.is_file():
        return False
    size = vectors.stat().st_size if vectors.is_file() else 0
    return links.stat().st_size > BLOAT_FACTOR * size + BLOAT_FLOOR_BYTES


def _database(folder: Path) -> Path:
    return folder / "chroma.sqlite3"


def _is_uuid(name: str) -> bool:
    try:
        UUID(name)
    except ValueError:
        return False
    return True


def _opened(folder: Path) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(_database(folder), timeout=WAIT_SECONDS, isolation_level=None))
