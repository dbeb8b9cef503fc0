"""What a trained reranker is worth, and what its logits mean, from held-out lists.

All of it is read off logits of passages in fused order; nothing here loads a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from inference.types import Calibration, probability
from search.evaluation.metrics import Estimate, estimate, paired_p_value, per_query

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Logits that a place counts, per unit of ln(fused rank).
PLACES = (0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0)
MOST_HARM = 0.01
BINS = 10


@dataclass(frozen=True, slots=True)
class Judged:
    """One question's passages in fused order: the reranker's logits and the labels."""

    logits: Sequence[float]
    labels: Sequence[float]


@dataclass(frozen=True, slots=True)
class Gain:
    """nDCG@10 of one set in fused order and reranked; p_value of the difference, paired.

    The difference is in the same unit, 0 to 1, with its 95 % bootstrap interval.
    """

    questions: int
    fused: Estimate
    reranked: Estimate
    difference: Estimate
    p_value: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """One bin of relevance: its mean, the share of passages that were relevant, how many."""

    relevance: float
    relevant: float
    passages: int


@dataclass(frozen=True, slots=True)
class Abstention:
    """What warning below a threshold does: shares of the questions, 0 to 1.

    answered: that still get an answer of those with an answer in the pool. wrong: that get one
    of those whose answering passages were taken out.
    """

    threshold: float
    answered: float
    wrong: float


def gain(questions: Sequence[Judged], calibration: Calibration) -> Gain:
    """Compare the final order with the fused one."""
    fused = _ndcg([[-float(n) for n in range(len(q.logits))] for q in questions], questions)
    reranked = _ndcg([_log_odds(q, calibration) for q in questions], questions)
    return Gain(
        len(questions),
        estimate(fused),
        estimate(reranked),
        estimate(reranked - fused),
        paired_p_value(reranked, fused),
    )


def safe_place(sets: Mapping[str, Sequence[Judged]]) -> float:
    """What the fused place must count beside the logit, so that reranking does no harm.

    Of the weights with which no set loses more than MOST_HARM to the fused order, the one with
    the best mean over sets; if every one loses more somewhere, the one that loses least.
    """
    gains = {
        place: [gain(q, Calibration(place=place)).difference for q in sets.values()]
        for place in PLACES
    }
    harmless = [place for place, found in gains.items() if all(d.mean >= -MOST_HARM for d in found)]
    if harmless:
        return max(harmless, key=lambda place: sum(d.mean for d in gains[place]))
    return max(gains, key=lambda place: min(d.mean for d in gains[place]))


def calibrate(sets: Mapping[str, Sequence[Judged]]) -> Calibration:
    """Fit the map from logit and fused place to relevance, and choose the threshold.

    Each set weighs the same. The map is Platt's, fitted on whether the passages of a pool
    answer their question. The threshold is where answered minus wrong is largest.

    Source: Platt, Probabilistic outputs for support vector machines, 1999
    """
    from sklearn.linear_model import LogisticRegression

    plain = Calibration(place=safe_place(sets))
    scores: list[float] = []
    labels: list[float] = []
    weights: list[float] = []
    for questions in sets.values():
        pairs = sum(len(q.logits) for q in questions)
        for question in questions:
            scores += _log_odds(question, plain)
            labels += question.labels
            weights += [1.0 / pairs] * len(question.logits)
    fitted = LogisticRegression(C=1e6).fit(
        np.array(scores)[:, None], np.array(labels) > 0, np.array(weights) * len(scores)
    )
    # slope * (logit - place * ln rank) + intercept
    found = replace(plain, slope=float(fitted.coef_[0, 0]), intercept=float(fitted.intercept_[0]))
    best = max(abstention(sets, found), key=lambda point: point.answered - point.wrong)
    return replace(found, threshold=round(best.threshold, 3))


def reliability(
    sets: Mapping[str, Sequence[Judged]], calibration: Calibration
) -> tuple[list[Reliability], float]:
    """Bins of equal width over all passages, and the expected calibration error (0 to 1)."""
    every = [question for questions in sets.values() for question in questions]
    relevance = np.array([probability(s) for q in every for s in _log_odds(q, calibration)])
    relevant = np.array([label > 0 for q in every for label in q.labels])
    places = np.minimum((relevance * BINS).astype(int), BINS - 1)
    bins = [
        Reliability(
            float(relevance[places == n].mean()),
            float(relevant[places == n].mean()),
            int((places == n).sum()),
        )
        for n in range(BINS)
        if (places == n).any()
    ]
    error = sum(b.passages * abs(b.relevance - b.relevant) for b in bins) / len(relevance)
    return bins, float(error)


def abstention(sets: Mapping[str, Sequence[Judged]], calibration: Calibration) -> list[Abstention]:
    """The curve of answered against wrong over thresholds of the best passage's relevance."""
    answerable, unanswerable = _best_relevance(sets, calibration)
    return [
        Abstention(
            float(threshold),
            float((answerable >= threshold).mean()),
            float((unanswerable >= threshold).mean()),
        )
        for threshold in np.unique(np.round(np.concatenate([answerable, unanswerable]), 3))
    ]


def auroc(sets: Mapping[str, Sequence[Judged]], calibration: Calibration) -> float:
    """How well the best relevance tells answerable from unanswerable questions; 0.5 = not."""
    from sklearn.metrics import roc_auc_score

    answerable, unanswerable = _best_relevance(sets, calibration)
    labels = [1] * len(answerable) + [0] * len(unanswerable)
    return float(roc_auc_score(labels, np.concatenate([answerable, unanswerable])))


def _best_relevance(
    sets: Mapping[str, Sequence[Judged]], calibration: Calibration
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each question with an answer in its pool: with it there, and with it taken out."""
    there, gone = [], []
    for question in (q for questions in sets.values() for q in questions):
        paired = list(zip(question.logits, question.labels, strict=True))
        others = [logit for logit, label in paired if label <= 0]
        if others and len(others) < len(paired):
            without = Judged(others, [0.0] * len(others))
            there.append(probability(max(_log_odds(question, calibration))))
            gone.append(probability(max(_log_odds(without, calibration))))
    return np.array(there), np.array(gone)


def _log_odds(question: Judged, calibration: Calibration) -> list[float]:
    return [calibration.log_odds(logit, rank) for rank, logit in enumerate(question.logits, 1)]


def _ndcg(scores: Sequence[Sequence[float]], questions: Sequence[Judged]) -> NDArray[np.float64]:
    rankings = {
        str(n): [str(p) for p in sorted(range(len(row)), key=lambda place: (-row[place], place))]
        for n, row in enumerate(scores)
    }
    judgements = {
        str(n): {str(place): int(label > 0) for place, label in enumerate(question.labels)}
        for n, question in enumerate(questions)
    }
    return per_query(rankings, judgements)["nDCG@10"]
