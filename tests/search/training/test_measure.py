"""What a reranker's logits are worth: the harmless weight, the fit, the threshold."""

from __future__ import annotations

import numpy as np
import pytest

from inference.types import Calibration, probability
from search.training.measure import (
    Judged,
    abstention,
    auroc,
    calibrate,
    gain,
    reliability,
    safe_place,
)


def questions(
    *, answers_at: list[int], logit_of_answer: float, noise: float, pool: int = 20
) -> list[Judged]:
    """Questions whose answer stands at these places of the fused order, from 0."""
    random = np.random.default_rng(3)
    found = []
    for place in answers_at * 20:
        logits = random.normal(0, noise, pool)
        logits[place] += logit_of_answer
        found.append(Judged(list(logits), [float(n == place) for n in range(pool)]))
    return found


def test_a_good_reranker_gains_and_is_trusted_alone() -> None:
    good = questions(answers_at=[3, 7, 12], logit_of_answer=9.0, noise=1.0)

    measured = gain(good, Calibration())

    assert measured.reranked.mean == pytest.approx(1.0)
    assert measured.fused.mean < 0.5
    assert measured.difference.low > 0.3
    assert measured.p_value < 0.01
    assert gain(good, Calibration(place=safe_place({"good": good}))).reranked.mean > 0.99


def test_one_that_does_harm_somewhere_is_held_back_by_the_place() -> None:
    good = questions(answers_at=[1, 2, 3], logit_of_answer=4.0, noise=1.0)
    harmed = questions(answers_at=[0], logit_of_answer=0.3, noise=1.0)

    place = safe_place({"good": good, "harmed": harmed})

    assert place > 0
    assert gain(harmed, Calibration(place=0.0)).difference.high < 0
    assert gain(harmed, Calibration(place=place)).difference.high >= 0


def test_the_fit_makes_relevance_the_share_that_answers() -> None:
    sets = {"one": questions(answers_at=[0, 2, 5, 9], logit_of_answer=3.0, noise=1.5)}

    fitted = calibrate(sets)
    _, error = reliability(sets, fitted)
    _, unfitted_error = reliability(sets, Calibration())

    assert error < 0.02
    assert error < unfitted_error / 5
    relevance = [
        probability(fitted.log_odds(logit, rank))
        for q in sets["one"]
        for rank, logit in enumerate(q.logits, 1)
    ]
    assert np.mean(relevance) == pytest.approx(1 / 20, abs=0.005)


def test_the_threshold_tells_answerable_from_unanswerable() -> None:
    sets = {"one": questions(answers_at=[0, 1, 2], logit_of_answer=6.0, noise=0.5)}

    fitted = calibrate(sets)

    assert auroc(sets, fitted) > 0.99
    assert fitted.threshold is not None
    chosen = min(abstention(sets, fitted), key=lambda p: abs(p.threshold - (fitted.threshold or 0)))
    assert chosen.answered > 0.95
    assert chosen.wrong < 0.05


def test_a_reranker_that_knows_nothing_has_an_auroc_of_chance() -> None:
    sets = {"one": questions(answers_at=[0, 4, 9], logit_of_answer=0.0, noise=1.0)}

    assert auroc(sets, Calibration()) == pytest.approx(0.5, abs=0.08)
