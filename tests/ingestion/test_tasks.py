"""Celery tasks in a real worker with a real broker."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ingestion import nudges, services, tasks
from ingestion.models import Corpus, Document
from ragsite import processes
from ragsite.celery import app
from tests.ingestion.workbench import (
    assert_complete,
    assert_nothing_left,
    eventually,
    is_ready,
    start_worker,
    upload,
)

if TYPE_CHECKING:
    from pytest_django.fixtures import Settings

pytestmark = [pytest.mark.services, pytest.mark.django_db(transaction=True)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def worker(
    data: Path, django_db_setup: None, redis_url: str, chroma_url: str, inference_url: str
) -> Iterator[processes.Process]:
    process = start_worker(data, redis_url)
    yield process
    process.stop()


@pytest.fixture
def at_work(worker: processes.Process, data: Path, settings: Settings) -> processes.Process:
    """The worker, and this process on the same data."""
    settings.DATA_DIR = data
    return worker


def test_an_upload_is_worked_on_without_further_ado(
    at_work: processes.Process, corpus: Corpus
) -> None:
    documents = [upload(corpus, f"number {i}") for i in range(3)]

    eventually(lambda: all(map(is_ready, documents)), seconds=15)

    for document in documents:
        assert_complete(document)


def test_an_upload_whose_message_was_lost_is_found_by_the_reconciler(
    at_work: processes.Process, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(nudges, "nudge_waiting", lambda: 0)
        document = upload(corpus)
    time.sleep(1)
    assert not is_ready(document)

    tasks.reconcile.delay()

    eventually(lambda: is_ready(document), seconds=15)


def test_a_worker_purges_what_a_person_deleted(
    at_work: processes.Process, corpus: Corpus, data: Path
) -> None:
    goes, stays = upload(corpus, "goes"), upload(corpus, "stays")
    eventually(lambda: is_ready(goes) and is_ready(stays))
    ids = assert_complete(goes)

    services.request_deletion(documents=Document.objects.filter(pk=goes.pk))
    eventually(lambda: not Document.objects.filter(pk=goes.pk).exists())
    assert_nothing_left(goes, ids, data)
    assert_complete(stays)

    services.delete_corpus(corpus=corpus)
    eventually(lambda: not Corpus.objects.exists())


def test_every_task_ends_and_before_its_message_is_given_to_another() -> None:
    visibility = app.conf.broker_transport_options["visibility_timeout"]
    for task in (tasks.ingest_document, tasks.purge_corpus, tasks.reconcile):
        soft, hard = task.soft_time_limit, task.time_limit
        assert soft is not None
        assert hard is not None
        assert 0 < soft < hard < visibility
        assert task.ignore_result
        assert task.acks_late
