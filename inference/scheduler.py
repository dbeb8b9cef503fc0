"""The queue in front of the models: who waits for what, and what forms the next batch.

One thread owns the models. It takes whatever waits, questions before ingestion, as many
texts of one model as fit the token budget, shortest together; there is no wait timer. A
question therefore waits for at most the one batch that is running. Requests take turns
within a lane; a caller that has gone is skipped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

import numpy as np

from inference.engines import Encoded
from inference.errors import InferenceBusy

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUEUE_TEXTS = 20_000
BATCH_TEXTS = 256


class Lane(IntEnum):
    """Which queue a request stands in; the lower goes first."""

    QUESTION = 0
    INGESTION = 1


class Computes(Protocol):
    """An engine as the scheduler sees it."""

    batch_tokens: int

    def compute(self, batch: Sequence[Encoded]) -> NDArray[np.float32]:
        """Results of a batch, one row each, in its order."""
        ...


@dataclass(slots=True, eq=False)
class _Request:
    """The texts of one caller that are still to be done; `order` is by length."""

    engine: Computes
    items: Sequence[Encoded]
    lane: Lane
    future: Future[NDArray[np.float32]]
    order: list[int]
    rows: list[NDArray[np.float32] | None]
    open: int = 0


@dataclass(slots=True)
class Counters:
    """What the scheduler did so far, for `/metrics`."""

    batches: int = 0
    texts: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    seconds: float = 0.0
    skipped: int = 0
    out_of_memory: int = 0
    errors: int = 0


@dataclass
class Scheduler:
    """Runs batches on one thread until `close`."""

    queue_texts: int = QUEUE_TEXTS
    counters: Counters = field(default_factory=Counters)
    _waiting: list[_Request] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _closed: bool = False

    def __post_init__(self) -> None:
        threading.Thread(target=self._run, name="model", daemon=True).start()

    def submit(
        self, engine: Computes, items: Sequence[Encoded], *, lane: Lane
    ) -> Future[NDArray[np.float32]]:
        """Put texts in the queue. Cancel the future to have them skipped.

        Returns:
            A future of the results, (n, …) in the order of `items`.

        Raises:
            InferenceBusy: more than `queue_texts` texts would wait.
        """
        future: Future[NDArray[np.float32]] = Future()
        if not items:
            future.set_result(np.zeros((0,), dtype=np.float32))
            return future
        order = sorted(range(len(items)), key=lambda n: -items[n].tokens)
        with self._changed:
            if self.depth() + len(items) > self.queue_texts:
                raise InferenceBusy("the queue is full", retry_after_seconds=2.0)
            self._waiting.append(_Request(engine, items, lane, future, order, [None] * len(items)))
            self._changed.notify()
        return future

    def depth(self) -> int:
        """How many texts wait."""
        return sum(len(request.order) for request in self._waiting)

    def close(self) -> None:
        """Finish the running batch and take no more."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (batch := self._next_batch()) and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
            self._compute(batch)

    def _next_batch(self) -> list[tuple[_Request, int]]:
        """Up to a token budget of what waits: one engine, one lane, taking turns by request."""
        gone = [request for request in self._waiting if request.future.cancelled()]
        self.counters.skipped += sum(len(request.order) for request in gone)
        self._waiting = [r for r in self._waiting if r.order and not r.future.cancelled()]
        if not self._waiting:
            return []
        first = min(self._waiting, key=lambda request: request.lane)
        peers = [r for r in self._waiting if r.lane == first.lane and r.engine is first.engine]
        batch: list[tuple[_Request, int]] = []
        longest = 0
        while peers and len(batch) < BATCH_TEXTS:
            for request in list(peers):
                longest = max(longest, request.items[request.order[-1]].tokens)
                if batch and longest * (len(batch) + 1) > first.engine.batch_tokens:
                    peers = []
                    break
                batch.append((request, request.order.pop()))
                request.open += 1
                if not request.order:
                    peers.remove(request)
        # Whoever was served stands behind those who were not.
        served = {id(request) for request, _ in batch}
        self._waiting.sort(key=lambda request: id(request) in served)
        return batch

    def _compute(self, batch: list[tuple[_Request, int]]) -> None:
        engine = batch[0][0].engine
        items = [request.items[n] for request, n in batch]
        began = time.perf_counter()
        try:
            rows = self._halving(engine, items)
        except Exception as exc:  # noqa: BLE001 (goes to every caller of the batch)
            self.counters.errors += 1
            for request in {id(request): request for request, _ in batch}.values():
                request.order.clear()
                if not request.future.done() and request.future.set_running_or_notify_cancel():
                    request.future.set_exception(exc)
            return
        self.counters.batches += 1
        self.counters.texts += len(items)
        self.counters.tokens += sum(item.tokens for item in items)
        self.counters.padded_tokens += max(item.tokens for item in items) * len(items)
        self.counters.seconds += time.perf_counter() - began
        for (request, n), row in zip(batch, rows, strict=True):
            request.rows[n] = row
            request.open -= 1
            finished = not request.order and not request.open and not request.future.done()
            if finished and request.future.set_running_or_notify_cancel():
                request.future.set_result(np.stack([r for r in request.rows if r is not None]))

    def _halving(self, engine: Computes, items: Sequence[Encoded]) -> NDArray[np.float32]:
        """Compute a batch; on out-of-memory its halves, down to single texts."""
        try:
            return engine.compute(items)
        except RuntimeError as exc:
            if len(items) == 1 or "out of memory" not in str(exc):
                raise
            self.counters.out_of_memory += 1
        half = len(items) // 2
        return np.concatenate(
            [self._halving(engine, items[:half]), self._halving(engine, items[half:])]
        )
