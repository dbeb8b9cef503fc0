"""A TCP gate in front of a service, so that a test can take the service away at a chosen moment."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from enum import StrEnum
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit


class Way(StrEnum):
    """What becomes of a connection."""

    OPEN = "open"
    SHUT = "shut"  # what is there breaks, what comes is refused
    SHUT_AT_REQUEST = "shut at request"  # the next byte that a client sends shuts it
    STALLED = "stalled"  # connections are taken, and nothing passes any more


class Gate:
    """The gate in a thread of its own: `with Gate(service_url) as gate: … gate.url`.

    port: where it listens; 0 for any free one.
    """

    def __init__(self, url: str, *, port: int = 0) -> None:
        self._target = urlsplit(url)
        self.way = Way.OPEN
        self._port = port
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="gate", daemon=True)

    @property
    def url(self) -> str:
        """The service's address, through the gate."""
        parts = self._target
        return urlunsplit(parts._replace(netloc=f"127.0.0.1:{self._port}"))

    def shut(self) -> None:
        """Break every connection; new ones are refused from now on."""
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result()

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())
        self._ready.set()
        self._loop.run_forever()
        for task in self._tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _listen(self) -> None:
        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._connection(reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._server = await asyncio.start_server(connected, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def _shut(self) -> None:
        self.way = Way.SHUT
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = self._target.hostname or "127.0.0.1", self._target.port or 80
        there, back = await asyncio.open_connection(host, port)
        self._writers |= {writer, back}
        if self.way is Way.SHUT:  # since this connection was taken
            writer.transport.abort()
            back.transport.abort()
        try:
            with suppress(OSError):
                await asyncio.gather(
                    self._pass_on(reader, back, is_request=True),
                    self._pass_on(there, writer, is_request=False),
                )
        finally:
            self._writers -= {writer, back}
            writer.transport.abort()
            back.transport.abort()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_request: bool
    ) -> None:
        while some := await reader.read(65536):
            if is_request and self.way is Way.SHUT_AT_REQUEST:
                await self._shut()
                return
            if self.way is Way.STALLED:
                await asyncio.sleep(3600)
            writer.write(some)
            await writer.drain()
        writer.close()
