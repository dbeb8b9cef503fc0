"""The query clinic: questions whose answers look weak, grouped, so that somebody can mend them.

Weak is what the site noticed itself (nothing seemed to answer; a passage that seems relevant just
missed the cut) and what a person said (a bad answer, or a source marked as not relevant).
Nobody's name is told.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from chat.models import Conversation, Turn
from search.models import Judgement, digest_of
from search.types import DegradedCode

# The latest answers are looked at: about 10 kB each.
LATEST = 2_000
# A passage this relevant that misses by less than that much relevance is a thin margin.
SEEMS_RELEVANT, THIN = 0.5, 0.05


class Reason(StrEnum):
    """Why a question is in the clinic; the value is also the name in addresses."""

    UNANSWERED = "unanswered"
    LOW = "low"
    THIN = "thin"
    RATED = "rated"
    MARKED = "marked"


REASONS = {
    Reason.UNANSWERED: "Not answered",
    Reason.LOW: "Low relevance",
    Reason.THIN: "Thin margin",
    Reason.RATED: "Rated bad",
    Reason.MARKED: "Marked not relevant",
}


@dataclass(slots=True)
class Case:
    """One question, however often it was asked.

    times: how often. unanswered: how often of these nothing seemed to answer.
    relevance: of the best passage, 0 to 1.
    """

    question: str
    last_at: datetime
    reasons: set[Reason] = field(default_factory=set)
    times: int = 0
    unanswered: int = 0
    marks: int = 0
    relevance: float | None = None
    corpora: set[int] = field(default_factory=set)

    @property
    def labels(self) -> list[str]:
        """Its reasons in words, the gravest first."""
        return [label for reason, label in REASONS.items() if reason in self.reasons]


def cases(*, reason: Reason | None = None, corpus_id: int | None = None) -> list[Case]:
    """Weak questions among the latest answers, the most often asked first.

    Args:
        reason: only those with this one; the most often unanswered first, if that is it.
        corpus_id: only those that were asked of this corpus.
    """
    turns = Turn.objects.filter(state=Turn.State.DONE).order_by("-pk")
    if corpus_id is not None:
        turns = turns.filter(conversation__corpora=corpus_id)
    rows = list(
        turns.values_list(
            "conversation_id",
            "question",
            "abstained",
            "degraded",
            "sources",
            "rating",
            "created_at",
        )[:LATEST]
    )
    marks = _marks()
    corpora = _corpora({row[0] for row in rows})
    found: dict[str, Case] = {}
    for conversation, question, abstained, degraded, sources, rating, created_at in rows:
        key = digest_of(question.casefold().strip(" ?!."))
        case = found.setdefault(key, Case(question, created_at))
        case.times += 1
        case.unanswered += abstained
        case.corpora |= corpora.get(conversation, set())
        case.marks = max(case.marks, marks.get(digest_of(question), 0))
        if sources and case.relevance is None:
            case.relevance = sources[0].get("relevance")
        case.reasons |= _reasons(abstained=abstained, degraded=degraded, sources=sources)
        if rating == Turn.Rating.BAD:
            case.reasons.add(Reason.RATED)
        if case.marks:
            case.reasons.add(Reason.MARKED)
    weak = [case for case in found.values() if case.reasons]
    if reason is not None:
        weak = [case for case in weak if reason in case.reasons]

    def order(case: Case) -> tuple[float, ...]:
        often = case.unanswered if reason == Reason.UNANSWERED else case.times
        return (-often, -case.times, -case.marks, -case.last_at.timestamp())

    return sorted(weak, key=order)


def _reasons(
    *, abstained: bool, degraded: Iterable[dict[str, Any]], sources: list[dict[str, Any]]
) -> set[Reason]:
    """What the answer itself tells."""
    found = set()
    if abstained:
        found.add(Reason.UNANSWERED)
    if any(one.get("code") == DegradedCode.LOW_RELEVANCE for one in degraded):
        found.add(Reason.LOW)
    scored = [one for one in sources if one.get("relevance") is not None]
    sent = [one["relevance"] for one in scored if one.get("outcome") == "selected"]
    missed = [one["relevance"] for one in scored if one.get("outcome") == "below_top_n"]
    if sent and missed and max(missed) >= SEEMS_RELEVANT and min(sent) - max(missed) < THIN:
        found.add(Reason.THIN)
    return found


def _marks() -> dict[str, int]:
    """How many passages were marked as not relevant, by the digest of the question."""
    counts: dict[str, int] = {}
    bad = Judgement.objects.filter(grade=Judgement.Grade.NOT_RELEVANT).order_by("-pk")
    for digest in bad.values_list("question_sha256", flat=True)[:LATEST]:
        counts[digest] = counts.get(digest, 0) + 1
    return counts


def _corpora(conversations: set[int]) -> dict[int, set[int]]:
    """The corpora that each conversation is about."""
    through = Conversation.corpora.through
    found: dict[int, set[int]] = {}
    ids = sorted(conversations)
    for begin in range(0, len(ids), 500):
        rows = through.objects.filter(conversation_id__in=ids[begin : begin + 500])
        for conversation, corpus in rows.values_list("conversation_id", "corpus_id"):
            found.setdefault(conversation, set()).add(corpus)
    return found
