"""Chroma's collections: each answers, and holds the vectors of SQL and no others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial

import numpy as np
from django.utils import timezone
from numpy.typing import NDArray

from ingestion.embeddings import from_bytes
from ingestion.errors import VectorStoreError
from ingestion.models import IndexGeneration
from ingestion.restore import probe, restore_vectors
from ingestion.types import IngestionSettings
from ingestion.vectors import WRITE_BATCH, Collection, VectorStore
from ingestion.verification.findings import Examination, Finding

NAME = "vectors"
# float16 in SQL against float32 in Chroma moves a cosine by less than 0.001.
SAME_COSINE = 0.998
# A healthy index misses up to 0.6 % of random vectors; one written over again and again, more.
MISSES_ALLOWED = 0.02
FEW_MISSES = 5


def examine(run: Examination) -> Iterator[Finding]:
    """A real query, ids both ways, and collections of none; deep: every vector."""
    store = run.vectors
    try:
        store.heartbeat()
        collections = store.collections()
    except VectorStoreError:
        yield Finding("vectors_away", store.url)
        return
    by_name = {collection.name: collection for collection in collections}
    for generation in run.generations():
        try:
            yield from _generation(generation, by_name.get(generation.collection_name), run)
        except VectorStoreError:
            again = partial(_restore, generation, run.settings)
            yield Finding("wedged_collection", generation.corpus.name, repair=again)
    yield from _ownerless(collections, store)


def _generation(
    generation: IndexGeneration, collection: Collection | None, run: Examination
) -> Iterator[Finding]:
    """What is wrong with one collection. Raises VectorStoreError where it does not answer."""
    store, subject = run.vectors, generation.corpus.name
    again = partial(_restore, generation, run.settings)
    searchable = generation.embedded(generation.searchable_chunks).order_by()
    known = set(generation.present_chunks.order_by().values_list("pk", flat=True))
    wanted = set(searchable.values_list("pk", flat=True))
    name = generation.collection_name
    if not store.exists(name):
        if wanted and _is_same(generation):
            yield Finding("lost_collection", subject, len(wanted), again)
        return
    if collection is not None and collection.dimension not in (0, generation.dimension):
        yield Finding("wrong_dimension", subject, len(wanted), again)
        return
    there = store.ids(name)
    if wanted & there:
        probe(generation, store)
    run.examined["vectors"] += len(there)
    # What became ready, or was deleted, while this looked is no finding.
    if missing := wanted - there:
        missing &= set(searchable.values_list("pk", flat=True))
        if missing := set(store.missing(name, sorted(missing))):
            add = partial(_add, generation, sorted(missing), store)
            yield Finding("missing_vectors", subject, len(missing), add)
    if unknown := there - known:
        unknown -= set(generation.chunks.order_by().values_list("pk", flat=True))
        unknown -= set(store.missing(name, sorted(unknown)))
        if unknown and _is_same(generation):
            remove = partial(_remove, generation, sorted(unknown), store)
            yield Finding("unknown_vectors", subject, len(unknown), remove)
    if run.deep:
        yield from _deep(generation, sorted(wanted & there), store, again)


def _deep(
    generation: IndexGeneration, ids: Sequence[str], store: VectorStore, again: partial[int]
) -> Iterator[Finding]:
    """Every vector against SQL, and whether it finds itself."""
    name, subject = generation.collection_name, generation.corpus.name
    wrong = misses = 0
    for start in range(0, len(ids), WRITE_BATCH):
        batch = ids[start : start + WRITE_BATCH]
        expected = _from_sql(generation, batch)
        stored = store.vectors(name, list(expected))
        for key, vector in expected.items():
            if key in stored and not _is_equal(stored[key], vector):
                wrong += 1
            elif key in stored and not _finds(store, name, vector):
                misses += 1
    if wrong:
        yield Finding("wrong_vectors", subject, wrong, again)
    elif misses >= FEW_MISSES and misses > MISSES_ALLOWED * len(ids):
        yield Finding("unfindable_vectors", subject, misses, again)


def _is_equal(stored: NDArray[np.float32], expected: NDArray[np.float32]) -> bool:
    length = float(np.linalg.norm(stored))
    return (
        stored.shape == expected.shape
        and length > 0
        and float(stored @ expected) / length >= SAME_COSINE
    )


def _finds(store: VectorStore, name: str, vector: NDArray[np.float32]) -> bool:
    """Whether the nearest is as near as itself; another passage may have the same words."""
    hits = store.search(name, vector, k=1)
    return bool(hits) and hits[0].score >= SAME_COSINE


def _ownerless(collections: Sequence[Collection], store: VectorStore) -> Iterator[Finding]:
    """Collections that this site made and no generation has; another site's are its own."""
    now = timezone.now()
    owned: set[str] = set()
    for generation in IndexGeneration.objects.all():
        owned |= {generation.collection_name, *_being_filled(generation, now)}
    for collection in collections:
        if collection.site == store.site and collection.name not in owned:
            drop = partial(store.drop, collection.name)
            yield Finding("ownerless_collection", collection.name, repair=drop)


def _being_filled(generation: IndexGeneration, now: datetime) -> list[str]:
    until = generation.copied_until
    if until is None or until < now:
        return []
    return [generation.collection_of(generation.collection_revision + 1)]


def _is_same(generation: IndexGeneration) -> bool:
    """Whether it is still in use, with this collection."""
    same = IndexGeneration.objects.in_use().filter(pk=generation.pk)
    return same.filter(collection_revision=generation.collection_revision).exists()


def _restore(generation: IndexGeneration, settings: IngestionSettings) -> int:
    return restore_vectors(generation.pk, settings)


def _add(generation: IndexGeneration, ids: Sequence[str], store: VectorStore) -> None:
    store.ensure(generation.collection_name, generation.dimension)
    for start in range(0, len(ids), WRITE_BATCH):
        rows = _from_sql(generation, ids[start : start + WRITE_BATCH])
        if rows:
            store.add_missing(generation.collection_name, list(rows), np.stack(list(rows.values())))


def _remove(generation: IndexGeneration, ids: Sequence[str], store: VectorStore) -> None:
    """Out of the answers now; out of Chroma's files when they are next filled anew."""
    store.delete(generation.collection_name, ids)
    IndexGeneration.objects.filter(pk=generation.pk).update(residue_at=timezone.now())


def _from_sql(generation: IndexGeneration, ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    rows = generation.embedded(generation.present_chunks.filter(pk__in=ids)).order_by()
    pairs = rows.values_list("pk", "embedding")
    packed = {pk: row for pk, row in pairs if row is not None}
    if not packed:
        return {}
    vectors = from_bytes(list(packed.values()), dimension=generation.dimension)
    return dict(zip(packed, vectors, strict=True))
