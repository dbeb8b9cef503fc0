"""One answer, from the question to the last word: search, prompt, generation, citations.

Knows nothing of who follows it: what happens is told to a callback, what has come of it
so far stands in the draft. Stages told: `stage {text}`, `sources {sources, summary}`,
`notice {code, sentence}`, `text {text}` (the next piece of the answer).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from chat import extractive, generation, panel, prompt
from chat.citations import CitationStream, cited_numbers
from chat.claims import Checks, check
from chat.errors import AnswerCut, GenerationError, GenerationInterrupted, GeneratorFailed
from chat.invisible import strip_invisible
from chat.models import Turn
from chat.render import cited_sentences
from chat.threads import in_thread
from chat.types import ChatServices, Exchange, GeneratorStatus, Message
from chat.waiting import ordinal
from ingestion.context import widened
from ingestion.models import Corpus, Document
from ingestion.types import Passage, passage_text
from search.types import Degradation, DegradedCode, Outcome, Trace

REWRITE_SECONDS = 10.0
REWRITE_TOKENS = 120
WAITING_SECONDS = 5.0
TOLD_FROM_MS = 100.0
_INCOMPLETE = frozenset(
    {
        DegradedCode.EMBEDDER_UNREACHABLE,
        DegradedCode.EMBEDDER_CHANGED,
        DegradedCode.VECTORS_UNAVAILABLE,
        DegradedCode.LEXICAL_UNAVAILABLE,
    }
)

logger = logging.getLogger(__name__)
_DOUBT = Degradation(
    DegradedCode.LOW_RELEVANCE,
    "The reranker doubts that any of these passages answers the question. Check the answer against "
    "its sources.",
)
_NOT_REWRITTEN = Degradation(
    DegradedCode.NOT_REWRITTEN,
    "The language model did not put this follow-up question into words that stand alone, so it was "
    "searched as it is. If the sources miss the point, name what you mean and ask again.",
)

Tell: TypeAlias = Callable[[str, dict[str, Any]], None]


@dataclass(slots=True)
class Draft:
    """An answer while it is being written, and after.

    sources: the list shown beside the answer, `Trace.source()` dicts, best first.
    checks: of the citations; None where they were not checked.
    instructions: of the corpora, as they were told to the language model.
    state: DONE, or INTERRUPTED when the model broke off; `error` then says why.
    """

    question: str
    standalone_question: str = ""
    text: str = ""
    model: str = ""
    abstained: bool = False
    trace: Trace | None = None
    sources: list[dict[str, Any]] = field(default_factory=list)
    degraded: list[Degradation] = field(default_factory=list)
    timings_ms: dict[str, float] = field(default_factory=dict)
    checks: Checks | None = None
    instructions: str = ""
    state: Turn.State = Turn.State.DONE
    error: str = ""

    @property
    def cited(self) -> list[int]:
        """Numbers of the sources that the text cites."""
        return cited_numbers(self.text, allowed=[source["rank"] for source in self.sources])


async def _nobody() -> None:
    """Nobody waits for the sources."""


async def write(
    draft: Draft,
    *,
    corpora: Sequence[Corpus],
    services: ChatServices,
    tell: Tell,
    history: Sequence[Exchange] = (),
    found: Callable[[], Awaitable[None]] = _nobody,
    despite_doubt: bool = False,
    rewrites: bool = True,
    person: str = "",
) -> None:
    """Answer the draft's question into the draft.

    A language model that is away, lacks the model, or fails before its first word gives
    an extractive answer with a notice; one that fails later leaves the partial text and
    the state INTERRUPTED. Cancelling closes the connection to it.

    Args:
        draft: has the question; gets everything else.
        corpora: what the asking person may read.
        services: what to search and generate with.
        tell: called in the event loop with each thing that happens.
        history: earlier exchanges of the conversation, oldest first.
        found: awaited when the sources are known, before they are told.
        despite_doubt: answer, with a warning, what a corpus would refuse to answer.
        rewrites: whether a follow-up question is rewritten to stand alone.
        person: who asks; the language model serves everybody in turn.

    Raises:
        SearchError: the settings of the search are wrong.
    """
    began = time.perf_counter()
    checking = asyncio.create_task(generation.available(services.generation))
    try:
        question = draft.question
        if rewrites and history:
            tell("stage", {"text": "Reading the conversation…"})
            status = await checking
            if status.problem is None:
                asking = _with_model(services, status)
                question = await _standalone(draft, history, asking, tell, person=person)
        trace, has_documents, wider = await _search(question, corpora, services, tell)
        status = await checking
        services = _with_model(services, status)
    finally:
        checking.cancel()

    passages = [trace.passages[candidate.chunk_id] for candidate in trace.selected]
    manner = _manner(corpora) if passages and trace.is_doubtful else Corpus.Doubtful.ANSWER
    if despite_doubt and manner == Corpus.Doubtful.REFUSE:
        manner = Corpus.Doubtful.WARN
    asked: prompt.Prompt | None = None
    if passages and status.problem is None and manner != Corpus.Doubtful.REFUSE:
        asked = prompt.answer_prompt(
            question,
            passages,
            history=history,
            wider=wider,
            max_tokens=services.generation.max_prompt_tokens,
            instructions=(wishes := _instructions(corpora)),
        )
        draft.instructions = wishes
        trace = _with_sent(trace, passages, asked)
    draft.trace = trace
    draft.sources = trace.sources()[: len(passages) + panel.JUST_MISSED]
    draft.degraded += trace.degraded
    if manner == Corpus.Doubtful.WARN:
        draft.degraded.append(_DOUBT)
    await found()
    tell("sources", {"sources": draft.sources, "summary": _summary(trace, len(passages), asked)})
    for degradation in draft.degraded:
        tell("notice", {"code": degradation.code, "sentence": degradation.sentence})

    writing_began = time.perf_counter()
    if not passages:
        draft.abstained = True
        _add(draft, _nothing(trace, has_documents=has_documents), tell)
    elif manner == Corpus.Doubtful.REFUSE:
        draft.abstained = True
        _add(draft, _too_doubtful(trace), tell)
    elif asked is None:
        assert status.problem is not None
        _degrade(draft, status.problem, tell)
        await _quote(draft, question, passages, services, tell)
    else:
        await _generate(
            draft, asked, question, passages, services, tell, began=began, person=person
        )
        await _check(draft, asked, passages, services, tell)
    draft.timings_ms["generation"] = _ms_since(writing_began)
    draft.timings_ms["whole_turn"] = _ms_since(began)


def _with_model(services: ChatServices, status: GeneratorStatus) -> ChatServices:
    """The same with the model that will answer: the settings may leave that to its server."""
    return replace(services, generation=replace(services.generation, model=status.model))


async def _standalone(
    draft: Draft,
    history: Sequence[Exchange],
    services: ChatServices,
    tell: Tell,
    *,
    person: str,
) -> str:
    """The question to search for: rewritten with the conversation in mind where that works."""
    began = time.perf_counter()
    reply = ""
    asked = prompt.rewrite_prompt(draft.question, history)
    try:
        async with (
            services.line.place(person, tell=_in_line(services, tell), is_short=True),
            asyncio.timeout(REWRITE_SECONDS),
        ):
            reply = await _reply(asked, services)
    except (TimeoutError, GenerationError) as exc:
        logger.warning("the question is searched as it was asked: %s", exc)
        draft.degraded.append(_NOT_REWRITTEN)
    rewritten = prompt.rewritten_question(reply, question=draft.question)
    draft.timings_ms["rewrite"] = _ms_since(began)
    if rewritten != draft.question:
        draft.standalone_question = rewritten
        tell("stage", {"text": f"Searching for: {rewritten}"})
    return rewritten


def _in_line(services: ChatServices, tell: Tell) -> Callable[[int, bool], None]:
    """A stage line for each place in the line."""

    def told(place: int, is_alone: bool) -> None:
        text = f"{ordinal(place)} in line for {services.generation.model}…"
        if is_alone:
            text += " Redis is away: only the questions of this web process are counted."
        tell("stage", {"text": text})

    return told


async def _reply(messages: Sequence[Message], services: ChatServices) -> str:
    text = ""
    pieces = generation.stream(
        messages, settings=services.generation, max_answer_tokens=REWRITE_TOKENS
    )
    with suppress(AnswerCut):
        async with aclosing(pieces):
            async for piece in pieces:
                text += piece
    return text


async def _search(
    question: str, corpora: Sequence[Corpus], services: ChatServices, tell: Tell
) -> tuple[Trace, bool, dict[str, Passage]]:
    """The trace, whether there was anything to search at all, and what stands around passages."""
    loop = asyncio.get_running_loop()

    def on_stage(text: str) -> None:
        loop.call_soon_threadsafe(tell, "stage", {"text": text})

    def search() -> tuple[Trace, bool, dict[str, Passage]]:
        trace = services.retrieve(question, corpora, on_stage)
        searchable = Document.objects.searchable().filter(corpus__in=corpora)
        selected = [trace.passages[candidate.chunk_id] for candidate in trace.selected]
        wider = widened(selected, corpora=corpora)
        return trace, bool(trace.candidates) or searchable.exists(), wider

    return await in_thread(search)


def _with_sent(trace: Trace, passages: Sequence[Passage], asked: prompt.Prompt) -> Trace:
    """The trace with what was sent in place of passages, and the ones not sent marked so."""
    pairs = zip(passages, asked.texts, strict=False)
    changed = {
        passage.chunk_id: sent
        for passage, sent in pairs
        if sent.text != strip_invisible(passage.text)
    }
    candidates = [
        replace(candidate, outcome=Outcome.NOT_SENT)
        if candidate.outcome == Outcome.SELECTED and rank > asked.sent
        else candidate
        for rank, candidate in enumerate(trace.candidates, 1)
    ]
    return replace(trace, candidates=candidates, sent=changed)


def _summary(trace: Trace, selected: int, asked: prompt.Prompt | None) -> dict[str, Any]:
    return {
        "candidates": len(trace.candidates),
        "selected": selected,
        "sent": asked.sent if asked else 0,
        "reranked": trace.rerank.reranked,
        "truncated": trace.rerank.truncated,
        "model": trace.rerank.model,
        "device": trace.rerank.device,
        "threshold": trace.rerank.threshold,
        "retrieval_ms": trace.stage_timings_ms.get("total", 0.0),
    }


def _instructions(corpora: Sequence[Corpus]) -> str:
    """What the corpora ask of answers, each with its name where there are several."""
    found = [(corpus.name, corpus.instructions) for corpus in corpora if corpus.instructions]
    if len(corpora) == 1:
        return found[0][1] if found else ""
    return "\n\n".join(f"For what is from “{name}”: {wishes}" for name, wishes in found)


def _manner(corpora: Sequence[Corpus]) -> str:
    """What these corpora want done with a doubtful question; the most cautious one decides."""
    wanted = {corpus.doubtful for corpus in corpora}
    cautious = (Corpus.Doubtful.REFUSE, Corpus.Doubtful.WARN, Corpus.Doubtful.ANSWER)
    return next(manner for manner in cautious if manner in wanted)


def _too_doubtful(trace: Trace) -> str:
    return extractive.NOTHING_ANSWERS.format(
        best=trace.candidates[0].relevance, threshold=trace.rerank.threshold
    )


def _nothing(trace: Trace, *, has_documents: bool) -> str:
    if not has_documents:
        return extractive.NO_DOCUMENTS
    if any(degradation.code in _INCOMPLETE for degradation in trace.degraded):
        return extractive.SEARCH_INCOMPLETE
    return extractive.NOTHING_FOUND


async def _check(
    draft: Draft,
    asked: prompt.Prompt,
    passages: Sequence[Passage],
    services: ChatServices,
    tell: Tell,
) -> None:
    """Compare what a model wrote with what it cites."""
    if not draft.model or draft.state != Turn.State.DONE:
        return
    claims = cited_sentences(draft.text, sources=asked.sent)
    if not claims:
        return
    tell("stage", {"text": "Checking the citations…"})
    began = time.perf_counter()
    texts = {
        number: passage_text(heading_path=passage.heading_path, text=sent.text)
        for number, (passage, sent) in enumerate(zip(passages, asked.texts, strict=False), 1)
    }
    draft.checks = await in_thread(check, claims, texts, models=services.sentences)
    draft.timings_ms["checking"] = _ms_since(began)


async def _quote(
    draft: Draft,
    question: str,
    passages: Sequence[Passage],
    services: ChatServices,
    tell: Tell,
) -> None:
    tell("stage", {"text": "Choosing the sentences that match best…"})
    answer = await in_thread(
        extractive.quoted_answer, question, passages, models=services.sentences
    )
    _add(draft, answer, tell)


async def _generate(
    draft: Draft,
    asked: prompt.Prompt,
    question: str,
    passages: Sequence[Passage],
    services: ChatServices,
    tell: Tell,
    *,
    began: float,
    person: str,
) -> None:
    """The model's answer, without numbers it made up; quotes if it gives none."""
    draft.model = services.generation.model
    clean = CitationStream(allowed=range(1, asked.sent + 1))
    arrived = time.perf_counter()
    try:
        async with services.line.place(person, tell=_in_line(services, tell)):
            if (waited_ms := _ms_since(arrived)) >= TOLD_FROM_MS:
                draft.timings_ms["in_line"] = waited_ms
            await _write_down(draft, asked, services, tell, clean=clean, began=began)
        _add(draft, clean.finish(), tell)
        if not draft.text:
            raise GeneratorFailed("an empty answer")
    except AnswerCut as exc:
        _add(draft, clean.finish(), tell)
        _degrade(draft, exc, tell)
    except GenerationError as exc:
        if draft.text:
            draft.state, draft.error = Turn.State.INTERRUPTED, exc.sentence
            _degrade(draft, exc, tell)
            return
        if isinstance(exc, GenerationInterrupted):
            exc = GeneratorFailed(exc.why)
        draft.model = ""
        _degrade(draft, exc, tell)
        await _quote(draft, question, passages, services, tell)


async def _write_down(
    draft: Draft,
    asked: prompt.Prompt,
    services: ChatServices,
    tell: Tell,
    *,
    clean: CitationStream,
    began: float,
) -> None:
    """What the model says, as it says it. Raises `GenerationError`."""
    waiting = asyncio.create_task(_tell_waiting(services.generation.model, tell))
    pieces = generation.stream(asked.messages, settings=services.generation)
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                if not waiting.done():
                    waiting.cancel()
                    tell("stage", {"text": "Writing the answer…"})
                    draft.timings_ms["first_token"] = _ms_since(began)
                _add(draft, clean.feed(piece), tell)
    finally:
        waiting.cancel()


async def _tell_waiting(model: str, tell: Tell) -> None:
    """A line at once, and from then on how long it has been."""
    tell("stage", {"text": f"Asking {model}…"})
    waited = 0.0
    while True:
        await asyncio.sleep(WAITING_SECONDS)
        waited += WAITING_SECONDS
        tell("stage", {"text": f"Waiting for {model} to begin ({waited:.0f} s)…"})


def _add(draft: Draft, text: str, tell: Tell) -> None:
    if not draft.text:
        text = text.lstrip()
    if text:
        draft.text += text
        tell("text", {"text": text})


def _degrade(draft: Draft, error: GenerationError, tell: Tell) -> None:
    logger.warning("no answer by the language model: %s: %s", type(error).__name__, error)
    degradation = Degradation(DegradedCode(error.code), error.sentence)
    draft.degraded.append(degradation)
    tell("notice", {"code": degradation.code, "sentence": degradation.sentence})


def _ms_since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 1)
