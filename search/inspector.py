"""The inspector: retrievals that are kept, replayed, compared and explained.

It calls `search.pipeline.retrieve`, as chat does; nothing here ranks. What is kept has no text
of a document: passages are read anew, as far as their reader may see them then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from inference.errors import InferenceError
from ingestion.models import Corpus
from ingestion.passages import readable
from ingestion.types import Passage
from search.models import Inspection
from search.pipeline import SearchServices, retrieve
from search.types import Outcome, RetrievalSettings, Trace

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

KEPT = 100
# Enough to score again what a stored answer had scored, on a slow machine too.
REPLAY_BUDGET_MS = 20_000
GONE = "A passage that is no longer there, or no longer shared with you"


def inspect(
    question: str,
    *,
    person: User,
    corpora: Sequence[Corpus],
    settings: RetrievalSettings,
    services: SearchServices,
    before: Inspection | None = None,
) -> Inspection:
    """Retrieve as chat does, and keep the trace.

    Args:
        question: as the person wrote it.
        corpora: what the person may read; the caller has checked it.
        settings: the knobs.
        before: what the result is to be compared with.

    Raises:
        search.errors.InvalidSettings: a knob is outside its range.
    """
    trace = retrieve(question, corpora=corpora, settings=settings, services=services)
    kept = Inspection.objects.create(
        owner=person, question=trace.question, trace=_without_texts(trace), before=before
    )
    kept.corpora.set(corpora)
    old = Inspection.objects.of(person).values_list("pk", flat=True)[KEPT:]
    Inspection.objects.filter(pk__in=list(old)).delete()
    return kept


def inspection_of_answer(
    *,
    person: User,
    turn_id: int,
    trace: Mapping[str, Any],
    corpora: Sequence[Corpus],
    timings_ms: Mapping[str, float],
) -> Inspection:
    """The inspection that shows a stored answer's own trace, made when first asked for.

    Args:
        turn_id: of an answer of this person's own; the caller has checked it.
        trace: `Trace.to_json()`, as it was stored with the answer.
    """
    frozen = Trace.from_json(trace)
    kept, is_new = Inspection.objects.get_or_create(
        owner=person,
        turn_id=turn_id,
        defaults={
            "question": frozen.question,
            "trace": _without_texts(frozen),
            "timings_ms": dict(timings_ms),
        },
    )
    if is_new:
        kept.corpora.set(corpora)
    return kept


def trace_of(inspection: Inspection, *, reader: User | AnonymousUser) -> Trace:
    """The kept trace with the texts that this person may read now."""
    ids = [candidate["chunk_id"] for candidate in inspection.trace["candidates"]]
    there = readable(ids, reader=reader)
    passages = {chunk_id: there.get(chunk_id) or _gone(chunk_id) for chunk_id in ids}
    return replace(Trace.from_json(inspection.trace), passages=passages)


def is_gone(passage: Passage) -> bool:
    """Whether nothing is left of it to read."""
    return passage.document_id == 0


def replay_settings(trace: Trace) -> RetrievalSettings:
    """Settings with which the same question gives the same ranks again.

    Where time ended the reranking, as many passages are scored as then, however long it takes.
    """
    settings, report = trace.settings, trace.rerank
    if not settings.rerank or not 0 < report.reranked < report.candidates:
        return settings
    return replace(
        settings,
        rerank_at_most=report.reranked,
        rerank_budget_ms=max(settings.rerank_budget_ms, REPLAY_BUDGET_MS),
    )


def why(candidate_outcome: Outcome | None, *, rank: int, trace: Trace) -> str:
    """Why a candidate went on to the answer, or where it left, in words."""
    settings = trace.settings
    match candidate_outcome:
        case Outcome.SELECTED:
            return f"Sent: among the best {settings.top_n}"
        case Outcome.NOT_SENT:
            return "Not sent: no room left in the model's context"
        case Outcome.BELOW_TOP_N:
            return f"Left at the cut: rank {rank}, top {settings.top_n} go on"
        case Outcome.OUTSIDE_POOL:
            return f"Left after fusion: beyond the pool of {settings.pool}"
    return ""


def read_characters(question: str, text: str, *, services: SearchServices) -> int | None:
    """How many characters of a passage the reranker read; None where it does not tell."""
    ask = getattr(services.inference, "read_characters", None)
    if ask is None:
        return None
    try:
        found: int | None = ask(question, text)
    except InferenceError:
        return None
    return found


def _without_texts(trace: Trace) -> dict[str, Any]:
    return replace(trace, passages={}, sent={}).to_json()


def _gone(chunk_id: str) -> Passage:
    return Passage(
        chunk_id=chunk_id,
        document_id=0,
        document=GONE,
        title="",
        heading_path="",
        page_from=None,
        page_to=None,
        text="",
    )
