"""Taking what was deleted out of the files, too, and not only out of the answers.

Stores forget first and erase later: Chroma keeps the vectors it was told to delete, a keyword
index keeps the words until its segments are merged, SQLite its freed pages until they are
written over. A while after a deletion both indexes of the generation are therefore made anew
from SQL, what the old ones left is removed, and SQLite's log is emptied. Then the receipt says so.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import connection
from django.db.models import Q, QuerySet
from django.utils import timezone

from ingestion import receipts, vector_files
from ingestion.errors import TransientError, VectorStoreError
from ingestion.holders import holders
from ingestion.models import Deletion, IndexGeneration
from ingestion.restore import restore_vectors, restore_words
from ingestion.types import IngestionSettings
from ingestion.vectors import VectorStore, shared_store

logger = logging.getLogger(__name__)

# Several deletions in a row are erased together ...
QUIET_SECONDS = 60
# ... but none waits for ever because others follow.
LONGEST_WAIT_SECONDS = 900
# A larger index is made anew in the night: it takes minutes of two cores.
AT_ONCE_PASSAGES = 50_000

CHROMA_OUT_OF_REACH = (
    "Chroma runs where this site does not reach its files, so the vectors may stay in them. Set "
    "CHROMA_DIR to its folder, or remove the folders of dropped collections there."
)
OTHER_DATABASE = (
    "The database server reuses the place of deleted rows in its own time; a VACUUM FULL there "
    "does it at once."
)


def is_due() -> bool:
    """Whether something has waited long enough to be erased."""
    return _due_receipts(timezone.now()).exists() or _due(timezone.now()).exists()


def erase(settings: IngestionSettings, *, large: bool = False) -> int:
    """Erase what deletions left in the files.

    Args:
        settings: which stores.
        large: also where a large index has to be made anew for it.

    Returns:
        How many receipts are complete by this.

    Raises:
        VectorStoreError, LexicalIndexError: a store is away; the rest is done later.
        TransientError: `database`; somebody kept reading the database's log.
    """
    now = timezone.now()
    done = list(_due_receipts(now).values_list("pk", "document_id", "corpus_id"))
    for generation in _due(now).select_related("corpus"):
        if not large and generation.chunks.count() > AT_ONCE_PASSAGES:
            continue
        _refill(generation, settings)
    if not done:
        return 0
    # A turn that was being answered when the document went has written its sources since.
    for _, document_id, _ in done:
        if document_id is not None:
            for holder in holders():
                holder.forget(document_id)
    kept = [*_clean_vectors(settings), *_clean_database()]
    waiting = set(
        IndexGeneration.objects.exclude(residue_at=None).values_list("corpus_id", flat=True)
    )
    complete = [pk for pk, _, corpus_id in done if corpus_id not in waiting]
    receipts.erased(complete, kept=kept)
    logger.info("%d deletions erased from the files", len(complete))
    return len(complete)


def _due_receipts(now: datetime) -> QuerySet[Deletion]:
    before = now - timedelta(seconds=QUIET_SECONDS)
    return Deletion.objects.filter(state=Deletion.State.PURGED, purged_at__lte=before)


def _due(now: datetime) -> QuerySet[IndexGeneration]:
    """Generations whose files hold something deleted, and in which it is quiet again."""
    quiet = Q(residue_at__lte=now - timedelta(seconds=QUIET_SECONDS))
    waited = Deletion.objects.filter(
        state=Deletion.State.PURGED,
        purged_at__lte=now - timedelta(seconds=LONGEST_WAIT_SECONDS),
    )
    late = Q(corpus_id__in=waited.values("corpus_id"))
    return IndexGeneration.objects.in_use().exclude(residue_at=None).filter(quiet | late)


def _refill(generation: IndexGeneration, settings: IngestionSettings) -> None:
    """Make both indexes anew, and see that the former collections are gone."""
    stamp = generation.residue_at
    restore_vectors(generation.pk, settings)
    restore_words(generation, settings)
    generation.refresh_from_db()
    _drop_former(generation, shared_store(settings))
    IndexGeneration.objects.filter(pk=generation.pk, residue_at=stamp).update(residue_at=None)


def _drop_former(generation: IndexGeneration, store: VectorStore) -> None:
    for revision in range(generation.collection_revision):
        store.drop(generation.collection_of(revision))


def _clean_vectors(settings: IngestionSettings) -> Sequence[str]:
    """Erase from Chroma's files where they are in reach; a sentence where they are not."""
    names = [row.collection_name for row in IndexGeneration.objects.in_use()]
    names = names or [row.name for row in shared_store(settings).collections()]
    folder = settings.chroma_dir
    if names and not any(vector_files.holds(folder, name) for name in names):
        return [CHROMA_OUT_OF_REACH]
    vector_files.erase(folder)
    if left := vector_files.ownerless_folders(folder):
        raise VectorStoreError(f"{len(left)} folders of dropped collections are still there")
    return []


def _clean_database() -> Sequence[str]:
    """Empty SQLite's write-ahead log; its freed pages are overwritten as they are freed."""
    if connection.vendor != "sqlite":
        return [OTHER_DATABASE]
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        busy, *_ = cursor.fetchone()
    if busy:
        raise TransientError("the log of the database is being read", code="database")
    return []
