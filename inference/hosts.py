"""Several servers of one model as one: the least busy one is asked, a dead one is left out.

A server that cannot be reached or is still loading is taken out at once; from then on its
`/health` is asked every few seconds, apart from the requests, until it answers. With one server
nothing of this happens. All must serve the same model.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

PROBE_SECONDS = 5.0


@dataclass(slots=True, eq=False)
class Host:
    """One server. `probe_at`: when it is to be asked whether it is back; None while it is up."""

    url: str
    outstanding: int = 0
    probe_at: float | None = None


@dataclass
class Hosts:
    """The servers of one list of addresses. Any number of threads may use it at once.

    is_healthy: asks one server; never raises.
    """

    addresses: str
    is_healthy: Callable[[str], bool]
    _hosts: list[Host] = field(init=False)
    _turn: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        urls = [url.strip().rstrip("/") for url in self.addresses.split(",")]
        self._hosts = [Host(url) for url in dict.fromkeys(urls) if url] or [Host("")]

    def __len__(self) -> int:
        return len(self._hosts)

    @property
    def away(self) -> list[str]:
        """The addresses that are left out now."""
        with self._lock:
            return [host.url for host in self._hosts if host.probe_at is not None]

    @contextmanager
    def one(self, besides: Collection[str] = ()) -> Iterator[Host]:
        """The server with the least work under way, those in `besides` last; counts as busy."""
        self._probe()
        with self._lock:
            self._turn += 1
            count = len(self._hosts)

            def busy(place: int) -> tuple[bool, bool, int, int]:
                host = self._hosts[place]
                turn = (place - self._turn) % count
                return host.url in besides, host.probe_at is not None, host.outstanding, turn

            host = self._hosts[min(range(count), key=busy)]
            host.outstanding += 1
        try:
            yield host
        finally:
            with self._lock:
                host.outstanding -= 1

    def lost(self, host: Host) -> None:
        """Leave a server out until it is back, unless it is the only one."""
        with self._lock:
            if len(self._hosts) > 1:
                host.probe_at = time.monotonic() + PROBE_SECONDS

    def _probe(self) -> None:
        """Ask those that are due, each in a thread of its own."""
        now = time.monotonic()
        with self._lock:
            due = [h for h in self._hosts if h.probe_at is not None and h.probe_at <= now]
            for host in due:
                host.probe_at = now + PROBE_SECONDS
        for host in due:
            threading.Thread(target=self._ask, args=(host,), name="probe", daemon=True).start()

    def _ask(self, host: Host) -> None:
        if self.is_healthy(host.url):
            with self._lock:
                host.probe_at = None
