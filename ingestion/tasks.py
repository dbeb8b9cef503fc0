"""The Celery tasks. Each claims, calls, records; the rows in SQL say what remains.

task             soft / hard limit   expires   runs twice
ingest_document  14 / 15 min         never     harmless: only the claimer works
purge_corpus     9 / 10 min          60 s      harmless: every step may be repeated
purge_generation 9 / 10 min          60 s      harmless: every step may be repeated
restore_vectors  55 / 58 min         5 min     harmless: one copies, the other stops
verify           55 / 58 min         1 h       harmless: repairs may be repeated
erase            55 / 58 min         5 min     harmless: one makes an index anew at a time
import_corpus    55 / 58 min         60 s      harmless: only the claimer works
watch_folder     9 / 10 min          60 s      harmless: one looks, the other stops
reconcile        50 / 60 s           60 s      harmless: a nudge guard per row
probe            50 / 60 s           20 s      harmless: it only counts failures

None is retried by Celery: what did not finish is found by `reconcile`.
"""

from __future__ import annotations

import logging
from typing import Any

from celery import shared_task
from celery.signals import worker_init, worker_ready

from ingestion import (
    erasure,
    folders,
    importing,
    nudges,
    pipeline,
    purge,
    restore,
    retirement,
    vectors,
    watch,
)
from ingestion import reconcile as reconciliation
from ingestion.conf import ingestion_settings
from ingestion.errors import TransientError
from ingestion.verification import run

logger = logging.getLogger(__name__)


@shared_task(ignore_result=True, acks_late=True, soft_time_limit=14 * 60, time_limit=15 * 60)
def ingest_document(document_id: int) -> None:
    """Do what remains to be done on a document, then see that the next ones get their turn."""
    pipeline.work_on(document_id)
    nudges.nudge_waiting()
    nudges.nudge_again(document_id)


@shared_task(ignore_result=True, soft_time_limit=9 * 60, time_limit=10 * 60, expires=60)
def purge_corpus(corpus_id: int) -> None:
    """Purge a deleted corpus; what cannot be done now is done at a later reconciliation."""
    try:
        purge.purge_corpus(corpus_id, ingestion_settings())
    except TransientError as exc:
        logger.warning("corpus %d waits to be purged: %s", corpus_id, exc)


@shared_task(ignore_result=True, soft_time_limit=9 * 60, time_limit=10 * 60, expires=60)
def purge_generation(generation_id: int) -> None:
    """Purge a retired index; what cannot be done now is done at a later reconciliation."""
    try:
        retirement.purge_generation(generation_id, ingestion_settings())
    except TransientError as exc:
        logger.warning("generation %d waits to be purged: %s", generation_id, exc)


@shared_task(ignore_result=True, soft_time_limit=55 * 60, time_limit=58 * 60, expires=60)
def import_corpus(import_id: int) -> None:
    """Go on with an import; what is left after its turn is found by a later reconciliation."""
    importing.work_on(import_id)


@shared_task(ignore_result=True, soft_time_limit=9 * 60, time_limit=10 * 60, expires=60)
def watch_folder() -> None:
    """Take in what is new or changed in the watched folder."""
    folders.scan(ingestion_settings())


@shared_task(ignore_result=True, soft_time_limit=50, time_limit=60, expires=20)
def probe() -> None:
    """Ask each collection a real question; have broken ones filled anew."""
    for generation_id in watch.probe_collections(ingestion_settings()):
        restore_vectors.delay(generation_id)


@shared_task(ignore_result=True, soft_time_limit=55 * 60, time_limit=58 * 60, expires=300)
def restore_vectors(generation_id: int) -> None:
    """Fill a broken collection anew from SQL; if Chroma fails, the next probe asks again."""
    try:
        restore.restore_vectors(generation_id, ingestion_settings())
    except TransientError as exc:
        logger.warning("generation %d waits for its vectors: %s", generation_id, exc)


@shared_task(ignore_result=True, soft_time_limit=55 * 60, time_limit=58 * 60, expires=3600)
def verify() -> None:
    """Compare all stores and repair them, every night."""
    given = ingestion_settings()
    run.verify(given, repair=True)
    _erase(large=True)


@shared_task(ignore_result=True, soft_time_limit=55 * 60, time_limit=58 * 60, expires=300)
def erase() -> None:
    """Take what was deleted out of the files; large indexes wait for the night."""
    _erase(large=False)


def _erase(*, large: bool) -> None:
    try:
        erasure.erase(ingestion_settings(), large=large)
    except TransientError as exc:
        logger.warning("what was deleted waits to be erased from the files: %s", exc)


@shared_task(ignore_result=True, soft_time_limit=50, time_limit=60, expires=60)
def reconcile() -> None:
    """Find work that nobody is told of."""
    reconciliation.reconcile()
    if erasure.is_due():
        erase.delay()


@worker_init.connect
def _load_vendors(**_: Any) -> None:
    vectors.load_vendor()


@worker_ready.connect
def _reconcile_at_start(**_: Any) -> None:
    try:
        reconcile.delay()
    except nudges.BROKER_ERRORS as exc:
        logger.warning("no reconciliation at start: %s", exc)
