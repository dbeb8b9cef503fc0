"""Fusion: one ranking out of two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ingestion.types import Hit
from search.types import Candidate


def fuse(bm25: Sequence[Hit], dense: Sequence[Hit], *, k: int = 60) -> list[Candidate]:
    """Merge two rankings by Reciprocal Rank Fusion, best first.

    rrf(c) = sum of 1 / (k + rank of c) over the rankings that hold c.
    A ranking that lacks c adds nothing. Equal scores: lower chunk id first.

    Args:
        bm25: (n,) hits of the keyword search, best first, no repeats; n may be 0.
        dense: (m,) hits of the vector search, likewise.
        k: damping in ranks, > 0. The paper uses 60.

    Returns:
        One Candidate per distinct id: max(n, m) <= len <= n + m. Ranks count from 1;
        0 < rrf_score <= 2 / (k + 1). The scores of the arms are carried along.

    Raises:
        ValueError: k is not positive, or a ranking repeats an id.

    Source: Cormack, Clarke, Buettcher, SIGIR 2009, doi:10.1145/1571941.1572114
    """
    if k <= 0:
        raise ValueError(f"k must be positive, got {k}")
    return _ranked([replace(c, rrf_score=_rrf(c, k)) for c in _merged(bm25, dense)])


def fuse_weighted(
    bm25: Sequence[Hit], dense: Sequence[Hit], *, bm25_weight: float = 0.5
) -> list[Candidate]:
    """Merge two rankings by a weighted mean of their scores, best first.

    score(c) = w * m(bm25 score) + (1 - w) * m(similarity), where m maps the scores of one
    ranking to 0 (its last) to 1 (its first). A ranking that lacks c adds nothing, and neither
    tells one whose scores are all equal: it gives 1 to each. Equal scores: lower chunk id first.

    Args:
        bm25: (n,) hits of the keyword search, best first, no repeats; n may be 0.
        dense: (m,) hits of the vector search, likewise.
        bm25_weight: w, 0 to 1.

    Returns:
        As `fuse`, with 0 <= rrf_score <= 1.

    Raises:
        ValueError: the weight is not between 0 and 1, or a ranking repeats an id.

    Source: Bruch, Gai, Ingber, ACM TOIS 42(1), 2023, doi:10.1145/3596512
    """
    if not 0 <= bm25_weight <= 1:
        raise ValueError(f"bm25_weight must lie between 0 and 1, got {bm25_weight}")
    keywords, meaning = _min_max(bm25), _min_max(dense)
    return _ranked(
        [
            replace(
                c,
                rrf_score=bm25_weight * keywords.get(c.chunk_id, 0.0)
                + (1 - bm25_weight) * meaning.get(c.chunk_id, 0.0),
            )
            for c in _merged(bm25, dense)
        ]
    )


def _min_max(hits: Sequence[Hit]) -> dict[str, float]:
    scores = [hit.score for hit in hits]
    least, most = min(scores, default=0.0), max(scores, default=0.0)
    if most <= least:
        return {hit.chunk_id: 1.0 for hit in hits}
    return {hit.chunk_id: (hit.score - least) / (most - least) for hit in hits}


def _merged(bm25: Sequence[Hit], dense: Sequence[Hit]) -> list[Candidate]:
    """One candidate per distinct id, with the ranks and scores of both arms."""
    candidates: dict[str, Candidate] = {}
    for rank, hit in enumerate(bm25, 1):
        _refuse_repeat(candidates.get(hit.chunk_id), "bm25_rank")
        candidates[hit.chunk_id] = Candidate(
            chunk_id=hit.chunk_id, bm25_rank=rank, bm25_score=hit.score
        )
    for rank, hit in enumerate(dense, 1):
        candidate = candidates.get(hit.chunk_id)
        _refuse_repeat(candidate, "dense_rank")
        candidates[hit.chunk_id] = replace(
            candidate or Candidate(chunk_id=hit.chunk_id), dense_rank=rank, similarity=hit.score
        )
    return list(candidates.values())


def _ranked(scored: Sequence[Candidate]) -> list[Candidate]:
    best_first = sorted(scored, key=lambda c: (-(c.rrf_score or 0.0), c.chunk_id))
    return [replace(c, rrf_rank=rank) for rank, c in enumerate(best_first, 1)]


def _rrf(candidate: Candidate, k: int) -> float:
    ranks = (candidate.bm25_rank, candidate.dense_rank)
    return sum(1 / (k + rank) for rank in ranks if rank is not None)


def _refuse_repeat(candidate: Candidate | None, rank: str) -> None:
    if candidate is not None and getattr(candidate, rank) is not None:
        raise ValueError(f"{candidate.chunk_id} stands twice in one ranking")
