"""The line in front of the language model: so many requests at a time, with a place told.

Ollama answers a few requests at a time and lets the others wait without a word; with ours
each turn knows its place. The tickets of all web processes stand in Redis under one key,
changed by compare-and-set; each process looks after its own. A ticket whose process is gone
runs out. Without Redis each process counts its own alone, and says so.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache

from redis.asyncio import Redis
from redis.exceptions import RedisError, WatchError

from chat import waiting
from chat.errors import GeneratorBusy
from chat.waiting import Ticket

LEASE_SECONDS = 6.0
POLL_SECONDS = 0.25
REDIS_SECONDS = 0.5
REDIS_PAUSE_SECONDS = 3.0
ATTEMPTS = 20

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Held:
    """A ticket of this process, and who waits for it to be called."""

    ticket: Ticket
    called: asyncio.Future[None]
    tell: Callable[[int, bool], None]
    is_new: bool = True
    told: tuple[int, bool] | None = field(default=None)


class Line:
    """One line, shared by all processes with the same Redis and key.

    Args:
        parallel: how many are served at a time, > 0.
        most_waiting: how many may wait; more are refused.
        redis_url: where the tickets stand; "" for this process alone.
        key: names the model server.
    """

    def __init__(
        self, *, parallel: int, most_waiting: int, redis_url: str = "", key: str = ""
    ) -> None:
        self.parallel = parallel
        self.most_waiting = most_waiting
        self._redis_url = redis_url
        self._key = f"ragsite:line:{key}"
        self._name = uuid.uuid4().hex
        self._numbers = 0
        self._held: dict[str, _Held] = {}
        self._changed = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._away_until = 0.0

    @asynccontextmanager
    async def place(
        self,
        person: str,
        *,
        tell: Callable[[int, bool], None] = lambda place, is_alone: None,
        is_short: bool = False,
    ) -> AsyncGenerator[None]:
        """Wait until the model is free for this person; inside the block it is theirs.

        Args:
            person: whose request it is.
            tell: called with the place in the line, from 1, whenever that changes, and
                whether Redis is away, so that only this process is counted.
            is_short: whether it takes moments; it then goes before answers.

        Raises:
            GeneratorBusy: too many wait already.
        """
        self._numbers += 1
        number = f"{self._name}:{self._numbers:09}"
        ticket = Ticket(number, person, time.time(), 0.0, is_short)
        held = _Held(ticket, asyncio.get_running_loop().create_future(), tell)
        self._held[number] = held
        self._wake()
        try:
            await held.called
            yield
        finally:
            del self._held[number]
            self._wake()

    async def settled(self) -> None:
        """Wait until the tickets that were given back are gone from Redis, too."""
        if self._keeper is not None and not self._held:
            with suppress(asyncio.CancelledError):
                await self._keeper

    def _wake(self) -> None:
        if self._keeper is None or self._keeper.done():
            self._changed = asyncio.Event()
            self._keeper = asyncio.get_running_loop().create_task(self._keep())
        self._changed.set()

    async def _keep(self) -> None:
        """Look after the tickets of this process for as long as there are any."""
        client = self._client()
        try:
            while True:
                self._changed.clear()
                await self._round(client)
                if not self._held and not self._changed.is_set():
                    self._keeper = None  # who comes while the connection closes gets another
                    return
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await self._changed.wait()
        except Exception as exc:
            for held in self._held.values():
                if not held.called.done():
                    held.called.set_exception(exc)
            raise
        finally:
            if client is not None:
                await client.aclose()

    def _client(self) -> Redis | None:
        if not self._redis_url:
            return None
        return Redis.from_url(
            self._redis_url, socket_connect_timeout=REDIS_SECONDS, socket_timeout=REDIS_SECONDS
        )

    async def _round(self, client: Redis | None) -> None:
        is_alone = False
        tickets: list[Ticket] | None = None
        if client is not None and time.monotonic() >= self._away_until:
            try:
                tickets = await self._exchanged(client)
            except (RedisError, OSError) as exc:
                logger.warning("Redis is away, the line is this process's alone: %s", exc)
                self._away_until = time.monotonic() + REDIS_PAUSE_SECONDS
        if tickets is None:
            is_alone = client is not None
            tickets = self._merged((), now=time.time())
        self._call(tickets, is_alone=is_alone)

    async def _exchanged(self, client: Redis) -> list[Ticket]:
        """What all processes hold, with ours as they are now."""
        async with client.pipeline() as pipe:
            for _ in range(ATTEMPTS):
                await pipe.watch(self._key)
                stored = waiting.loads(await pipe.get(self._key))
                seconds, microseconds = await pipe.time()
                tickets = self._merged(stored, now=seconds + microseconds / 1e6)
                if tickets == stored:
                    return tickets
                pipe.multi()  # type: ignore[no-untyped-call]
                pipe.set(self._key, waiting.dumps(tickets), ex=int(LEASE_SECONDS) + 60)
                try:
                    await pipe.execute()
                except WatchError:
                    continue
                return tickets
        raise RedisError("others changed the line all the time")

    def _merged(self, stored: Sequence[Ticket], *, now: float) -> list[Ticket]:
        """The tickets of other processes that have not run out, and ours; served by rule."""
        found = {t.id: t for t in stored if t.expires > now or t.id in self._held}
        tickets = [t for t in found.values() if not t.id.startswith(self._name)]
        for number, held in self._held.items():
            ticket = found.get(number, held.ticket)
            if not ticket.expires:  # it comes just now
                number_of_round = waiting.next_round(tickets, ticket.person)
                ticket = replace(ticket, since=now, round=number_of_round)
            if ticket.expires - now < LEASE_SECONDS / 2:
                ticket = replace(ticket, expires=now + LEASE_SECONDS)
            held.ticket = ticket = replace(ticket, is_served=ticket.is_served or held.called.done())
            tickets.append(ticket)
        tickets.sort(key=lambda ticket: (ticket.since, ticket.id))
        return waiting.serve(tickets, parallel=self.parallel)

    def _call(self, tickets: Sequence[Ticket], *, is_alone: bool) -> None:
        """Call those whose turn has come, and tell the others their place."""
        for ticket in tickets:
            held = self._held.get(ticket.id)
            if held and ticket.is_served and not held.called.done():
                held.called.set_result(None)
        for place, ticket in enumerate(waiting.line(tickets), 1):
            held = self._held.get(ticket.id)
            if held is None or held.called.done():
                continue
            if held.is_new and place > self.most_waiting:
                held.called.set_exception(GeneratorBusy(f"{place - 1} wait already"))
            elif held.told != (place, is_alone):
                held.told = (place, is_alone)
                held.tell(place, is_alone)
            held.is_new = False


@cache
def shared_line(*, parallel: int, most_waiting: int, redis_url: str, key: str) -> Line:
    """The line of this process for a model server."""
    return Line(parallel=parallel, most_waiting=most_waiting, redis_url=redis_url, key=key)
