"""Blocking work of the engine, beside the event loop, and what a request holds for such work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from asgiref.sync import SyncToAsync, sync_to_async
from django.db import connections

from telemetry.requests import Threads

P = ParamSpec("P")
T = TypeVar("T")

# Its own threads: the loop's default pool has six on two cores, and six searches would
# keep every heartbeat waiting.
_threads = Threads(32, "chat")


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


async def release_request() -> None:
    """Give back the thread that this request holds, with its connections to the database.

    asgiref keeps one for each request until the response has ended. A stream stays open for
    minutes: 500 of them held 500 threads, as many connections, and 230 MB. Whatever the
    request still calls gets a new thread.
    """
    context = SyncToAsync.thread_sensitive_context.get(None)
    if context is None or context not in SyncToAsync.context_to_thread_executor:
        return
    await sync_to_async(connections.close_all)()
    SyncToAsync.context_to_thread_executor.pop(context).shutdown(wait=False)
