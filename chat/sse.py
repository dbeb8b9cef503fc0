"""Server-sent events on the wire: one message as bytes, and a stream that never goes silent.

The format is that of the HTML standard, section 9.2: an optional `id`, an `event` name and
the data, one `data:` line for each of its lines, ended by an empty line.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

from chat.threads import release_request

HEARTBEAT_SECONDS = 15.0
RETRY_MS = 1000
ALLOWED_SECONDS = 3.0
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Message:
    """One event for the browser. `id` is None for one that a resumed stream does not count."""

    name: str
    data: str
    id: int | None = None


def encode(message: Message) -> bytes:
    """One message in the wire format, UTF-8, its empty line included.

    Data that is empty is sent as a space: a browser drops an event without data.
    """
    lines = [] if message.id is None else [f"id: {message.id}"]
    lines.append(f"event: {message.name}")
    lines += [f"data: {line}" for line in _LINE_END.split(message.data or " ")]
    return ("\n".join(lines) + "\n\n").encode()


def last_event_id(header: str, query: str) -> int:
    """The number of the last event that the browser has: the header's, else the query's, else 0.

    Anything that is not a whole number from 0 counts as absent: the worst that follows is
    a replay from the start.
    """
    for value in (header, query):
        if value.isascii() and value.isdigit():
            return int(value[:18])
    return 0


async def stream(
    messages: AsyncGenerator[Message],
    *,
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
    allowed: Callable[[], Awaitable[bool]] | None = None,
    allowed_seconds: float | None = None,
) -> AsyncGenerator[bytes]:
    """Encode messages as they come; a comment whenever nothing came for `heartbeat_seconds`.

    Whether the reader may still read is asked (`allowed`) every `allowed_seconds`, by default
    ALLOWED_SECONDS, and before anything is sent that comes so long after it was asked last; the
    stream ends when not.

    Closing the generator (the browser is gone) ends the wait for the next message and
    closes `messages`, and does nothing else: whatever produces them goes on.
    """
    await release_request()
    yield f"retry: {RETRY_MS}\n\n".encode()
    waiting: asyncio.Task[Message | None] | None = None
    asked = sent = time.monotonic()
    allowed_seconds = ALLOWED_SECONDS if allowed_seconds is None else allowed_seconds
    pause = heartbeat_seconds if allowed is None else min(heartbeat_seconds, allowed_seconds)
    try:
        while True:
            waiting = waiting or asyncio.create_task(_next(messages))
            done, _ = await asyncio.wait({waiting}, timeout=pause)
            if allowed is not None and time.monotonic() - asked >= allowed_seconds:
                if not await allowed():
                    return
                asked = time.monotonic()
            if not done:
                if time.monotonic() - sent >= heartbeat_seconds:
                    sent = time.monotonic()
                    yield b": still here\n\n"
                continue
            message, waiting = waiting.result(), None
            if message is None:
                return
            sent = time.monotonic()
            yield encode(message)
    finally:
        if waiting is not None:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        await messages.aclose()


async def _next(messages: AsyncGenerator[Message]) -> Message | None:
    return await anext(messages, None)
