"""Keeping what a worker has taken: leases renewed in the background, fenced, never for ever.

A claimed document is one worker's until `lease_until`. While a stage works, a thread renews
the lease, so that reading a long file does not lose it. The thread stops when the worker has
shown no sign of life (`advance`) for `PATIENCE_SECONDS`: a worker that hangs loses its documents
to another one, and what it writes afterwards is refused by the fencing token.
"""

from __future__ import annotations

import logging
import threading
import time
from types import TracebackType
from typing import Any, Self

from django.db import Error as DatabaseError
from django.db import connection

from ingestion.models import Document

logger = logging.getLogger(__name__)

# Longer than the longest step between two signs of life: reading one file, embedding one batch.
PATIENCE_SECONDS = 300.0


class LeaseLost(Exception):
    """The document is another worker's by now, or a person has deleted it."""


class Lease:
    """One claimed document and the right to write to it."""

    def __init__(self, document: Document, *, seconds: int) -> None:
        self.document = document
        self.seconds = seconds
        self.seen_at = time.monotonic()

    def advance(self, **changes: Any) -> None:
        """Write `changes`, renew the lease, show a sign of life.

        Raises:
            LeaseLost: nothing was written.
        """
        if not self.document.advance(lease_seconds=self.seconds, **changes):
            raise LeaseLost(f"document {self.document.pk}, claim {self.document.claims}")
        self.seen_at = time.monotonic()

    def release(self, **changes: Any) -> None:
        """Write `changes` and give the document back.

        Raises:
            LeaseLost: nothing was written.
        """
        if not self.document.release(**changes):
            raise LeaseLost(f"document {self.document.pk}, claim {self.document.claims}")


class Keeper:
    """Renews leases in a thread of its own for as long as the block runs."""

    def __init__(self, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._patience_seconds = patience_seconds
        self._held: list[Lease] = []
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def hold(self, lease: Lease) -> None:
        """Renew this lease from now on."""
        with self._lock:
            self._held.append(lease)

    def let_go(self, lease: Lease) -> None:
        """Renew it no more."""
        with self._lock:
            self._held = [held for held in self._held if held is not lease]

    def _run(self) -> None:
        try:
            while not self._done.wait(self._pause_seconds()):
                self._renew()
        finally:
            connection.close()

    def _pause_seconds(self) -> float:
        with self._lock:
            return min((lease.seconds / 4 for lease in self._held), default=1.0)

    def _renew(self) -> None:
        with self._lock:
            held = list(self._held)
        for lease in held:
            if time.monotonic() - lease.seen_at > self._patience_seconds:
                continue
            try:
                if not lease.document.renew(lease_seconds=lease.seconds):
                    self.let_go(lease)
            except DatabaseError as exc:
                logger.warning("lease of document %s not renewed: %s", lease.document.pk, exc)
