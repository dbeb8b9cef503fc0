"""Rebuilds beside the live index, on real stores and the real model; interrupted and raced."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from inference.client import InferenceClient
from ingestion import nudges, pipeline, rebuild, services, stages
from ingestion.conf import ingestion_settings
from ingestion.errors import NOTICES, ParseError, RebuildRefused
from ingestion.models import Chunk, Corpus, Document, DocumentBuild, DocumentPart, IndexGeneration
from ingestion.parsing import parse_in_child
from ingestion.purge import lexical_index
from ingestion.reconcile import reconcile
from ingestion.retirement import purge_generation
from ingestion.types import ChunkOptions, Notice, ParsedDocument, Strategy
from ragsite.processes import ROOT
from tests.database import database_url
from tests.ingestion.workbench import (
    assert_complete,
    assert_nothing_left,
    eventually,
    expire_leases,
    start_worker,
    store,
    upload,
)

pytestmark = [
    pytest.mark.services,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("tmp_data", "chroma_url", "inference_url"),
]
State = Document.State
Generation = IndexGeneration.State
SMALL = ChunkOptions(max_tokens=64, overlap_tokens=0)
LONG = "The pump has a fan. The fan turns slowly. It is quiet at night. " * 30


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else works on the documents of a test."""
    monkeypatch.setattr(nudges, "nudge_waiting", lambda: 0)
    monkeypatch.setattr(nudges, "nudge_generations", lambda: None)
    monkeypatch.setattr(nudges, "nudge_deleted_corpora", lambda: None)


def work_off() -> None:
    """Do all there is to do, as a worker does."""
    for _ in range(50):
        due = [*Document.objects.in_turn(), *Document.objects.to_build()]
        if not due:
            return
        for document in due:
            pipeline.work_on(document.pk)
    raise AssertionError(list(DocumentBuild.objects.values_list("state", "error_detail")))


def ready(corpus: Corpus, *topics: str) -> list[Document]:
    documents = [upload(corpus, topic) for topic in topics]
    work_off()
    return documents


def begin(corpus: Corpus, options: ChunkOptions = SMALL) -> IndexGeneration:
    client = stages.tools().client
    return rebuild.start(corpus, options=options, client=client, store=store())


def live(corpus: Corpus) -> IndexGeneration:
    return IndexGeneration.objects.get(corpus=corpus, state=Generation.LIVE)


def passages(generation: IndexGeneration) -> set[str]:
    """The ids of a generation's chunks, the same in every store."""
    ids = set(generation.chunks.values_list("pk", flat=True))
    assert store().ids(generation.collection_name) == ids
    index = lexical_index(generation, ingestion_settings())
    assert index.count() == len(ids)
    return ids


# --- the way through -----------------------------------------------------------------------


@pytest.mark.usefixtures("quiet")
def test_a_rebuild_stands_beside_the_live_index_until_it_is_put_into_use(corpus: Corpus) -> None:
    (document,) = ready(corpus, LONG)
    old = live(corpus)
    before = assert_complete(document)

    new = begin(corpus)
    assert rebuild.progress(new).left == 1
    work_off()

    assert live(corpus) == old
    assert assert_complete(document) == before
    assert rebuild.progress(new).is_complete
    made = passages(new)
    assert len(made) > len(before)
    assert not made & set(before)
    assert all(row.tokens <= 64 for row in new.chunks.all())

    rebuild.flip(new)

    assert live(corpus) == new
    assert set(assert_complete(document)) == made
    assert passages(old) == set(before)


@pytest.mark.usefixtures("quiet")
def test_going_back_within_a_day_and_forward_again(corpus: Corpus) -> None:
    first, second = ready(corpus, LONG, "second")
    old = live(corpus)
    before = assert_complete(first)
    new = begin(corpus)
    work_off()
    rebuild.flip(new)
    since = ready(corpus, "uploaded since")[0]
    services.request_deletion(documents=Document.objects.filter(pk=second.pk))
    gone = list(second.chunks.values_list("pk", flat=True))
    work_off()
    assert_nothing_left(second, gone, ingestion_settings().data_dir)

    assert rebuild.roll_back(corpus) == old

    assert live(corpus) == old
    assert assert_complete(first) == before
    since.refresh_from_db()
    assert since.state == State.RECEIVED  # only the other generation has it
    work_off()
    assert_complete(since)
    assert len(passages(old)) == len(before) + since.chunks.filter(generation=old).count()

    rebuild.roll_back(corpus)
    work_off()
    assert live(corpus) == new
    for document in (first, since):
        assert_complete(document)


@pytest.mark.usefixtures("quiet")
def test_the_former_index_is_purged_after_a_day_and_then_nobody_goes_back(corpus: Corpus) -> None:
    (document,) = ready(corpus, LONG)
    old = live(corpus)
    new = begin(corpus)
    work_off()
    rebuild.flip(new)
    settings = ingestion_settings()
    assert purge_generation(old.pk, settings) is False
    assert IndexGeneration.objects.due_for_purge().count() == 0

    long_ago = timezone.now() - timedelta(days=1, seconds=1)
    IndexGeneration.objects.filter(pk=old.pk).update(retired_at=long_ago)
    assert list(IndexGeneration.objects.due_for_purge()) == [old]
    with pytest.raises(RebuildRefused) as refused:
        rebuild.roll_back(corpus)
    assert refused.value.code == "nothing_to_roll_back_to"
    assert purge_generation(old.pk, settings)

    assert not store().exists(old.collection_name)
    assert not (settings.lexical_dir / old.key).exists()
    assert not Chunk.objects.filter(generation_id=old.pk).exists()
    assert not DocumentPart.objects.filter(generation_id=old.pk).exists()
    assert not IndexGeneration.objects.filter(pk=old.pk).exists()
    assert_complete(document)
    assert purge_generation(old.pk, settings)


@pytest.mark.usefixtures("quiet")
def test_cancelling_leaves_the_live_index_and_nothing_of_the_new_one(corpus: Corpus) -> None:
    first, _ = ready(corpus, "first", "second")
    old = live(corpus)
    new = begin(corpus)
    pipeline.work_on(first.pk)
    assert passages(new)

    rebuild.cancel(new)

    assert not Document.objects.to_build().exists()
    assert purge_generation(new.pk, ingestion_settings())
    assert not store().exists(new.collection_name)
    assert list(IndexGeneration.objects.all()) == [old]
    assert_complete(first)
    begin(corpus)


@pytest.mark.usefixtures("quiet")
def test_what_a_document_says_of_itself_follows_the_index_in_use(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    (document,) = ready(corpus, "first")
    new = begin(corpus)

    def read_anew(file: Path, **options: Any) -> ParsedDocument:
        parsed = parse_in_child(file, **options)
        code = next(iter(NOTICES))
        return replace(parsed, title="Another title", notices=[Notice(code, 2)])

    with monkeypatch.context() as patch:
        patch.setattr(stages, "parse_in_child", read_anew)
        work_off()
    document.refresh_from_db()
    old = (document.title, document.notice, document.chunk_count)
    assert document.title != "Another title"
    rebuild.flip(new)
    document.refresh_from_db()
    assert document.title == "Another title"
    assert document.notice
    rebuild.roll_back(corpus)
    document.refresh_from_db()
    assert (document.title, document.notice, document.chunk_count) == old


# --- documents that come and go --------------------------------------------------------------


@pytest.mark.usefixtures("quiet")
def test_documents_uploaded_during_a_rebuild_are_in_both(corpus: Corpus) -> None:
    ready(corpus, "first")
    new = begin(corpus)
    work_off()
    later = upload(corpus, "later")
    pipeline.work_on(later.pk)

    assert_complete(later)
    with pytest.raises(RebuildRefused) as refused:
        rebuild.flip(new)
    assert refused.value.code == "not_complete"

    work_off()
    rebuild.flip(new)
    assert_complete(later)


@pytest.mark.usefixtures("quiet")
def test_documents_deleted_during_a_rebuild_are_in_neither(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, built, under_way = ready(corpus, "kept", "built", LONG)
    old = live(corpus)
    new = begin(corpus)
    monkeypatch.setattr(pipeline, "READ_AHEAD_DOCUMENTS", 0)
    pipeline.work_on(built.pk)
    ids = list(Chunk.objects.exclude(document=kept).values_list("pk", flat=True))
    index_words = stages._index_words

    def deleted_meanwhile(*args: Any) -> None:
        chosen = Document.objects.filter(pk__in=[built.pk, under_way.pk])
        services.request_deletion(documents=chosen)
        ids.extend(under_way.chunks.values_list("pk", flat=True))
        index_words(*args)

    with monkeypatch.context() as patch:
        patch.setattr(stages, "_index_words", deleted_meanwhile)
        pipeline.work_on(under_way.pk)
    work_off()

    for document in (built, under_way):
        assert_nothing_left(document, ids, ingestion_settings().data_dir)
    assert rebuild.progress(new).total == 1
    rebuild.flip(new)
    assert_complete(kept)
    assert passages(old)


@pytest.mark.usefixtures("quiet")
def test_a_document_that_becomes_ready_as_the_index_changes_is_not_lost(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready(corpus, "first")
    new = begin(corpus)
    work_off()
    late = upload(corpus, "late")
    publish = stages.publish

    def flipped_meanwhile(*args: Any) -> None:
        rebuild.flip(new)
        publish(*args)

    with monkeypatch.context() as patch:
        patch.setattr(stages, "publish", flipped_meanwhile)
        pipeline.work_on(late.pk)

    late.refresh_from_db()
    assert late.state == State.RECEIVED
    work_off()
    assert_complete(late)


# --- what goes wrong -------------------------------------------------------------------------


def test_a_killed_worker_of_a_rebuild_loses_nothing_and_its_work_is_gone_on_with(
    tmp_data: Path, corpus: Corpus, quiet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (document,) = ready(corpus, LONG)
    before = assert_complete(document)
    new = begin(corpus)
    settings = ingestion_settings()
    script = """
import django, os, signal, sys
django.setup()
from ingestion import pipeline, stages
stages._index_words = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
pipeline.work_on(int(sys.argv[1]))
"""
    result = subprocess.run(
        [sys.executable, "-c", script, str(document.pk)],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "ragsite.settings",
            "DATABASE_URL": database_url(),
            "DATA_DIR": str(tmp_data),
            "CHROMA_URL": settings.chroma_url,
            "EMBED_URL": settings.embed_url,
        },
        capture_output=True,
        timeout=120,
    )
    assert result.returncode == -signal.SIGKILL, result.stderr.decode()
    assert assert_still_ready(document) == before
    assert new.builds.get().state == State.INDEXING
    assert not pipeline.work_on(document.pk)  # its lease has to run out
    rebuild.cancel(new)
    assert not purge_generation(new.pk, settings)  # and the purge waits for that, too
    IndexGeneration.objects.filter(pk=new.pk).update(state=Generation.BUILDING)

    expire_leases()
    embedded: list[int] = []
    embed = InferenceClient.embed

    def counted(self: InferenceClient, texts: list[str], **options: Any) -> Any:
        embedded.append(len(texts))
        return embed(self, texts, **options)

    monkeypatch.setattr(InferenceClient, "embed", counted)
    work_off()
    rebuild.flip(new)

    assert embedded == []  # what was embedded before is kept
    assert_complete(document)


def assert_still_ready(document: Document) -> list[str]:
    """The live passages of a document, while a dead worker's lease is on it."""
    document.refresh_from_db()
    assert document.state == State.READY
    live_chunks = document.chunks.filter(generation__state=Generation.LIVE)
    return list(live_chunks.order_by("ordinal").values_list("pk", flat=True))


def test_a_rebuild_goes_on_by_itself_when_its_worker_dies(
    tmp_data: Path, redis_url: str, corpus: Corpus
) -> None:
    first = start_worker(tmp_data, redis_url)
    document = upload(corpus, "A long text about many things. " * 2000)
    eventually(lambda: Document.objects.filter(state=State.READY).exists(), seconds=120)
    new = begin(corpus, ChunkOptions(max_tokens=128, overlap_tokens=16))
    eventually(lambda: new.builds.filter(progress_done__gt=0).exists(), seconds=60)
    os.killpg(first.pid, signal.SIGKILL)
    first.stop()
    assert not rebuild.progress(new).is_complete

    other = start_worker(tmp_data, redis_url)
    try:
        eventually(lambda: rebuild.progress(new).is_complete, seconds=120)
        rebuild.flip(new)
        long_ago = timezone.now() - timedelta(days=2)
        IndexGeneration.objects.filter(state=Generation.OLD).update(retired_at=long_ago)
        reconcile()
        eventually(lambda: IndexGeneration.objects.count() == 1)
    finally:
        other.stop()
    assert_complete(document)


@pytest.mark.usefixtures("quiet")
def test_a_document_that_cannot_be_built_stays_in_the_live_index(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = ready(corpus, "good", "bad")
    before = assert_complete(bad)
    new = begin(corpus)
    path = services.blob_path(bad)

    def broken(file: Path, **options: Any) -> ParsedDocument:
        if file == path:
            raise ParseError("no text any more", code="no_text")
        return parse_in_child(file, **options)

    with monkeypatch.context() as patch:
        patch.setattr(stages, "parse_in_child", broken)
        work_off()

    assert rebuild.progress(new).failed == 1
    assert [build.document for build in rebuild.failures(new)] == [bad]
    assert assert_complete(bad) == before
    with pytest.raises(RebuildRefused) as refused:
        rebuild.flip(new)
    assert refused.value.code == "has_failed"

    rebuild.flip(new, without_failed=True)
    bad.refresh_from_db()
    assert (bad.state, bad.error_code) == (State.FAILED, "no_text")
    assert_complete(good)

    rebuild.roll_back(corpus)
    assert assert_complete(bad) == before


@pytest.mark.usefixtures("quiet")
def test_documents_that_failed_in_a_rebuild_can_be_tried_again(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready(corpus, "first")
    new = begin(corpus)

    def broken(*args: Any, **options: Any) -> ParsedDocument:
        raise ParseError("for now", code="too_slow")

    with monkeypatch.context() as patch:
        patch.setattr(stages, "parse_in_child", broken)
        work_off()
    assert rebuild.progress(new).failed == 1

    assert rebuild.retry(new) == 1
    work_off()
    rebuild.flip(new)


@pytest.mark.usefixtures("quiet")
def test_a_cancel_reaches_a_worker_in_the_middle(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    (document,) = ready(corpus, LONG)
    new = begin(corpus)
    index_vectors = stages._index_vectors

    def cancelled_meanwhile(*args: Any) -> None:
        rebuild.cancel(new)
        assert not purge_generation(new.pk, ingestion_settings())  # a worker is at it
        index_vectors(*args)

    with monkeypatch.context() as patch:
        patch.setattr(stages, "_index_vectors", cancelled_meanwhile)
        pipeline.work_on(document.pk)

    assert_complete(document)
    assert purge_generation(new.pk, ingestion_settings())
    assert not store().exists(new.collection_name)


@pytest.mark.usefixtures("quiet")
def test_what_cannot_begin_says_why(corpus: Corpus) -> None:
    def refusal(options: ChunkOptions = SMALL) -> str:
        with pytest.raises(RebuildRefused) as refused:
            begin(corpus, options)
        return refused.value.code

    assert refusal() == "nothing_to_rebuild"
    ready(corpus, "first")
    assert refusal(ChunkOptions(max_tokens=300)) == "chunks_too_long"
    new = begin(corpus)
    assert refusal() == "rebuild_running"
    work_off()
    rebuild.flip(new)
    with pytest.raises(RebuildRefused):
        rebuild.flip(new)
    with pytest.raises(RebuildRefused):
        rebuild.cancel(new)
    assert live(corpus) == new


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("strategy", list(Strategy))
def test_every_strategy_gives_a_complete_index(corpus: Corpus, strategy: Strategy) -> None:
    text = "# Site\n\nThe canteen opens at eleven. Lunch is served until two. " * 5
    content = io.BytesIO((text + LONG).encode())
    document = services.receive(corpus=corpus, person=None, name="a.md", content=content)
    work_off()
    new = begin(corpus, ChunkOptions(strategy=strategy, max_tokens=96, overlap_tokens=16))
    work_off()
    rebuild.flip(new)

    assert_complete(document)
    assert all(row.tokens <= 96 for row in new.chunks.all())


@pytest.mark.usefixtures("quiet")
def test_a_corpus_under_rebuild_can_be_deleted(corpus: Corpus) -> None:
    from ingestion.purge import purge_corpus

    (document,) = ready(corpus, "first")
    new = begin(corpus)
    pipeline.work_on(document.pk)
    services.delete_corpus(corpus=corpus)
    began = time.monotonic()
    while not purge_corpus(corpus.pk, ingestion_settings()):
        assert time.monotonic() - began < 10

    assert not store().exists(new.collection_name)
    assert not DocumentBuild.objects.exists()
