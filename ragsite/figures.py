"""What an operator wants to see first: how much is asked, how it goes, what waits, what is full."""

from __future__ import annotations

import shutil
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import redis
from django.conf import settings
from django.db import connection
from django.db.models import Count, Min
from django.db.models.functions import TruncDate
from django.utils import timezone

from chat import clinic
from chat.models import Turn
from ingestion import services
from ingestion.errors import SENTENCES
from ingestion.models import Document

DAYS = 14
# Shares and times are of the latest so many answers of those days.
LATEST = 2_000
REDIS_SECONDS = 1.0
QUEUES = ("celery", "upkeep")
TOP = 8


@dataclass(frozen=True, slots=True)
class Day:
    """One day's questions and its bar in a chart of `days` bars; `height` of at most 90."""

    day: date
    questions: int
    place: int
    height: int

    @property
    def x(self) -> int:
        """Where the bar begins."""
        return 40 * self.place + 5

    @property
    def middle(self) -> int:
        """The middle of the bar."""
        return self.x + 15

    @property
    def y(self) -> int:
        """The top of the bar."""
        return 104 - self.height

    @property
    def text_y(self) -> int:
        """The base line of its number."""
        return self.y - 3


@dataclass(frozen=True, slots=True)
class Share:
    """A part of all: so many of so many."""

    count: int
    of: int

    @property
    def percent(self) -> float:
        """0 to 100; 0 where there is nothing."""
        return 100 * self.count / self.of if self.of else 0.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """Documents at one stage: how many, and how long the oldest has been there."""

    stage: str
    state: str
    documents: int
    oldest: timedelta

    @property
    def oldest_words(self) -> str:
        """How long that is, in the largest unit."""
        seconds = max(0, int(self.oldest.total_seconds()))
        for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
            if seconds >= size:
                return f"{seconds // size} {unit}"
        return f"{seconds} s"


@dataclass(frozen=True, slots=True)
class Failure:
    """Documents that failed for one reason."""

    code: str
    sentence: str
    documents: int


@dataclass(frozen=True, slots=True)
class Figures:
    """The operator's first page.

    answers: how many the shares and times are of. Times are milliseconds, None where nothing
    was measured. messages: in Celery's queues, None where Redis does not answer. disk: bytes.
    """

    days: Sequence[Day]
    answers: int
    first_token_p50: float | None
    first_token_p95: float | None
    degraded: Share
    abstained: Share
    failed: Share
    queue: dict[str, Any]
    waiting: Sequence[Waiting]
    failures: Sequence[Failure]
    messages: dict[str, int | None]
    disk: Sequence[tuple[str, int]]
    disk_free: int
    unanswered: Sequence[clinic.Case]

    @property
    def on_their_way(self) -> int:
        """Documents that are not ready yet and have not failed."""
        return sum(int(self.queue[name]) for name in ("waiting", "working", "blocked"))


def gather() -> Figures:
    """Ask SQL, Redis and the disk; nothing waits longer than a second for a service."""
    now = timezone.now()
    recent = Turn.objects.filter(created_at__gte=now - timedelta(days=DAYS))
    rows = list(
        recent.filter(state__in=Turn.ENDED)
        .order_by("-created_at")
        .values_list("state", "degraded", "abstained", "timings_ms")[:LATEST]
    )
    first = sorted(times["first_token"] for *_, times in rows if "first_token" in times)
    answers = len(rows)
    return Figures(
        days=_days(now.date()),
        answers=answers,
        first_token_p50=statistics.median(first) if first else None,
        first_token_p95=first[int(0.95 * (len(first) - 1))] if first else None,
        degraded=Share(sum(bool(problems) for _, problems, *_ in rows), answers),
        abstained=Share(sum(abstained for _, _, abstained, _ in rows), answers),
        failed=Share(sum(state == Turn.State.FAILED for state, *_ in rows), answers),
        queue=services.queue_state(),
        waiting=_waiting(),
        failures=_failures(),
        messages=messages_waiting(),
        disk=_disk(),
        disk_free=shutil.disk_usage(settings.DATA_DIR).free,
        unanswered=clinic.cases(reason=clinic.Reason.UNANSWERED)[:TOP],
    )


def _days(today: date) -> list[Day]:
    first = today - timedelta(days=DAYS - 1)
    rows = (
        Turn.objects.filter(created_at__date__gte=first)
        .annotate(day=TruncDate("created_at"))
        .order_by()
        .values_list("day")
        .annotate(count=Count("pk"))
    )
    counts: dict[date, int] = dict(rows)
    most = max(counts.values(), default=0)
    every = [first + timedelta(days=n) for n in range(DAYS)]
    return [
        Day(day, counts.get(day, 0), place, round(88 * counts.get(day, 0) / most) if most else 0)
        for place, day in enumerate(every)
    ]


def _waiting() -> list[Waiting]:
    now = timezone.now()
    rows = (
        Document.objects.filter(state__in=Document.WORK_STATES, corpus__paused_at=None)
        .order_by()
        .values_list("state")
        .annotate(count=Count("pk"), since=Min("state_since"))
    )
    found = {state: (count, since) for state, count, since in rows}
    return [
        Waiting(Document.State(state).label, state, found[state][0], now - found[state][1])
        for state in Document.WORK_STATES
        if state in found
    ]


def _failures() -> list[Failure]:
    failed = Document.objects.filter(
        state__in=(Document.State.FAILED, Document.State.QUARANTINED)
    ).values_list("error_code", flat=True)
    return [
        Failure(code, SENTENCES.get(code, SENTENCES["internal_error"]), count)
        for code, count in Counter(failed).most_common(TOP)
    ]


def messages_waiting() -> dict[str, int | None]:
    """Messages in each of Celery's queues; None where Redis does not answer."""
    try:
        client = redis.Redis.from_url(
            settings.REDIS_URL,
            socket_timeout=REDIS_SECONDS,
            socket_connect_timeout=REDIS_SECONDS,
        )
        with client:
            return {name: int(client.llen(name)) for name in QUEUES}
    except redis.RedisError:
        return dict.fromkeys(QUEUES)


def _disk() -> list[tuple[str, int]]:
    """Bytes of each store, the largest first."""
    folders = {
        "Uploaded files": settings.DATA_DIR / "blobs",
        "Keyword indexes": settings.DATA_DIR / "lexical",
        "Vectors": Path(settings.CHROMA_DIR),
    }
    sizes = [(name, _size(folder)) for name, folder in folders.items()]
    name = connection.settings_dict["NAME"]
    if connection.vendor == "sqlite":
        sizes.append(("Database", Path(name).stat().st_size if Path(name).exists() else 0))
    elif connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_database_size(current_database())")
            sizes.append(("Database", int(cursor.fetchone()[0])))
    return sorted(sizes, key=lambda one: -one[1])


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue  # gone between listing and asking
    return total
