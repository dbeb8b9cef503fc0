"""Blocking work of the engine, beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from django.db import connections

P = ParamSpec("P")
T = TypeVar("T")

# Its own threads: the loop's default pool has six on two cores, and six searches would
# keep every heartbeat waiting.
_threads = ThreadPoolExecutor(32, "chat")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a blocking function in a thread; its database connections are closed afterwards.

    Cancelling the wait does not end the function: what it returns is then dropped.
    """

    def call() -> T:
        try:
            return function(*args, **kwargs)
        finally:
            connections.close_all()

    return await asyncio.get_running_loop().run_in_executor(_threads, call)
