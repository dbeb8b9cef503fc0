"""Telling the workers that there is work. A nudge may be lost; the row may not.

The document row is the outbox: a nudge is a Celery message with its id, sent when the row is
committed, when a worker is done with another one, when its own time to try again has come, and
by `reconcile` every 20 s. Only
`QUEUE_ROOM` messages are in the queue at a time, in the fair order of `in_turn`: more would
put one person's bulk upload ahead of everybody's next file. A message too many does no harm,
because only the claimer of a row works on it.
"""

from __future__ import annotations

import logging
from datetime import timedelta

import redis
from celery import current_app
from django.db.models import Q
from django.utils import timezone
from kombu.exceptions import KombuError

from ingestion.models import Corpus, Document, IndexGeneration

logger = logging.getLogger(__name__)

QUEUE_ROOM = 64
# A nudged row is left alone this long, unless its worker gives it back sooner.
NUDGE_GUARD_SECONDS = 60
# Of a queue that is empty, messages sent this long ago are lost, or with a worker already.
EMPTY_GUARD_SECONDS = 15
# What is due within this time need not wait for `reconcile`.
SOON_SECONDS = 20.0
# The worker of this name serves no documents.
UPKEEP = "upkeep@"
BROKER_ERRORS = (KombuError, redis.RedisError, OSError)


def nudge_waiting() -> int:
    """Tell workers of waiting documents while the queue has room, rebuilds last. Returns how many.

    A broker that is away is logged and not an error: whoever calls this has done their part
    with the commit of the row.
    """
    sent = 0
    try:
        there = messages_waiting()
        room, guard = QUEUE_ROOM - there, NUDGE_GUARD_SECONDS if there else EMPTY_GUARD_SECONDS
        for due in (Document.objects.in_turn(), Document.objects.to_build()):
            left = max(0, room - sent)
            for pk in due.filter(_unguarded(guard))[:left].values_list("pk", flat=True):
                sent += _nudge(pk, guard)
    except BROKER_ERRORS as exc:
        logger.warning("no worker could be told of waiting documents: %s", exc)
    return sent


def nudge_again(pk: int) -> None:
    """Have a document that waits for a service worked on when its time comes, if that is soon.

    What waits longer, and a message that is lost, is found by `reconcile`.
    """
    row = Document.objects.unfinished().unleased().filter(pk=pk).values_list("retry_at").first()
    left = (row[0] - timezone.now()).total_seconds() if row and row[0] else SOON_SECONDS
    if left >= SOON_SECONDS:
        return
    try:
        current_app.send_task("ingestion.tasks.ingest_document", [pk], countdown=max(0.0, left))
    except BROKER_ERRORS as exc:
        logger.warning("document %d is worked on again only after a while: %s", pk, exc)


def nudge_deleted_corpora() -> None:
    """Send a message for each corpus that waits to be purged. A broker that is away is logged."""
    try:
        for pk in Corpus.objects.exclude(deleted_at=None).values_list("pk", flat=True):
            current_app.send_task("ingestion.tasks.purge_corpus", [pk])
    except BROKER_ERRORS as exc:
        logger.warning("no worker could be told of deleted corpora: %s", exc)


def nudge_generations() -> None:
    """Send a message for each generation that is to be purged. A broker that is away is logged."""
    try:
        for pk in IndexGeneration.objects.due_for_purge().values_list("pk", flat=True):
            current_app.send_task("ingestion.tasks.purge_generation", [pk])
    except BROKER_ERRORS as exc:
        logger.warning("no worker could be told of retired indexes: %s", exc)


def messages_waiting() -> int:
    """How many messages lie in the queue. Raises one of BROKER_ERRORS when Redis is away."""
    with (
        current_app.connection_or_acquire() as connection,
        connection.default_channel.conn_or_acquire() as client,
    ):
        return int(client.llen(current_app.conf.task_default_queue))


def worker_answers(timeout_seconds: float) -> bool:
    """Whether a worker that takes documents in replies to a ping within this time."""
    try:
        replies = current_app.control.ping(timeout=timeout_seconds)
        return any(not name.startswith(UPKEEP) for reply in replies or [] for name in reply)
    except BROKER_ERRORS:
        return False


def _unguarded(seconds: int) -> Q:
    guard = timezone.now() - timedelta(seconds=seconds)
    return Q(nudged_at=None) | Q(nudged_at__lt=guard)


def _nudge(pk: int, guard: int) -> bool:
    """Send one message, unless somebody else just did."""
    row = Document.objects.filter(pk=pk)
    if not row.filter(_unguarded(guard)).update(nudged_at=timezone.now()):
        return False
    try:
        current_app.send_task("ingestion.tasks.ingest_document", [pk])
    except BROKER_ERRORS:
        row.update(nudged_at=None)
        raise
    return True
