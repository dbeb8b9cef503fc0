"""Cutting a trace anew gives what searching anew would give."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ingestion.models import Corpus
from search.pipeline import retrieve
from search.recut import recut
from search.types import Fusion, Outcome, RetrievalSettings, Trace
from tests.search.stand_ins import Library

TEXTS = [f"red fox number {n} {'red ' * (n % 4)}{'jumps ' * (n % 7)}" for n in range(24)]
ALL = RetrievalSettings(pool=24, top_n=5)


def found(library: Library, corpus: Corpus, settings: RetrievalSettings) -> Trace:
    return retrieve("red fox jumps", corpora=[corpus], settings=settings, services=library.services)


@pytest.fixture
def foxes(library: Library, corpus: Corpus) -> Library:
    library.add(corpus, *TEXTS)
    return library


@pytest.mark.parametrize(("pool", "top_n"), [(24, 5), (10, 5), (3, 5), (1, 1), (24, 12)])
def test_a_cut_is_what_a_search_with_those_knobs_gives(
    foxes: Library, corpus: Corpus, pool: int, top_n: int
) -> None:
    whole = found(foxes, corpus, ALL)

    cut = recut(whole, pool=pool, top_n=top_n)

    asked = found(foxes, corpus, replace(ALL, pool=pool, top_n=top_n))
    assert cut.candidates == asked.candidates
    assert cut.settings == asked.settings
    assert replace(cut.rerank, model="") == replace(asked.rerank, model="")


def test_a_wider_pool_takes_passages_in_without_a_score(foxes: Library, corpus: Corpus) -> None:
    narrow = found(foxes, corpus, replace(ALL, pool=4))

    wide = recut(narrow, pool=8)

    assert [c.chunk_id for c in wide.candidates[:4]] == [c.chunk_id for c in narrow.candidates[:4]]
    assert [c.rerank_rank for c in wide.candidates[4:8]] == [None] * 4
    assert wide.candidates[4].outcome == Outcome.SELECTED


def test_a_threshold_makes_a_trace_doubtful_and_changes_no_rank(
    foxes: Library, corpus: Corpus
) -> None:
    whole = found(foxes, corpus, ALL)
    best = whole.candidates[0].relevance
    assert best is not None

    assert recut(whole, threshold=min(1.0, best + 0.01)).is_doubtful
    assert not recut(whole, threshold=best - 0.01).is_doubtful
    assert recut(whole, threshold=0.5).candidates == whole.candidates


def test_weights_decide_between_the_arms(foxes: Library, corpus: Corpus) -> None:
    weighted = replace(ALL, fusion=Fusion.WEIGHTED, rerank=False)

    keywords = found(foxes, corpus, replace(weighted, bm25_weight=1.0))
    vectors = found(foxes, corpus, replace(weighted, bm25_weight=0.0))

    assert keywords.candidates[0].bm25_rank == 1
    assert vectors.candidates[0].dense_rank == 1
    scores = [c.rrf_score for c in keywords.candidates]
    assert scores == sorted(scores, key=lambda s: -(s or 0))
    assert scores[0] == 1.0


def test_only_so_many_are_reranked_as_a_replay_wants(foxes: Library, corpus: Corpus) -> None:
    trace = found(foxes, corpus, replace(ALL, rerank_at_most=7))

    assert trace.rerank.reranked == 7
    assert sum(c.rerank_rank is not None for c in trace.candidates) == 7
