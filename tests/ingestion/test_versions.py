"""New versions of documents, labels, and corpora that are paused."""

from __future__ import annotations

import io
import zipfile

import pytest
from django.contrib.auth.models import User
from django.test import Client

from ingestion import labels, nudges, services
from ingestion.errors import InvalidLabel, UploadRefused
from ingestion.models import Corpus, Document

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("tmp_data")]
State = Document.State


@pytest.fixture(autouse=True)
def _no_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nudges, "nudge_waiting", lambda: 0)


def upload(corpus: Corpus, text: str, *, name: str = "a.txt", replace: bool = True) -> Document:
    content = io.BytesIO(text.encode())
    return services.receive(
        corpus=corpus, person=corpus.owner, name=name, content=content, replace=replace
    )


def become(document: Document, state: Document.State) -> None:
    Document.objects.filter(pk=document.pk).update(state=state)


def answering(corpus: Corpus) -> list[str]:
    found = Document.objects.filter(corpus=corpus).searchable().order_by("pk")
    return [services.blob_path(one).read_text() for one in found]


def test_a_new_version_answers_from_the_moment_it_is_ready(corpus: Corpus) -> None:
    first = upload(corpus, "one")
    become(first, State.READY)
    second = upload(corpus, "two")
    for state in (State.RECEIVED, State.EMBEDDING, State.FAILED):
        become(second, state)
        assert answering(corpus) == ["one"]
    become(second, State.READY)

    assert answering(corpus) == ["two"]
    assert (second.version, second.lineage) == (2, first.blob_key)
    assert [row.pk for row in Document.objects.newest()] == [second.pk]


def test_a_version_that_failed_does_not_bring_back_the_one_before_the_last(corpus: Corpus) -> None:
    for number, state in enumerate((State.READY, State.FAILED, State.READY, State.PARSING)):
        become(upload(corpus, f"text {number}"), state)

    assert answering(corpus) == ["text 2"]


def test_without_a_word_a_file_of_the_same_name_is_another_document(corpus: Corpus) -> None:
    for text in ("one", "two"):
        become(upload(corpus, text, replace=False), State.READY)
    assert answering(corpus) == ["one", "two"]

    become(upload(corpus, "three"), State.READY)  # of which of the two it would be is not known
    assert answering(corpus) == ["one", "two", "three"]


def test_the_text_of_an_earlier_version_may_come_back(corpus: Corpus) -> None:
    for text in ("one", "two", "one"):
        become(upload(corpus, text), State.READY)

    assert answering(corpus) == ["one"]
    with pytest.raises(UploadRefused) as refusal:
        upload(corpus, "one")
    assert refusal.value.code == "duplicate"


def test_a_deletion_takes_the_earlier_versions_along_and_no_others(corpus: Corpus) -> None:
    for text in ("one", "two"):
        become(upload(corpus, text), State.READY)
    other = upload(corpus, "other", name="b.txt")
    become(other, State.READY)

    newest = Document.objects.filter(corpus=corpus, version=2)
    assert services.request_deletion(documents=newest, person=corpus.owner) == 2
    assert answering(corpus) == ["other"]


def test_two_files_of_one_name_in_an_archive_are_both_kept(corpus: Corpus) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("x/readme.txt", "the first readme")
        archive.writestr("y/readme.txt", "the second readme")
    packed.seek(0)
    services.receive_all(
        corpus=corpus, person=corpus.owner, name="both.zip", content=packed, replace=True
    )
    Document.objects.update(state=State.READY)

    assert answering(corpus) == ["the first readme", "the second readme"]


def test_a_version_may_become_a_document_of_its_own(corpus: Corpus) -> None:
    for text in ("one", "two"):
        become(upload(corpus, text), State.READY)
    services.stand_alone(document=Document.objects.get(version=2))

    assert answering(corpus) == ["one", "two"]


def test_labels_are_read_as_people_type_them_and_pass_to_a_new_version(corpus: Corpus) -> None:
    given = labels.from_text(tags="law, 2026 ,law", metadata="year: 2026\nof: A: B")
    assert given == [("tag", "law"), ("tag", "2026"), ("year", "2026"), ("of", "A: B")]
    document = upload(corpus, "one")
    services.label(documents=Document.objects.all(), add=given)
    services.label(documents=Document.objects.all(), add=given, remove=[("tag", "2026")])
    later = upload(corpus, "two")

    assert set(map(str, later.labels.all())) == set(map(str, document.labels.all()))
    assert str(later.labels.get(name="of")) == "of: A: B"
    for bad in ("no colon", "tag: x", "a=b: c", "x" * 61 + ": y"):
        with pytest.raises(InvalidLabel):
            labels.from_text(tags="", metadata=bad)


def test_of_one_name_any_value_will_do_and_every_name_must_fit(corpus: Corpus) -> None:
    for name, given in {
        "law.txt": [("tag", "law"), ("year", "2025")],
        "tax.txt": [("tag", "tax"), ("year", "2026")],
        "both.txt": [("tag", "law"), ("tag", "tax"), ("year", "2026")],
        "none.txt": [],
    }.items():
        document = upload(corpus, name, name=name)
        services.label(documents=Document.objects.filter(pk=document.pk), add=given)

    def found(*wanted: tuple[str, str]) -> list[str]:
        rows = Document.objects.all().labelled(wanted).order_by("pk")
        return [row.name for row in rows]

    assert found(("tag", "law"), ("tag", "tax")) == ["law.txt", "tax.txt", "both.txt"]
    assert found(("tag", "law"), ("year", "2026")) == ["both.txt"]
    assert found(("tag", "LAW")) == []
    assert len(found()) == 4


def test_the_documents_of_a_paused_corpus_wait_and_its_deletions_go_on(corpus: Corpus) -> None:
    waiting, deleted = upload(corpus, "one"), upload(corpus, "two", name="b.txt")
    become(deleted, State.DELETING)
    services.pause(corpus=corpus)
    turn = Document.objects.in_turn().values_list("pk", flat=True)

    assert list(turn) == [deleted.pk]
    assert Document.objects.claim(waiting.pk, lease_seconds=60) is None
    assert Document.objects.claim(deleted.pk, lease_seconds=60) is not None
    services.resume(corpus=corpus)
    assert Document.objects.claim(waiting.pk, lease_seconds=60) is not None


def test_only_who_may_change_a_corpus_pauses_it_or_labels_its_documents(
    client: Client, corpus: Corpus, alice: User, bob: User
) -> None:
    document = upload(corpus, "one")
    addresses = {
        f"/corpora/{corpus.pk}/pause/": {"paused": "1"},
        f"/corpora/{corpus.pk}/documents/labels/": {"document": document.pk, "tags": "law"},
        f"/documents/{document.pk}/alone/": {},
    }
    for person, status in ((bob, 404), (alice, 302)):
        client.force_login(person)
        for address, data in addresses.items():
            assert client.post(address, data).status_code == status, (person, address)

    corpus.refresh_from_db()
    assert corpus.paused_at is not None
    assert list(map(str, document.labels.all())) == ["law"]


def test_a_page_filters_by_label_and_shows_the_versions_of_a_document(
    client: Client, corpus: Corpus, alice: User
) -> None:
    for text in ("one", "two"):
        become(upload(corpus, text), State.READY)
    other = upload(corpus, "other", name="other.txt")
    services.label(documents=Document.objects.filter(pk=other.pk), add=[("tag", "law")])
    client.force_login(alice)
    newest = Document.objects.get(version=2)

    page = client.get(f"/corpora/{corpus.pk}/?label=tag%3Dlaw").content.decode()
    assert f"document-{other.pk}" in page
    assert f"document-{newest.pk}" not in page
    everything = client.get(f"/corpora/{corpus.pk}/").content.decode()
    assert everything.count('<tr id="document-') == 2
    assert "version 1, ready" in client.get(f"/documents/{newest.pk}/").content.decode()
    bad = client.post(
        f"/corpora/{corpus.pk}/documents/labels/", {"document": other.pk, "metadata": "nonsense"}
    )
    assert bad.status_code == 422
    assert "one a line" in bad.content.decode()
