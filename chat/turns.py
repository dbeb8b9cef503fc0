"""Turns while they are answered: produced on the server, followed by whoever looks.

A turn is produced by a task of the web process, whether or not a browser stays. Its
events are kept in memory with numbers from 1 until it has ended; followers read the log
and then wait for more. After that, and in other processes, a turn is read from SQL.

Events, in this order: `stage {text}` (at any time before the end), `sources {sources,
summary}`, `notice {code, sentence}`, `block {html}` and `tail {html}`, `answer {html}`,
`citations {cited}`, `end {state, error}`. `end` is always last. A follower that comes
back to a turn of which no log is left gets `restart {}` first: what follows is the whole
turn again.

Two signs keep SQL true. The heartbeat, every 1.5 seconds with the text so far, shows that
somebody produces the turn: without it, `reap` ends the turn as interrupted. And the state:
a producer that finds its turn ended by another process stops.
"""

from __future__ import annotations

import asyncio
import logging
import time
from bisect import bisect_right
from collections.abc import AsyncGenerator, Awaitable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from operator import attrgetter
from typing import Any

from django.db import DatabaseError
from django.db.models import Q
from django.db.models.functions import Coalesce
from django.utils import timezone

from chat import answering, branches, panel
from chat.answering import Draft
from chat.citations import cited_numbers
from chat.conf import DEFAULT_OPTIONS, chat_services
from chat.errors import ChatError
from chat.models import Conversation, Turn
from chat.prompt import HISTORY_EXCHANGES
from chat.render import render_markdown, split_blocks
from chat.threads import in_thread
from chat.types import ChatServices, Exchange, TurnOptions
from ingestion.models import Corpus
from ingestion.types import EVERYTHING, DocumentFilter
from search.errors import SearchError
from telemetry import metrics, requests, tracing

HEARTBEAT_SECONDS = 1.5
# As long as SQLite may make a heartbeat wait for others.
STALE_SECONDS = 20.0
POLL_SECONDS = 1.0
SHUTDOWN_SECONDS = 5.0
COALESCE_SECONDS = 0.05
# A long open block takes longer to render than it is worth doing 20 times a second.
RENDER_SHARE = 0.1
# Turns before this one among which those are that were answered.
HISTORY_READ = 50
STAGE_LENGTH = 600

UNEXPECTED = (
    "Something unexpected went wrong while this question was answered. Ask again; if it fails "
    "once more, tell the administrator."
)
NO_CORPUS = (
    "None of the corpora of this conversation can be searched any more. Start a new conversation "
    "and choose corpora there."
)
RESTARTED = "This answer broke off because the site was restarted. Ask again to get a whole one."
NOT_SAVED = "The answer could not be saved because the database did not answer. Ask again."
DELETED = "This conversation was deleted."

logger = logging.getLogger(__name__)
_live: dict[int, _Live] = {}
_background: set[asyncio.Task[Any]] = set()


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a turn. `id` counts from 1."""

    id: int
    name: str
    data: dict[str, Any]


def start(turn: Turn, *, services: ChatServices | None = None) -> None:
    """Begin to answer a PENDING turn in this event loop; returns at once.

    Once is enough: for a turn that is being answered here this does nothing.

    Args:
        turn: made by `chat.services.ask`.
        services: what to answer with; by default what the settings name.
    """
    if turn.pk in _live:
        return
    live = _live[turn.pk] = _Live(turn.pk)
    producing = live.produce(services)
    # Nearly empty: the task outlives the request that started it, and keeps its id alone.
    live.task = asyncio.get_running_loop().create_task(producing, context=requests.detached())
    live.task.add_done_callback(lambda _: _live.pop(turn.pk, None))
    _in_background(in_thread(reap))


def stop(turn_id: int) -> bool:
    """End a turn: what was written is kept, the connection to the language model is closed.

    A turn of another process is marked in SQL; its producer sees that within its next
    heartbeat. Harmless for a turn that has ended.

    Returns:
        Whether this process was producing it.
    """
    if live := _live.get(turn_id):
        live.stop()
        return True
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        _stop_in_sql(turn_id)
    else:
        _in_background(in_thread(_stop_in_sql, turn_id))
    return False


async def shutdown() -> None:
    """End the turns of this process as interrupted, because the process is about to end."""
    tasks = [live.task for live in _live.values() if live.task is not None]
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=SHUTDOWN_SECONDS)


async def follow(turn_id: int, after: int = 0) -> AsyncGenerator[Event]:
    """The turn's events after number `after`: those that were, then those to come.

    Ends after `end`. Any number may follow the same turn; closing the generator has no
    effect on the turn.

    Args:
        turn_id: the caller has checked that the follower may see it.
        after: the last number that the follower has; 0 for all.
    """
    if live := _live.get(turn_id):
        async for event in live.follow(after):
            yield event
            after = event.id
            if event.name == "end":
                return
    async for event in _follow_stored(turn_id, after):
        yield event


def reap() -> int:
    """End the turns that nobody produces any more: the process that did was killed.

    They keep the text that was saved last. Blocking; called when the site starts, when a
    turn is started, and when a turn is followed that shows no sign of life.

    Returns:
        How many were ended.
    """
    now = timezone.now()
    stale = Turn.objects.annotate(sign=Coalesce("heartbeat_at", "created_at")).filter(
        _not_ended(), sign__lt=now - timedelta(seconds=STALE_SECONDS)
    )
    ended = 0
    for turn in stale.exclude(pk__in=list(_live)).only("pk", "answer", "sources"):
        shown = [source["rank"] for source in turn.sources]
        cited = cited_numbers(turn.answer, allowed=shown)
        ended += Turn.objects.filter(_not_ended(), pk=turn.pk).update(
            state=Turn.State.INTERRUPTED,
            error=RESTARTED,
            sources=panel.with_cited(turn.sources, cited),
            ended_at=now,
        )
    if ended:
        logger.warning("%d turns without a producer were ended", ended)
    return ended


class _Live:
    """A turn that this process produces: its task, its draft, its log, who waits for more."""

    def __init__(self, turn_id: int) -> None:
        self.turn_id = turn_id
        self.task: asyncio.Task[None] | None = None
        self.draft = Draft(question="")
        self._loop = asyncio.get_running_loop()
        self._log: list[Event] = []
        self._changed = asyncio.Event()
        self._is_over = False
        self._was_stopped = False
        self._open_text = ""
        self._stage = ""
        self._has_tail = False
        self._flushing: asyncio.TimerHandle | None = None
        self._render_seconds = 0.0

    def stop(self) -> None:
        """Cancel the production. May be called from any thread."""
        self._was_stopped = True
        if self.task is not None:
            self._loop.call_soon_threadsafe(self.task.cancel)

    async def follow(self, after: int) -> AsyncGenerator[Event]:
        """Events after this number until there are no more."""
        while True:
            changed = self._changed
            fresh = self._log[bisect_right(self._log, after, key=attrgetter("id")) :]
            for event in fresh:
                yield event
                after = event.id
            if not fresh and self._is_over:
                return
            if not fresh:
                await changed.wait()

    async def produce(self, services: ChatServices | None) -> None:
        """The whole life of the turn; never raises."""
        state, error = Turn.State.DONE, ""
        beating: asyncio.Task[None] | None = None
        try:
            job = await in_thread(_claim, self.turn_id)
            if job is None:
                self._close()  # followers go on with what SQL says
                return
            self.draft.question = job.question
            beating = asyncio.create_task(self._beat())
            if job.corpora:
                with tracing.span("answer", turn=self.turn_id):
                    await answering.write(
                        self.draft,
                        corpora=job.corpora,
                        services=services or chat_services(job.only, job.options),
                        tell=self._tell,
                        history=job.history,
                        found=self._save_found,
                        despite_doubt=job.despite_doubt,
                        rewrites=job.rewrites,
                        person=job.person,
                    )
                state, error = self.draft.state, self.draft.error
            else:
                state, error = Turn.State.FAILED, NO_CORPUS
        except asyncio.CancelledError:
            was_stopped = self._was_stopped
            state = Turn.State.STOPPED if was_stopped else Turn.State.INTERRUPTED
            error = "" if was_stopped else RESTARTED
        except (ChatError, SearchError) as exc:
            state, error = Turn.State.FAILED, exc.sentence
        except Exception:
            logger.exception("turn %d failed", self.turn_id)
            state, error = Turn.State.FAILED, UNEXPECTED
        finally:
            if beating is not None:
                beating.cancel()
        await self._end(state, error)

    def _tell(self, name: str, data: dict[str, Any]) -> None:
        """What `answering` tells, as events; text gathers for a moment first."""
        if self._is_over:
            return  # a stage line of a search whose turn was stopped meanwhile
        if name == "stage":
            self._stage = data["text"]
        if name != "text":
            self._emit(name, data)
            return
        self._open_text += data["text"]
        if self._flushing is None:
            pause = max(COALESCE_SECONDS, self._render_seconds / RENDER_SHARE)
            self._flushing = self._loop.call_later(pause, self._flush)

    def _flush(self) -> None:
        """Blocks that are closed by now, and the open one as it stands."""
        self._flushing = None
        began = time.perf_counter()
        shown = panel.shown_count(self.draft.sources)
        blocks, self._open_text = split_blocks(self._open_text)
        for block in blocks:
            self._emit("block", {"html": render_markdown(block, sources=shown)})
        if self._open_text.strip() or self._has_tail:
            self._emit("tail", {"html": render_markdown(self._open_text, sources=shown)})
        self._has_tail = bool(self._open_text.strip())
        self._render_seconds = time.perf_counter() - began

    def _emit(self, name: str, data: dict[str, Any]) -> None:
        self._log.append(Event(len(self._log) + 1, name, data))
        self._changed.set()
        self._changed = asyncio.Event()

    def _close(self) -> None:
        self._is_over = True
        self._changed.set()

    async def _save_found(self) -> None:
        await in_thread(_save_found, self.turn_id, self.draft)

    async def _beat(self) -> None:
        """Say every 1.5 seconds that the turn is alive; stop it if it was ended elsewhere."""
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            try:
                if await in_thread(_save_progress, self.turn_id, self.draft.text, self._stage):
                    continue
            except DatabaseError:
                logger.exception("the progress of turn %d could not be saved", self.turn_id)
                continue
            self.stop()
            return

    async def _end(self, state: Turn.State, error: str) -> None:
        """The final text, the save, and the last event, whatever else fails."""
        if self._flushing is not None:
            self._flushing.cancel()
        draft = self.draft
        try:
            draft.text = draft.text.rstrip()
            cited = draft.cited
            draft.sources = panel.with_cited(draft.sources, cited)
            shown = panel.shown_count(draft.sources)
            weak = draft.checks.weak if draft.checks else ()
            html = render_markdown(draft.text, sources=shown, weak=weak)
            self._emit("answer", {"html": html})
            await in_thread(_save_end, self.turn_id, draft, state, error)
            _count(draft, state)
            self._emit("citations", {"cited": cited})
        except Exception as exc:
            logger.exception("the end of turn %d could not be saved", self.turn_id)
            state = Turn.State.FAILED
            error = error or (NOT_SAVED if isinstance(exc, DatabaseError) else UNEXPECTED)
        finally:
            self._emit("end", {"state": str(state), "error": error})
            self._close()


@dataclass(frozen=True, slots=True)
class _Job:
    """What a claimed turn needs of SQL."""

    question: str
    corpora: Sequence[Corpus]
    history: Sequence[Exchange]
    despite_doubt: bool = False
    only: DocumentFilter = EVERYTHING
    options: TurnOptions = DEFAULT_OPTIONS
    rewrites: bool = True
    person: str = ""


def _claim(turn_id: int) -> _Job | None:
    """Take a PENDING turn; None if it is not to be had. What may be read is asked anew."""
    taken = Turn.objects.filter(pk=turn_id, state=Turn.State.PENDING).update(
        state=Turn.State.RUNNING, heartbeat_at=timezone.now()
    )
    if not taken:
        return None
    turn = Turn.objects.select_related("conversation__owner").get(pk=turn_id)
    conversation = turn.conversation
    readable = Corpus.objects.readable_by(conversation.owner)
    before = [place.turn_id for place in branches.way(conversation.parents(), turn_id)][:-1]
    answered = Turn.objects.filter(
        pk__in=before[-HISTORY_READ:],
        state__in=[Turn.State.DONE, Turn.State.STOPPED],
        abstained=False,
    ).exclude(answer="")
    options = TurnOptions.from_json(turn.options)
    recent = answered.order_by("-pk").values_list("question", "answer")[:HISTORY_EXCHANGES]
    return _Job(
        question=turn.question,
        corpora=list(readable.filter(conversations=conversation)),
        history=[Exchange(question, answer) for question, answer in reversed(recent)],
        despite_doubt=turn.despite_doubt,
        only=conversation.only,
        options=replace(options, model=options.model or conversation.model),
        rewrites=conversation.rewrites,
        person=str(conversation.owner_id),
    )


def _not_ended() -> Q:
    return Q(state__in=[Turn.State.PENDING, Turn.State.RUNNING])


def _record(draft: Draft) -> dict[str, Any]:
    """The draft as the columns of a turn."""
    return {
        "standalone_question": draft.standalone_question,
        "answer": draft.text,
        "model": draft.model,
        "abstained": draft.abstained,
        "trace": draft.trace.to_json() if draft.trace else None,
        "sources": draft.sources,
        "degraded": [asdict(degradation) for degradation in draft.degraded],
        "instructions": draft.instructions,
        "timings_ms": draft.timings_ms,
        "checks": list(draft.checks.relevances) if draft.checks else [],
        "weak_below": draft.checks.limit if draft.checks else None,
    }


def _save_found(turn_id: int, draft: Draft) -> None:
    Turn.objects.filter(_not_ended(), pk=turn_id).update(
        **_record(draft), heartbeat_at=timezone.now()
    )


def _save_progress(turn_id: int, text: str, stage: str) -> bool:
    """Heartbeat, text so far, stage; False if the turn was ended elsewhere or deleted."""
    mine = Turn.objects.filter(pk=turn_id, state=Turn.State.RUNNING)
    return mine.update(heartbeat_at=timezone.now(), answer=text, stage=stage[:STAGE_LENGTH]) == 1


def _save_end(turn_id: int, draft: Draft, state: Turn.State, error: str) -> None:
    """The end of a turn. One that another process stopped gets its text, and stays stopped."""
    now = timezone.now()
    record = _record(draft)
    ended = Turn.objects.filter(_not_ended(), pk=turn_id).update(
        **record, state=state, error=error, ended_at=now
    )
    if not ended:
        Turn.objects.filter(pk=turn_id, state=Turn.State.STOPPED).update(**record)
    Conversation.objects.filter(turns=turn_id).update(updated_at=now)


def _count(draft: Draft, state: Turn.State) -> None:
    """The turn in the metrics."""
    metrics.TURNS.labels(str(state)).inc()
    retrieval = draft.trace.stage_timings_ms if draft.trace else {}
    for stage, ms in {**retrieval, **draft.timings_ms}.items():
        metrics.TURN_STAGE.labels(stage).observe(ms / 1000)
    for code in {degradation.code for degradation in draft.degraded}:
        metrics.DEGRADED.labels(str(code)).inc()
    if draft.abstained:
        metrics.ABSTAINED.labels("doubt").inc()


def _stop_in_sql(turn_id: int) -> None:
    Turn.objects.filter(_not_ended(), pk=turn_id).update(
        state=Turn.State.STOPPED, ended_at=timezone.now()
    )


async def _follow_stored(turn_id: int, after: int) -> AsyncGenerator[Event]:
    """A turn read from SQL: whole if it has ended, else as another process goes on with it."""
    teller = _Teller(after)
    if after:
        yield teller.event("restart")
    while True:
        turn = await in_thread(_stored, turn_id)
        if turn is None:
            yield teller.event("end", state=str(Turn.State.FAILED), error=DELETED)
            return
        for event in teller.news(turn):
            yield event
        if turn.has_ended:
            return
        if _is_stale(turn):
            await in_thread(reap)
        else:
            await asyncio.sleep(POLL_SECONDS)


class _Teller:
    """Makes events from what is stored, each thing once, numbered on from `after`."""

    def __init__(self, after: int) -> None:
        self._last = after
        self._has_sources = False
        self._notices = 0
        self._text = self._stage = ""

    def event(self, name: str, **data: Any) -> Event:
        """The next event."""
        self._last += 1
        return Event(self._last, name, data)

    def news(self, turn: Turn) -> list[Event]:
        """What the turn has that was not told yet."""
        events: list[Event] = []
        shown = panel.shown_count(turn.sources)
        if not self._has_sources and (turn.trace is not None or turn.sources or turn.has_ended):
            self._has_sources = True
            summary = {
                "candidates": len(turn.trace["candidates"]) if turn.trace else 0,
                "threshold": panel.threshold(turn.trace),
            }
            events.append(self.event("sources", sources=turn.sources, summary=summary))
        events += [self.event("notice", **notice) for notice in turn.degraded[self._notices :]]
        self._notices = len(turn.degraded)
        if not turn.has_ended:
            if turn.stage != self._stage:
                self._stage = turn.stage
                events.append(self.event("stage", text=turn.stage))
            if turn.answer != self._text:
                self._text = turn.answer
                html = render_markdown(turn.answer, sources=shown)
                events.append(self.event("tail", html=html))
            return events
        cited = [source["rank"] for source in turn.sources if source["cited"]]
        return [
            *events,
            self.event("answer", html=render_markdown(turn.answer, sources=shown, weak=turn.weak)),
            self.event("citations", cited=cited),
            self.event("end", state=turn.state, error=turn.error),
        ]


def _stored(turn_id: int) -> Turn | None:
    return Turn.objects.filter(pk=turn_id).first()


def _is_stale(turn: Turn) -> bool:
    sign = turn.heartbeat_at or turn.created_at
    return sign < timezone.now() - timedelta(seconds=STALE_SECONDS)


def _in_background(work: Awaitable[Any]) -> None:
    task = asyncio.ensure_future(work)
    _background.add(task)
    task.add_done_callback(_background_done)


def _background_done(task: asyncio.Task[Any]) -> None:
    _background.discard(task)
    if not task.cancelled() and (error := task.exception()):
        logger.error("background work of the chat failed", exc_info=error)
