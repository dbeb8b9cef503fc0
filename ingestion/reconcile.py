"""What is done every 20 s so that nothing is forgotten: nudge what waits, sweep what is stale."""

from __future__ import annotations

from ingestion import blobs, nudges, rebuild
from ingestion.conf import ingestion_settings


def reconcile() -> int:
    """Nudge waiting documents and deletions, sweep abandoned uploads. Returns the nudges sent.

    A document that no worker holds is waiting, whoever dropped it: lost messages, killed
    workers and services that were away all end here.
    """
    blobs.sweep_drafts(ingestion_settings().blobs_dir)
    nudges.nudge_deleted_corpora()
    nudges.nudge_generations()
    rebuild.list_missing()
    return nudges.nudge_waiting()
