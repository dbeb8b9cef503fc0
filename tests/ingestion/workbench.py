"""What the tests of ingestion share: upload, look into every store, compare."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings as site
from django.utils import timezone

from ingestion import nudges, services
from ingestion.chunk_ids import chunk_id
from ingestion.conf import ingestion_settings
from ingestion.models import Chunk, Corpus, Document, DocumentPart, IndexGeneration
from ingestion.purge import lexical_index
from ingestion.types import PIPELINE_VERSION
from ingestion.vectors import VectorStore
from ragsite import processes
from tests.database import database_url

PAGE = """# The reranker

## Why it is there

A cross-encoder reads the question and the passage together, so it sees how the words of
one bear on the words of the other. {topic}

## What it costs

Every pair is a forward pass. One hundred candidates are one hundred passes.
"""


def upload(corpus: Corpus, topic: str = "", *, name: str = "page.md", text: str = PAGE) -> Document:
    """Upload a short Markdown page about the topic."""
    content = io.BytesIO(text.replace("{topic}", topic).encode())
    return services.receive(corpus=corpus, person=corpus.owner, name=name, content=content)


def store() -> VectorStore:
    """A connection of the test's own to the vector store."""
    return VectorStore(ingestion_settings().chroma_url)


def expire_leases() -> None:
    """Let every lease run out, as it does a minute after its worker died."""
    past = timezone.now() - timedelta(seconds=1)
    Document.objects.exclude(lease_until=None).update(lease_until=past, retry_at=None)


def assert_complete(document: Document) -> list[str]:
    """Assert that a document is ready and in every store exactly once; returns its chunk ids."""
    document.refresh_from_db()
    assert document.state == Document.State.READY, (document.state, document.error_detail)
    assert document.lease_until is None
    generation = IndexGeneration.objects.get(
        corpus=document.corpus, state=IndexGeneration.State.LIVE
    )
    chunks = list(document.chunks.filter(generation=generation).order_by("ordinal"))
    ids = [row.pk for row in chunks]
    assert [row.ordinal for row in chunks] == list(range(len(chunks)))
    assert ids == [
        chunk_id(
            document_id=document.pk,
            generation_key=generation.key,
            pipeline_version=PIPELINE_VERSION,
            ordinal=row.ordinal,
            text=row.text,
        )
        for row in chunks
    ]
    assert all(row.embedding is not None for row in chunks)
    assert document.chunk_count == len(ids) > 0
    assert document.parts.filter(generation=generation).count() > 0
    others = Chunk.objects.filter(generation=generation)
    others = others.exclude(document=document)
    stored = store().ids(generation.collection_name)
    assert stored - set(others.values_list("pk", flat=True)) == set(ids)
    assert lexical_index(generation, ingestion_settings()).chunk_ids(document.pk) == set(ids)
    return ids


def assert_nothing_left(document: Document, ids: list[str], data: Path) -> None:
    """Assert that no store knows anything of a deleted document."""
    assert not Document.objects.filter(pk=document.pk).exists()
    assert not Chunk.objects.filter(document_id=document.pk).exists()
    assert not DocumentPart.objects.filter(document_id=document.pk).exists()
    for generation in IndexGeneration.objects.all():
        assert store().missing(generation.collection_name, ids) == ids
        index = lexical_index(generation, ingestion_settings())
        assert index.chunk_ids(document.pk) == set()
    assert not list(data.rglob(document.blob_key))


def start_worker(data: Path, redis: str) -> processes.Process:
    """A worker with its beat on the test's database, stores and broker."""
    environment = {
        "DATABASE_URL": database_url(),
        "DATA_DIR": str(data),
        "REDIS_URL": redis,
        "CHROMA_URL": site.CHROMA_URL,
        "INFERENCE_URL": site.INFERENCE_URL,
        "INGEST_LEASE_SECONDS": "2",
    }
    service = processes.worker_service(
        is_healthy=lambda: nudges.worker_answers(1.0), beat_folder=data / "run"
    )
    process = processes.Process(service, env=environment, log=data / "worker.log")
    if not process.wait_until_healthy(60):
        process.stop()
        pytest.fail((data / "worker.log").read_text()[-3000:])
    return process


def eventually(met: Callable[[], bool], *, seconds: float = 40.0) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, list(
            Document.objects.values_list("pk", "state", "error_code", "error_detail", "lease_until")
        )
        time.sleep(0.1)


def is_ready(document: Document) -> bool:
    return Document.objects.filter(
        pk=document.pk, state=Document.State.READY, lease_until=None
    ).exists()
