"""The lexical indexes: each generation's can be asked and holds its passages and no others."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from functools import partial

from ingestion.errors import LexicalIndexError
from ingestion.lexical import LexicalIndex
from ingestion.models import IndexGeneration
from ingestion.restore import restore_words
from ingestion.verification.findings import Examination, Finding

NAME = "words"
# A folder is made just before it is filled, or beside the one it is to replace.
GRACE_SECONDS = 3600


def examine(run: Examination) -> Iterator[Finding]:
    """Ids both ways and a real query for each generation; folders of none."""
    folder = run.settings.lexical_dir
    there = [path for path in folder.glob("*") if path.is_dir()]
    for generation in run.generations():
        yield from _generation(generation, run)
    keys = set(IndexGeneration.objects.values_list("key", flat=True))
    for path in there:
        is_old = path.exists() and path.stat().st_mtime < time.time() - GRACE_SECONDS
        if path.name not in keys and is_old:
            yield Finding("ownerless_words", path.name, repair=partial(shutil.rmtree, path))


def _generation(generation: IndexGeneration, run: Examination) -> Iterator[Finding]:
    subject = generation.corpus.name
    again = partial(restore_words, generation, run.settings)
    searchable = generation.searchable_chunks.order_by()
    known = set(generation.present_chunks.order_by().values_list("pk", flat=True))
    wanted = set(searchable.values_list("pk", flat=True))
    index = LexicalIndex(
        run.settings.lexical_dir / generation.key, language=generation.corpus.language
    )
    try:
        there = index.chunk_ids()
        if text := searchable.values_list("text", flat=True).first():
            index.search(text, k=1)
    except LexicalIndexError:
        yield Finding("damaged_words", subject, len(wanted), again)
        return
    run.examined["lexical entries"] += len(there)
    # What became ready, or was deleted, while this looked is no finding.
    if missing := wanted - there:
        missing &= set(searchable.values_list("pk", flat=True))
        missing -= index.chunk_ids()
    if missing:
        yield Finding("missing_words", subject, len(missing), again)
    elif unknown := there - known:
        unknown -= set(generation.chunks.order_by().values_list("pk", flat=True))
        if unknown := unknown & index.chunk_ids():
            yield Finding("unknown_words", subject, len(unknown), again)
