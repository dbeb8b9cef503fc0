"""The queue in front of the models: who waits for what, and what forms the next batch.

One thread owns the models. It takes whatever waits, questions before ingestion, as many
texts of one model as fit the token budget, shortest together; there is no wait timer. A
question therefore waits for at most the batches that have begun: one, or two where cores are given
the next before they are done with the last. Requests take turns within a lane; a caller that has
gone, or whose time is over, is skipped.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

import numpy as np

from inference.answers import Answer, Part
from inference.devices import fault
from inference.engines import Encoded
from inference.errors import DeviceLost, InferenceBusy, InferenceLate
from inference.metrics import BATCH_SIZES, BATCH_TOKENS, Histogram

if TYPE_CHECKING:
    from numpy.typing import NDArray

LANE_TEXTS = 4096  # what a CPU embeds in minutes, and longer than any caller waits
BATCH_TEXTS = 256
LEAST_BATCH_TOKENS = 2048  # what a batch may have after any number that ran out of memory
RETRY_AFTER_SECONDS = 2.0
# How torch words it on a GPU and on a CPU, where the error has no type of its own.
OUT_OF_MEMORY = ("out of memory", "DefaultCPUAllocator")


logger = logging.getLogger(__name__)


class Lane(IntEnum):
    """Which queue a request stands in; the lower goes first."""

    QUESTION = 0
    INGESTION = 1


class Computes(Protocol):
    """An engine as the scheduler sees it.

    reads_pairs: of question and passage. is_packed: whether it computes no padding.
    """

    batch_tokens: int

    @property
    def reads_pairs(self) -> bool: ...

    @property
    def is_packed(self) -> bool: ...

    def compute(self, batch: Sequence[Encoded], /) -> NDArray[np.float32]:
        """Results of a batch, one row each, in its order."""
        ...

    def begin(self, batch: Sequence[Encoded], /) -> Callable[[], NDArray[np.float32]] | None:
        """Begin a batch behind another; what waits for its results, None where it cannot."""
        ...


@dataclass(slots=True, eq=False)
class _Request:
    """The texts of one caller; `order` holds those still to be taken, the shortest last."""

    engine: Computes
    items: Sequence[Encoded]
    lane: Lane
    future: Answer
    order: list[int]
    rows: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    since: float = field(default_factory=time.perf_counter)
    seconds: float = math.inf

    def is_overdue(self, now: float) -> bool:
        """Whether its caller no longer waits for it."""
        return now - self.since > self.seconds

    def done(self, n: int, row: NDArray[np.float32]) -> None:
        """Keep a result; the last one completes the future."""
        self.rows[n] = row
        if len(self.rows) == len(self.items) and self.future.set_running_or_notify_cancel():
            self.future.set_result(np.stack([self.rows[n] for n in range(len(self.items))]))

    def failed(self, exc: Exception) -> None:
        """Give the request up."""
        self.order.clear()
        if not self.future.done() and self.future.set_running_or_notify_cancel():
            self.future.set_exception(exc)


Batch = list[tuple[_Request, int]]


@dataclass(frozen=True, slots=True)
class _Begun:
    """A batch that is being computed, since when, and what waits for its results."""

    batch: Batch
    since: float
    rows: Callable[[], NDArray[np.float32]]


@dataclass(slots=True)
class Counters:
    """What the scheduler did so far, for `/metrics`.

    pairs: of the texts, those that were question and passage. tokens, padded_tokens: of the batches
    as they are, and as the model computed them; alike where it needs no padding. seconds: of
    the model. queued_seconds: from the request to the batch, summed over texts.
    """

    batches: int = 0
    texts: int = 0
    pairs: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    seconds: float = 0.0
    queued_seconds: float = 0.0
    skipped: int = 0
    out_of_memory: int = 0
    errors: int = 0


@dataclass
class Scheduler:
    """Runs batches on one thread until `close`.

    lost: why nothing can be computed until the server is started again; empty while it can.
    when_lost: called once, on the scheduler's thread.
    """

    lane_texts: int = LANE_TEXTS
    lost: str = ""
    when_lost: Callable[[], None] = lambda: None
    counters: Counters = field(default_factory=Counters)
    batch_sizes: Histogram = field(
        default_factory=lambda: Histogram("te_batch_next_size", "Texts of a batch.", BATCH_SIZES)
    )
    batch_tokens: Histogram = field(
        default_factory=lambda: Histogram("te_batch_next_tokens", "Of a batch.", BATCH_TOKENS)
    )
    _waiting: list[_Request] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _closed: bool = False
    _ended: float = 0.0

    def __post_init__(self) -> None:
        threading.Thread(target=self._run, name="model", daemon=True).start()

    def submit(
        self,
        engine: Computes,
        items: Sequence[Encoded],
        *,
        lane: Lane,
        seconds: float = math.inf,
    ) -> Answer:
        """Put texts in the queue. Cancel the future to have them skipped.

        Args:
            items: (n,) with n >= 1.
            seconds: how long the caller waits. What was not computed by then fails with
                InferenceLate.

        Returns:
            A future of the results, (n, …) in the order of `items`, and of how long they took.

        Raises:
            InferenceBusy: more than `lane_texts` texts would wait in this lane.
            DeviceLost: `lost` says why.
        """
        if self.lost:
            raise DeviceLost(self.lost)
        order = sorted(range(len(items)), key=lambda n: -items[n].tokens)
        request = _Request(engine, items, lane, Answer(), order, seconds=seconds)
        with self._changed:
            if self.depth(lane) + len(items) > self.lane_texts:
                raise InferenceBusy(
                    "the queue of the model is full", retry_after_seconds=RETRY_AFTER_SECONDS
                )
            self._waiting.append(request)
            self._changed.notify()
        return request.future

    def depth(self, lane: Lane | None = None) -> int:
        """How many texts wait, in one lane or in all."""
        with self._changed:
            return sum(len(r.order) for r in self._waiting if lane in (None, r.lane))

    def depths(self) -> dict[Lane, int]:
        """How many texts wait in each lane."""
        return {lane: self.depth(lane) for lane in Lane}

    def close(self) -> None:
        """Finish the running batch and take no more."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        """Compute batches; where the engine can, the next has begun before one is awaited."""
        begun: _Begun | None = None
        while True:
            with self._changed:
                while not (batch := self._next_batch()) and not begun and not self._closed:
                    self._changed.wait()
                closed = self._closed
            following = None if closed or not batch else self._begin(batch)
            if begun:
                self._finish(begun)
            if closed:
                return
            if batch and following is None:
                self._compute(batch)
            begun = following

    def _next_batch(self) -> Batch:
        """Up to a token budget of what waits: one engine, one lane, taking turns by request."""
        now = time.perf_counter()
        gone = [r for r in self._waiting if r.future.cancelled() or r.is_overdue(now)]
        self.counters.skipped += sum(len(r.order) for r in gone)
        for request in gone:
            request.failed(InferenceLate("the time that its caller allows is over"))
        self._waiting = [r for r in self._waiting if r.order]
        if not self._waiting:
            return []
        first = min(self._waiting, key=lambda r: r.lane)
        peers = [r for r in self._waiting if r.lane == first.lane and r.engine is first.engine]
        engine = first.engine
        batch: Batch = []
        tokens, longest, full = 0, 0, False
        while peers and not full:
            for request in peers:
                text = request.items[request.order[-1]].tokens
                longest, tokens = max(longest, text), tokens + text
                computed = tokens if engine.is_packed else longest * (len(batch) + 1)
                full = len(batch) == BATCH_TEXTS or computed > engine.batch_tokens
                if full and batch:
                    break
                batch.append((request, request.order.pop()))
            peers = [r for r in peers if r.order]
        # Whoever was served stands behind those who were not.
        served = {id(request) for request, _ in batch}
        self._waiting.sort(key=lambda r: id(r) in served)
        return batch

    def _begin(self, batch: Batch) -> _Begun | None:
        since = time.perf_counter()
        try:
            rows = batch[0][0].engine.begin([request.items[n] for request, n in batch])
        except Exception:  # noqa: BLE001 (again by `_compute`, which tells whose it is)
            return None
        return rows and _Begun(batch, since, rows)

    def _finish(self, begun: _Begun) -> None:
        try:
            rows = begun.rows()
        except Exception:  # noqa: BLE001 (again by `_compute`, which tells whose it is)
            self._compute(begun.batch)
        else:
            self._done(begun.batch, rows, begun.since)

    def _compute(self, batch: Batch) -> None:
        items = [request.items[n] for request, n in batch]
        began = time.perf_counter()
        try:
            rows = self._halving(batch[0][0].engine, items)
        except Exception as exc:  # noqa: BLE001 (goes to the caller it belongs to)
            self._fail(batch, exc)
        else:
            self._done(batch, rows, began)

    def _done(self, batch: Batch, rows: NDArray[np.float32], since: float) -> None:
        """Count a batch and hand its rows out; of two that overlap, each from the other's end."""
        now = time.perf_counter()
        began, self._ended = max(since, self._ended), now
        engine, tokens = batch[0][0].engine, [r.items[n].tokens for r, n in batch]
        self.counters.batches += 1
        self.counters.texts += len(batch)
        self.counters.tokens += sum(tokens)
        padded = sum(tokens) if engine.is_packed else max(tokens) * len(batch)
        self.counters.padded_tokens += padded
        self.counters.pairs += len(batch) if engine.reads_pairs else 0
        self.counters.queued_seconds += sum(began - request.since for request, _ in batch)
        self.counters.seconds += now - began
        self.batch_sizes.observe(len(batch))
        self.batch_tokens.observe(sum(tokens))
        for request, texts in Counter(request for request, _ in batch).items():
            request.future.parts.append(Part(texts, began - request.since, now - began))
        for (request, n), row in zip(batch, rows, strict=True):
            request.done(n, row)

    def _fail(self, batch: Batch, exc: Exception) -> None:
        """Give the error to the caller whose texts cause it; the others' run again alone."""
        requests = list(dict.fromkeys(request for request, _ in batch))
        if len(requests) == 1:
            self.counters.errors += 1
            was_lost = self.lost
            self.lost = was_lost or _lost(exc)
            requests[0].failed(DeviceLost(self.lost) if self.lost else exc)
            if self.lost and not was_lost:
                self.when_lost()
            return
        for request in requests:
            self._compute([(r, n) for r, n in batch if r is request])

    def _halving(self, engine: Computes, items: Sequence[Encoded]) -> NDArray[np.float32]:
        """Compute a batch; on out-of-memory its halves, down to single texts."""
        try:
            return engine.compute(items)
        except RuntimeError as exc:
            if len(items) == 1 or not any(words in str(exc) for words in OUT_OF_MEMORY):
                raise
            self.counters.out_of_memory += 1
        # Nor do the next ones try what did not fit.
        tokens = [item.tokens for item in items]
        computed = sum(tokens) if engine.is_packed else max(tokens) * len(items)
        engine.batch_tokens = min(engine.batch_tokens, max(LEAST_BATCH_TOKENS, computed // 2))
        half = len(items) // 2
        return np.concatenate(
            [self._halving(engine, items[:half]), self._halving(engine, items[half:])]
        )


def _lost(exc: Exception) -> str:
    """What a GPU's error leaves to be said if the GPU computes nothing more; empty if it does."""
    if "CUDA" not in str(exc):
        return ""
    found = fault("cuda")
    if not found or any(words in found for words in OUT_OF_MEMORY):
        return ""
    logger.critical("the GPU no longer computes", exc_info=exc)
    return f"the GPU no longer computes ({found}): the model server has to be started again"
