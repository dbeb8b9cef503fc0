"""A worker's turn: from uploaded files to searchable passages, with an outcome for each.

A turn begins with one claimed document. While the passages that it holds do not fill a request
to the model server, further waiting documents are claimed and read, too; then the passages of
all are embedded in shared requests, in order, and each document is indexed as soon as its last
passage is embedded, with those that are complete at the same time. So a hundred short files cost
a few requests and commits, and as every document of the turn is under a lease of its own, what
goes wrong with one is recorded on that one and no two workers embed the same passage.

A document that is ready is worked on in the same way where a generation beside the live one
lacks it; then the outcome is recorded with that generation's build, and the document stays ready.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded
from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError
from django.utils import timezone

from inference.errors import InferenceError, InferenceRejected
from inference.types import ModelInfo
from ingestion import stages
from ingestion.errors import (
    LexicalIndexError,
    ParserCrashed,
    PermanentError,
    TransientError,
    VectorStoreError,
)
from ingestion.generations import check_embedder, current_generation, embedder
from ingestion.lease import PATIENCE_SECONDS, BuildLease, Keeper, Lease, LeaseLost
from ingestion.models import Document, DocumentBuild, IndexGeneration
from ingestion.purge import purge_document
from ingestion.types import IngestionSettings
from telemetry import metrics, tracing

logger = logging.getLogger(__name__)

State = Document.State
# Two to four seconds' work for two cores; the client splits it where the server wants less.
PASSAGES_PER_REQUEST = 64
READ_AHEAD_SECONDS = 3.0
READ_AHEAD_DOCUMENTS = 16
READ_AHEAD_BYTES = 1024 * 1024
# After this time a long document is given back, so that others get their turn; what is
# embedded by then is stored.
TURN_SECONDS = 600.0
MAX_CRASHES = 3
# Workers that die set no document aside, but somebody should look why.
ALARMING_CLAIMS = 10
RETRY_SECONDS = (3.0, 120.0)
DETAIL_CHARACTERS = 4_000


def work_on(document_id: int) -> bool:
    """Do what remains to be done on a document; False if it is not to be had.

    Never raises for a document: READY, FAILED, QUARANTINED, waiting or gone, the outcome is in
    its row. Safe to run twice: only the claimer works.
    """
    given = stages.tools()
    patience = max(PATIENCE_SECONDS, _longest_read(given.settings) + 60.0)
    with Keeper(patience_seconds=patience) as keeper:
        turn = _Turn(given, keeper)
        if not turn.take(document_id):
            return False
        try:
            turn.read_ahead()
            turn.embed_and_index()
        except SoftTimeLimitExceeded:
            logger.warning("the turn of document %d reached its time limit", document_id)
        finally:
            turn.give_back()
    return True


@dataclass(slots=True, eq=False)
class _Job:
    """One document of a turn. `waiting` holds the ids of its chunks without an embedding."""

    lease: Lease
    waiting: list[str] = field(default_factory=list)
    is_open: bool = True

    @property
    def document(self) -> Document:
        return self.lease.document

    @property
    def generation(self) -> IndexGeneration | None:
        return self.lease.generation


@contextmanager
def _stage(name: str, job: _Job) -> Iterator[None]:
    """A stage of one document in the metrics and traces."""
    with (
        metrics.timed(metrics.INGESTION_STAGE, name),
        tracing.span(name, document=job.document.pk),
    ):
        yield


class _Turn:
    """The documents that one worker holds at the moment."""

    def __init__(self, given: stages.Tools, keeper: Keeper) -> None:
        self._given = given
        self._keeper = keeper
        self._jobs: list[_Job] = []
        self._ends_at = time.monotonic() + TURN_SECONDS

    def take(self, document_id: int) -> bool:
        """Claim a document and bring it to where it can be embedded; or purge it."""
        lease = self._claim(document_id)
        if lease is None:
            return False
        if (claims := lease.document.claims) % ALARMING_CLAIMS == 0:
            logger.warning("document %d was taken %d times by now", document_id, claims)
        job = _Job(lease)
        self._jobs.append(job)
        self._keeper.hold(job.lease)
        self._attempt(job, self._prepare)
        return True

    def _claim(self, document_id: int) -> Lease | None:
        seconds = self._given.settings.lease_seconds
        if document := Document.objects.claim(document_id, lease_seconds=seconds):
            return Lease(document, seconds=seconds)
        if build := Document.objects.claim_to_build(document_id, lease_seconds=seconds):
            return BuildLease(build, seconds=seconds)
        return None

    def read_ahead(self) -> None:
        """Take further documents while there is room in the first request for their passages."""
        until = time.monotonic() + READ_AHEAD_SECONDS
        if not 0 < len(self._waiting()) < PASSAGES_PER_REQUEST:
            return
        for listed in (Document.objects.in_turn(), Document.objects.to_build()):
            small = listed.filter(size_bytes__lte=READ_AHEAD_BYTES).exclude(state=State.DELETING)
            for pk in small.values_list("pk", flat=True)[:READ_AHEAD_DOCUMENTS]:
                if len(self._waiting()) >= PASSAGES_PER_REQUEST or time.monotonic() > until:
                    return
                self.take(pk)

    def embed_and_index(self) -> None:
        """Embed what waits, in shared requests, and index each document that is complete."""
        self._index_complete()
        while (batch := self._waiting()[:PASSAGES_PER_REQUEST]) and self._has_time():
            self._embed(batch)
            self._index_complete()

    def give_back(self) -> None:
        """Release what is not finished, for the next worker to go on with."""
        for job in self._jobs:
            if job.is_open:
                self._close(job, nudged_at=None)

    def _has_time(self) -> bool:
        return time.monotonic() < self._ends_at

    def _waiting(self) -> list[tuple[_Job, str]]:
        return [(job, pk) for job in self._jobs if job.is_open for pk in job.waiting]

    def _prepare(self, job: _Job) -> None:
        document = job.document
        if document.state == State.DELETING:
            purge_document(job.lease, self._given.settings)
            job.is_open = False
            return
        lease, given = job.lease, self._given
        if lease.generation is None:
            lease.generation = current_generation(
                document.corpus, client=given.client, store=given.store, site=given.settings.chunk
            )
        lease.advance(error_code="", error_detail="", retry_at=None)
        is_read = lease.row.state in (State.EMBEDDING, State.INDEXING)
        if not is_read or not lease.chunks.exists():
            with _stage("read", job):
                stages.read(lease, given)
        job.waiting = stages.unembedded(lease)

    def _index_complete(self) -> None:
        """Index what is complete; documents of one index go in together."""
        complete: dict[str, list[_Job]] = {}
        for job in self._jobs:
            if job.is_open and not job.waiting and job.generation is not None:
                complete.setdefault(job.generation.collection_name, []).append(job)
        for jobs in complete.values():
            self._index(jobs)

    def _index(self, jobs: Sequence[_Job]) -> None:
        try:
            with metrics.timed(metrics.INGESTION_STAGE, "index"), tracing.span("index"):
                stages.index([job.lease for job in jobs], self._given)
        except SoftTimeLimitExceeded:
            raise
        except (VectorStoreError, LexicalIndexError) as exc:
            for job in jobs:
                self._settle(job, exc)
        except Exception as exc:  # noqa: BLE001 (recorded on the document, logged if unexpected)
            if len(jobs) == 1:
                self._settle(jobs[0], exc)
                return
            for job in jobs:  # so that only the document that is to blame fails
                self._index([job])
        else:
            for job in jobs:
                self._attempt(job, self._publish)

    def _publish(self, job: _Job) -> None:
        stages.publish(job.lease)
        job.is_open = False
        self._keeper.let_go(job.lease)
        row = job.lease.row
        metrics.DOCUMENTS.labels(str(row.state)).inc()
        logger.info("document %d %s: %d passages", job.document.pk, row.state, row.chunk_count)

    def _embed(self, batch: Sequence[tuple[_Job, str]]) -> None:
        """Embed these passages and store what comes back with each document they belong to."""
        jobs = list(dict.fromkeys(job for job, _ in batch))
        try:
            model = embedder(self._given.client)
            for job in jobs:
                self._attempt(job, partial(_check, model=model))
            ids = [pk for job, pk in batch if job.is_open]
            with metrics.timed(metrics.INGESTION_STAGE, "embed"), tracing.span("embed"):
                embedded = stages.embed(ids, self._given)
        except InferenceRejected as exc:
            if len(jobs) == 1:
                self._settle(jobs[0], exc)
                return
            for job in jobs:  # so that only the document with the refused passage fails
                self._embed([pair for pair in batch if pair[0] is job])
            return
        except (InferenceError, TransientError) as exc:
            for job in jobs:
                self._settle(job, exc)
            return
        for job in jobs:
            mine = [pk for other, pk in batch if other is job]
            self._attempt(job, partial(_keep, ids=mine, embedded=embedded))

    def _attempt(self, job: _Job, step: Callable[[_Job], None]) -> None:
        """Run a step for a document; what goes wrong is its outcome and nobody else's."""
        if not job.is_open:
            return
        try:
            step(job)
        except SoftTimeLimitExceeded:
            raise
        except Exception as exc:  # noqa: BLE001 (recorded on the document, logged if unexpected)
            self._settle(job, exc)

    def _settle(self, job: _Job, exc: Exception) -> None:
        """End the work on a document with the outcome that this error means."""
        if not job.is_open:
            return
        if isinstance(exc, LeaseLost):
            self._lost(job)
            return
        outcome = _outcome(job.lease.row, exc)
        metrics.DOCUMENTS.labels(outcome.get("error_code") or type(exc).__name__).inc()
        if outcome.get("error_code") == "internal_error":
            logger.error("document %d: %s", job.document.pk, exc, exc_info=exc)
        else:
            logger.info("document %d: %s: %s", job.document.pk, type(exc).__name__, exc)
        self._close(job, **outcome)

    def _close(self, job: _Job, **changes: Any) -> None:
        """Write the outcome and give the lease back."""
        try:
            job.lease.release(**changes)
        except LeaseLost:
            self._lost(job)
        except DatabaseError as exc:
            logger.warning("document %d: its lease has to run out: %s", job.document.pk, exc)
        job.is_open = False
        self._keeper.let_go(job.lease)

    def _lost(self, job: _Job) -> None:
        """Somebody else has the document; or a person deleted it, then it is ours to purge."""
        job.is_open = False
        document = job.document
        deleted = Document.objects.filter(
            pk=document.pk, claims=document.claims, state=State.DELETING
        )
        if document.state != State.DELETING and deleted.exists():
            document.state = State.DELETING
            self._keeper.let_go(job.lease)
            job.lease = Lease(document, seconds=job.lease.seconds)
            self._keeper.hold(job.lease)
            job.is_open = True
            self._attempt(job, self._prepare)
        elif isinstance(job.lease, BuildLease):
            document.release()  # the rebuild was cancelled; the document is free for others
        self._keeper.let_go(job.lease)


def _longest_read(settings: IngestionSettings) -> int:
    """Seconds that one file may take to read, its pictures included."""
    return settings.parse_timeout_seconds + settings.ocr_timeout_seconds


def _check(job: _Job, *, model: ModelInfo) -> None:
    if job.generation is not None:
        check_embedder(job.generation, model)


def _keep(job: _Job, *, ids: Sequence[str], embedded: dict[str, bytes]) -> None:
    handled = set(ids)
    job.waiting = [pk for pk in job.waiting if pk not in handled]
    found = {pk: embedded[pk] for pk in ids if pk in embedded}
    stages.keep_embeddings(job.lease, found, left=len(job.waiting))


def _outcome(row: Document | DocumentBuild, exc: Exception) -> dict[str, Any]:
    """The changes to the row that an error means."""
    code = getattr(exc, "code", "") or "internal_error"
    detail = f"{type(exc).__name__}: {exc}"
    if isinstance(exc, (OperationalError, InterfaceError)):
        code = "database"
    elif not isinstance(exc, (PermanentError, TransientError, InferenceError)):
        code = "internal_error"
        detail = "".join(traceback.format_exception(exc))[-DETAIL_CHARACTERS:]
    recorded = {"error_code": code, "error_detail": detail[:DETAIL_CHARACTERS], "nudged_at": None}
    if row.state == State.DELETING or code == "database" or _will_pass(exc):
        return {**recorded, "retry_at": _retry_at(row)}
    if isinstance(exc, ParserCrashed):
        crashes = row.crashes + 1
        if crashes < MAX_CRASHES:
            return {**recorded, "error_code": "", "state": State.RECEIVED, "crashes": crashes}
        return {**recorded, "state": State.QUARANTINED, "crashes": crashes}
    return {**recorded, "state": State.FAILED}


def _will_pass(exc: Exception) -> bool:
    """Whether waiting helps: for a service, or for an administrator who sets it right."""
    if isinstance(exc, InferenceRejected):
        return False
    return isinstance(exc, (TransientError, InferenceError))


def _retry_at(row: Document | DocumentBuild) -> datetime:
    """When to try again: half the time that the stage has lasted by now, within bounds."""
    now = timezone.now()
    shortest, longest = RETRY_SECONDS
    lasted = (now - row.state_since).total_seconds()
    return now + timedelta(seconds=min(longest, max(shortest, lasted / 2)))
