"""What is done every 20 s so that nothing is forgotten: nudge what waits, sweep what is stale."""

from __future__ import annotations

import logging

from ingestion import blobs, importing, nudges, rebuild, vector_files
from ingestion.conf import ingestion_settings
from ingestion.errors import VectorStoreError

logger = logging.getLogger(__name__)


def reconcile() -> int:
    """Nudge waiting documents and deletions, sweep abandoned uploads. Returns the nudges sent.

    A document that no worker holds is waiting, whoever dropped it: lost messages, killed
    workers and services that were away all end here.
    """
    given = ingestion_settings()
    blobs.sweep_drafts(given.blobs_dir)
    try:
        vector_files.remove_ownerless(given.chroma_dir)
    except VectorStoreError as exc:
        logger.warning("what dropped collections left is still there: %s", exc)
    importing.sweep(given.imports_dir)
    importing.nudge_imports()
    nudges.nudge_deleted_corpora()
    nudges.nudge_generations()
    rebuild.list_missing()
    return nudges.nudge_waiting()
