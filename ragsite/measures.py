"""`/metrics`: the figures of the whole site in Prometheus's text format.

What processes count comes from `telemetry.metrics`; how much waits is asked of SQL and Redis at
that moment, each once a scrape.
"""

from __future__ import annotations

import contextlib
import hmac
import shutil
from collections.abc import Iterator

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.models import AnonymousUser, User
from django.db import DatabaseError
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from redis import Redis, RedisError

from chat.models import Turn
from ingestion.models import Document, IndexGeneration, Verification
from telemetry.metrics import registry

REDIS_SECONDS = 0.5
PROXY_HEADERS = ("X-Forwarded-For", "X-Real-IP", "Forwarded")
REFUSED = (
    "The metrics are for the machine itself, for administrators, and for whoever sends "
    "METRICS_TOKEN as a bearer token.\n"
)


class Now:
    """What waits, is stored and is broken at this moment."""

    def collect(self) -> Iterator[Metric]:
        """A gauge each; what cannot be asked is left out."""
        with contextlib.suppress(DatabaseError):
            yield from _of_sql()
        yield _gauge("ragsite_queue_messages", "Messages that wait in Redis.", "queue", _queues())
        usage = shutil.disk_usage(settings.DATA_DIR)
        yield _gauge(
            "ragsite_disk_bytes",
            "The disk of DATA_DIR.",
            "of",
            {"free": usage.free, "total": usage.total},
        )


def _of_sql() -> Iterator[Metric]:
    documents = dict(Document.objects.order_by().values_list("state").annotate(Count("pk")))
    yield _gauge("ragsite_documents", "Documents by state.", "state", documents)
    waiting = Turn.objects.filter(state__in=[Turn.State.PENDING, Turn.State.RUNNING])
    turns = dict(waiting.order_by().values_list("state").annotate(Count("pk")))
    yield _gauge("ragsite_turns_open", "Questions that are being answered.", "state", turns)
    failing = IndexGeneration.objects.in_use().exclude(failing_since=None).count()
    last = Verification.objects.exclude(ended_at=None).first()
    found = {"failing_collections": failing, "unrepaired": last.unrepaired if last else 0}
    yield _gauge("ragsite_stores", "What the stores do not agree on.", "what", found)
    if last is not None and last.ended_at is not None:
        yield GaugeMetricFamily(
            "ragsite_last_verify_timestamp_seconds",
            "When all stores were last compared.",
            value=last.ended_at.timestamp(),
        )


def _gauge(name: str, about: str, label: str, values: dict[str, int]) -> Metric:
    family = GaugeMetricFamily(name, about, labels=[label])
    for value, number in values.items():
        family.add_metric([str(value)], number)
    return family


def _queues() -> dict[str, int]:
    client = Redis.from_url(
        settings.REDIS_URL, socket_connect_timeout=REDIS_SECONDS, socket_timeout=REDIS_SECONDS
    )
    names = [queue.name for queue in settings.CELERY_TASK_QUEUES]
    try:
        return {name: int(client.llen(name)) for name in names}
    except (RedisError, OSError):
        return {}
    finally:
        client.close()


@login_not_required
@require_safe
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    """All figures, for those who may see them."""
    if not _may_see(request):
        return HttpResponse(REFUSED, status=403, content_type="text/plain; charset=utf-8")
    collected = registry()
    collected.register(Now())
    return HttpResponse(generate_latest(collected), content_type=CONTENT_TYPE_LATEST)


def _may_see(request: HttpRequest) -> bool:
    """The token where there is one; else the machine itself, unless a proxy stands between."""
    user: User | AnonymousUser = request.user
    if user.is_active and user.is_staff:
        return True
    if settings.METRICS_TOKEN:
        sent = request.headers.get("Authorization", "").encode()
        return hmac.compare_digest(sent, f"Bearer {settings.METRICS_TOKEN}".encode())
    is_proxied = settings.HTTPS or any(name in request.headers for name in PROXY_HEADERS)
    return not is_proxied and request.META.get("REMOTE_ADDR") in ("127.0.0.1", "::1")
