"""How often one person may ask for what costs much: questions, searches, uploads, exports.

Counted in Redis by the minute, so that all web processes count together; each for itself while
Redis is away, which must keep nobody from working.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.utils.deprecation import MiddlewareMixin
from redis import Redis, RedisError

from telemetry import metrics

WINDOW_SECONDS = 60
REDIS_SECONDS = 0.5
REDIS_PAUSE_SECONDS = 15.0
# The limit that a route counts for. GET counts only where it is named.
ROUTES = {
    "chat:ask": "questions",
    "chat:again": "questions",
    "chat:answer_anyway": "questions",
    "search:inspector": "searches",
    "search:compare": "searches",
    "search:inspection": "searches",
    "ingestion:preview": "searches",
    "ingestion:upload": "uploads",
    "ingestion:import_corpus": "uploads",
    "ingestion:export_corpus": "exports",
    "search:judgements": "exports",
    "chat:export": "exports",
}
READING = {"ingestion:export_corpus", "search:judgements", "chat:export"}

logger = logging.getLogger(__name__)
_here: Counter[str] = Counter()
_away_until = 0.0


class RateLimits(MiddlewareMixin):
    """Answers 429 with a sentence and Retry-After to whoever asks too often."""

    def process_view(
        self, request: HttpRequest, view: Callable[..., HttpResponseBase], *_: Any
    ) -> HttpResponse | None:
        """Count the request, and refuse it where it is one too many."""
        match, person = request.resolver_match, request.user
        name = match.view_name if match else ""
        limit = ROUTES.get(name)
        if limit is None or not person.is_authenticated:
            return None
        if request.method != "POST" and name not in READING:
            return None
        most = settings.RATE_LIMITS[limit]
        now = time.time()
        if not most or _count(f"{limit}:{person.pk}:{int(now // WINDOW_SECONDS)}") <= most:
            return None
        metrics.REFUSED.labels(limit).inc()
        wait = int(WINDOW_SECONDS - now % WINDOW_SECONDS) + 1
        return _refusal(request, limit, most=most, wait_seconds=wait)


def _refusal(request: HttpRequest, limit: str, *, most: int, wait_seconds: int) -> HttpResponse:
    sentence = (
        f"That were more than {most} {limit} within a minute. Wait {wait_seconds} seconds and "
        "try again."
    )
    headers = {"Retry-After": str(wait_seconds)}
    if request.get_preferred_type(["text/html", "application/json"]) == "application/json":
        answer = {"error": sentence, "code": "too_many"}
        return JsonResponse(answer, status=429, headers=headers)
    return HttpResponse(
        sentence, status=429, headers=headers, content_type="text/plain; charset=utf-8"
    )


def _count(key: str) -> int:
    """One more of this key; how many there are by now."""
    global _away_until
    if time.monotonic() >= _away_until:
        try:
            with shared_client(settings.REDIS_URL).pipeline() as pipe:
                pipe.incr(f"ragsite:limit:{key}")
                pipe.expire(f"ragsite:limit:{key}", 2 * WINDOW_SECONDS)
                return int(pipe.execute()[0])
        except (RedisError, OSError) as exc:
            logger.warning("Redis is away, each web process counts for itself: %s", exc)
            _away_until = time.monotonic() + REDIS_PAUSE_SECONDS
    window = key.rsplit(":", 1)[1]
    for old in [one for one in list(_here) if not one.endswith(f":{window}")]:
        _here.pop(old, None)
    _here[key] += 1
    return _here[key]


@cache
def shared_client(url: str) -> Redis:
    """The connections of this process to Redis, which give up soon."""
    return Redis.from_url(url, socket_connect_timeout=REDIS_SECONDS, socket_timeout=REDIS_SECONDS)
