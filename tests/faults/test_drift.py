"""Stores made to differ from SQL: all of it found and repaired, nothing found on healthy ones."""

from __future__ import annotations

import io
import random
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from django.contrib.auth.models import User

from inference.client import InferenceClient
from ingestion import pipeline, restore, services
from ingestion.conf import ingestion_settings
from ingestion.models import Chunk, Corpus, Document
from ingestion.verification.run import verify
from tests.faults.drift import KINDS
from tests.faults.report import report
from tests.faults.scale import campaign
from tests.ingestion.workbench import PAGE, assert_complete, upload

pytestmark = [
    pytest.mark.services,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("tmp_data", "chroma_url", "inference_url"),
]
# What a worker has to read from the file again, or to embed.
NEEDS_A_WORKER = {"lost_passages", "lost_embeddings", "altered_passages"}
TOPICS = (
    "Pumps move water uphill.",
    "Bees dance to say where the flowers are.",
    "A lighthouse keeper trims the wick at dusk.",
    "Glaciers carry stones to the sea.",
)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker takes what is repaired, and questions that are under way are not waited for."""
    monkeypatch.setattr("ingestion.nudges.nudge_waiting", lambda: 0)
    monkeypatch.setattr(restore, "LAST_QUESTIONS_SECONDS", 0.0)


def make_site(owner: User, *, corpora: int = 2) -> list[Document]:
    """Corpora with ready documents."""
    documents = []
    for number in range(corpora):
        corpus = Corpus.objects.create(name=f"Corpus {number}", owner=owner)
        documents += [upload(corpus, topic, name=f"{topic[:8]}.md") for topic in TOPICS]
    work_off()
    for document in documents:
        assert_complete(document)
    return documents


def work_off() -> None:
    """Do what a worker would do now."""
    for pk in list(Document.objects.unfinished().values_list("pk", flat=True)):
        pipeline.work_on(pk)


def found(*, repair: bool = False, deep: bool = True) -> set[str]:
    """The codes of what a run finds; with `repair`, asserted to be repaired."""
    record = verify(ingestion_settings(), repair=repair, deep=deep)
    if repair:
        assert record.unrepaired == 0, record.findings
    return {finding["code"] for finding in record.findings}


def vectors() -> dict[str, Any]:
    """Every embedding in SQL."""
    return {pk: bytes(row or b"") for pk, row in Chunk.objects.values_list("pk", "embedding")}


@campaign(short=1, full=20)
def test_every_kind_of_drift_is_found_and_repaired(
    alice: User, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = make_site(alice)
    before = vectors()
    embedded: list[str] = []
    embed = InferenceClient.embed

    def counted(self: InferenceClient, texts: Sequence[str], **options: Any) -> Any:
        embedded.extend(texts)
        return embed(self, texts, **options)

    monkeypatch.setattr(InferenceClient, "embed", counted)
    began, missed = time.monotonic(), []
    for name, kind in KINDS.items():
        for seed in range(count):
            chance = random.Random(f"{name} {seed}")
            embedded.clear()
            code = kind.inject(chance)
            if count > 1 and code not in found(deep=kind.deep):
                missed.append((name, seed))
            assert code in found(repair=True, deep=kind.deep), (name, seed)
            put_back_files(documents)
            if name in NEEDS_A_WORKER:
                work_off()
            else:
                assert embedded == [], name  # repaired from SQL alone
            assert found() == set(), (name, seed)
    assert missed == []
    for document in documents:
        assert_complete(document)
    after = vectors()
    assert after.keys() == before.keys()
    for key, packed in before.items():
        made, was = (np.frombuffer(row, "<f2").astype("f4") for row in (after[key], packed))
        assert np.allclose(made, was, atol=1e-3)  # the same model, in another batch
    report(
        "drift",
        kinds=len(KINDS),
        injections=count * len(KINDS),
        found=count * len(KINDS) - len(missed),
        repaired=count * len(KINDS),
        second_pass_findings=0,
        seconds=round(time.monotonic() - began, 1),
    )


def put_back_files(documents: Sequence[Document]) -> None:
    """Upload again what the site says it has lost; the same document takes it."""
    for document in documents:
        document.refresh_from_db()
        if document.error_code not in services.FILE_LOST:
            continue
        number = [d.pk for d in documents if d.corpus_id == document.corpus_id].index(document.pk)
        content = io.BytesIO(PAGE.replace("{topic}", TOPICS[number]).encode())
        again = services.receive(
            corpus=document.corpus, person=None, name=document.name, content=content
        )
        assert again.pk == document.pk


@campaign(short=1, full=10)
def test_nothing_is_found_on_a_healthy_site(alice: User, count: int) -> None:
    began = time.monotonic()
    for number in range(count):
        corpus = Corpus.objects.create(name=f"Healthy {number}", owner=alice)
        chance = random.Random(number)
        documents = [
            upload(corpus, f"{chance.random()} {topic}", name=f"{place}.md")
            for place, topic in enumerate(TOPICS)
        ]
        work_off()
        services.request_deletion(documents=Document.objects.filter(pk=documents[0].pk))
        assert found() == set()  # hidden, and not purged yet
        work_off()
        for document in documents[1:]:
            assert_complete(document)
        assert found(repair=True) == set()
    report("healthy", sites=count, findings=0, seconds=round(time.monotonic() - began, 1))
