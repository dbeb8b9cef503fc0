"""Purging generations that nobody can use any more: cancelled ones, and old ones after a day."""

from __future__ import annotations

import logging

from ingestion.errors import LexicalIndexError
from ingestion.models import Chunk, DocumentPart, IndexGeneration
from ingestion.purge import drop_vectors, lexical_index
from ingestion.types import IngestionSettings
from ingestion.vectors import shared_store

logger = logging.getLogger(__name__)

ROWS_AT_ONCE = 1_000


def purge_generation(generation_id: int, settings: IngestionSettings) -> bool:
    """Remove a generation from every store, then its row; the row goes last.

    Safe to run twice at once. Returns False when it has to wait for a worker that still builds
    in it, or is not due; True when the generation is gone.

    Raises:
        VectorStoreError, LexicalIndexError: the row stays, for another attempt.
    """
    mine = IndexGeneration.objects.filter(pk=generation_id)
    # From here on nobody can go back to it.
    if not mine.due_for_purge().update(state=IndexGeneration.State.DISCARDED):
        return not mine.exists()
    generation = mine.select_related("corpus").get()
    if generation.builds.held().exists():
        return False
    drop_vectors(generation, shared_store(settings))
    lexical_index(generation, settings).drop()
    if (settings.lexical_dir / generation.key).exists():
        raise LexicalIndexError(f"the folder of generation {generation.key} is still there")
    chunks = Chunk.objects.filter(generation=generation).order_by()
    while pks := list(chunks.values_list("pk", flat=True)[:ROWS_AT_ONCE]):  # others write, too
        chunks.filter(pk__in=pks).delete()
    DocumentPart.objects.filter(generation=generation).delete()
    mine.delete()
    logger.info("generation %s of corpus %d purged", generation.key, generation.corpus_id)
    return True
