"""What tests of the answering engine share: a trace, stand-ins, and ways to run a turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from chat import services, turns
from chat.admission import Line
from chat.models import Conversation, Turn
from chat.threads import in_thread
from chat.turns import Event
from chat.types import ChatServices, GenerationSettings
from inference.errors import InferenceUnreachable
from inference.types import RerankScore, ServerInfo
from ingestion.models import Corpus
from ingestion.types import Passage
from search.types import (
    Candidate,
    Degradation,
    DegradedCode,
    Outcome,
    RerankReport,
    RetrievalSettings,
    Trace,
)

T = TypeVar("T")
QUESTION = "How are two rankings fused?"
TEXTS = (
    "Reciprocal rank fusion merges two rankings by the places of each passage. It needs no tuning.",
    "A cross-encoder reads question and passage together. It is slow, and it is right more often.",
    "Keyword search counts words. A question in other words finds nothing that way.",
    "Chunks keep the headings above them. A heading says what a passage is about.",
)


def trace(
    texts: Sequence[str] = TEXTS, *, degraded: Sequence[Degradation] = (), below: int = 8
) -> Trace:
    """A trace that selected these texts, and ranked `below` others after them."""
    passages = {}
    candidates = []
    for rank in range(1, len(texts) + below + 1):
        is_selected = rank <= len(texts)
        chunk_id = f"chunk-{rank}"
        text = texts[rank - 1] if is_selected else f"A passage about something else, number {rank}."
        passages[chunk_id] = Passage(
            chunk_id=chunk_id,
            document_id=rank,
            document=f"guide-{rank}.pdf",
            title="",
            heading_path="Guide › Fusion",
            page_from=rank,
            page_to=rank,
            text=text,
        )
        candidates.append(
            Candidate(
                chunk_id=chunk_id,
                bm25_rank=rank,
                bm25_score=20.0 - rank,
                dense_rank=rank,
                similarity=0.9 - rank / 100,
                rrf_rank=rank,
                rrf_score=2 / (60 + rank),
                rerank_rank=rank,
                rerank_logit=5.0 - rank,
                relevance=0.9 - rank / 100,
                outcome=Outcome.SELECTED if is_selected else Outcome.BELOW_TOP_N,
            )
        )
    return Trace(
        question=QUESTION,
        settings=RetrievalSettings(),
        candidates=candidates,
        passages=passages,
        stage_timings_ms={"bm25": 1.0, "total": 5.0},
        degraded=degraded,
        rerank=RerankReport(len(candidates), len(candidates), 0, "reranker", "cpu"),
    )


def degradation(code: DegradedCode) -> Degradation:
    """One with a sentence."""
    return Degradation(code, f"Something is missing: {code}.")


class NoModels:
    """A model server that is away."""

    def rerank(
        self, question: str, texts: Sequence[str], *, timeout_seconds: float | None = None
    ) -> list[RerankScore]:
        """Away."""
        raise InferenceUnreachable("away")

    def info(self, timeout_seconds: float = 2.0) -> ServerInfo:
        """Away."""
        raise InferenceUnreachable("away")

    def embed(
        self,
        texts: Sequence[str],
        *,
        lane: Literal["question", "ingestion"] = "question",
        timeout_seconds: float | None = None,
    ) -> NDArray[np.float32]:
        """Away."""
        raise InferenceUnreachable("away")


@dataclass
class Search:
    """A retrieval that gives a prepared trace, and keeps what it was asked."""

    found: Trace = field(default_factory=trace)
    questions: list[str] = field(default_factory=list)
    corpora: list[list[str]] = field(default_factory=list)
    before: Callable[[], None] = lambda: None

    def __call__(
        self, question: str, corpora: Sequence[Corpus], on_stage: Callable[[str], None]
    ) -> Trace:
        """Tell two stages and return the trace."""
        self.questions.append(question)
        self.corpora.append([corpus.name for corpus in corpora])
        on_stage("Searching Papers…")
        self.before()
        on_stage("Reranking 12 passages…")
        return self.found


def engine(
    generation: GenerationSettings, search: Search | None = None, *, line: Line | None = None
) -> ChatServices:
    """What the engine works with in these tests."""
    return ChatServices(
        retrieve=search or Search(),
        generation=generation,
        sentences=NoModels(),
        line=line or Line(parallel=4, most_waiting=20),
    )


def asked(
    corpus: Corpus, question: str = QUESTION, *, conversation: Conversation | None = None
) -> Turn:
    """A question of the corpus's owner."""
    return services.ask(
        person=corpus.owner, question=question, corpora=[corpus], conversation=conversation
    )


async def events_of(turn: Turn, after: int = 0) -> list[Event]:
    """All events of a turn until its end."""
    return [event async for event in turns.follow(turn.pk, after)]


async def until(turn: Turn, name: str) -> list[Event]:
    """The events of a turn up to the first of this name."""
    seen = []
    async for event in turns.follow(turn.pk):
        seen.append(event)
        if event.name == name:
            break
    return seen


async def idle() -> None:
    """Wait until nothing of the engine runs any more, so that the loop can close."""
    while tasks := [*turns._background, *(live.task for live in turns._live.values())]:
        await asyncio.wait([task for task in tasks if task is not None])
        await asyncio.sleep(0)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run async work in a loop of its own, and everything that it started."""

    async def whole() -> T:
        try:
            return await work
        finally:
            await idle()

    return asyncio.run(whole())


def answered(turn: Turn, with_services: ChatServices) -> list[Event]:
    """Answer a turn; its events."""

    async def answer() -> list[Event]:
        turns.start(turn, services=with_services)
        return await events_of(turn)

    return run(answer())


async def reread(turn: Turn) -> Turn:
    """The turn as SQL has it now, from async code."""
    return await in_thread(lambda: Turn.objects.get(pk=turn.pk))
