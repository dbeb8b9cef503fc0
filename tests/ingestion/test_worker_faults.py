"""Workers and brokers that die; each test has its own worker."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from ingestion.models import Corpus, Document
from ragsite import processes
from ragsite.celery import app
from tests.ingestion.workbench import assert_complete, eventually, is_ready, start_worker, upload

pytestmark = [
    pytest.mark.services,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("chroma_url", "inference_url"),
]
State = Document.State


def test_a_document_survives_the_death_of_its_worker(
    tmp_data: Path, redis_url: str, corpus: Corpus
) -> None:
    first = start_worker(tmp_data, redis_url)
    document = upload(corpus, "A long text about many things. " * 4000)
    eventually(lambda: Document.objects.filter(state=State.EMBEDDING, progress_done__gt=0).exists())
    os.killpg(first.pid, signal.SIGKILL)
    first.stop()
    assert not is_ready(document)
    before = document.chunks.exclude(embedding=None).count()
    assert before > 0

    other = start_worker(tmp_data, redis_url)
    try:
        eventually(lambda: is_ready(document), seconds=120)
    finally:
        other.stop()
    assert_complete(document)
    assert document.crashes == 0


def test_work_goes_on_after_the_broker_was_gone(
    tmp_data: Path, redis_url: str, corpus: Corpus
) -> None:
    service = processes.redis_service(processes.free_port(), tmp_data / "redis")
    url = f"redis://127.0.0.1:{service.argv[service.argv.index('--port') + 1]}/0"
    broker = processes.Process(service, env={}, log=tmp_data / "redis.log")
    assert broker.wait_until_healthy(20)
    app.conf.update(broker_url=url)
    app._after_fork()  # type: ignore[attr-defined]
    worker = start_worker(tmp_data, url)
    try:
        os.killpg(broker.pid, signal.SIGKILL)
        begun = time.monotonic()
        while_down = upload(corpus, "while it was down")
        assert time.monotonic() - begun < 3
        time.sleep(3)
        broker.stop()
        broker = processes.Process(service, env={}, log=tmp_data / "redis.log")

        eventually(lambda: is_ready(while_down), seconds=90)
    finally:
        worker.stop()
        broker.stop()
        app.conf.update(broker_url=redis_url)
        app._after_fork()  # type: ignore[attr-defined]
