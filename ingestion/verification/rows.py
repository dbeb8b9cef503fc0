"""The rows of SQL among themselves: each ready document has its passages, vectors and text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
from django.db import transaction
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce, Length
from django.utils import timezone

from ingestion import nudges
from ingestion.chunk_ids import chunk_id
from ingestion.embeddings import STORED
from ingestion.models import Chunk, Document, DocumentBuild, DocumentPart, IndexGeneration
from ingestion.verification.findings import Examination, Finding

NAME = "rows"
State = Document.State
ROWS_AT_ONCE = 1_000
# float16 moves the length of a unit vector by less than this.
UNIT_TOLERANCE = 0.02


def examine(run: Examination) -> Iterator[Finding]:
    """Count the passages of ready documents, and look at their embeddings."""
    ready = Document.objects.filter(state=State.READY, corpus__deleted_at=None)
    run.examined["documents"] += ready.count()
    for document in _incomplete(ready):
        yield Finding("lost_passages", str(document), repair=partial(_read_again, document.pk))
    for generation in run.generations():
        yield from _embeddings(generation, run)
        if run.deep:
            yield from _altered(generation)


def _incomplete(ready: QuerySet[Document]) -> list[Document]:
    """Ready documents without all their passages, or without text, in the live generation."""
    live = IndexGeneration.objects.filter(
        corpus=OuterRef("corpus"), state=IndexGeneration.State.LIVE
    )
    chunks = Chunk.objects.filter(document=OuterRef("pk"), generation=OuterRef("live"))
    counted = chunks.order_by().values("document").annotate(n=Count("pk")).values("n")
    parts = DocumentPart.objects.filter(document=OuterRef("pk"), generation=OuterRef("live"))
    found = ready.annotate(live=Subquery(live.values("pk")[:1])).annotate(
        counted=Coalesce(Subquery(counted), 0)
    )
    wrong = ~Q(counted=F("chunk_count")) | Q(counted=0) | ~Exists(parts)
    return list(found.filter(wrong).order_by("pk"))


def _embeddings(generation: IndexGeneration, run: Examination) -> Iterator[Finding]:
    """Passages without an embedding of the right size; deep: that is a unit vector."""
    size = generation.dimension * STORED.itemsize
    chunks = generation.searchable_chunks.order_by()
    run.examined["passages"] += chunks.count()
    sized = chunks.annotate(size=Length("embedding"))
    bad = set(sized.filter(Q(embedding=None) | ~Q(size=size)).values_list("document_id", "pk"))
    if run.deep:
        bad |= set(_not_unit(sized.filter(size=size)))
    for document_id in sorted({document_id for document_id, _ in bad}):
        ids = [pk for owner, pk in bad if owner == document_id]
        again = partial(_embed_again, generation, document_id, ids)
        subject = str(Document.objects.filter(pk=document_id).first())
        yield Finding("lost_embeddings", subject, len(ids), again)


def _not_unit(chunks: QuerySet[Chunk]) -> Iterator[tuple[int, str]]:
    rows = chunks.values_list("document_id", "pk", "embedding")
    for document_id, pk, packed in rows.iterator(chunk_size=ROWS_AT_ONCE):
        length = float(np.linalg.norm(np.frombuffer(packed or b"", dtype=STORED).astype("f4")))
        if not abs(length - 1.0) < UNIT_TOLERANCE:  # also for a length that is no number
            yield document_id, pk


def _altered(generation: IndexGeneration) -> Iterator[Finding]:
    """Passages whose id does not follow from their text and place any more."""
    wrong: dict[int, int] = {}
    rows = generation.searchable_chunks.order_by().values_list(
        "pk", "document_id", "ordinal", "text"
    )
    for pk, document_id, ordinal, text in rows.iterator(chunk_size=ROWS_AT_ONCE):
        expected = chunk_id(
            document_id=document_id,
            generation_key=generation.key,
            pipeline_version=generation.pipeline_version,
            ordinal=ordinal,
            text=text,
        )
        if expected != pk:
            wrong[document_id] = wrong.get(document_id, 0) + 1
    for document in Document.objects.filter(pk__in=wrong).order_by("pk"):
        again = partial(_read_again, document.pk, generation)
        yield Finding("altered_passages", str(document), wrong[document.pk], again)


def _read_again(document_id: int, generation: IndexGeneration | None = None) -> None:
    """Back to the beginning; embeddings of passages that come out the same are kept."""
    _send_back(document_id, State.RECEIVED, generation)


def _embed_again(generation: IndexGeneration, document_id: int, ids: Iterable[str]) -> None:
    """Take the damaged embeddings away and have the worker fill what is missing."""
    ids = list(ids)
    with transaction.atomic():
        for start in range(0, len(ids), ROWS_AT_ONCE):
            batch = ids[start : start + ROWS_AT_ONCE]
            generation.chunks.filter(pk__in=batch).update(embedding=None)
        _send_back(document_id, State.EMBEDDING, generation)


def _send_back(document_id: int, state: State, generation: IndexGeneration | None) -> None:
    changes = {"state": state, "state_since": timezone.now(), "error_code": "", "retry_at": None}
    if generation is None or generation.state == IndexGeneration.State.LIVE:
        mine = Document.objects.filter(pk=document_id, state=State.READY)
        mine.update(**changes, nudged_at=None)
    else:
        builds = DocumentBuild.objects.filter(generation=generation, document_id=document_id)
        builds.filter(state=State.READY).update(**changes)
    transaction.on_commit(nudges.nudge_waiting, robust=True)
