"""The Celery application: `celery --app ragsite worker`.

Messages carry the id of the request they come from; each task is timed, and a span of its trace.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from typing import Any

from celery import Celery, Task, signals

from telemetry import requests, tracing

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ragsite.settings")

app = Celery("ragsite")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@signals.before_task_publish.connect
def _send_request_id(headers: dict[str, Any], **_: Any) -> None:
    headers.update(requests.headers())


@signals.worker_init.connect
@signals.worker_process_init.connect
def _become_worker(**_: Any) -> None:
    tracing.become("worker")


@signals.beat_init.connect
def _become_beat(**_: Any) -> None:
    tracing.become("beat")


@signals.task_prerun.connect
def _begin(task: Task[Any, Any], task_id: str, **_: Any) -> None:
    sent = {name: str(value) for name, value in vars(task.request).items() if value is not None}
    stack = ExitStack()
    number = stack.enter_context(requests.under(requests.of(sent)))
    stack.enter_context(tracing.span(task.name, sent, request_id=number))
    _running[task_id] = (stack, time.perf_counter())


@signals.task_postrun.connect
def _end(task: Task[Any, Any], task_id: str, state: str | None = None, **_: Any) -> None:
    from telemetry import metrics  # which find their folder in the settings

    begun = _running.pop(task_id, None)
    if begun is None:
        return
    stack, began = begun
    metrics.TASKS.labels(task.name, str(state)).observe(time.perf_counter() - began)
    stack.close()


# Tasks that run now, by id: what ends with each, and when it began.
_running: dict[str, tuple[ExitStack, float]] = {}
