"""What a ranking is worth, and how sure we are of it.

The metrics come from ir_measures (trec_eval underneath); intervals and tests over queries
are computed here from its per-query values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEASURES = ("nDCG@10", "R@100", "RR@10")
RESAMPLES = 10_000
ROUND = 100  # resamples at a time: 10,000 queries must fit into memory
SEED = 20_240_917


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over queries with its 95 % bootstrap interval; each within 0 to 1."""

    mean: float
    low: float
    high: float


def per_query(
    rankings: Mapping[str, Sequence[str]], judgements: Mapping[str, Mapping[str, int]]
) -> dict[str, NDArray[np.float64]]:
    """Each measure's value for each query, in the order of `judgements`.

    nDCG@10 with linear gain, as trec_eval and BEIR have it; recall@100; reciprocal rank
    of the first relevant document within the first 10.

    Args:
        rankings: document ids, best first, by query id; a missing query scores 0.
        judgements: grade by document id by query id; > 0 is relevant.

    Returns:
        (queries,) values by measure name.
    """
    import ir_measures

    names = {f"q{n}": key for n, key in enumerate(judgements)}
    documents: dict[str, str] = {}

    def alias(document: str) -> str:  # ids may hold blanks, which trec_eval's format forbids
        return documents.setdefault(document, f"d{len(documents)}")

    qrels = [
        ir_measures.Qrel(name, alias(document), grade)
        for name, key in names.items()
        for document, grade in judgements[key].items()
    ]
    run = [
        ir_measures.ScoredDoc(name, alias(document), -float(rank))
        for name, key in names.items()
        for rank, document in enumerate(rankings.get(key, ()))
    ]
    wanted = {ir_measures.parse_measure(measure): measure for measure in MEASURES}
    order = {name: index for index, name in enumerate(names)}
    values = {measure: np.zeros(len(order)) for measure in MEASURES}
    for metric in ir_measures.iter_calc(list(wanted), qrels, run):
        values[wanted[metric.measure]][order[metric.query_id]] = metric.value
    return values


def estimate(values: NDArray[np.float64]) -> Estimate:
    """The mean of per-query values and the interval that holds 95 % of resampled means.

    Source: Sakai, Evaluating evaluation metrics based on the bootstrap, SIGIR 2006
    """
    random = np.random.default_rng(SEED)
    means = [
        values[random.integers(0, len(values), (ROUND, len(values)))].mean(axis=1)
        for _ in range(RESAMPLES // ROUND)
    ]
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return Estimate(float(values.mean()), float(low), float(high))


def paired_p_value(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """How often chance alone makes a difference of means this large: two-sided, 0 to 1.

    Fisher's randomisation test: the sign of each query's difference is flipped at random.

    Source: Smucker, Allan, Carterette, CIKM 2007, doi:10.1145/1321440.1321528
    """
    differences = first - second
    observed = abs(differences.mean())
    if observed == 0:
        return 1.0
    random, extreme = np.random.default_rng(SEED), 0
    for _ in range(RESAMPLES // ROUND):
        signs = random.choice([-1.0, 1.0], (ROUND, len(differences)))
        extreme += int((np.abs(signs @ differences) / len(differences) >= observed - 1e-12).sum())
    return (extreme + 1) / (RESAMPLES + 1)
