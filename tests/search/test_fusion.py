"""Reciprocal rank fusion against hand values and a second way of computing it."""

import random

import pytest

from ingestion.types import Hit
from search.fusion import fuse


def hits(*ids: str) -> list[Hit]:
    return [Hit(chunk_id, score=10.0 - place) for place, chunk_id in enumerate(ids)]


def test_a_passage_found_by_both_beats_a_passage_found_first_by_one() -> None:
    fused = fuse(hits("g", "c"), hits("i", "c"))  # ranks from 0 would put c last

    assert [c.chunk_id for c in fused] == ["c", "g", "i"]
    assert fused[0].rrf_score == pytest.approx(1 / 62 + 1 / 62)
    assert fused[1].rrf_score == pytest.approx(1 / 61)


def test_ranks_and_scores_of_the_arms_are_carried() -> None:
    (first, second) = fuse([Hit("a", 7.5)], [Hit("b", 0.9), Hit("a", 0.4)])

    assert (first.chunk_id, first.bm25_rank, first.bm25_score) == ("a", 1, 7.5)
    assert (first.dense_rank, first.similarity, first.rrf_rank) == (2, 0.4, 1)
    assert (second.bm25_rank, second.bm25_score, second.rrf_rank) == (None, None, 2)


def test_equal_scores_are_ordered_by_chunk_id() -> None:
    assert [c.chunk_id for c in fuse(hits("b"), hits("a"))] == ["a", "b"]
    assert [c.chunk_id for c in fuse(hits("b", "a"), hits("a", "b"))] == ["a", "b"]


def test_one_arm_alone_keeps_its_order() -> None:
    assert [c.chunk_id for c in fuse(hits("z", "y", "x"), [])] == ["z", "y", "x"]
    assert [c.chunk_id for c in fuse([], hits("z", "y", "x"))] == ["z", "y", "x"]
    assert fuse([], []) == []


def test_a_small_k_favours_the_first_rank() -> None:
    bm25, dense = hits("a", "x", "c"), hits("b", "y", "c")

    assert fuse(bm25, dense, k=60)[0].chunk_id == "c"
    assert fuse(bm25, dense, k=1)[0].chunk_id == "a"  # 1/2 beats 1/4 + 1/4 by its id


def test_fusion_agrees_with_a_table_of_reciprocal_ranks() -> None:
    source = random.Random(7)
    for _ in range(50):
        ids = [f"{n:02}" for n in range(30)]
        rankings = [source.sample(ids, source.randrange(31)) for _ in range(2)]
        k = source.choice([1, 10, 60])
        table = dict.fromkeys(ids, 0.0)
        for ranking in rankings:
            for place in range(len(ranking)):
                table[ranking[place]] += 1.0 / (k + place + 1)
        expected = sorted((i for i in ids if table[i]), key=lambda i: (-table[i], i))

        fused = fuse(hits(*rankings[0]), hits(*rankings[1]), k=k)

        assert [c.chunk_id for c in fused] == expected
        assert [c.rrf_score for c in fused] == pytest.approx([table[i] for i in expected])
        assert [c.rrf_rank for c in fused] == list(range(1, len(expected) + 1))


@pytest.mark.parametrize("k", [0, -1])
def test_k_must_be_positive(k: int) -> None:
    with pytest.raises(ValueError, match="k must be positive"):
        fuse(hits("a"), hits("b"), k=k)


def test_a_ranking_that_repeats_a_passage_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        fuse(hits("a", "a"), [])
    with pytest.raises(ValueError, match="twice"):
        fuse(hits("a"), hits("b", "b"))
