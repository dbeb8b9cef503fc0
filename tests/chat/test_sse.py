"""The wire format of events, and a stream that neither goes silent nor outlives its reader."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.db import connections

from chat.sse import Message, encode, last_event_id, stream


def test_each_line_of_the_data_has_a_data_field_whatever_ends_it() -> None:
    wire = encode(Message("block", "<p>one\ntwo\r\nthree\rfour</p>", 7))

    assert wire == (
        b"id: 7\nevent: block\n"
        b"data: <p>one\ndata: two\ndata: three\ndata: four</p>\n\n"
    )  # fmt: skip


def test_a_line_separator_that_is_no_line_end_stays_in_its_line() -> None:
    assert encode(Message("tail", "a\u2028b\x0bc")).count(b"data:") == 1


def test_data_cannot_forge_an_event() -> None:
    wire = encode(Message("stage", "x\n\nevent: end\ndata: y", 1)).decode()

    assert "\nevent: end" not in wire.replace("data: event: end", "")
    assert wire.count("\n\n") == 1


def test_an_event_without_data_is_still_dispatched() -> None:
    assert b"data:  \n" in encode(Message("tail", ""))


def test_the_header_wins_over_the_query_and_nonsense_means_from_the_start() -> None:
    assert last_event_id("12", "3") == 12
    assert last_event_id("", "3") == 3
    for nonsense in ("-1", "1.5", "٣", "x", "0x10", " "):
        assert last_event_id(nonsense, "") == 0
    assert last_event_id("9" * 400, "") > 0


async def _slow(*pauses: float) -> AsyncGenerator[Message]:
    for number, pause in enumerate(pauses, 1):
        await asyncio.sleep(pause)
        yield Message("block", str(number), number)


def test_a_silent_stream_sends_comments_and_loses_no_event() -> None:
    async def read() -> list[bytes]:
        return [part async for part in stream(_slow(0.2, 0.0), heartbeat_seconds=0.05)]

    parts = asyncio.run(read())

    assert parts[0].startswith(b"retry: ")
    assert parts.count(b": still here\n\n") >= 2
    assert [part for part in parts if part.startswith(b"id: ")] == [
        encode(Message("block", "1", 1)),
        encode(Message("block", "2", 2)),
    ]


def test_a_reader_who_leaves_closes_the_source_of_events() -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncGenerator[Message]:
        try:
            while True:
                await asyncio.sleep(3600)
                yield Message("block", "never")
        finally:
            closed.set()

    async def leave() -> bool:
        parts = stream(endless(), heartbeat_seconds=0.01)
        assert await anext(parts)
        assert await anext(parts) == b": still here\n\n"
        await parts.aclose()
        return closed.is_set()

    assert asyncio.run(leave())


def test_an_open_stream_holds_no_thread_and_no_database_connection() -> None:
    """asgiref keeps a thread for each request, and Django a connection for each thread."""
    held: list[int] = []

    async def silence() -> AsyncGenerator[Message]:
        await asyncio.sleep(0.1)  # a thread takes a moment to end
        held.append(threading.active_count())
        yield Message("end", "")

    async def request() -> None:
        async with ThreadSensitiveContext():
            await sync_to_async(connections["default"].vendor.upper)()
            held.append(threading.active_count())
            async for _ in stream(silence()):
                pass
            assert await sync_to_async(str)(1) == "1"  # another thread is had for the asking

    asyncio.run(request())
    before, during = held
    assert during == before - 1


def test_a_stream_ends_for_who_may_not_read_any_more() -> None:
    asked = []

    async def allowed() -> bool:
        asked.append(True)
        return len(asked) < 2

    async def read() -> list[bytes]:
        events = stream(_slow(0.0, 0.05, 0.05, 0.05), allowed=allowed, allowed_seconds=0.04)
        return [part async for part in events]

    parts = asyncio.run(read())

    # The first came at once, the second was asked for and allowed, the third was not.
    assert [part.split(b"\n")[0] for part in parts[1:]] == [b"id: 1", b"id: 2"]


def test_a_silent_stream_ends_for_who_may_not_read_any_more_before_its_next_comment() -> None:
    async def allowed() -> bool:
        return False

    async def read() -> list[bytes]:
        events = stream(_slow(60.0), heartbeat_seconds=30.0, allowed=allowed, allowed_seconds=0.02)
        return [part async for part in events]

    assert len(asyncio.run(asyncio.wait_for(read(), 10))) == 1  # the time after which to come back
