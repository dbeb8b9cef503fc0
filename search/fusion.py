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
    scored = [replace(c, rrf_score=_rrf(c, k)) for c in candidates.values()]
    scored.sort(key=lambda c: (-(c.rrf_score or 0.0), c.chunk_id))
    return [replace(c, rrf_rank=rank) for rank, c in enumerate(scored, 1)]


def _rrf(candidate: Candidate, k: int) -> float:
    ranks = (candidate.bm25_rank, candidate.dense_rank)
    return sum(1 / (k + rank) for rank in ranks if rank is not None)


def _refuse_repeat(candidate: Candidate | None, rank: str) -> None:
    if candidate is not None and getattr(candidate, rank) is not None:
        raise ValueError(f"{candidate.chunk_id} stands twice in one ranking")
