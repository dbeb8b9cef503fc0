"""Redis killed, away and emptied while documents are taken in: work goes on by itself."""

from __future__ import annotations

import io
import random
import time
from pathlib import Path

import pytest
import redis
from django.conf import settings as site_settings
from django.contrib.auth.models import User

from ingestion import services
from ingestion.models import Corpus, Document
from tests.faults.mixed import documents
from tests.faults.report import report
from tests.faults.running import ask, running_site, unfinished, wait_until_finished
from tests.faults.scale import campaign
from tests.ingestion.workbench import assert_complete

pytestmark = [
    pytest.mark.services,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_url", "chroma_url", "inference_url"),
]
SEED = 20262


@campaign(short=2, full=20)
def test_work_goes_on_after_redis_was_killed_or_emptied(
    alice: User, tmp_data: Path, count: int
) -> None:
    chance = random.Random(SEED)
    size = 6 if count > 2 else 4
    batches = [documents(size, seed=SEED + number) for number in range(count)]
    corpus = Corpus.objects.create(name="Brokers", owner=alice)
    acts = {"kill": 0, "flushall": 0}
    recovered: list[float] = []
    answers = failed = 0
    with running_site(tmp_data, own=("redis",)) as site:
        for number, batch in enumerate(batches):
            for name, content in batch[: size // 2]:
                file = io.BytesIO(content)
                services.receive(corpus=corpus, person=None, name=f"{number}-{name}", content=file)
            time.sleep(chance.uniform(0.2, 1.5))
            began = time.monotonic()
            if number % 2:
                acts["flushall"] += 1
                redis.Redis.from_url(site_settings.REDIS_URL).flushall()
            else:
                acts["kill"] += 1
                site.kill("redis", down_seconds=chance.uniform(0.0, 3.0))
            for name, content in batch[size // 2 :]:  # whether or not it is back
                file = io.BytesIO(content)
                services.receive(corpus=corpus, person=None, name=f"{number}-{name}", content=file)
            while unfinished(corpus):
                candidates, degraded = ask(corpus)
                answers += 1
                failed += bool(degraded) and not candidates
                assert time.monotonic() - began < 150, site.log("worker")
                time.sleep(0.5)
            recovered.append(time.monotonic() - began)
        wait_until_finished(corpus, seconds=5)
    found = list(corpus.documents.all())
    assert len(found) == size * count
    for document in found:
        assert_complete(document)
    assert Document.objects.exclude(state=Document.State.READY).count() == 0
    assert failed == 0
    report(
        "brokers",
        seed=SEED,
        acts=acts,
        documents=len(found),
        ready=len(found),
        questions_meanwhile=answers,
        questions_failed=failed,
        seconds_until_all_ready_max=round(max(recovered), 1),
    )
