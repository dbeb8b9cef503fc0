"""Deleting so that nothing is left: purge every store, read it again, and only then the row.

The row is the handle to everything else, so it goes last: a purge that is interrupted, or
that finds a store unreachable, begins again from the row and finds what remains.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from django.db import transaction

from ingestion import blobs
from ingestion.errors import LexicalIndexError, VectorStoreError
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
    store = shared_store(settings)
    chunk_ids = list(document.chunks.values_list("pk", flat=True))
    for generation in document.corpus.generations.select_related("corpus"):
        _forget_vectors(store, generation, chunk_ids, lease)
        _forget_words(lexical_index(generation, settings), document.pk)
    lease.advance()
    blobs.remove(settings.blobs_dir, document.blob_key)
    _delete_rows(document.pk)
    with transaction.atomic():
        lease.advance()
        Document.objects.filter(pk=document.pk).delete()
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
    store = shared_store(settings)
    for generation in corpus.generations.all():
        store.drop(generation.collection_name)
        lexical_index(generation, settings).drop()
        if (settings.lexical_dir / generation.key).exists():
            raise LexicalIndexError(f"the folder of generation {generation.key} is still there")
    for pk, key in corpus.documents.values_list("pk", "blob_key"):
        blobs.remove(settings.blobs_dir, key)
        _delete_rows(pk)
    corpus.delete()
    logger.info("corpus %d deleted", corpus_id)
    return True


def _forget_vectors(
    store: VectorStore, generation: IndexGeneration, chunk_ids: Sequence[str], lease: Lease
) -> None:
    collection = generation.collection_name
    for start in range(0, len(chunk_ids), ROWS_AT_ONCE):
        lease.advance()
        store.delete(collection, chunk_ids[start : start + ROWS_AT_ONCE])
    left = len(chunk_ids) - len(store.missing(collection, chunk_ids))
    if left:
        raise VectorStoreError(f"{left} vectors are still in {collection} after deleting them")


def _forget_words(index: LexicalIndex, document_id: int) -> None:
    index.delete_document(document_id)
    if left := index.chunk_ids(document_id):
        raise LexicalIndexError(f"{len(left)} passages are still in {index.folder}")


def _delete_rows(document_id: int) -> None:
    """Delete chunks and parts, in pieces, so that other writers need not wait long."""
    chunks = Chunk.objects.filter(document_id=document_id)
    while pks := list(chunks.values_list("pk", flat=True)[:ROWS_AT_ONCE]):
        chunks.filter(pk__in=pks).delete()
    DocumentPart.objects.filter(document_id=document_id).delete()
