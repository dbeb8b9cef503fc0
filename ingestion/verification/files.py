"""Chroma's files, where this machine reaches them: sane in size, and none of no collection."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ingestion import vector_files
from ingestion.restore import restore_vectors
from ingestion.verification.findings import Examination, Finding

NAME = "files"
# Dropping a collection leaves its folder, which the next reconciliation removes.
GRACE_SECONDS = 3600


def examine(run: Examination) -> Iterator[Finding]:
    """Index files out of proportion, and folders that dropped collections left."""
    folder = run.settings.chroma_dir
    generations = {generation.collection_name: generation for generation in run.generations()}
    if not any(vector_files.holds(folder, name) for name in generations):
        return
    for name in vector_files.bloated(folder):
        if generation := generations.get(name):
            again = partial(restore_vectors, generation.pk, run.settings)
            yield Finding("bloated_files", generation.corpus.name, repair=again)
    before = time.time() - GRACE_SECONDS
    left = [path for path in vector_files.ownerless_folders(folder) if _made(path) < before]
    if left:
        remove = partial(vector_files.remove_ownerless, folder)
        yield Finding("ownerless_files", str(folder), len(left), remove)


def _made(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return time.time()
