"""Documents that wait for a service are worked on again when their time comes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone
from redis import Redis

from ingestion import nudges
from ingestion.models import Corpus, Document
from ragsite.celery import app

pytestmark = [pytest.mark.services, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def queue(redis_url: str) -> Iterator[Redis]:
    """The broker with nothing in its queue."""
    with Redis.from_url(redis_url) as client:
        client.delete(app.conf.task_default_queue)
        yield client
        client.delete(app.conf.task_default_queue)


def waiting(corpus: Corpus, **fields: Any) -> Document:
    return Document.objects.create(
        corpus=corpus, name="a.txt", size_bytes=1, sha256="a" * 64, state="embedding", **fields
    )


def messages(queue: Redis) -> list[dict[str, Any]]:
    found = queue.lrange(app.conf.task_default_queue, 0, -1)
    return [json.loads(one)["headers"] for one in found]


def test_what_is_due_soon_gets_a_message_for_that_moment(queue: Redis, corpus: Corpus) -> None:
    due = timezone.now() + timedelta(seconds=3)
    document = waiting(corpus, retry_at=due, error_code="model_loading")

    nudges.nudge_again(document.pk)

    (message,) = messages(queue)
    assert (message["task"], message["argsrepr"]) == (
        "ingestion.tasks.ingest_document",
        f"[{document.pk}]",
    )
    assert abs(datetime.fromisoformat(message["eta"]) - due) < timedelta(seconds=1)


def test_what_is_finished_held_or_far_off_is_left_alone(queue: Redis, corpus: Corpus) -> None:
    now = timezone.now()
    documents = [
        waiting(corpus),
        waiting(corpus, retry_at=now + timedelta(minutes=1)),
        waiting(corpus, retry_at=now, lease_until=now + timedelta(minutes=1)),
    ]
    done = waiting(corpus, retry_at=now)
    Document.objects.filter(pk=done.pk).update(state="ready")
    for pk in [*(document.pk for document in documents), done.pk, 10**9]:
        nudges.nudge_again(pk)

    assert messages(queue) == []
