"""Evaluation runs: begun on the page, carried out by a worker, stopped, lost, compared."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from inference.errors import InferenceUnreachable
from ingestion.models import Corpus
from search.evaluation import runs
from search.models import EvaluationRun, Judgement, digest_of
from search.types import RetrievalSettings
from tests.search.stand_ins import Library

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("tmp_data")]
State = EvaluationRun.State
PLACES = ("Paris", "Oslo", "Cairo", "Lima", "Quito", "Hanoi")


@pytest.fixture
def judged(
    library: Library, corpus: Corpus, alice: User, monkeypatch: pytest.MonkeyPatch
) -> Library:
    """A corpus of places, a question about each, and the passage that answers it."""
    texts = [f"{place} is a city that people call home." for place in PLACES]
    document = library.add(corpus, *texts, name="places.txt")
    for place, chunk in zip(PLACES, document.chunks.order_by("ordinal"), strict=True):
        question = f"Who lives in {place}?"
        Judgement.objects.create(
            person=alice,
            corpus=corpus,
            document=document,
            chunk_id=chunk.pk,
            question=question,
            question_sha256=digest_of(question),
            grade=Judgement.Grade.RELEVANT,
        )
    monkeypatch.setattr(runs, "search_services", lambda: library.services)
    return library


def test_a_run_measures_every_stage_on_the_judged_questions(
    judged: Library, corpus: Corpus, alice: User, client: Client
) -> None:
    begun = runs.begin(corpus, owner=alice, pools=[2, 6])
    assert begun.state == State.WAITING

    runs.carry_out(begun.pk)

    begun.refresh_from_db()
    assert begun.state == State.DONE
    assert begun.report["queries"] == len(PLACES)
    assert list(begun.report["stages"]) == ["bm25", "dense", "fused", "reranked"]
    assert begun.report["stages"]["reranked"]["ndcg@10"] == pytest.approx(1.0)
    assert begun.report["knee"] == 2
    assert {told["text"] for told in begun.queries.values()} == {
        f"Who lives in {place}?" for place in PLACES
    }
    assert "few" in " ".join(begun.report["notes"])
    assert not runs.results_file(begun).exists()

    client.force_login(alice)
    page = client.get(reverse("search:evaluation_run", args=[begun.pk])).content.decode()
    assert "The knee is a pool of <strong>2</strong>" in page
    assert "Who lives in Quito?" in page
    told = json.loads(
        client.get(reverse("search:export_evaluation", args=[begun.pk])).content.decode()
    )
    assert told["stages"] == begun.report["stages"]
    assert len(told["questions"]) == len(PLACES)


def test_the_knee_becomes_the_pool_of_the_corpus(
    judged: Library, corpus: Corpus, alice: User, client: Client
) -> None:
    begun = runs.begin(corpus, owner=alice, pools=[2, 6])
    runs.carry_out(begun.pk)
    client.force_login(alice)

    client.post(reverse("search:use_pool", args=[begun.pk]))

    corpus.refresh_from_db()
    assert corpus.retrieval == {"pool": 2}


def test_nothing_judged_and_a_second_run_are_refused(
    judged: Library, corpus: Corpus, alice: User, client: Client
) -> None:
    client.force_login(alice)
    start = reverse("search:start_evaluation")
    client.post(start, {"corpus": corpus.pk})
    client.post(start, {"corpus": corpus.pk})
    assert EvaluationRun.objects.count() == 1

    EvaluationRun.objects.all().delete()
    Judgement.objects.update(grade=Judgement.Grade.NOT_RELEVANT)
    page = client.post(start, {"corpus": corpus.pk}, follow=True).content.decode()

    assert not EvaluationRun.objects.exists()
    assert "was judged relevant yet" in page


def test_a_run_is_stopped_before_and_while_it_is_worked_on(
    judged: Library, corpus: Corpus, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = runs.begin(corpus, owner=alice)
    runs.stop(waiting)
    runs.carry_out(waiting.pk)
    waiting.refresh_from_db()
    assert waiting.state == State.STOPPED

    begun = runs.begin(corpus, owner=alice)
    monkeypatch.setattr(runs, "BEAT_SECONDS", 0.0)
    asked = 0
    rerank = judged.models.rerank

    def stopping(*args: Any, **options: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 2:
            runs.stop(begun)
        return rerank(*args, **options)

    monkeypatch.setattr(judged.models, "rerank", stopping)
    runs.carry_out(begun.pk)

    begun.refresh_from_db()
    assert begun.state == State.STOPPED
    assert asked == 2
    assert not runs.results_file(begun).exists()


def test_a_run_whose_worker_is_gone_goes_on_and_one_at_work_is_left_alone(
    judged: Library, corpus: Corpus, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    monkeypatch.setattr(runs, "_nudge", sent.append)
    begun = runs.begin(corpus, owner=alice, pools=[6])
    row = EvaluationRun.objects.filter(pk=begun.pk)
    row.update(state=State.RUNNING, heartbeat_at=timezone.now())
    sent.clear()
    assert runs.resume() == 0
    runs.carry_out(begun.pk)  # a message too many
    begun.refresh_from_db()
    assert begun.state == State.RUNNING

    row.update(heartbeat_at=timezone.now() - timedelta(seconds=runs.LOST_SECONDS + 1))
    assert runs.resume() == 1
    assert sent == [begun.pk]
    runs.carry_out(begun.pk)

    begun.refresh_from_db()
    assert begun.state == State.DONE


def test_a_dead_model_server_and_a_missing_reranker_are_said(
    judged: Library, corpus: Corpus, alice: User
) -> None:
    judged.models.info_error = InferenceUnreachable("nobody there")
    begun = runs.begin(corpus, owner=alice)
    runs.carry_out(begun.pk)
    begun.refresh_from_db()
    assert begun.state == State.FAILED
    assert "The model server cannot be used (nobody there)" in begun.error

    judged.models.info_error = None
    judged.models.reranker, judged.models.reranker_reason = None, "switched off"
    begun = runs.begin(corpus, owner=alice)
    runs.carry_out(begun.pk)
    begun.refresh_from_db()
    assert list(begun.report["stages"]) == ["bm25", "dense", "fused"]
    assert "not reranked: switched off" in begun.report["notes"]


def test_the_corpus_s_own_settings_are_measured(
    judged: Library, corpus: Corpus, alice: User
) -> None:
    Corpus.objects.filter(pk=corpus.pk).update(retrieval={"dense_k": 0, "rrf_k": 7})
    corpus.refresh_from_db()
    begun = runs.begin(corpus, owner=alice)

    runs.carry_out(begun.pk)

    begun.refresh_from_db()
    assert RetrievalSettings.from_json(begun.plan["settings"]).rrf_k == 7
    assert begun.report["stages"]["dense"]["ndcg@10"] == 0.0


def test_two_runs_are_compared_on_what_both_asked(
    corpus: Corpus, alice: User, client: Client
) -> None:
    def run(values: dict[str, float]) -> EvaluationRun:
        stages: dict[str, Any] = {"fused": {}, "reranked": {}}
        return EvaluationRun.objects.create(
            owner=alice,
            corpus=corpus,
            collection="Papers",
            state=State.DONE,
            plan={"settings": {"rrf_k": 60}},
            report={"stages": stages, "models": {"reranker": "one"}},
            queries={
                key: {"text": f"Question {key}?", "ndcg": {"fused": 0.5, "reranked": value}}
                for key, value in values.items()
            },
        )

    before = run({str(n): 0.2 for n in range(12)} | {"gone": 1.0})
    after = run({str(n): 0.6 for n in range(11)} | {"11": 0.1, "new": 0.0})

    stages, moved = runs.compare(before, after)

    fused, reranked = stages
    assert (fused.difference, fused.p_value) == (0.0, 1.0)
    assert reranked.before == pytest.approx(0.2)
    assert reranked.after == pytest.approx((11 * 0.6 + 0.1) / 12)
    assert reranked.p_value < 0.05
    assert len(moved) == 12
    assert moved[-1].text == "Question 11?"

    client.force_login(alice)
    address = reverse("search:compare_runs")
    page = client.get(address, {"before": before.pk, "after": after.pk}).content.decode()
    assert "on the 12 questions that both asked" in page
    assert "Question 11?" in page
    assert client.get(f"{address}?before={before.pk}&after=x").status_code == 404


def test_the_first_page_says_what_to_do(client: Client, alice: User, tmp_data: Path) -> None:
    client.force_login(alice)

    page = client.get(reverse("search:evaluation")).content.decode()

    assert "No passage was judged yet" in page
    assert "manage.py evaluate" in page
