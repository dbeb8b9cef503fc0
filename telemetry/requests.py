"""The id of the request that work is done for: web to worker to model server.

It begins in the web process, or comes from a proxy in `X-Request-ID`; travels in the headers of
Celery messages and of requests to the model server; and stands in every line of a JSON log.
"""

from __future__ import annotations

import contextvars
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import ParamSpec, TypeVar

from telemetry import tracing

P = ParamSpec("P")
T = TypeVar("T")

HEADER = "X-Request-ID"
_ACCEPTED = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_current: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")


def current() -> str:
    """The id of the request that this is done for; "" where there is none."""
    return _current.get()


@contextmanager
def under(given: str = "") -> Iterator[str]:
    """Work within the block belongs to the request of this id; made where it is none."""
    number = given if _ACCEPTED.fullmatch(given) else secrets.token_hex(8)
    token = _current.set(number)
    try:
        yield number
    finally:
        _current.reset(token)


def headers() -> dict[str, str]:
    """What to send along with a request or a message, so that the other side knows."""
    number = current()
    return {**({HEADER: number} if number else {}), **tracing.headers()}


def of(carrier: Mapping[str, str]) -> str:
    """The id in the headers of a request or message; "" where there is none."""
    return carrier.get(HEADER, "") or carrier.get(HEADER.lower(), "")


def detached() -> contextvars.Context:
    """An empty context but for the request: for work that outlives it."""
    context = contextvars.Context()
    context.run(_current.set, current())
    tracing.hand_over(context)
    return context


class Threads(ThreadPoolExecutor):
    """A pool whose threads know the request that their work is done for."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As in `ThreadPoolExecutor`, within the caller's context."""
        context = contextvars.copy_context()
        return super().submit(partial(context.run, fn, *args, **kwargs))
