"""Filling the two indexes of a generation anew from SQL, without the model server.

Vectors are copied into a new collection beside the one in use, which goes on answering if it
can; then the row of the generation names the new one. A worker that indexed into the old one
meanwhile finds at the end that the collection has changed, and adds its passages to the new one.
Words are rebuilt in place in one step. Both may be interrupted anywhere and begun again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import timedelta

import numpy as np
from django.db import transaction
from django.utils import timezone
from numpy.typing import NDArray

from ingestion.embeddings import from_bytes
from ingestion.errors import VectorStoreError
from ingestion.lexical import LexicalEntry, open_index
from ingestion.models import Corpus, IndexGeneration
from ingestion.types import IngestionSettings, passage_text
from ingestion.vectors import WRITE_BATCH, VectorStore, shared_store

logger = logging.getLogger(__name__)

LEASE_SECONDS = 120
ROWS_AT_ONCE = 1_000
# Documents that become ready while the last rows are copied make another round.
ROUNDS = 20
# Questions that began on the old collection end on it.
LAST_QUESTIONS_SECONDS = 6.0
QUERY_SECONDS = 5.0


class CopyLost(VectorStoreError):
    """Another worker fills the indexes of this generation, or it is not in use any more."""


def restore_vectors(generation_id: int, settings: IngestionSettings) -> int:
    """Copy a generation's vectors from SQL into a new collection, and use that from now on.

    The old collection is dropped with all it holds. Safe to run twice at once and again after
    an interruption: what was copied by then is found and kept.

    Returns:
        How many vectors the new collection holds.

    Raises:
        CopyLost: somebody else is at it; nothing is lost.
        VectorStoreError: Chroma failed; the generation is as it was.
    """
    claim = IndexGeneration.objects.claim_copying(generation_id, lease_seconds=LEASE_SECONDS)
    if claim is None:
        raise CopyLost(f"generation {generation_id} is being copied, or not in use")
    try:
        former, made, count = _copy(claim, shared_store(settings))
    finally:
        _renew(claim, seconds=None)
    logger.info("generation %s: %d vectors copied into %s", claim.key, count, made)
    time.sleep(LAST_QUESTIONS_SECONDS)
    with suppress(VectorStoreError):  # a broken one may refuse; `verify` drops it later
        shared_store(settings).drop(former)
    return count


def restore_words(generation: IndexGeneration, settings: IngestionSettings) -> int:
    """Make a generation's lexical index anew from SQL, also in place of a damaged one.

    Returns:
        How many passages it holds.

    Raises:
        LexicalIndexError: it cannot be written now; the old one is still there.
    """
    index = open_index(settings.lexical_dir / generation.key, generation.corpus.language)
    index.rebuild(_documents(generation))
    return index.count()


def probe(
    generation: IndexGeneration, store: VectorStore, *, timeout_seconds: float = QUERY_SECONDS
) -> None:
    """Ask the generation's collection one real question: a passage of its own.

    Raises:
        NoCollection: the server has no such collection.
        VectorStoreError: no answer in time, an error, or nothing found among its passages.
    """
    rows = generation.embedded(generation.searchable_chunks).order_by("pk")
    found = rows.values_list("embedding", flat=True).first()
    if found is None:
        return
    vector = from_bytes([found], dimension=generation.dimension)[0]
    name = generation.collection_name
    if not store.search(name, vector, k=1, timeout_seconds=timeout_seconds):
        raise VectorStoreError(f"{name} finds nothing")


def _copy(generation: IndexGeneration, store: VectorStore) -> tuple[str, str, int]:
    """The name of the old collection, of the new one, and how many vectors that holds."""
    former = generation.collection_name
    revision = generation.collection_revision + 1
    made = generation.collection_of(revision)
    copied = _left_by_an_earlier_try(generation, store, made)
    for _ in range(ROUNDS):
        wanted = _wanted(generation)
        for batch in _batches(sorted(wanted - copied)):
            _renew(generation)
            store.add_missing(made, *_vectors(generation, batch))
            copied.update(batch)
        if gone := copied - wanted:  # deleted meanwhile
            store.delete(made, sorted(gone))
            copied -= gone
        if lost := store.missing(made, sorted(copied)):
            raise VectorStoreError(f"{len(lost)} of {len(copied)} vectors are not in {made}")
        if _flip(generation, revision, copied):
            return former, made, len(copied)
    raise VectorStoreError(f"{generation.key} changes faster than it can be copied")


def _left_by_an_earlier_try(generation: IndexGeneration, store: VectorStore, made: str) -> set[str]:
    """What the new collection holds already; from nothing where that is not to be trusted."""
    store.ensure(made, generation.dimension)
    with suppress(VectorStoreError):
        there = store.ids(made)
        if there <= _wanted(generation):
            return there
    store.drop(made)
    store.ensure(made, generation.dimension)
    return set()


def _flip(generation: IndexGeneration, revision: int, copied: set[str]) -> bool:
    """Name the new collection, unless something remains to be copied."""
    with transaction.atomic():
        Corpus.objects.select_for_update().get(pk=generation.corpus_id)
        if copied != _wanted(generation):
            return False
        mine = IndexGeneration.objects.in_use().filter(
            pk=generation.pk, copied_until=generation.copied_until
        )
        if not mine.update(collection_revision=revision, failed_probes=0, failing_since=None):
            raise CopyLost(f"generation {generation.key} was taken over")
    generation.collection_revision = revision
    return True


def _wanted(generation: IndexGeneration) -> set[str]:
    """Every passage with a vector, also of documents that are about to be ready."""
    rows = generation.embedded(generation.present_chunks).order_by()
    return set(rows.values_list("pk", flat=True))


def _vectors(
    generation: IndexGeneration, ids: Sequence[str]
) -> tuple[list[str], NDArray[np.float32]]:
    rows = generation.embedded(generation.chunks.filter(pk__in=ids)).order_by()
    pairs = rows.values_list("pk", "embedding")
    found = {pk: packed for pk, packed in pairs if packed is not None}
    return list(found), from_bytes(list(found.values()), dimension=generation.dimension)


def _batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), WRITE_BATCH):
        yield ids[start : start + WRITE_BATCH]


def _renew(generation: IndexGeneration, *, seconds: int | None = LEASE_SECONDS) -> None:
    """Renew the lease, or give it back. Raises CopyLost if it is another worker's."""
    until = timezone.now() + timedelta(seconds=seconds) if seconds else None
    mine = IndexGeneration.objects.filter(pk=generation.pk, copied_until=generation.copied_until)
    if not mine.update(copied_until=until) and until is not None:
        raise CopyLost(f"generation {generation.key} was taken over")
    generation.copied_until = until


def _documents(generation: IndexGeneration) -> Iterator[tuple[int, list[LexicalEntry]]]:
    """The passages of each document, read while the index's writers wait."""
    entries: list[LexicalEntry] = []
    current: int | None = None
    rows = generation.present_chunks.order_by("document_id", "ordinal").values_list(
        "document_id", "pk", "heading_path", "text"
    )
    for document_id, pk, heading_path, text in rows.iterator(chunk_size=ROWS_AT_ONCE):
        if current is not None and document_id != current:
            yield current, entries
            entries = []
        current = document_id
        entries.append(LexicalEntry(pk, passage_text(heading_path=heading_path, text=text)))
    if current is not None:
        yield current, entries
