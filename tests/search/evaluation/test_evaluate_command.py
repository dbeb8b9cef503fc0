"""`manage.py evaluate` on a small collection, with the real index, vectors and embedder."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.core.management import CommandError, call_command

from ingestion.models import Corpus
from search.evaluation import runner
from search.management.commands.evaluate import Command
from search.models import EvaluationRun
from search.pipeline import retrieve
from tests.search.evaluation.test_beir import write

if TYPE_CHECKING:
    from django.contrib.auth.models import User

PLACES = ("Paris", "Oslo", "Cairo", "Lima", "Quito", "Hanoi", "Accra", "Dublin")
CORPUS: list[dict[str, object]] = [
    {"_id": f"d {n}", "title": place, "text": f"{place} is a city that people call home."}
    for n, place in enumerate(PLACES)
]
QUERIES: list[dict[str, object]] = [
    {"_id": f"q{n}", "text": f"Who lives in {place}?"} for n, place in enumerate(PLACES)
]
QRELS = "".join(f"q{n}\td {n}\t1\n" for n in range(len(PLACES)))

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    folder = tmp_path / "places"
    folder.mkdir()
    return write(folder, corpus=CORPUS, queries=QUERIES, qrels=QRELS)


@pytest.mark.services
def test_it_measures_every_stage_and_leaves_nothing_behind(
    collection: Path, admin: User, tmp_data: Path, chroma_url: str, inference_url: str
) -> None:
    out = StringIO()
    chart = tmp_data / "chart.svg"

    call_command(Command(stdout=out), str(collection), "--json", "--pool=5,8", f"--svg={chart}")

    report = json.loads(out.getvalue())
    assert report["collection"] == "places"
    assert report["queries"] == len(PLACES)
    for stage in ("bm25", "dense", "fused", "reranked"):
        assert report["stages"][stage]["ndcg@10"] == pytest.approx(1.0)
        low, high = report["stages"][stage]["ci95"]
        assert low <= report["stages"][stage]["ndcg@10"] <= high
        assert report["stages"][stage]["ms_p50"] > 0
    assert [point["pool"] for point in report["sweep"]] == [5, 8]
    assert report["knee"] == 5
    assert chart.read_text().startswith("<svg")
    assert not Corpus.objects.exists()
    assert not list((tmp_data / "evaluations").iterdir())
    kept = EvaluationRun.objects.get()
    assert (kept.owner, kept.collection, kept.report) == (admin, "places", report)
    assert len(kept.queries) == len(PLACES)


@pytest.mark.services
def test_a_stopped_run_goes_on_where_it_was(
    collection: Path,
    admin: User,
    tmp_data: Path,
    chroma_url: str,
    inference_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def counting(question: str, **options: object) -> object:
        asked.append(question)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return retrieve(question, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("search.evaluation.runner.retrieve", counting)
    stages = "--stages=bm25,dense,fused"
    with pytest.raises(SystemExit) as stopped:
        call_command(Command(), str(collection), stages)
    assert stopped.value.code == 130

    call_command(Command(stdout=StringIO()), str(collection), stages)
    assert len(asked) == 4 + len(PLACES) - 3  # the three that were done are not asked again


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--stages=bm26"], "knows bm25, dense, fused, reranked, not bm26"),
        (["--stages="], "knows bm25"),
        (["--pool=0,10"], "takes numbers"),
        (["--pool=many"], "takes numbers"),
        (["--limit=0"], "at least 1"),
    ],
)
def test_a_wrong_option_is_refused_in_a_sentence(
    collection: Path, arguments: list[str], sentence: str
) -> None:
    with pytest.raises(CommandError, match=sentence):
        call_command(Command(), str(collection), *arguments)


def test_a_smaller_pool_recuts_from_the_scores_of_the_larger_one() -> None:
    result = runner.QueryResult(
        query="q",
        rankings={"fused": ["a", "b", "c", "d"]},
        logits={"a": 0.0, "b": 1.0, "c": 2.0, "d": 3.0},
        ms={},
    )

    assert runner.recut(result, 2) == ["b", "a", "c", "d"]
    assert runner.recut(result, 4) == ["d", "c", "b", "a"]
