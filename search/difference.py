"""Two traces of one question side by side: which knobs differ, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from search.types import Outcome, RetrievalSettings, Trace

KNOBS = {
    "bm25_k": "Keyword search, k",
    "dense_k": "Vector search, k",
    "fusion": "Fusion",
    "rrf_k": "RRF constant",
    "bm25_weight": "Weight of keywords",
    "pool": "Pool",
    "top_n": "Top n",
    "rerank": "Reranker",
    "rerank_budget_ms": "Time for reranking",
    "rerank_at_most": "Reranked at most",
    "threshold": "Threshold",
}
_SENT = (Outcome.SELECTED, Outcome.NOT_SENT)


@dataclass(frozen=True, slots=True)
class Changed:
    """One knob that differs, in words."""

    label: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed from one trace to another of the same question.

    rank_before: final rank by chunk id, of everything the earlier trace holds.
    entered, left: ids of passages that are selected in one of the two alone, best first.
    moved: how many of those selected in both changed their place.
    """

    knobs: Sequence[Changed]
    rank_before: Mapping[str, int]
    entered: Sequence[str]
    left: Sequence[str]
    moved: int

    @property
    def is_same(self) -> bool:
        """Whether the same passages go on to the answer, in the same order."""
        return not (self.entered or self.left or self.moved)


def difference(before: Trace, after: Trace) -> Difference:
    """Compare two traces by what goes on to the answer."""
    ranks = {c.chunk_id: rank for rank, c in enumerate(before.candidates, 1)}
    chosen_before = [c.chunk_id for c in before.candidates if c.outcome in _SENT]
    chosen = {c.chunk_id: r for r, c in enumerate(after.candidates, 1) if c.outcome in _SENT}
    return Difference(
        knobs=changed_knobs(before.settings, after.settings),
        rank_before=ranks,
        entered=[chunk_id for chunk_id in chosen if chunk_id not in chosen_before],
        left=[chunk_id for chunk_id in chosen_before if chunk_id not in chosen],
        moved=sum(1 for key in chosen_before if key in chosen and chosen[key] != ranks[key]),
    )


def changed_knobs(before: RetrievalSettings, after: RetrievalSettings) -> list[Changed]:
    """The knobs that differ, as people read them."""
    first, second = asdict(before), asdict(after)
    return [
        Changed(label, in_words(name, first[name]), in_words(name, second[name]))
        for name, label in KNOBS.items()
        if first[name] != second[name]
    ]


def in_words(name: str, value: Any) -> str:
    """The value of one knob as people read it."""
    if name == "fusion":
        return {"rrf": "RRF", "weighted": "weighted scores"}[str(value)]
    if name == "rerank":
        return "on" if value else "off"
    if name == "rerank_budget_ms":
        return f"{value:,} ms"
    if name == "rerank_at_most" and not value:
        return "as many as time allows"
    if name == "threshold" and value is None:
        return "the reranker's own"
    return f"{value:g}" if isinstance(value, float) else str(value)
