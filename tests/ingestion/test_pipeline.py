"""The pipeline on real files, real stores and the real model; interrupted, raced and starved."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.db import connections
from django.utils import timezone

from inference.client import InferenceClient, shared_client
from inference.errors import InferenceRejected
from ingestion import blobs, pipeline, purge, services, stages
from ingestion.conf import ingestion_settings
from ingestion.embeddings import from_bytes
from ingestion.errors import SENTENCES, LexicalIndexError, ParserCrashed
from ingestion.lexical import LexicalIndex
from ingestion.models import Chunk, Corpus, Document, IndexGeneration
from ingestion.parsing import parse_in_child
from ingestion.types import ParsedDocument, passage_text
from ragsite.processes import ROOT
from tests.database import database_url
from tests.ingestion import sample_files
from tests.ingestion.workbench import (
    assert_complete,
    assert_nothing_left,
    expire_leases,
    store,
    upload,
)

if TYPE_CHECKING:
    from pytest_django.fixtures import Settings

pytestmark = [
    pytest.mark.services,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("tmp_data", "chroma_url", "inference_url"),
]
State = Document.State
NOWHERE = "http://127.0.0.1:1"
HELLO = sample_files.paragraph("Hello", top=700)


@pytest.fixture(autouse=True)
def _no_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else works on the documents of these tests."""
    monkeypatch.setattr("ingestion.nudges.nudge_waiting", lambda: 0)
    monkeypatch.setattr("ingestion.nudges.nudge_deleted_corpora", lambda: None)


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The texts of every request to embed, which still goes to the real server."""
    seen: list[list[str]] = []
    embed = InferenceClient.embed

    def counted(self: InferenceClient, texts: Sequence[str], **options: Any) -> Any:
        seen.append(list(texts))
        return embed(self, texts, **options)

    monkeypatch.setattr(InferenceClient, "embed", counted)
    return seen


class Killed(BaseException):
    """Stands for the death of the worker process."""


def kill_at_write(monkeypatch: pytest.MonkeyPatch, number: int, *, after: bool) -> list[int]:
    """Die before or after the write of this number to a document's row, and stay dead."""
    writes = [0]

    def mortal(write: Callable[..., bool]) -> Callable[..., bool]:
        def wrapped(self: Document, **changes: Any) -> bool:
            writes[0] += 1
            if writes[0] > number or (writes[0] == number and not after):
                raise Killed
            written = write(self, **changes)
            if writes[0] == number:
                raise Killed
            return written

        return wrapped

    monkeypatch.setattr(Document, "advance", mortal(Document.advance))
    monkeypatch.setattr(Document, "release", mortal(Document.release))
    return writes


# --- the way through -------------------------------------------------------------------


def test_a_file_becomes_searchable_passages(corpus: Corpus) -> None:
    document = upload(corpus, "Rerankers move the best passage up.")

    assert pipeline.work_on(document.pk)

    ids = assert_complete(document)
    assert document.ready_at is not None
    assert document.error_code == ""
    generation = IndexGeneration.objects.get()
    first = Chunk.objects.get(pk=ids[0])
    text = passage_text(heading_path=first.heading_path, text=first.text)
    client = shared_client(ingestion_settings().embed_url, "")
    vector = client.embed([text])[0]
    assert generation.dimension == len(vector) == 384
    stored = from_bytes([bytes(first.embedding or b"")], dimension=384)[0]
    assert float(stored @ vector) > 0.9999
    nearest = store().search(generation.collection_name, vector, k=1)[0]
    assert nearest.chunk_id == ids[0]
    words = purge.lexical_index(generation, ingestion_settings())
    assert {hit.chunk_id for hit in words.search("cross-encoder", k=5)} <= set(ids)
    assert words.search("cross-encoder", k=5)


def test_every_sample_format_becomes_searchable(corpus: Corpus) -> None:
    names = ["reranking.pdf", "vector-search.docx", "chunking.html", "glossary.md"]
    documents = []
    for name in names:
        with (ROOT / "samples" / name).open("rb") as content:
            documents.append(
                services.receive(corpus=corpus, person=None, name=name, content=content)
            )

    for document in documents:
        pipeline.work_on(document.pk)

    for document in documents:
        assert_complete(document)
    assert documents[0].pages > 1
    assert all(first.page_from for first in Chunk.objects.filter(document=documents[0]))


def test_short_documents_share_requests_to_the_model(
    corpus: Corpus, requests: list[list[str]]
) -> None:
    documents = [upload(corpus, f"Topic number {i}.") for i in range(6)]

    pipeline.work_on(documents[0].pk)

    together = [texts for texts in requests if len(texts) > 1]
    assert sum(map(len, together)) == Chunk.objects.count()
    assert len(together) == 1
    for document in documents:
        assert_complete(document)


def test_a_document_that_is_taken_or_done_is_left_alone(corpus: Corpus) -> None:
    document = upload(corpus)
    taken = Document.objects.claim(document.pk, lease_seconds=60)
    assert taken is not None

    assert not pipeline.work_on(document.pk)

    taken.release()
    assert pipeline.work_on(document.pk)
    assert not pipeline.work_on(document.pk)
    assert_complete(document)


# --- interrupted ------------------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_worker_that_dies_at_any_write_leaves_work_that_can_be_finished(
    corpus: Corpus, after: bool
) -> None:
    number = 0
    while True:
        number += 1
        document = upload(corpus, f"Died {number}.")
        with pytest.MonkeyPatch.context() as patch:
            kill_at_write(patch, number, after=after)
            try:
                pipeline.work_on(document.pk)
            except Killed:
                died = True
            else:
                died = False
        expire_leases()
        if died:
            pipeline.work_on(document.pk)
        assert_complete(document)
        if not died:
            break
    assert number > 7  # each stage was interrupted


def test_a_killed_worker_loses_nothing(corpus: Corpus, tmp_data: Path) -> None:
    document = upload(corpus, "Killed for real.")
    settings = ingestion_settings()
    script = """
import django, os, signal, sys
django.setup()
from ingestion import pipeline, stages
index_words = stages._index_words
def die(*args):
    os.kill(os.getpid(), signal.SIGKILL)
stages._index_words = die
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
    document.refresh_from_db()
    before = list(document.chunks.values_list("pk", flat=True))
    assert document.state == State.INDEXING
    assert document.lease_until is not None
    assert not pipeline.work_on(document.pk)  # its lease has to run out

    expire_leases()
    pipeline.work_on(document.pk)

    assert assert_complete(document) == before


def test_embeddings_that_are_there_are_not_computed_again(
    corpus: Corpus, requests: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    document = upload(corpus)
    with monkeypatch.context() as patch:
        patch.setattr(stages, "_index_words", _fails_with(RuntimeError("a bug")))
        pipeline.work_on(document.pk)
    document.refresh_from_db()
    assert (document.state, document.error_code) == (State.FAILED, "internal_error")
    assert "RuntimeError: a bug" in document.error_detail
    asked = sum(map(len, requests))

    services.retry(documents=Document.objects.filter(pk=document.pk))
    pipeline.work_on(document.pk)

    assert_complete(document)
    assert sum(map(len, requests)) == asked


def test_passages_of_an_earlier_way_of_cutting_are_forgotten(corpus: Corpus) -> None:
    document = upload(corpus, "long " * 400)
    pipeline.work_on(document.pk)
    before = assert_complete(document)
    IndexGeneration.objects.update(chunk_max_tokens=96)
    Document.objects.filter(pk=document.pk).update(state=State.RECEIVED)

    pipeline.work_on(document.pk)

    after = assert_complete(document)
    assert set(before) - set(after)


def test_a_turn_that_reaches_its_time_limit_gives_its_documents_back(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = [upload(corpus, "first"), upload(corpus, "second")]
    with monkeypatch.context() as patch:
        patch.setattr(stages, "index", _fails_with(SoftTimeLimitExceeded()))
        pipeline.work_on(documents[0].pk)

    for document in documents:
        document.refresh_from_db()
        assert (document.state, document.error_code) == (State.EMBEDDING, "")
        assert document.lease_until is None
        assert document.nudged_at is None
    pipeline.work_on(documents[1].pk)
    pipeline.work_on(documents[0].pk)
    for document in documents:
        assert_complete(document)


def test_a_long_document_gives_others_their_turn_and_keeps_what_it_has(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = upload(corpus, "A long text about many things. " * 900)
    monkeypatch.setattr(pipeline, "PASSAGES_PER_REQUEST", 8)
    with monkeypatch.context() as patch:
        patch.setattr(pipeline._Turn, "_has_time", _true_once())
        pipeline.work_on(document.pk)

    document.refresh_from_db()
    assert (document.state, document.lease_until) == (State.EMBEDDING, None)
    assert document.chunks.exclude(embedding=None).count() == 8
    assert (document.progress_done, document.progress_total) == (8, document.chunk_count)
    pipeline.work_on(document.pk)
    assert_complete(document)


# --- raced ------------------------------------------------------------------------------


def test_two_workers_race_for_one_document_and_one_wins(corpus: Corpus) -> None:
    document = upload(corpus)
    start = threading.Barrier(2)
    results: list[bool] = []

    def work() -> None:
        try:
            start.wait()
            results.append(pipeline.work_on(document.pk))
        finally:
            connections.close_all()

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert sorted(results) == [False, True]
    assert_complete(document)
    assert document.claims == 1


def test_a_worker_that_lost_its_lease_cannot_finish(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = upload(corpus)
    index = stages.index
    winner: list[Document | None] = []

    def overtaken(*args: Any) -> None:
        if not winner:
            expire_leases()
            winner.append(Document.objects.claim(document.pk, lease_seconds=60))
        index(*args)

    monkeypatch.setattr(stages, "index", overtaken)
    pipeline.work_on(document.pk)

    document.refresh_from_db()
    assert document.state == State.EMBEDDING
    assert document.claims == 2
    assert document.lease_until is not None
    assert winner[0] is not None
    winner[0].release()
    pipeline.work_on(document.pk)
    assert_complete(document)


def test_documents_that_are_complete_together_are_indexed_in_one_commit(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = [upload(corpus, name, name=name) for name in ("a.md", "b.md")]
    replace_documents = LexicalIndex.replace_documents
    commits: list[list[int]] = []

    def counted(index: LexicalIndex, filed: Any) -> None:
        filed = list(filed)
        commits.append([document_id for document_id, _ in filed])
        replace_documents(index, filed)

    monkeypatch.setattr(LexicalIndex, "replace_documents", counted)
    pipeline.work_on(documents[0].pk)

    for document in documents:
        assert_complete(document)
    assert commits == [[document.pk for document in documents]]


def test_of_documents_indexed_together_a_lost_one_takes_no_other_with_it(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("a.md", "b.md", "c.md")
    first, lost, last = (upload(corpus, name, name=name) for name in names)
    index = stages.index
    winner: list[Document | None] = []

    def overtaken(*args: Any) -> None:
        if not winner:
            Document.objects.filter(pk=lost.pk).update(lease_until=timezone.now())
            winner.append(Document.objects.claim(lost.pk, lease_seconds=60))
        index(*args)

    monkeypatch.setattr(stages, "index", overtaken)
    pipeline.work_on(first.pk)

    assert_complete(first)
    assert_complete(last)
    lost.refresh_from_db()
    assert lost.state == State.EMBEDDING
    assert winner[0] is not None
    winner[0].release()
    pipeline.work_on(lost.pk)
    assert_complete(lost)


def test_a_long_stage_keeps_its_lease(
    corpus: Corpus, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.INGEST_LEASE_SECONDS = 1
    document = upload(corpus)
    parsing = threading.Event()
    taken: list[Document | None] = []

    def slow(*args: Any, **options: Any) -> ParsedDocument:
        assert not parsing.wait(2.5)
        taken.append(Document.objects.claim(document.pk, lease_seconds=60))
        return parse_in_child(*args, **options)

    monkeypatch.setattr(stages, "parse_in_child", slow)
    pipeline.work_on(document.pk)

    assert taken == [None]
    assert_complete(document)


def test_a_worker_that_hangs_loses_its_lease(
    corpus: Corpus, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.INGEST_LEASE_SECONDS = 1
    settings.PARSE_TIMEOUT_SECONDS = -60
    settings.OCR_TIMEOUT_SECONDS = 0
    monkeypatch.setattr(pipeline, "PATIENCE_SECONDS", 0.5)
    document = upload(corpus)
    taken: list[Document | None] = []

    def hangs(*args: Any, **options: Any) -> ParsedDocument:
        threading.Event().wait(2.5)
        taken.append(Document.objects.claim(document.pk, lease_seconds=60))
        raise ParserCrashed("too late to say so")

    monkeypatch.setattr(stages, "parse_in_child", hangs)
    pipeline.work_on(document.pk)

    assert taken[0] is not None
    document.refresh_from_db()
    assert (document.state, document.crashes) == (State.PARSING, 0)
    assert document.lease_until is not None


# --- bad files --------------------------------------------------------------------------


def test_a_poison_file_is_set_aside_after_three_crashes_and_its_neighbour_is_ready(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = upload(corpus, "poison")
    neighbour = upload(corpus, "neighbour")
    poisoned = services.blob_path(poison)

    def crashing(path: Path, **options: Any) -> ParsedDocument:
        if path == poisoned:
            raise ParserCrashed("parser ended with status -11")
        return parse_in_child(path, **options)

    monkeypatch.setattr(stages, "parse_in_child", crashing)
    for crash in (1, 2):
        pipeline.work_on(poison.pk)
        poison.refresh_from_db()
        assert (poison.state, poison.crashes, poison.error_code) == (State.RECEIVED, crash, "")
    pipeline.work_on(neighbour.pk)  # its worker reads ahead and meets the poison, too

    poison.refresh_from_db()
    assert (poison.state, poison.crashes) == (State.QUARANTINED, 3)
    assert poison.error_sentence == SENTENCES["parser_crashed"]
    assert "status -11" in poison.error_detail
    assert_complete(neighbour)


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("secret.pdf", lambda: sample_files.pdf([HELLO], user_password="pw"), "password"),
        (
            "half.pdf",
            lambda: (ROOT / "samples/reranking.pdf").read_bytes()[:3000],
            "corrupt",
        ),
        ("blank.txt", lambda: b"   \n\n  \n", "empty"),
        ("script.html", lambda: b"<html><body><script>1</script></body></html>", "no_text"),
    ],
)
def test_a_file_that_cannot_be_read_fails_with_its_sentence(
    corpus: Corpus, name: str, content: Callable[[], bytes], code: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content())
    with path.open("rb") as file:
        document = services.receive(corpus=corpus, person=None, name=name, content=file)

    pipeline.work_on(document.pk)

    document.refresh_from_db()
    assert (document.state, document.error_code) == (State.FAILED, code), document.error_detail
    assert document.error_sentence == SENTENCES[code]
    assert document.lease_until is None


def test_a_blob_that_is_gone_fails_with_its_sentence(corpus: Corpus) -> None:
    document = upload(corpus)
    services.blob_path(document).unlink()

    pipeline.work_on(document.pk)

    document.refresh_from_db()
    assert (document.state, document.error_code) == (State.FAILED, "file_missing")


def test_a_passage_that_the_server_refuses_fails_only_its_document(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad, other = (upload(corpus, topic) for topic in ("good", "REFUSED", "other"))
    embed = InferenceClient.embed

    def picky(self: InferenceClient, texts: Sequence[str], **options: Any) -> Any:
        if any("REFUSED" in text for text in texts):
            raise InferenceRejected("one of them is not to its taste")
        return embed(self, texts, **options)

    monkeypatch.setattr(InferenceClient, "embed", picky)
    pipeline.work_on(good.pk)

    bad.refresh_from_db()
    assert (bad.state, bad.error_code) == (State.FAILED, "inference_rejected")
    assert_complete(good)
    assert_complete(other)


# --- starved ----------------------------------------------------------------------------


def test_a_document_waits_for_chroma_and_then_completes(
    corpus: Corpus, settings: Settings, requests: list[list[str]]
) -> None:
    document = upload(corpus)
    chroma = settings.CHROMA_URL
    settings.CHROMA_URL = NOWHERE

    pipeline.work_on(document.pk)

    document.refresh_from_db()
    assert (document.state, document.error_code) == (State.INDEXING, "vector_store")
    assert document.error_sentence == SENTENCES["vector_store"]
    assert document.lease_until is None
    assert document.retry_at is not None
    assert document.retry_at > timezone.now() + timedelta(seconds=1)
    assert not Document.objects.searchable().exists()
    asked = len(requests)
    settings.CHROMA_URL = chroma
    pipeline.work_on(document.pk)
    assert_complete(document)
    assert len(requests) == asked


def test_the_pauses_between_retries_grow_and_are_bounded(corpus: Corpus) -> None:
    document = upload(corpus)

    def pause(stuck_seconds: float) -> float:
        document.state_since = timezone.now() - timedelta(seconds=stuck_seconds)
        return (pipeline._retry_at(document) - timezone.now()).total_seconds()

    assert pause(0) == pytest.approx(3, abs=1)
    assert pause(100) == pytest.approx(50, abs=1)
    assert pause(100_000) == pytest.approx(120, abs=1)


def test_a_document_waits_for_the_model_server_before_and_after_it_is_read(
    corpus: Corpus, settings: Settings
) -> None:
    first, server = upload(corpus, "first"), settings.EMBED_URL
    settings.EMBED_URL = NOWHERE
    pipeline.work_on(first.pk)
    first.refresh_from_db()
    assert (first.state, first.error_code) == (State.RECEIVED, "inference_unreachable")
    settings.EMBED_URL = server
    pipeline.work_on(first.pk)
    assert_complete(first)

    second = upload(corpus, "second")
    settings.EMBED_URL = NOWHERE
    pipeline.work_on(second.pk)
    second.refresh_from_db()
    assert (second.state, second.error_code) == (State.EMBEDDING, "inference_unreachable")
    settings.EMBED_URL = server
    pipeline.work_on(second.pk)
    assert_complete(second)


def test_a_document_waits_for_the_lexical_index(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = upload(corpus)
    with monkeypatch.context() as patch:
        patch.setattr(stages, "_index_words", _fails_with(LexicalIndexError("locked")))
        pipeline.work_on(document.pk)
    document.refresh_from_db()
    assert (document.state, document.error_code) == (State.INDEXING, "lexical_index")

    pipeline.work_on(document.pk)

    assert_complete(document)


def test_vectors_of_two_models_are_never_mixed(corpus: Corpus) -> None:
    pipeline.work_on(upload(corpus, "first").pk)
    generations = IndexGeneration.objects.filter(corpus=corpus)
    revision = generations.get().embedding_revision
    generations.update(embedding_revision="another")
    document = upload(corpus, "second")

    pipeline.work_on(document.pk)

    document.refresh_from_db()
    assert (document.state, document.error_code) == (State.EMBEDDING, "embedder_changed")
    assert document.error_sentence == SENTENCES["embedder_changed"]
    assert not document.chunks.exclude(embedding=None).exists()
    generations.update(embedding_revision=revision)
    pipeline.work_on(document.pk)
    assert_complete(document)


def test_another_dimension_reaches_nobody_as_an_error_of_the_store(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.work_on(upload(corpus, "first").pk)
    document = upload(corpus, "second")
    with monkeypatch.context() as patch:
        patch.setattr(
            InferenceClient,
            "embed",
            lambda self, texts, **options: np.ones((len(texts), 7), dtype=np.float32),
        )
        pipeline.work_on(document.pk)

    document.refresh_from_db()
    assert document.error_code == "embedder_changed"
    pipeline.work_on(document.pk)
    assert_complete(document)


# --- deleted ----------------------------------------------------------------------------


def delete(document: Document) -> None:
    services.request_deletion(documents=Document.objects.filter(pk=document.pk))


def test_deleting_leaves_nothing_in_any_store(corpus: Corpus, tmp_data: Path) -> None:
    document, kept = upload(corpus, "goes"), upload(corpus, "stays")
    pipeline.work_on(document.pk)
    ids = assert_complete(document)
    assert_complete(kept)

    delete(document)
    pipeline.work_on(document.pk)

    assert_nothing_left(document, ids, tmp_data)
    assert_complete(kept)


@pytest.mark.parametrize("stage", ["read", "embed", "keep_embeddings", "index", "_index_words"])
def test_a_persons_delete_wins_over_a_running_stage(
    corpus: Corpus, tmp_data: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    document = upload(corpus)
    run = getattr(stages, stage)

    def interrupted(*args: Any, **options: Any) -> Any:
        delete(document)
        return run(*args, **options)

    monkeypatch.setattr(stages, stage, interrupted)
    pipeline.work_on(document.pk)  # the worker that holds it purges it

    assert_nothing_left(document, [], tmp_data)
    assert not Chunk.objects.exists()
    generation = IndexGeneration.objects.get()
    assert store().count(generation.collection_name) == 0


def test_a_deletion_waits_for_a_store_that_is_away(
    corpus: Corpus, tmp_data: Path, settings: Settings
) -> None:
    document = upload(corpus)
    pipeline.work_on(document.pk)
    ids = assert_complete(document)
    chroma = settings.CHROMA_URL
    settings.CHROMA_URL = NOWHERE
    delete(document)

    pipeline.work_on(document.pk)

    document.refresh_from_db()
    assert (document.state, document.error_code) == (State.DELETING, "vector_store")
    assert not Document.objects.readable_by(corpus.owner).exists()
    assert services.blob_path(document).exists()
    settings.CHROMA_URL = chroma
    pipeline.work_on(document.pk)
    assert_nothing_left(document, ids, tmp_data)


def test_deleting_a_corpus_survives_a_kill_in_the_middle(
    corpus: Corpus, tmp_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = [upload(corpus, f"number {i}") for i in range(3)]
    pipeline.work_on(documents[0].pk)
    for document in documents:
        assert_complete(document)
    generation = IndexGeneration.objects.get()
    services.delete_corpus(corpus=corpus)
    removed: list[str] = []
    remove = blobs.remove

    def mortal(folder: Path, key: str) -> None:
        if removed:
            raise Killed
        removed.append(key)
        remove(folder, key)

    with monkeypatch.context() as patch:
        patch.setattr(blobs, "remove", mortal)
        with pytest.raises(Killed):
            purge.purge_corpus(corpus.pk, ingestion_settings())
    assert Corpus.objects.filter(pk=corpus.pk).exists()

    assert purge.purge_corpus(corpus.pk, ingestion_settings())

    assert not Corpus.objects.exists()
    assert not Document.objects.exists()
    assert not Chunk.objects.exists()
    assert not store().exists(generation.collection_name)
    assert not (tmp_data / "lexical" / generation.key).exists()
    assert not [path for path in (tmp_data / "blobs").rglob("*") if path.is_file()]
    assert purge.purge_corpus(corpus.pk, ingestion_settings())  # a late message


def test_a_corpus_is_not_purged_under_a_worker(corpus: Corpus) -> None:
    document = upload(corpus)
    holder = Document.objects.claim(document.pk, lease_seconds=60)
    services.delete_corpus(corpus=corpus)

    assert not purge.purge_corpus(corpus.pk, ingestion_settings())

    assert holder is not None
    assert not holder.advance(lease_seconds=60, state=State.PARSING)
    expire_leases()
    assert purge.purge_corpus(corpus.pk, ingestion_settings())
    assert not Corpus.objects.exists()


def _true_once() -> Callable[..., bool]:
    answers = iter([True])
    return lambda self: next(answers, False)


def _fails_with(error: Exception) -> Callable[..., None]:
    def fails(*args: Any, **options: Any) -> None:
        raise error

    return fails


@pytest.fixture(autouse=True)
def _no_collections_left() -> Iterator[None]:
    """Chroma is shared by all tests of the run; each leaves it as it found it."""
    yield
    for generation in IndexGeneration.objects.all():
        store().drop(generation.collection_name)
