"""Metrics agree with hand values; intervals and tests behave as their definitions say."""

import math

import numpy as np
import pytest

from search.evaluation.metrics import estimate, paired_p_value, per_query


def test_ndcg_recall_and_reciprocal_rank_equal_their_formulas() -> None:
    values = per_query({"q": ["x", "a", "b"]}, {"q": {"a": 2, "b": 1, "c": 1}})

    gained = 2 / math.log2(3) + 1 / math.log2(4)
    ideal = 2 / math.log2(2) + 1 / math.log2(3) + 1 / math.log2(4)
    assert values["nDCG@10"][0] == pytest.approx(gained / ideal)
    assert values["R@100"][0] == pytest.approx(2 / 3)
    assert values["RR@10"][0] == pytest.approx(1 / 2)


def test_values_come_in_the_order_of_the_judgements_and_a_missing_query_scores_nothing() -> None:
    values = per_query({"b": ["y"]}, {"a": {"x": 1}, "b": {"y": 1}})

    assert list(values["RR@10"]) == [0.0, 1.0]


def test_ids_with_blanks_and_odd_characters_are_told_apart() -> None:
    values = per_query({"q 1": ["d 1", "d\t2"]}, {"q 1": {"d\t2": 1}})

    assert values["RR@10"][0] == 0.5


def test_reversing_a_ranking_changes_its_worth() -> None:
    ranking = ["a", "x", "y"]
    judgements = {"q": {"a": 1}}

    forward = per_query({"q": ranking}, judgements)["nDCG@10"][0]
    backward = per_query({"q": ranking[::-1]}, judgements)["nDCG@10"][0]
    assert forward == 1.0
    assert backward == pytest.approx(1 / math.log2(4))


def test_the_interval_holds_the_mean_and_narrows_with_more_queries() -> None:
    few = estimate(np.tile([0.0, 1.0], 10))
    many = estimate(np.tile([0.0, 1.0], 1000))

    assert few.low < few.mean == 0.5 < few.high
    assert many.high - many.low < (few.high - few.low) / 5


def test_a_constant_gain_is_significant_and_noise_is_not() -> None:
    noise = np.random.default_rng(1).normal(size=200)

    assert paired_p_value(noise + 0.5, noise) < 0.001
    assert paired_p_value(noise, noise[::-1]) > 0.05
    assert paired_p_value(noise, noise) == 1.0
