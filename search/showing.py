"""A trace as the inspector shows it: rows, tabs, timings, and the line above them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ingestion.types import Passage
from search import inspector, judging
from search.difference import Difference
from search.models import Inspection
from search.rerank import place
from search.types import Candidate, Outcome, Trace

if TYPE_CHECKING:
    from django.contrib.auth.models import User

TABS = {
    "all": "All",
    "bm25": "Keywords",
    "dense": "Vectors",
    "fused": "Fused",
    "reranked": "Reranked",
    "sent": "Sent",
}
_STAGES = {
    "embed": "Embedding the question",
    "bm25": "Keyword search",
    "dense": "Vector search",
    "resolve": "Reading passages",
    "fuse": "Fusion",
    "rerank": "Reranking",
    "total": "Retrieval in all",
    "rewrite": "Rewriting the question",
    "first_token": "To the first word",
    "generation": "Writing",
    "checking": "Checking the citations",
    "whole_turn": "The whole turn",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One candidate as the table shows it.

    rank_before: its final rank in what is compared with; None if it was not there.
    """

    rank: int
    candidate: Candidate
    passage: Passage
    why: str
    rank_before: int | None
    grade: int | None

    @property
    def is_gone(self) -> bool:
        """Whether there is nothing to open."""
        return inspector.is_gone(self.passage)

    @property
    def is_sent(self) -> bool:
        """Whether it goes on to the answer."""
        return self.candidate.outcome in (Outcome.SELECTED, Outcome.NOT_SENT)

    @property
    def moved(self) -> int:
        """Places gained since what is compared with."""
        return self.rank_before - self.rank if self.rank_before else 0

    @property
    def places(self) -> int:
        """The same without its sign."""
        return abs(self.moved)


@dataclass(frozen=True, slots=True)
class Timing:
    """How long one stage took; `share` is its part of the longest, 0 to 1."""

    label: str
    ms: float
    share: float


def rows(kept: Inspection, trace: Trace, found: Difference | None, *, reader: User) -> list[Row]:
    """Every candidate in final order, with what this person said of it.

    Args:
        kept: the inspection that the trace is of.
        found: against what it is compared with, if anything.
    """
    grades = judging.grades_of(reader, kept.question)
    return [
        Row(
            rank=rank,
            candidate=candidate,
            passage=trace.passages[candidate.chunk_id],
            why=inspector.why(candidate.outcome, rank=rank, trace=trace),
            rank_before=found.rank_before.get(candidate.chunk_id) if found else None,
            grade=grades.get(candidate.chunk_id),
        )
        for rank, candidate in enumerate(trace.candidates, 1)
    ]


def of_tab(rows: Sequence[Row], tab: str) -> list[Row]:
    """The rows that came through one stage, in its order."""
    if tab == "all":
        return list(rows)
    if tab == "sent":
        return [row for row in rows if row.candidate.outcome == Outcome.SELECTED]
    name = {"bm25": "bm25_rank", "dense": "dense_rank", "fused": "rrf_rank"}.get(tab, "rerank_rank")
    return sorted(
        (row for row in rows if getattr(row.candidate, name) is not None),
        key=lambda row: int(getattr(row.candidate, name)),
    )


def names(trace: Trace, ids: Sequence[str]) -> list[str]:
    """Where these passages are from, in words."""
    found = [trace.passages[chunk_id] for chunk_id in ids]
    return [f"{p.document}, p. {p.page_from}" if p.page_from else p.document for p in found]


def timings(stages: Mapping[str, float]) -> list[Timing]:
    """Milliseconds by stage, in the order in which the stages come."""
    longest = max(stages.values(), default=0.0) or 1.0
    known = {**{name: stages[name] for name in _STAGES if name in stages}, **stages}
    return [
        Timing(_STAGES.get(name, name.replace("_", " ").capitalize()), ms, ms / longest)
        for name, ms in known.items()
    ]


def summary_line(trace: Trace) -> str:
    """How many candidates, how many of them reranked, where, by what, and how long it took."""
    report = trace.rerank
    in_pool = sum(1 for c in trace.candidates if c.outcome != Outcome.OUTSIDE_POOL)
    parts = [f"{len(trace.candidates)} candidates", f"{in_pool} in the pool"]
    if report.reranked:
        where = place(report.device)
        where += f" in {report.dtype}" if where and report.dtype else ""
        why = f" ({report.chosen})" if report.chosen else ""
        parts.append(f"{report.reranked} reranked{where} with {report.model or 'a reranker'}{why}")
        if report.remembered:
            parts.append(f"{report.remembered} scored before")
        if report.truncated:
            parts.append(f"{report.truncated} truncated")
        if report.place_weight:
            parts.append(f"the place after fusion counts too ({report.place_weight:g})")
    else:
        parts.append("not reranked")
    parts.append(f"{trace.stage_timings_ms.get('total', 0):.0f} ms")
    return " · ".join(parts)
