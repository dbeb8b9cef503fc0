"""Deleting so that nothing is left: purge every store, read it again, and only then the row.

The row is the handle to everything else, so it goes last: a purge that is interrupted, or
that finds a store unreachable, begins again from the row and finds what remains.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress

from django.db import transaction
from django.utils import timezone

from ingestion import blobs, receipts
from ingestion.errors import LexicalIndexError, TransientError, VectorStoreError
from ingestion.holders import Holder, holders
from ingestion.lease import Lease
from ingestion.lexical import LexicalIndex, open_index
from ingestion.models import Chunk, Corpus, Document, DocumentPart, IndexGeneration
from ingestion.types import IngestionSettings
from ingestion.vectors import VectorStore, shared_store

logger = logging.getLogger(__name__)

ROWS_AT_ONCE = 1_000


def lexical_index(generation: IndexGeneration, settings: IngestionSettings) -> LexicalIndex:
    """The lexical index of a generation."""
    return open_index(settings.lexical_dir / generation.key, generation.corpus.language)


def purge_document(lease: Lease, settings: IngestionSettings) -> None:
    """Remove a document that is in state DELETING from every store, then its row.

    Raises:
        VectorStoreError, LexicalIndexError: the row stays, for another attempt.
        LeaseLost: another worker has it.
    """
    document = lease.document
    receipt = receipts.of_document(document)
    store = shared_store(settings)
    chunk_ids = list(document.chunks.values_list("pk", flat=True))
    for generation in document.corpus.generations.select_related("corpus"):
        # First the mark: whatever is interrupted after it, its files are made anew.
        IndexGeneration.objects.filter(pk=generation.pk).update(residue_at=timezone.now())
        vectors = _forget_vectors(store, generation, chunk_ids, lease)
        words = _forget_words(lexical_index(generation, settings), document.pk)
        receipts.add(receipt, vectors=vectors, words=words)
    lease.advance()
    for holder in holders():
        receipts.add(receipt, **{holder.name: _forget_copies(holder, document.pk)})
    receipts.add(receipt, files=_remove_blob(document.blob_key, settings))
    receipts.add(receipt, **_delete_rows(document.pk))
    with transaction.atomic():
        lease.advance()
        Document.objects.filter(pk=document.pk).delete()
        receipts.purged(receipt)
    logger.info("document %d deleted: %d passages purged", lease.document.pk, len(chunk_ids))


def purge_corpus(corpus_id: int, settings: IngestionSettings) -> bool:
    """Remove a deleted corpus with all its documents from every store, then its row.

    Safe to run twice at once. Returns False when it has to wait for a worker that still
    holds one of its documents, True when the corpus is gone.

    Raises:
        VectorStoreError, LexicalIndexError: the rows stay, for another attempt.
    """
    corpus = Corpus.objects.exclude(deleted_at=None).filter(pk=corpus_id).first()
    if corpus is None:
        return True
    # What was uploaded in the moment of deletion is deleted, too.
    corpus.documents.exclude(state=Document.State.DELETING).update(state=Document.State.DELETING)
    if corpus.documents.count() > corpus.documents.unleased().count():
        return False
    receipt = receipts.of_corpus(corpus)
    store = shared_store(settings)
    for generation in corpus.generations.all():
        index = lexical_index(generation, settings)
        receipts.add(receipt, vectors=drop_vectors(generation, store), words=_counted(index))
        index.drop()
        if (settings.lexical_dir / generation.key).exists():
            raise LexicalIndexError(f"the folder of generation {generation.key} is still there")
    for pk, key in corpus.documents.values_list("pk", "blob_key"):
        for holder in holders():
            receipts.add(receipt, **{holder.name: _forget_copies(holder, pk)})
        receipts.add(receipt, files=_remove_blob(key, settings))
        receipts.add(receipt, **_delete_rows(pk))
    with transaction.atomic():
        corpus.delete()
        receipts.purged(receipt)
    logger.info("corpus %d deleted", corpus_id)
    return True


def purge_corpus_soon(corpus_id: int, settings: IngestionSettings) -> None:
    """Purge a deleted corpus now; where a store is away, upkeep does it when it is back."""
    try:
        purge_corpus(corpus_id, settings)
    except TransientError as exc:
        logger.warning("corpus %d is deleted, and purged later: %s", corpus_id, exc)


def drop_vectors(generation: IndexGeneration, store: VectorStore) -> int:
    """Drop every collection that the generation has or had. Returns how many vectors it held."""
    count = 0
    with suppress(VectorStoreError):  # gone already, or too broken to be counted
        count = store.count(generation.collection_name)
    for revision in range(generation.collection_revision + 2):  # one may be being filled
        store.drop(generation.collection_of(revision))
    return count


def _forget_vectors(
    store: VectorStore, generation: IndexGeneration, chunk_ids: Sequence[str], lease: Lease
) -> int:
    collection = generation.collection_name
    there = len(chunk_ids) - len(store.missing(collection, chunk_ids))
    for start in range(0, len(chunk_ids), ROWS_AT_ONCE):
        lease.advance()
        store.delete(collection, chunk_ids[start : start + ROWS_AT_ONCE])
    left = len(chunk_ids) - len(store.missing(collection, chunk_ids))
    if left:
        raise VectorStoreError(f"{left} vectors are still in {collection} after deleting them")
    return there


def _forget_words(index: LexicalIndex, document_id: int) -> int:
    there = len(index.chunk_ids(document_id))
    index.delete_document(document_id)
    if left := index.chunk_ids(document_id):
        raise LexicalIndexError(f"{len(left)} passages are still in {index.folder}")
    return there


def _counted(index: LexicalIndex) -> int:
    with suppress(LexicalIndexError):  # a damaged one is dropped all the same
        return index.count()
    return 0


def _forget_copies(holder: Holder, document_id: int) -> int:
    count = holder.forget(document_id)
    if holder.holds(document_id):
        raise TransientError(f"{holder.name} still has document {document_id}", code="database")
    return count


def _remove_blob(key: str, settings: IngestionSettings) -> int:
    place = blobs.blob_file(settings.blobs_dir, key)
    count = int(place.exists())
    blobs.remove(settings.blobs_dir, key)
    if place.exists():
        raise TransientError(f"{place} is still there", code="internal_error")
    return count


def _delete_rows(document_id: int) -> dict[str, int]:
    """Delete chunks and parts, in pieces, so that other writers need not wait long."""
    passages = 0
    chunks = Chunk.objects.filter(document_id=document_id)
    while pks := list(chunks.values_list("pk", flat=True)[:ROWS_AT_ONCE]):
        passages += len(pks)
        chunks.filter(pk__in=pks).delete()
    parts = DocumentPart.objects.filter(document_id=document_id)
    texts, _ = parts.delete()
    if chunks.exists() or parts.exists():
        raise TransientError(f"passages of document {document_id} remain", code="database")
    return {"passages": passages, "texts": texts}
