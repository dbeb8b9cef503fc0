"""The metrics of web and workers, and how the processes of one site share them.

Each process writes counters and histograms to small files in a folder, and whoever is asked for
the metrics adds up all files (prometheus_client's multiprocess mode). There a file is named after
the process id, so that a pool that replaces its processes leaves ever more files; here a process
takes the lowest free number, by a lock that ends with it, and goes on counting in the file of
that number.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from prometheus_client import Counter, Histogram, values
from prometheus_client.registry import CollectorRegistry

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
# The process and the number it holds, with the locks of this process and of those it came from.
_held: tuple[int, str] = (0, "")
_locks: list[IO[bytes]] = []


def _number() -> str:
    """The name of this process's files: host and lowest number that no living process holds."""
    global _held
    if _held[0] == os.getpid():
        return _held[1]
    folder, number = Path(os.environ[FOLDER]), 0
    folder.mkdir(parents=True, exist_ok=True)
    host = socket.gethostname().replace("_", "-")
    while True:
        lock = (folder / f"{host}-{number}.lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            lock.close()
            number += 1
    _locks.append(lock)
    _held = (os.getpid(), f"{host}-{number}")
    return _held[1]


def _share() -> None:
    """Let metrics made from now on be shared, where a folder is named and can be written."""
    if not os.environ.get(FOLDER):
        return
    try:
        values.ValueClass = values.MultiProcessValue(_number)  # type: ignore[no-untyped-call]
    except OSError:  # nothing can be written there: what this process counts is its own
        values.ValueClass = values.MutexValue


_share()
# Each metric here has labels: one without is written the moment it is made.
HTTP = Histogram(
    "ragsite_http_request_seconds",
    "From the request to the head of the answer.",
    ("route", "method", "status"),
    buckets=SECONDS,
    registry=None,
)
TURNS = Counter("ragsite_turns", "Questions answered, by how it ended.", ("state",), registry=None)
TURN_STAGE = Histogram(
    "ragsite_turn_stage_seconds",
    "Stages of an answer; `first_token` is the time to the first word of the language model.",
    ("stage",),
    buckets=SECONDS,
    registry=None,
)
DEGRADED = Counter(
    "ragsite_turns_degraded",
    "Answers made with less, by what was missing.",
    ("code",),
    registry=None,
)
ABSTAINED = Counter(
    "ragsite_turns_abstained",
    "Answers refused because nothing seemed to answer.",
    ("why",),
    registry=None,
)
INGESTION_STAGE = Histogram(
    "ragsite_ingestion_stage_seconds",
    "Stages of taking a document in.",
    ("stage",),
    buckets=SECONDS,
    registry=None,
)
DOCUMENTS = Counter(
    "ragsite_documents_ended", "Documents worked on, by how it ended.", ("outcome",), registry=None
)
TASKS = Histogram(
    "ragsite_task_seconds",
    "Tasks of the workers.",
    ("task", "state"),
    buckets=SECONDS,
    registry=None,
)
ERRORS = Counter("ragsite_errors", "What was logged as an error.", ("logger",), registry=None)
REFUSED = Counter(
    "ragsite_rate_limited", "Requests refused as too many.", ("limit",), registry=None
)
ALL: tuple[Any, ...] = (
    *(HTTP, TURNS, TURN_STAGE, DEGRADED, ABSTAINED, INGESTION_STAGE, DOCUMENTS, TASKS),
    *(ERRORS, REFUSED),
)


@contextmanager
def timed(histogram: Histogram, *labels: str) -> Iterator[None]:
    """Observe how long the block takes, whether or not it raises."""
    began = time.perf_counter()
    try:
        yield
    finally:
        histogram.labels(*labels).observe(time.perf_counter() - began)


def registry() -> CollectorRegistry:
    """What all processes of the site counted; of this process alone where nothing is shared."""
    collected = CollectorRegistry()
    folder = os.environ.get(FOLDER, "")
    if issubclass(values.ValueClass, values.MutexValue) or not Path(folder).is_dir():
        for metric in ALL:
            collected.register(metric)
        return collected
    from prometheus_client.multiprocess import MultiProcessCollector

    MultiProcessCollector(collected, path=folder)  # type: ignore[no-untyped-call]
    return collected
