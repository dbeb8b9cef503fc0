"""Chroma killed while it writes: answers go on, and what broke is filled anew by itself."""

from __future__ import annotations

import io
import random
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from django.conf import settings as site_settings
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Max

from ingestion import restore, services, watch
from ingestion.conf import ingestion_settings
from ingestion.embeddings import from_bytes, to_bytes
from ingestion.errors import VectorStoreError
from ingestion.models import Chunk, Corpus, Document, IndexGeneration
from ingestion.types import PIPELINE_VERSION
from ingestion.vectors import shared_store
from ingestion.verification import vectors
from ingestion.verification.findings import Examination
from ingestion.verification.run import verify
from ragsite import processes
from tests.faults.mixed import documents
from tests.faults.report import report
from tests.faults.running import Site, ask, running_site, unfinished
from tests.faults.scale import campaign
from tests.ingestion.workbench import assert_complete, store

pytestmark = [
    pytest.mark.services,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_url", "chroma_url", "inference_url"),
]
SEED = 20263


@campaign(short=2, full=30)
def test_kills_of_chroma_are_mended_without_a_person(
    alice: User, tmp_data: Path, count: int
) -> None:
    is_long = count > 2
    chance = random.Random(SEED)
    files = documents(count * 10 if is_long else 5, seed=SEED)
    corpus = Corpus.objects.create(name="Vectors", owner=alice)
    said: Counter[str] = Counter()
    questions = empty = 0
    slowest = 0.0
    began = time.monotonic()
    with running_site(tmp_data, own=("chroma",)) as site:
        waiting = list(files)
        while waiting or unfinished(corpus):
            while waiting and unfinished(corpus) < 8:
                name, content = waiting.pop(0)
                file = io.BytesIO(content)
                services.receive(corpus=corpus, person=None, name=name, content=file)
            if site.kills.get("chroma", 0) < count and corpus.generations.exists():
                time.sleep(chance.uniform(0.2, 2.0))
                site.kill("chroma", down_seconds=chance.uniform(0.0, 0.5))
            ready = Chunk.objects.filter(document__corpus=corpus, document__state="ready")
            if text := ready.values_list("text", flat=True).first():
                # Words that keywords alone find, however few documents are ready.
                asked = time.monotonic()
                candidates, degraded = ask(corpus, " ".join(text.split()[:12]))
                slowest = max(slowest, time.monotonic() - asked)
                questions += 1
                empty += not candidates
                said.update(degraded)
            time.sleep(0.2)
            assert time.monotonic() - began < 3600, site.log("worker")
        ingested = time.monotonic() - began
        until = time.monotonic() + 120
        while ask(corpus)[1]:  # a collection that broke is noticed and filled anew
            assert time.monotonic() < until, site.log("worker")
            time.sleep(1)
        kills = site.kills["chroma"]
        for document in corpus.documents.all():
            assert_complete(document)
        assert verify(ingestion_settings(), deep=True).unrepaired == 0
        size = sum(
            path.stat().st_size
            for path in Path(site_settings.CHROMA_DIR).rglob("*")
            if path.is_file()
        )
    assert corpus.documents.count() == len(files)
    assert empty == 0
    report(
        "vector_store",
        seed=SEED,
        kills=kills,
        documents=len(files),
        passages=Chunk.objects.count(),
        collections_filled_anew=IndexGeneration.objects.aggregate(n=Max("collection_revision"))[
            "n"
        ],
        questions=questions,
        questions_without_answer=empty,
        slowest_question_seconds=round(slowest, 1),
        said=dict(said),
        chroma_megabytes=round(size / 2**20, 1),
        seconds=round(ingested, 1),
    )


@campaign(short=1, full=40)
def test_a_collection_under_a_storm_of_kills_is_always_mended(
    alice: User, tmp_data: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hard on Chroma: it is killed in every round, each time within a second of writing."""
    monkeypatch.setattr(restore, "LAST_QUESTIONS_SECONDS", 0.0)
    chance, rows_a_round = random.Random(SEED), 400
    corpus = Corpus.objects.create(name="Storm", owner=alice)
    generation = IndexGeneration.objects.create(
        corpus=corpus,
        embedding_model="random",
        embedding_revision="1",
        dimension=64,
        pipeline_version=PIPELINE_VERSION,
    )
    broken = missing = biggest = 0
    slowest = 0.0
    site = Site(tmp_data)
    port = processes.free_port()
    site.start(processes.chroma_service(port, tmp_data / "chroma"))
    former = site_settings.CHROMA_URL, site_settings.CHROMA_DIR
    site_settings.CHROMA_URL = f"http://127.0.0.1:{port}"
    site_settings.CHROMA_DIR = tmp_data / "chroma"
    given = ingestion_settings()
    try:
        for number in range(count):
            document = ready_document(generation, number, rows_a_round)
            generation.refresh_from_db()
            writer = threading.Thread(target=write, args=(generation, document))
            writer.start()
            time.sleep(chance.uniform(0.05, 1.0))
            site.kill("chroma", down_seconds=0.0)
            assert site.running["chroma"].wait_until_healthy(60), site.log("chroma")
            writer.join()
            began = time.monotonic()
            size = sum(path.stat().st_size for path in (tmp_data / "chroma").rglob("*.bin"))
            biggest = max(biggest, size)
            for _ in range(watch.FAILURES_TO_RESTORE):
                found = watch.probe_collections(given)
            for pk in found:
                broken += 1
                restore.restore_vectors(pk, given)
            for finding in vectors.examine(Examination(given, shared_store(given))):
                assert finding.repair is not None, finding
                finding.repair()
                missing += finding.count if finding.code == "missing_vectors" else 0
            slowest = max(slowest, time.monotonic() - began)
        generation.refresh_from_db()
        expected = set(generation.chunks.values_list("pk", flat=True))
        assert store().ids(generation.collection_name) == expected
        deep = Examination(given, shared_store(given), deep=True)
        assert list(vectors.examine(deep)) == []
    finally:
        site.stop()
        site_settings.CHROMA_URL, site_settings.CHROMA_DIR = former
    report(
        "storm",
        seed=SEED,
        kills=site.kills["chroma"],
        vectors=len(expected),
        broken_collections=broken,
        filled_anew=IndexGeneration.objects.get().collection_revision,
        vectors_never_acknowledged_and_added=missing,
        slowest_repair_seconds=round(slowest, 1),
        index_files_at_most_megabytes=round(biggest / 2**20, 1),
    )


def ready_document(generation: IndexGeneration, number: int, rows: int) -> Document:
    """A document that SQL calls ready, with random vectors."""
    numbers = np.random.default_rng(SEED + number).standard_normal((rows, 64))
    unit = (numbers / np.linalg.norm(numbers, axis=1, keepdims=True)).astype(np.float32)
    document = Document.objects.create(
        corpus=generation.corpus,
        name=f"{number}.txt",
        size_bytes=1,
        sha256=f"{number:064}",
        state=Document.State.READY,
        chunk_count=rows,
    )
    Chunk.objects.bulk_create(
        Chunk(
            id=f"{number:08}{place:024}",
            document=document,
            generation=generation,
            ordinal=place,
            text="words",
            tokens=1,
            embedding=packed,
        )
        for place, packed in enumerate(to_bytes(unit))
    )
    return document


def write(generation: IndexGeneration, document: Document) -> None:
    """Write the document's vectors as the pipeline does, until the server dies."""
    rows = dict(document.chunks.values_list("pk", "embedding"))
    connection.close()  # this thread's own
    unit = from_bytes([bytes(packed or b"") for packed in rows.values()], dimension=64)
    writer = store()
    try:
        writer.ensure(generation.collection_name, 64)
        for start in range(0, len(rows), 50):  # many small writes, so that a kill hits one
            ids = list(rows)[start : start + 50]
            writer.add_missing(generation.collection_name, ids, unit[start : start + 50])
    except VectorStoreError:
        return
