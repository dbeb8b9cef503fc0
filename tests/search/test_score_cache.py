"""Scores are found again for the same weights, question and text, and go with their document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
import redis

from inference.types import ModelInfo, RerankScore
from ingestion.models import Corpus, Document
from search import score_cache
from search.pipeline import retrieve
from search.score_cache import Remembering, ScoreCache
from search.types import RetrievalSettings, Trace
from tests.search.stand_ins import Library

MODEL = ModelInfo("some/model", "r1", "cpu", "float32", 512)


@pytest.fixture
def cache(redis_url: str) -> Iterator[ScoreCache]:
    with redis.Redis.from_url(redis_url) as connection:
        connection.flushdb()
    kept = ScoreCache(redis_url)
    yield kept
    kept.close()
    with redis.Redis.from_url(redis_url) as connection:
        connection.flushdb()


def kept(cache: ScoreCache, *rows: tuple[int, str, float], question: str = "Why?") -> None:
    scored = [
        (document, text, RerankScore(0, logit, truncated=True)) for document, text, logit in rows
    ]
    cache.keep(MODEL, question, scored)


def test_a_score_is_found_again_to_the_last_bit(cache: ScoreCache) -> None:
    kept(cache, (1, "a", 0.1 + 0.2), (2, "b", -1e-17))

    found = cache.known(MODEL, "Why?", [(1, "a"), (2, "b"), (2, "c")])

    assert found == {
        "a": RerankScore(0, 0.1 + 0.2, truncated=True),
        "b": RerankScore(0, -1e-17, truncated=True),
    }


@pytest.mark.parametrize(
    "change", [{"revision": "r2"}, {"model_id": "other"}, {"dtype": "bfloat16"}]
)
def test_other_weights_know_nothing_of_it(cache: ScoreCache, change: dict[str, str]) -> None:
    kept(cache, (1, "a", 1.0))

    assert cache.known(replace(MODEL, **change), "Why?", [(1, "a")]) == {}  # type: ignore[arg-type]
    assert cache.known(MODEL, "Why not?", [(1, "a")]) == {}
    assert cache.known(MODEL, "Why?", [(2, "a")]) == {}


def test_a_document_takes_its_scores_with_it(cache: ScoreCache) -> None:
    kept(cache, (1, "a", 1.0), (1, "b", 2.0), (2, "a", 3.0))

    assert cache.holds(1)
    assert cache.forget(1) == 2
    assert not cache.holds(1)
    assert cache.known(MODEL, "Why?", [(1, "a"), (2, "b")]) == {}
    assert cache.holds(2)


def test_only_so_much_is_kept(cache: ScoreCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_cache, "SCORES_PER_DOCUMENT", 2)
    monkeypatch.setattr(score_cache, "DOCUMENTS", 2)

    kept(cache, (1, "a", 1.0), (1, "b", 1.0))
    kept(cache, (1, "c", 1.0))
    assert list(cache.known(MODEL, "Why?", [(1, "a"), (1, "b"), (1, "c")])) == ["c"]
    kept(cache, (2, "a", 1.0))
    kept(cache, (3, "a", 1.0))
    assert [cache.holds(document) for document in (1, 2, 3)] == [False, True, True]


def test_without_redis_nothing_is_known_and_nothing_fails() -> None:
    away = ScoreCache("redis://127.0.0.1:1/0")

    kept(away, (1, "a", 1.0))
    assert away.known(MODEL, "Why?", [(1, "a")]) == {}
    assert away.forget(1) == 0
    assert not away.holds(1)


@pytest.mark.django_db
def test_scores_of_documents_that_are_gone_are_strays(cache: ScoreCache, corpus: Corpus) -> None:
    document = Document.objects.create(
        corpus=corpus, name="a.md", sha256="0", blob_key="0", size_bytes=1
    )
    kept(cache, (document.pk, "a", 1.0), (document.pk + 1000, "a", 1.0))

    assert cache.strays() == [document.pk + 1000]


@pytest.mark.django_db
def test_a_question_asked_again_does_not_touch_the_model(
    cache: ScoreCache, corpus: Corpus, library: Library
) -> None:
    library.add(corpus, "The pump is red.", "The valve is blue.", "The pump is old.")
    services = replace(library.services, scores=cache)

    def ask(question: str) -> Trace:
        settings = RetrievalSettings()
        return retrieve(question, corpora=[corpus], settings=settings, services=services)

    first = ask("Which pump?")
    again = ask("Which pump?")

    assert len(library.models.reranked) == 1
    assert (first.rerank.remembered, again.rerank.remembered) == (0, 3)
    assert [(c.chunk_id, c.raw_logit) for c in again.candidates] == [
        (c.chunk_id, c.raw_logit) for c in first.candidates
    ]
    library.add(corpus, "The pump is new.")
    assert ask("Which pump?").rerank.remembered == 3
    assert library.models.reranked[1:] == [["The pump is new."]]


def test_only_what_is_not_known_is_asked() -> None:
    asked: list[Sequence[str]] = []

    class Model:
        def rerank(
            self, question: str, texts: Sequence[str], *, timeout_seconds: float | None = None
        ) -> list[RerankScore]:
            asked.append(texts)
            return [RerankScore(n, float(len(text))) for n, text in enumerate(texts)]

    known = {"bb": RerankScore(0, 9.0, truncated=True)}
    reranker = Remembering(Model(), known)

    found = reranker.rerank("Why?", ["a", "bb", "ccc"])

    assert asked == [["a", "ccc"]]
    assert found == [RerankScore(0, 1.0), RerankScore(1, 9.0, truncated=True), RerankScore(2, 3.0)]
    assert reranker.rerank("Why?", ["bb"]) == [RerankScore(0, 9.0, truncated=True)]
    assert len(asked) == 1
