"""Uploads, retries and deletions as people ask for them."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import unicodedata
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from ingestion import blobs, nudges, services
from ingestion.errors import SENTENCES, UploadRefused
from ingestion.models import Corpus, Document
from ragsite.celery import app

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from pytest_django.fixtures import Settings

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("tmp_data")]
State = Document.State
TEXT = b"Reciprocal rank fusion adds one over sixty plus the rank."


def upload(
    corpus: Corpus, content: bytes = TEXT, name: str = "notes.txt", *, replace: bool = False
) -> Document:
    file = io.BytesIO(content)
    return services.receive(
        corpus=corpus, person=corpus.owner, name=name, content=file, replace=replace
    )


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_an_upload_is_a_blob_under_a_random_name_and_a_row(corpus: Corpus, tmp_data: Path) -> None:
    document = upload(corpus)

    blob = services.blob_path(document)
    assert blob.read_bytes() == TEXT
    assert blob == tmp_data / "blobs" / document.blob_key[:2] / document.blob_key
    assert files_below(tmp_data) == {str(blob.relative_to(tmp_data))}
    document.refresh_from_db()
    assert document.state == State.RECEIVED
    assert document.sha256 == hashlib.sha256(TEXT).hexdigest()
    assert document.size_bytes == len(TEXT)
    assert (document.format, document.name) == ("text", "notes.txt")
    assert document.uploaded_by == corpus.owner


def test_a_large_upload_is_read_in_pieces(corpus: Corpus) -> None:
    class Lines(io.RawIOBase):
        """Twenty megabytes that were never in memory at once."""

        largest = 0
        left = 20 * 1024 * 1024

        def read(self, size: int = -1) -> bytes:
            self.largest = max(self.largest, size)
            piece = b"A line of text.\n" * (min(size, self.left) // 16)
            self.left -= len(piece)
            return piece

    lines = Lines()
    document = services.receive(
        corpus=corpus,
        person=None,
        name="long.txt",
        content=lines,  # type: ignore[arg-type]
    )

    assert document.size_bytes == 20 * 1024 * 1024
    assert 0 < lines.largest <= 1024 * 1024


@pytest.mark.parametrize(
    ("content", "name", "code"),
    [
        (b"", "empty.txt", "empty"),
        (b"x" * (1024 * 1024 + 1), "large.txt", "too_large"),
        (b"\x7fELF\x02\x01" + bytes(range(256)), "program.exe", "unsupported"),
        (b"just words", "paper.pdf", "type_mismatch"),
        (b"PK\x03\x04" + bytes(200), "report.docx", "corrupt"),
    ],
)
def test_a_bad_upload_is_refused_with_a_sentence_and_leaves_nothing(
    corpus: Corpus,
    tmp_data: Path,
    settings: Settings,
    content: bytes,
    name: str,
    code: str,
) -> None:
    settings.UPLOAD_MAX_MB = 1

    with pytest.raises(UploadRefused) as refusal:
        upload(corpus, content, name)

    assert refusal.value.code == code
    assert refusal.value.sentence == SENTENCES[code]
    assert files_below(tmp_data) == set()
    assert not Document.objects.exists()


def test_an_upload_is_refused_when_the_disk_is_nearly_full(
    corpus: Corpus, tmp_data: Path, settings: Settings
) -> None:
    settings.DISK_FLOOR_MB = 2**40

    with pytest.raises(UploadRefused) as refusal:
        upload(corpus)

    assert refusal.value.code == "disk_full"
    assert files_below(tmp_data) == set()


def test_a_connection_that_breaks_leaves_nothing(corpus: Corpus, tmp_data: Path) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            piece = super().read(10)
            if not piece:
                raise ConnectionResetError("the browser is gone")
            return piece

    with pytest.raises(ConnectionResetError):
        services.receive(corpus=corpus, person=None, name="notes.txt", content=Broken(TEXT))

    assert files_below(tmp_data) == set()
    assert not Document.objects.exists()


def test_the_same_content_is_refused_with_the_document_that_is_there(
    corpus: Corpus, tmp_data: Path
) -> None:
    first = upload(corpus)

    with pytest.raises(UploadRefused) as refusal:
        upload(corpus, name="copy.txt")

    assert (refusal.value.code, refusal.value.document_id) == ("duplicate", first.pk)
    assert len(files_below(tmp_data)) == 1


def test_what_is_being_deleted_may_be_uploaded_again(corpus: Corpus) -> None:
    first = upload(corpus)
    Document.objects.filter(pk=first.pk).update(state=State.DELETING)

    assert upload(corpus).pk != first.pk


def test_what_failed_is_tried_again_by_the_same_bytes_and_not_listed_twice(
    corpus: Corpus, tmp_data: Path
) -> None:
    first = upload(corpus)
    services.blob_path(first).unlink()  # as if it was lost
    Document.objects.filter(pk=first.pk).update(state=State.FAILED, error_code="file_missing")

    again = upload(corpus, name="renamed.txt")

    assert (again.pk, again.state, again.error_code) == (first.pk, State.RECEIVED, "")
    assert again.name == "renamed.txt"
    assert services.blob_path(first).read_bytes() == TEXT
    assert len(files_below(tmp_data)) == 1
    with pytest.raises(UploadRefused) as refusal:
        upload(corpus)
    assert refusal.value.code == "duplicate"


def test_bytes_of_a_failed_version_that_was_replaced_are_a_version_of_their_own(
    corpus: Corpus,
) -> None:
    for content, state in ((b"bad", State.FAILED), (b"good", State.READY)):
        document = upload(corpus, content=content, replace=True)
        Document.objects.filter(pk=document.pk).update(state=state)

    assert upload(corpus, content=b"bad", replace=True).version == 3


def test_the_same_content_may_be_in_two_corpora(corpus: Corpus) -> None:
    other = services.create_corpus(owner=corpus.owner, name="Other")

    assert upload(corpus).sha256 == upload(other).sha256


def test_a_deleted_corpus_takes_no_uploads(corpus: Corpus, tmp_data: Path) -> None:
    services.delete_corpus(corpus=corpus)

    with pytest.raises(UploadRefused) as refusal:
        upload(corpus)

    assert refusal.value.code == "corpus_gone"
    assert files_below(tmp_data) == set()


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\windows\\win.ini", "win.ini"),
        ("C:\\Users\\a\\thesis.docx", "thesis.docx"),
        ("\\\\server\\share\\a.txt", "a.txt"),
        ("/", "file"),
        ("..", "file"),
        (" . ", "file"),
        ("", "file"),
        ("a\x00b.txt", "ab.txt"),
        ("line\nbreak\r.txt", "linebreak.txt"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("zero\u200bwidth.txt", "zerowidth.txt"),
        ("cafe\u0301.txt", "caf\u00e9.txt"),
        ("two   spaces.txt", "two spaces.txt"),
        ("%2e%2e%2fetc", "%2e%2e%2fetc"),
        ("CON", "CON"),
        ("\ud800lone.txt", "lone.txt"),
        ("x" * 5000 + ".txt", "x" * 251 + ".txt"),
        ("\u6587" * 200 + ".pdf", "\u6587" * 83 + ".pdf"),
    ],
)
def test_names_become_labels(given: str, shown: str) -> None:
    assert blobs.clean_name(given) == shown
    assert len(shown.encode()) <= 255
    assert unicodedata.is_normalized("NFC", shown)


def test_a_hostile_name_stays_out_of_every_path(corpus: Corpus, tmp_data: Path) -> None:
    document = upload(corpus, name="../../../tmp/evil\x00.txt")

    assert document.name == "evil.txt"
    assert files_below(tmp_data) == {f"blobs/{document.blob_key[:2]}/{document.blob_key}"}


@pytest.fixture
def no_broker(settings: Settings) -> Iterator[None]:
    """Redis is down: nobody listens where the broker should be."""
    before = app.conf.broker_url
    app.conf.update(broker_url="redis://127.0.0.1:1/0")
    app._after_fork()  # type: ignore[attr-defined]  # forgets its connections
    yield
    app.conf.update(broker_url=before)
    app._after_fork()  # type: ignore[attr-defined]


def test_an_upload_succeeds_while_redis_is_down(
    corpus: Corpus,
    no_broker: None,
    django_capture_on_commit_callbacks: Callable[..., object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun = timezone.now()
    with (
        caplog.at_level(logging.WARNING),
        django_capture_on_commit_callbacks(execute=True),  # type: ignore[attr-defined]
    ):
        document = upload(corpus)

    assert timezone.now() - begun < timedelta(seconds=3)
    assert "no worker could be told" in caplog.text
    document.refresh_from_db()
    assert document.state == State.RECEIVED
    assert document.nudged_at is None  # so that the reconciler nudges it at once


def test_a_retry_begins_anew_with_failed_documents_only(corpus: Corpus) -> None:
    failed = upload(corpus, b"one")
    quarantined = upload(corpus, b"two")
    ready = upload(corpus, b"three")
    blocked = upload(corpus, b"four")
    rows = Document.objects
    rows.filter(pk=failed.pk).update(state=State.FAILED, error_code="corrupt", error_detail="x")
    rows.filter(pk=quarantined.pk).update(state=State.QUARANTINED, crashes=3)
    rows.filter(pk=ready.pk).update(state=State.READY)
    rows.filter(pk=blocked.pk).update(
        state=State.EMBEDDING,
        error_code="vector_store",
        retry_at=timezone.now() + timedelta(hours=1),
    )

    assert services.retry(documents=corpus.documents.all()) == 3

    states = dict(corpus.documents.values_list("pk", "state"))
    assert states == {
        failed.pk: State.RECEIVED,
        quarantined.pk: State.RECEIVED,
        ready.pk: State.READY,
        blocked.pk: State.EMBEDDING,
    }
    failed.refresh_from_db()
    quarantined.refresh_from_db()
    assert (failed.error_code, failed.error_detail, quarantined.crashes) == ("", "", 0)
    assert blocked.pk in Document.objects.in_turn().values_list("pk", flat=True)


def test_deletion_hides_at_once(corpus: Corpus) -> None:
    document = upload(corpus)
    Document.objects.filter(pk=document.pk).update(state=State.READY)
    mine = Document.objects.readable_by(corpus.owner)
    assert mine.searchable().exists()

    assert services.request_deletion(documents=Document.objects.filter(pk=document.pk)) == 1

    assert not mine.exists()
    assert not Document.objects.searchable().exists()
    assert services.request_deletion(documents=Document.objects.filter(pk=document.pk)) == 0


def test_a_deleted_corpus_is_hidden_and_its_name_is_free(corpus: Corpus, alice: User) -> None:
    upload(corpus)

    services.delete_corpus(corpus=corpus)

    assert not Corpus.objects.readable_by(alice).exists()
    assert not Corpus.objects.editable_by(alice).exists()
    assert not Document.objects.readable_by(alice).exists()
    assert services.create_corpus(owner=alice, name="Papers").name == "Papers"


def test_a_second_corpus_of_one_name_is_refused(corpus: Corpus, alice: User) -> None:
    with pytest.raises(ValidationError, match="already have a corpus"):
        services.create_corpus(owner=alice, name=" Papers ")


def test_owners_take_turns_and_the_oldest_comes_first(corpus: Corpus, bob: User) -> None:
    other = services.create_corpus(owner=bob, name="Bob's")
    of_alice = [upload(corpus, f"alice {i}".encode()) for i in range(4)]
    of_bob = [upload(other, f"bob {i}".encode()) for i in range(2)]

    order = list(Document.objects.in_turn().values_list("pk", flat=True))

    a, b = [row.pk for row in of_alice], [row.pk for row in of_bob]
    assert order == [a[0], b[0], a[1], b[1], a[2], a[3]]


def test_what_is_held_or_waits_before_a_retry_has_no_turn(corpus: Corpus) -> None:
    held, later, free = (upload(corpus, f"text {i}".encode()) for i in range(3))
    assert Document.objects.claim(held.pk, lease_seconds=60)
    Document.objects.filter(pk=later.pk).update(retry_at=timezone.now() + timedelta(minutes=1))

    assert list(Document.objects.in_turn().values_list("pk", flat=True)) == [free.pk]


def test_the_state_of_the_queue_counts_documents(corpus: Corpus) -> None:
    waiting, blocked, held, failed = (upload(corpus, f"text {i}".encode()) for i in range(4))
    Document.objects.filter(pk=blocked.pk).update(error_code="vector_store")
    Document.objects.filter(pk=failed.pk).update(state=State.FAILED)
    Document.objects.filter(pk=waiting.pk).update(
        state_since=timezone.now() - timedelta(seconds=90)
    )
    Document.objects.claim(held.pk, lease_seconds=60)

    state = services.queue_state()

    oldest = state.pop("oldest_waiting_seconds")
    assert state == {"waiting": 1, "blocked": 1, "working": 1, "deleting": 0, "failed": 1}
    assert oldest == pytest.approx(90, abs=5)


def test_abandoned_drafts_are_swept_and_fresh_ones_are_not(tmp_path: Path) -> None:
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    for name in ("old", "fresh"):
        (incoming / name).write_bytes(b"x")
    os.utime(incoming / "old", (0, 0))

    assert blobs.sweep_drafts(tmp_path) == 1
    assert files_below(tmp_path) == {"incoming/fresh"}


def test_nudges_stop_when_the_queue_is_full(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(5):
        upload(corpus, f"text {i}".encode())
    sent: list[int] = []
    monkeypatch.setattr(nudges, "messages_waiting", lambda: nudges.QUEUE_ROOM - 2)
    monkeypatch.setattr(app, "send_task", lambda name, args: sent.append(args[0]))

    assert nudges.nudge_waiting() == 2
    assert nudges.nudge_waiting() == 2  # the first two are guarded by now
    assert len(set(sent)) == 4
