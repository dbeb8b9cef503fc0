"""Language models on their way into Ollama: fetched on the server, followed by whoever looks.

As with turns, a pull goes on whether or not a browser stays. Its row in SQL is what is
followed, from any process; its producer saves each second how far it is, and stops when the
row says that it was cancelled. What Ollama has received stays there: the next pull of the
same model goes on from it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from contextvars import Context
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import DatabaseError
from django.utils import timezone

from chat import ollama_api
from chat.conf import generation_settings
from chat.errors import GenerationError, GeneratorUnreachable, PullFailed
from chat.models import ModelPull
from chat.threads import in_thread
from chat.types import GenerationSettings, PullProgress
from ingestion import audit
from ingestion.audit import Action

if TYPE_CHECKING:
    from django.contrib.auth.models import User

SAVE_SECONDS = 1.0
POLL_SECONDS = 0.5
STALE_SECONDS = 30.0
SHUTDOWN_SECONDS = 5.0
UNREACHABLE = "Ollama is not reachable. Start it, or set OLLAMA_HOST to where it runs."
BROKEN = "The download broke off. Start it again: it goes on where it was."

logger = logging.getLogger(__name__)
_tasks: dict[int, asyncio.Task[None]] = {}


def request_pull(model: str, *, person: User) -> tuple[ModelPull, bool]:
    """The pull of a model that runs already, or a new one for `start`; and whether it is new."""
    reap()
    if running := ModelPull.objects.filter(model=model, state=ModelPull.State.RUNNING).first():
        return running, False
    audit.record(Action.MODEL_FETCHED, person=person, name=model)
    return ModelPull.objects.create(model=model, started_by=person), True


def start(pull: ModelPull, *, settings: GenerationSettings | None = None) -> None:
    """Begin to fetch what is new in this event loop; returns at once."""
    fetching = _fetch(pull.pk, pull.model, settings or generation_settings())
    # An empty context: the task outlives the request that started it.
    task = asyncio.get_running_loop().create_task(fetching, context=Context())
    _tasks[pull.pk] = task
    task.add_done_callback(lambda _: _tasks.pop(pull.pk, None))


def cancel(pull_id: int) -> None:
    """End a pull, in whichever process it runs; harmless for one that has ended. Blocking."""
    _end(pull_id, ModelPull.State.CANCELLED)


async def shutdown() -> None:
    """End the pulls of this process, because the process is about to end."""
    tasks = list(_tasks.values())
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=SHUTDOWN_SECONDS)


def reap() -> None:
    """End the pulls whose process was killed. Blocking."""
    stale = timezone.now() - timedelta(seconds=STALE_SECONDS)
    ModelPull.objects.filter(state=ModelPull.State.RUNNING, heartbeat_at__lt=stale).update(
        state=ModelPull.State.FAILED, error=BROKEN, ended_at=timezone.now()
    )


async def follow(pull_id: int) -> AsyncGenerator[ModelPull]:
    """The pull whenever it has got further, until it has ended or is gone."""
    last: tuple[object, ...] = ()
    while pull := await in_thread(ModelPull.objects.filter(pk=pull_id).first):
        now = (pull.state, pull.status, pull.completed_bytes)
        if now != last:
            last = now
            yield pull
        if pull.has_ended:
            return
        if pull.heartbeat_at < timezone.now() - timedelta(seconds=STALE_SECONDS):
            await in_thread(reap)
        else:
            await asyncio.sleep(POLL_SECONDS)


async def _fetch(pull_id: int, model: str, settings: GenerationSettings) -> None:
    """The whole life of a pull; never raises."""
    told = PullProgress("Asking Ollama")
    state, error = ModelPull.State.DONE, ""

    async def fetch() -> None:
        nonlocal told
        async with aclosing(ollama_api.pull(model, settings=settings)) as reported:
            async for progress in reported:
                told = progress

    fetching = asyncio.create_task(fetch())
    try:
        while not fetching.done():
            await asyncio.wait({fetching}, timeout=SAVE_SECONDS)
            if not await in_thread(_save, pull_id, told):
                return  # it was cancelled
        await fetching
    except asyncio.CancelledError:
        state, error = ModelPull.State.FAILED, BROKEN
    except PullFailed as exc:
        state, error = ModelPull.State.FAILED, exc.sentence
    except GeneratorUnreachable:
        state, error = ModelPull.State.FAILED, UNREACHABLE
    except (GenerationError, DatabaseError):
        logger.exception("the pull of %s broke off", model)
        state, error = ModelPull.State.FAILED, BROKEN
    finally:
        fetching.cancel()
        await asyncio.gather(fetching, return_exceptions=True)
    await in_thread(_end, pull_id, state, error)


def _save(pull_id: int, told: PullProgress) -> bool:
    """How far it is; False if it was cancelled."""
    running = ModelPull.objects.filter(pk=pull_id, state=ModelPull.State.RUNNING)
    return bool(
        running.update(
            status=told.status[:200],
            completed_bytes=told.completed_bytes,
            total_bytes=told.total_bytes,
            heartbeat_at=timezone.now(),
        )
    )


def _end(pull_id: int, state: ModelPull.State, error: str = "") -> None:
    ModelPull.objects.filter(pk=pull_id, state=ModelPull.State.RUNNING).update(
        state=state, error=error, ended_at=timezone.now()
    )
