"""A collection that breaks: noticed, answered without, filled anew by itself."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from ingestion import pipeline, restore, stages, tasks, watch
from ingestion.conf import ingestion_settings
from ingestion.errors import VectorStoreError
from ingestion.models import Corpus, Document, IndexGeneration
from ingestion.vectors import VectorStore
from ragsite import health
from ragsite.celery import app
from search.conf import retrieval_settings, search_services
from search.pipeline import retrieve
from search.types import DegradedCode, Trace
from tests.faults import drift
from tests.ingestion.workbench import assert_complete, store, upload

pytestmark = [
    pytest.mark.services,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("tmp_data", "chroma_url", "inference_url"),
]
TEXT = "# Pumps\n\n" + "\n\n".join(f"Pump {n} moves water uphill, {n} litres." for n in range(60))


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("ingestion.nudges.nudge_waiting", lambda: 0)
    monkeypatch.setattr(restore, "LAST_QUESTIONS_SECONDS", 0.0)
    yield
    for generation in IndexGeneration.objects.all():
        store().drop(generation.collection_name)


@pytest.fixture
def document(corpus: Corpus) -> Document:
    """Ready, with several passages."""
    made = upload(corpus, text=TEXT)
    pipeline.work_on(made.pk)
    assert len(assert_complete(made)) > 1
    return made


def ask(corpus: Corpus) -> Trace:
    return retrieve(
        "How much water do pumps move?",
        corpora=[corpus],
        settings=retrieval_settings(),
        services=search_services(),
    )


def test_a_broken_collection_is_noticed_and_filled_anew_from_sql(document: Document) -> None:
    given, corpus = ingestion_settings(), document.corpus
    assert watch.probe_collections(given) == []
    drift.broken_collection(random.Random(1))
    store().heartbeat()  # the server itself is well

    assert watch.probe_collections(given) == []  # once may be chance ...
    check = health.check_stores()
    assert (check.up, check.required) == (False, False)
    assert corpus.name in check.reason
    trace = ask(corpus)
    assert [problem.code for problem in trace.degraded] == [DegradedCode.VECTORS_UNAVAILABLE]
    assert trace.candidates  # found by keywords

    (broken,) = watch.probe_collections(given)  # ... twice is not
    restore.restore_vectors(broken, given)

    assert watch.probe_collections(given) == []
    assert health.check_stores().up
    assert ask(corpus).degraded == []
    assert_complete(document)
    assert IndexGeneration.objects.get().collection_revision == 1


def test_a_lost_collection_is_filled_at_once(document: Document) -> None:
    store().drop(IndexGeneration.objects.get().collection_name)

    (lost,) = watch.probe_collections(ingestion_settings())
    restore.restore_vectors(lost, ingestion_settings())

    assert_complete(document)


def test_a_server_that_is_away_is_no_broken_collection(document: Document) -> None:
    away = replace(ingestion_settings(), chroma_url="http://127.0.0.1:1")

    assert watch.probe_collections(away) == []

    assert IndexGeneration.objects.get().failed_probes == 0


def test_a_document_indexed_while_vectors_are_copied_is_in_the_new_collection(
    document: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = upload(document.corpus, "Late, and complete all the same.")
    index = stages._index_words

    def copied_meanwhile(*args: Any) -> None:
        index(*args)
        restore.restore_vectors(IndexGeneration.objects.get().pk, ingestion_settings())

    monkeypatch.setattr(stages, "_index_words", copied_meanwhile)
    pipeline.work_on(late.pk)  # its vectors are in the old collection
    late.refresh_from_db()
    assert late.state == Document.State.INDEXING
    monkeypatch.setattr(stages, "_index_words", index)

    pipeline.work_on(late.pk)

    assert_complete(late)
    assert_complete(document)


@pytest.mark.parametrize("step", ["ensure", "add_missing", "missing", "drop"])
def test_copying_survives_a_failure_at_every_step(
    document: Document, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    generation = IndexGeneration.objects.get()

    def fails(*args: Any, **options: Any) -> None:
        raise VectorStoreError("away")

    with monkeypatch.context() as patch:
        patch.setattr(VectorStore, step, fails)
        if step == "drop":  # the new one is in use; the old one is left for `verify`
            restore.restore_vectors(generation.pk, ingestion_settings())
        else:
            with pytest.raises(VectorStoreError):
                restore.restore_vectors(generation.pk, ingestion_settings())
            assert_complete(document)  # on the old one, as before

    restore.restore_vectors(generation.pk, ingestion_settings())

    assert_complete(document)


def test_only_one_worker_copies(document: Document, monkeypatch: pytest.MonkeyPatch) -> None:
    generation = IndexGeneration.objects.get()
    assert IndexGeneration.objects.claim_copying(generation.pk, lease_seconds=60)

    with pytest.raises(restore.CopyLost):
        restore.restore_vectors(generation.pk, ingestion_settings())


def test_the_probe_has_a_lost_collection_filled_without_a_person(
    document: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.restore_vectors, "delay", tasks.restore_vectors)
    store().drop(IndexGeneration.objects.get().collection_name)

    tasks.probe()

    assert_complete(document)


def test_upkeep_does_not_wait_behind_documents() -> None:
    routes = {name: app.amqp.router.route({}, f"ingestion.tasks.{name}") for name in dir(tasks)}
    queues = {name: route["queue"].name for name, route in routes.items()}

    assert queues["ingest_document"] == "celery"
    for name in ("reconcile", "probe", "verify", "erase", "restore_vectors"):
        assert queues[name] == "upkeep"
