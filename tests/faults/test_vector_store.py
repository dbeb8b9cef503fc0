"""Chroma killed while it writes: answers go on, and what broke is filled anew by itself."""

from __future__ import annotations

import io
import random
import time
from collections import Counter
from pathlib import Path

import pytest
from django.conf import settings as site_settings
from django.contrib.auth.models import User
from django.db.models import Max

from ingestion import services
from ingestion.conf import ingestion_settings
from ingestion.models import Chunk, Corpus, IndexGeneration
from ingestion.verification.run import verify
from tests.faults.mixed import documents
from tests.faults.report import report
from tests.faults.running import ask, running_site, unfinished
from tests.faults.scale import campaign
from tests.ingestion.workbench import assert_complete

pytestmark = [
    pytest.mark.services,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_url", "chroma_url", "inference_url"),
]
SEED = 20263


@campaign(short=3, full=30)
def test_kills_of_chroma_are_mended_without_a_person(
    alice: User, tmp_data: Path, count: int
) -> None:
    is_long = count > 3
    chance = random.Random(SEED)
    files = documents(count * 10 if is_long else 9, seed=SEED)
    corpus = Corpus.objects.create(name="Vectors", owner=alice)
    said: Counter[str] = Counter()
    questions = empty = 0
    slowest = 0.0
    began = time.monotonic()
    with running_site(tmp_data, own=("chroma",)) as site:
        waiting = list(files)
        while waiting or unfinished(corpus):
            while waiting and unfinished(corpus) < 8:
                name, content = waiting.pop(0)
                file = io.BytesIO(content)
                services.receive(corpus=corpus, person=None, name=name, content=file)
            if site.kills.get("chroma", 0) < count and corpus.generations.exists():
                time.sleep(chance.uniform(0.2, 2.0))
                site.kill("chroma", down_seconds=chance.uniform(0.0, 0.5))
            if corpus.documents.filter(state="ready").exists():
                asked = time.monotonic()
                candidates, degraded = ask(corpus)
                slowest = max(slowest, time.monotonic() - asked)
                questions += 1
                empty += not candidates
                said.update(degraded)
            time.sleep(0.2)
            assert time.monotonic() - began < 3600, site.log("worker")
        ingested = time.monotonic() - began
        until = time.monotonic() + 120
        while ask(corpus)[1]:  # a collection that broke is noticed and filled anew
            assert time.monotonic() < until, site.log("worker")
            time.sleep(1)
        kills = site.kills["chroma"]
        for document in corpus.documents.all():
            assert_complete(document)
        assert verify(ingestion_settings(), deep=True).unrepaired == 0
        size = sum(
            path.stat().st_size
            for path in Path(site_settings.CHROMA_DIR).rglob("*")
            if path.is_file()
        )
    assert corpus.documents.count() == len(files)
    assert empty == 0
    report(
        "vector_store",
        seed=SEED,
        kills=kills,
        documents=len(files),
        passages=Chunk.objects.count(),
        collections_filled_anew=IndexGeneration.objects.aggregate(n=Max("collection_revision"))[
            "n"
        ],
        questions=questions,
        questions_without_answer=empty,
        slowest_question_seconds=round(slowest, 1),
        said=dict(said),
        chroma_megabytes=round(size / 2**20, 1),
        seconds=round(ingested, 1),
    )
