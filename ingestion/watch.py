"""Whether Chroma's collections answer, asked every 20 s with a real query each.

A killed server may come back with a collection on which every call fails, while its heartbeat
and all other collections are well; nothing but a query tells. Questions go on by keywords, with a
notice, and a collection that stays broken is filled anew from SQL.
"""

from __future__ import annotations

import logging
import random
import time

from django.db.models import F
from django.db.models.functions import Coalesce
from django.utils import timezone

from ingestion import restore, vector_files
from ingestion.errors import VectorStoreError
from ingestion.models import IndexGeneration
from ingestion.types import IngestionSettings
from ingestion.vectors import NoCollection, VectorStore, shared_store

logger = logging.getLogger(__name__)

# One failure may be a server that has too much to do at the moment; two, 20 s apart, count.
FAILURES_TO_RESTORE = 2
# A round ends before the next one begins, also where every collection hangs.
ROUND_SECONDS = 30.0


def probe_collections(settings: IngestionSettings) -> list[int]:
    """Query each collection that is asked or built, and keep count of failures in a row.

    Returns:
        The generations whose collection has to be filled anew. None while Chroma is away as a
        whole, which filling cannot mend.
    """
    store = shared_store(settings)
    try:
        store.heartbeat()
    except VectorStoreError as exc:
        logger.warning("no collection was probed: %s", exc)
        return []
    until = time.monotonic() + ROUND_SECONDS
    states = (IndexGeneration.State.LIVE, IndexGeneration.State.BUILDING)
    generations = list(IndexGeneration.objects.in_use().filter(state__in=states))
    random.shuffle(generations)  # so that none is always the last, which may get no turn
    bloated = set(vector_files.bloated(settings.chroma_dir))
    broken = []
    for generation in generations:
        if time.monotonic() > until:
            break
        if generation.collection_name in bloated or not _answers(generation, store):
            broken.append(generation.pk)
    return broken


def _answers(generation: IndexGeneration, store: VectorStore) -> bool:
    """Whether the collection is well, or may be: once is not enough to call it broken."""
    mine = IndexGeneration.objects.in_use().filter(
        pk=generation.pk, collection_revision=generation.collection_revision
    )
    try:
        restore.probe(generation, store)
    except VectorStoreError as exc:
        # Known here under the id of one that another process has replaced, it may be there.
        is_gone = isinstance(exc, NoCollection) and not _exists(generation, store)
        if not mine.update(
            failed_probes=F("failed_probes") + 1,
            failing_since=Coalesce("failing_since", timezone.now()),
        ):
            return True  # replaced or purged in this moment
        logger.warning("collection %s: %s", generation.collection_name, exc)
        return not is_gone and generation.failed_probes + 1 < FAILURES_TO_RESTORE
    if generation.failed_probes:
        mine.update(failed_probes=0, failing_since=None)
    return True


def _exists(generation: IndexGeneration, store: VectorStore) -> bool:
    try:
        return store.exists(generation.collection_name)
    except VectorStoreError:
        return True
