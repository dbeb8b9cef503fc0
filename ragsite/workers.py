"""What Celery does now: each worker, what it has in hand, what it holds ready, what waits.

Asked of the workers themselves, all at once and within a short time; nobody who does not answer
is waited for.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ingestion.models import Document
from ingestion.nudges import BROKER_ERRORS
from ragsite import figures
from ragsite.celery import app

ANSWER_SECONDS = 1.0
# Tasks whose first argument is a document.
OF_DOCUMENTS = ("ingestion.tasks.ingest_document",)

Replies = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Task:
    """One task. seconds: since when it runs; None for one that has not begun."""

    name: str
    about: str
    document_id: int | None
    seconds: float | None

    @property
    def for_words(self) -> str:
        """How long it has run."""
        if self.seconds is None:
            return "not begun"
        minutes, seconds = divmod(int(self.seconds), 60)
        return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker: tasks at a time, done since its start, in hand and held ready."""

    name: str
    concurrency: int
    done: int
    active: Sequence[Task]
    reserved: Sequence[Task]


@dataclass(frozen=True, slots=True)
class Queue:
    """All of them. messages: waiting by queue, None where Redis does not answer."""

    workers: Sequence[Worker]
    messages: Mapping[str, int | None]
    is_answered: bool


def look() -> Queue:
    """Ask every worker at once. Never raises for a broker or worker that is away."""
    questions = ("stats", "active", "reserved")
    with ThreadPoolExecutor(len(questions) + 1) as pool:
        messages = pool.submit(figures.messages_waiting)
        asked = [pool.submit(_ask, question) for question in questions]
        stats, active, reserved = (one.result() for one in asked)
        waiting = messages.result()
    if stats is None:
        return Queue([], waiting, is_answered=False)
    return Queue(workers(stats, active or {}, reserved or {}), waiting, is_answered=True)


def _ask(question: str) -> Any:
    """The replies by worker, {} where nobody replied, None where nobody could be asked."""
    ask: Callable[[], Any] = getattr(app.control.inspect(timeout=ANSWER_SECONDS), question)
    try:
        return ask() or {}
    except BROKER_ERRORS:
        return None


def workers(
    stats: Mapping[str, Mapping[str, Any]], active: Replies, reserved: Replies
) -> list[Worker]:
    """The workers' own replies in words, with the names of documents."""
    told = [task for tasks in (*active.values(), *reserved.values()) for task in tasks]
    ids = {found for task in told if (found := _document_id(task)) is not None}
    names = dict(Document.objects.filter(pk__in=ids).values_list("pk", "name"))
    return [
        Worker(
            name=name,
            concurrency=int((about.get("pool") or {}).get("max-concurrency") or 1),
            done=sum((about.get("total") or {}).values()),
            active=[_task(task, names) for task in active.get(name, ())],
            reserved=[_task(task, names) for task in reserved.get(name, ())],
        )
        for name, about in sorted(stats.items())
    ]


def _task(told: Mapping[str, Any], names: Mapping[int, str]) -> Task:
    begun = told.get("time_start")
    document_id = _document_id(told)
    arguments = re.sub(r"[\[\](),']", " ", str(told.get("args") or "")).strip()
    about = names.get(document_id, "") if document_id is not None else ""
    return Task(
        name=str(told.get("name", "")).rpartition(".")[2].replace("_", " "),
        about=about or arguments[:80],
        document_id=document_id if about else None,
        seconds=max(0.0, time.time() - float(begun)) if begun else None,
    )


def _document_id(told: Mapping[str, Any]) -> int | None:
    arguments = told.get("args") or ()
    if told.get("name") not in OF_DOCUMENTS or not isinstance(arguments, list | tuple):
        return None
    return arguments[0] if arguments and isinstance(arguments[0], int) else None
