"""A part of `benchmarks/rerank_gpu.py`: people who ask at times of their own, and who waits.

Each of N users asks a question about K passages every few seconds on average, at times of a Poisson
process, whether or not the last answer has come. Three ways serve the same questions at the same
times:

- predict behind a lock: whoever holds it calls `CrossEncoder.predict` in bfloat16;
- a window of 5 ms: what came within 5 ms of the first goes into one `predict` sorted by length, as
  infinity collects, up to its four batches of 32 pairs (whole questions);
- ours: the model server's `Scheduler` and engine, tokenised by the callers.
"""

from __future__ import annotations

import math
import queue
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from benchmarks._gpu_ladder import Run
from benchmarks._gpu_models import PAIRS, SEED, lengths, words
from benchmarks._gpu_report import Cell
from inference.errors import InferenceBusy
from inference.scheduler import Lane, Scheduler

WINDOW_SECONDS = 0.005
WINDOW_PAIRS = 128
DEADLINE_MS = 150
# How long after the last question answers still count as late ones.
GRACE_SECONDS = 1.5
WARMING_SECONDS = 60
POOL = 2000
# The last per cent of questions about so many passages, asked so many times a second.
TARGET_K, TARGET_RATE, TARGET_MS = 50, 8, 250

Question = tuple[str, Sequence[str]]


class Way(Protocol):
    """How questions get their turn."""

    def ask(self, question: Question, until: float) -> float:
        """Wait for the scores, no longer than until then. Returns the seconds in the queue.

        Raises:
            TimeoutError: they had not come by then.
            InferenceBusy: too many wait already.
        """
        ...

    def close(self) -> None:
        """Answer nobody any more."""
        ...


def _left(until: float) -> float:
    return max(0.0, until - time.perf_counter())


def _pairs(question: Question) -> list[tuple[str, str]]:
    return [(question[0], passage) for passage in question[1]]


@dataclass
class Locked:
    """One after the other."""

    model: Any
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, question: Question, until: float) -> float:
        """As `Way.ask`."""
        began = time.perf_counter()
        if not self._lock.acquire(timeout=_left(until)):
            raise TimeoutError
        try:
            queued = time.perf_counter() - began
            self.model.predict(_pairs(question), show_progress_bar=False)
        finally:
            self._lock.release()
        return queued

    def close(self) -> None:
        """As `Way.close`."""


@dataclass
class _Asked:
    pairs: list[tuple[str, str]]
    since: float
    queued: Future[float] = field(default_factory=Future)


@dataclass
class Window:
    """What comes within 5 ms goes together."""

    model: Any
    _waiting: queue.SimpleQueue[_Asked | None] = field(default_factory=queue.SimpleQueue)

    def __post_init__(self) -> None:
        threading.Thread(target=self._run, name="window", daemon=True).start()

    def ask(self, question: Question, until: float) -> float:
        """As `Way.ask`."""
        asked = _Asked(_pairs(question), time.perf_counter())
        self._waiting.put(asked)
        try:
            return asked.queued.result(_left(until))
        except TimeoutError:
            asked.queued.cancel()
            raise

    def close(self) -> None:
        """As `Way.close`."""
        self._waiting.put(None)

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch, until = [first], time.perf_counter() + WINDOW_SECONDS
            while sum(len(asked.pairs) for asked in batch) < WINDOW_PAIRS:
                try:
                    more = self._waiting.get(timeout=_left(until))
                except queue.Empty:
                    break
                if more is None:
                    return
                batch.append(more)
            batch = [asked for asked in batch if asked.queued.set_running_or_notify_cancel()]
            if not batch:
                continue
            began = time.perf_counter()
            pairs = [pair for asked in batch for pair in asked.pairs]
            try:
                self.model.predict(pairs, show_progress_bar=False)
            except Exception as exc:  # noqa: BLE001 (goes to those who asked)
                for asked in batch:
                    asked.queued.set_exception(exc)
                continue
            for asked in batch:
                asked.queued.set_result(began - asked.since)


@dataclass
class Ours:
    """The model server's queue."""

    engine: Any
    _scheduler: Scheduler = field(default_factory=Scheduler)

    def ask(self, question: Question, until: float) -> float:
        """As `Way.ask`; the seconds in the queue are the mean of what all texts have waited."""
        encoded = self.engine.encode(*question)
        future = self._scheduler.submit(self.engine, encoded, lane=Lane.QUESTION)
        try:
            future.result(_left(until))
        except TimeoutError:
            future.cancel()
            raise
        return sum(part.texts * part.queued_seconds for part in future.parts) / len(encoded)

    def close(self) -> None:
        """As `Way.close`."""
        self._scheduler.close()


@dataclass
class _Told:
    """Of the questions of one cell: seconds to each answer, seconds in the queue, the rest."""

    seconds: list[float] = field(default_factory=list)
    queued: list[float] = field(default_factory=list)
    refused: int = 0
    unanswered: int = 0


def arrivals(
    users: int, every_seconds: float, seconds: float, count: int, chooser: random.Random
) -> list[tuple[float, Question]]:
    """When who asks what: a Poisson process of all users together, NQ-like passages."""
    sizes = [size for _ in range(POOL // PAIRS) for size in lengths("nq", chooser)]
    texts = [words(size - 12, chooser) for size in sizes]
    found: list[tuple[float, Question]] = []
    at = chooser.expovariate(users / every_seconds)
    while at < seconds or not found:
        found.append((min(at, seconds), (words(8, chooser), chooser.sample(texts, count))))
        at += chooser.expovariate(users / every_seconds)
    return found


def _serve(way: Way, coming: Sequence[tuple[float, Question]], seconds: float) -> _Told:
    """Ask at those times, each in a thread of its own, and wait for what comes."""
    told, began = _Told(), time.perf_counter()
    until = began + seconds + GRACE_SECONDS
    lock = threading.Lock()

    def one(at: float, question: Question) -> None:
        try:
            queued = way.ask(question, until)
        except InferenceBusy:
            with lock:
                told.refused += 1
        except TimeoutError:
            with lock:
                told.unanswered += 1
        else:
            with lock:
                told.seconds.append(time.perf_counter() - began - at)
                told.queued.append(queued)

    with ThreadPoolExecutor(len(coming), "user") as pool:
        asked = []
        for at, question in coming:
            time.sleep(_left(began + at))
            asked.append(pool.submit(one, at, question))
    for future in asked:
        future.result()  # an error of the benchmark itself
    return told


def at(share: float, seconds: Sequence[float]) -> float:
    """The value that this share of the values does not exceed."""
    ordered = sorted(seconds)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def load(
    run: Run,
    *,
    users: Sequence[int],
    candidates: Sequence[int],
    seconds: float,
    every_seconds: float,
) -> None:
    """All numbers of users and of candidates, each way in turn."""
    engine = run.best_engine()
    for count in candidates:
        rows: list[dict[str, Cell]] = []
        for people in users:
            if run.report.is_over:
                run.report.leave_out(f"load: {count} candidates, {people} users")
                continue
            coming = arrivals(people, every_seconds, seconds, count, random.Random(SEED))
            ways: dict[str, Way] = {
                "predict bf16 behind a lock": Locked(run.models.half),
                "predict bf16, window of 5 ms": Window(run.models.half),
                "ours": Ours(engine),
            }
            for name, way in ways.items():
                for _ in range(2):
                    way.ask(coming[0][1], time.perf_counter() + WARMING_SECONDS)
                told = _serve(way, coming, seconds)
                way.close()
                rows.append({"users": people, "way": name, **_figures(told, seconds)})
        if not rows:
            continue
        title = (
            f"Questions about {count} NQ-like passages at Poisson times for {seconds:g} s, one in "
            f"{every_seconds:g} s of each user; ours is {run.best!r}"
        )
        run.report.table("load", title, rows)
        if count == TARGET_K:
            _judge(run, rows, TARGET_RATE * every_seconds)


def _judge(run: Run, rows: Sequence[dict[str, Cell]], users: float) -> None:
    """Print whether the target is met, if so many users were asked for."""
    for row in rows:
        if (row["users"], row["way"]) == (users, "ours"):
            reached = float(row["p99 ms"])
            target: dict[str, Cell] = {
                "target": f"K={TARGET_K}, {TARGET_RATE} questions/s: p99 of {TARGET_MS} ms",
                "reached": reached,
                "met": "yes" if reached <= TARGET_MS else "no",
            }
            run.report.table("load", "Target", [target])


def _figures(told: _Told, seconds: float) -> dict[str, Cell]:
    every = [*told.seconds, *[math.inf] * (told.unanswered + told.refused)]
    good = sum(1000 * s <= DEADLINE_MS for s in every)
    return {
        "questions": len(every),
        "p50 ms": 1000 * at(0.5, every),
        "p95 ms": 1000 * at(0.95, every),
        "p99 ms": 1000 * at(0.99, every),
        "time in the queue %": 100 * sum(told.queued) / sum(told.seconds) if told.seconds else "",
        f"within {DEADLINE_MS} ms %": 100 * good / len(every),
        f"goodput /s ({DEADLINE_MS} ms)": good / seconds,
        "refused": told.refused,
        "unanswered": told.unanswered,
    }
