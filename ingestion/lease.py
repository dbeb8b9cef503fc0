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
from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from ingestion.models import Chunk, Document, DocumentBuild, IndexGeneration

logger = logging.getLogger(__name__)

# Longer than the longest step between two signs of life: reading one file, embedding one batch.
PATIENCE_SECONDS = 300.0


class LeaseLost(Exception):
    """The document is another worker's by now, or a person has deleted it."""


class Lease:
    """One claimed document and the right to write to it.

    `generation` is the one that the work is for, once it is known.
    """

    def __init__(self, document: Document, *, seconds: int) -> None:
        self.document = document
        self.generation: IndexGeneration | None = None
        self.seconds = seconds
        self.seen_at = time.monotonic()

    @property
    def row(self) -> Document | DocumentBuild:
        """Where the state of this work stands."""
        return self.document

    @property
    def chunks(self) -> QuerySet[Chunk]:
        """The document's chunks in the generation that the work is for."""
        return Chunk.objects.filter(document=self.document, generation=self.generation)

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


class BuildLease(Lease):
    """A claimed document that is brought into a generation beside the live one.

    The document's row holds the lease and stays as it is; the state is the build's. The right
    to write ends with the lease, and when the generation is no longer being built.
    """

    def __init__(self, build: DocumentBuild, *, seconds: int) -> None:
        super().__init__(build.document, seconds=seconds)
        self.build = build
        self.generation = build.generation

    @property
    def row(self) -> Document | DocumentBuild:
        """Where the state of this work stands."""
        return self.build

    def advance(self, **changes: Any) -> None:
        """As `Lease.advance`; the changes are the build's."""
        with transaction.atomic():
            super().advance()
            self._write(changes)

    def release(self, **changes: Any) -> None:
        """As `Lease.release`; the changes are the build's."""
        changes.pop("nudged_at", None)  # the document's alone, and cleared by the claim
        with transaction.atomic():
            self._write(changes)
            super().release()

    def _write(self, changes: dict[str, Any]) -> None:
        if not changes:
            return
        if changes.get("state", self.build.state) != self.build.state:
            changes["state_since"] = timezone.now()
        mine = DocumentBuild.objects.filter(
            pk=self.build.pk, generation__state=IndexGeneration.State.BUILDING
        )
        if not mine.update(**changes):
            raise LeaseLost(f"generation {self.build.generation_id} is no longer being built")
        for name, value in changes.items():
            setattr(self.build, name, value)


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
