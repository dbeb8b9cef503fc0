"""What a trace would have been with another pool, another top n, another threshold.

The scores are in the trace, so nothing is searched and nothing is scored again. For a pool
that is no larger than the one whose passages were scored, this is what `retrieve` would
give; passages beyond it have no scores and follow in fused order.
"""

from __future__ import annotations

from dataclasses import replace

from search.pipeline import with_outcomes
from search.types import Candidate, Trace


def recut(
    trace: Trace,
    *,
    pool: int | None = None,
    top_n: int | None = None,
    threshold: float | None = None,
) -> Trace:
    """Cut a trace anew from the scores that it holds.

    Args:
        trace: of one retrieval.
        pool: how many of the best fused go to the reranker, at least 1; None for as before.
        top_n: how many go on to the answer, at least 1; None for as before.
        threshold: relevance, 0 to 1; None for as before.
    """
    settings = replace(
        trace.settings,
        pool=trace.settings.pool if pool is None else pool,
        top_n=trace.settings.top_n if top_n is None else top_n,
        threshold=trace.settings.threshold if threshold is None else threshold,
    )
    fused = sorted(trace.candidates, key=lambda c: c.rrf_rank or 0)
    inside, outside = fused[: settings.pool], fused[settings.pool :]
    scored = [c for c in inside if c.rerank_logit is not None]
    scored.sort(key=lambda c: (-(c.rerank_logit or 0.0), c.rrf_rank or 0))
    ranked = [replace(c, rerank_rank=rank) for rank, c in enumerate(scored, 1)]
    unread = [c for c in inside if c.rerank_logit is None]
    return replace(
        trace,
        settings=settings,
        candidates=with_outcomes(
            [*ranked, *unread], [_unscored(c) for c in outside], top_n=settings.top_n
        ),
        rerank=replace(
            trace.rerank,
            candidates=len(inside),
            reranked=len(ranked),
            remembered=min(trace.rerank.remembered, len(ranked)),
            truncated=sum(c.truncated for c in ranked),
            threshold=trace.rerank.threshold if threshold is None else threshold,
        ),
    )


def _unscored(candidate: Candidate) -> Candidate:
    return replace(
        candidate,
        rerank_rank=None,
        raw_logit=None,
        rerank_logit=None,
        relevance=None,
        truncated=False,
    )
