"""The pages of corpora and documents, as their owner and their readers meet them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from asgiref.sync import async_to_sync
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import AsyncClient, Client
from django.urls import reverse
from django.utils import timezone

from ingestion.models import Chunk, Corpus, Document, DocumentPart, IndexGeneration
from ingestion.services import blob_path
from ingestion.templatetags.documents import age

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.test.client import _MonkeyPatchedWSGIResponse as Response
    from pytest_django import DjangoAssertNumQueries
    from pytest_django.fixtures import Settings

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("tmp_data")]
State = Document.State
HTMX = {"HX-Request": "true"}
JSON = {"Accept": "application/json"}


@pytest.fixture
def page(client: Client, alice: User) -> Client:
    """A browser in which the owner is signed in."""
    client.force_login(alice)
    return client


def add(corpus: Corpus, name: str = "notes.txt", state: str = State.READY, **more: Any) -> Document:
    number = Document.objects.count()
    values = {"size_bytes": 2048, "sha256": f"{number:064x}", "format": "text", **more}
    return Document.objects.create(corpus=corpus, name=name, state=state, **values)


def text_of(response: Response) -> str:
    return response.content.decode()


# --- corpora ------------------------------------------------------------------


def test_a_newcomer_is_told_what_to_do_first(client: Client, bob: User) -> None:
    client.force_login(bob)

    shown = text_of(client.get(reverse("ingestion:corpora")))

    assert "Make your first corpus" in shown
    assert 'name="name"' in shown


def test_the_list_counts_what_is_ready_in_progress_and_failed(page: Client, corpus: Corpus) -> None:
    add(corpus, chunk_count=4)
    add(corpus, chunk_count=8, enabled=False)
    add(corpus, state=State.EMBEDDING, chunk_count=100)
    add(corpus, state=State.FAILED, error_code="no_text")
    add(corpus, state=State.DELETING, chunk_count=1000)
    # A version that was replaced, and one that is not yet.
    add(corpus, "v.txt", lineage="v", version=1, chunk_count=10)
    add(corpus, "v.txt", lineage="v", version=2, chunk_count=20)
    add(corpus, "v.txt", lineage="v", version=3, state=State.PARSING)

    listed = page.get(reverse("ingestion:corpora")).context["corpora"].get()

    assert (listed.total, listed.ready, listed.working, listed.failed) == (6, 3, 2, 1)
    assert listed.passages == 32


def test_the_list_shows_open_corpora_of_others_and_hides_private_ones(
    page: Client, corpus: Corpus, bob: User
) -> None:
    Corpus.objects.create(owner=bob, name="Bob's secrets")
    Corpus.objects.create(owner=bob, name="Bob's handbook", visibility="open")

    shown = text_of(page.get(reverse("ingestion:corpora")))

    assert "Bob&#x27;s handbook" in shown
    assert "by bob" in shown
    assert "secrets" not in shown


@pytest.mark.parametrize("corpora", [1, 12])
def test_the_list_costs_the_same_number_of_queries_however_long(
    page: Client,
    alice: User,
    corpora: int,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    for number in range(corpora):
        add(Corpus.objects.create(owner=alice, name=f"Corpus {number}"))

    with django_assert_num_queries(6):  # session, person, corpora, imports, two lists of the rail
        page.get(reverse("ingestion:corpora"))


def test_a_corpus_is_made_and_shown(page: Client, alice: User) -> None:
    form = {"name": " Reports ", "description": "Yearly", "visibility": "open"}

    response = page.post(reverse("ingestion:create_corpus"), form)

    made = Corpus.objects.get(owner=alice)
    assert (made.name, made.description, made.visibility) == ("Reports", "Yearly", "open")
    assert response.headers["Location"] == reverse("ingestion:corpus", args=[made.pk])


@pytest.mark.parametrize("headers", [{}, HTMX])
def test_a_name_that_is_taken_is_told_at_its_field(
    page: Client, corpus: Corpus, headers: dict[str, str]
) -> None:
    form = {"name": "Papers", "visibility": "private"}

    response = page.post(reverse("ingestion:create_corpus"), form, headers=headers)

    assert response.status_code == 422
    assert "You already have a corpus of this name. Choose another." in text_of(response)
    assert Corpus.objects.count() == 1


def test_another_person_may_use_the_same_name(client: Client, bob: User, corpus: Corpus) -> None:
    client.force_login(bob)
    form = {"name": "Papers", "visibility": "private"}

    assert client.post(reverse("ingestion:create_corpus"), form).status_code == 302


def test_an_owner_renames_and_opens_a_corpus(page: Client, corpus: Corpus) -> None:
    form = {"name": "Articles", "description": "", "visibility": "open"}

    page.post(reverse("ingestion:edit_corpus", args=[corpus.pk]), form)

    corpus.refresh_from_db()
    assert (corpus.name, corpus.visibility) == ("Articles", "open")
    assert corpus.doubtful == Corpus.Doubtful.WARN


def test_what_to_do_in_doubt_is_a_setting_of_the_corpus(page: Client, corpus: Corpus) -> None:
    address = reverse("ingestion:edit_corpus", args=[corpus.pk])
    form = {"name": "Papers", "visibility": "private"}

    page.post(address, {**form, "doubtful": "refuse"})
    page.post(address, {**form, "doubtful": "shout"})
    page.post(address, form)

    corpus.refresh_from_db()
    assert corpus.doubtful == Corpus.Doubtful.REFUSE


def test_a_bad_name_changes_nothing(page: Client, corpus: Corpus) -> None:
    form = {"name": "", "visibility": "open"}

    response = page.post(reverse("ingestion:edit_corpus", args=[corpus.pk]), form)

    corpus.refresh_from_db()
    assert response.status_code == 422
    assert (corpus.name, corpus.visibility) == ("Papers", "private")


@pytest.mark.parametrize("headers", [{}, HTMX])
def test_a_corpus_goes_only_when_its_name_is_typed(
    page: Client, corpus: Corpus, headers: dict[str, str]
) -> None:
    address = reverse("ingestion:delete_corpus", args=[corpus.pk])

    refused = page.post(address, {"name": "papers"}, headers=headers)

    assert refused.status_code == 422
    assert "nothing was deleted" in text_of(refused)
    assert Corpus.objects.present().exists()

    page.post(address, {"name": "Papers"}, headers=headers)
    assert not Corpus.objects.present().exists()
    assert page.get(reverse("ingestion:corpus", args=[corpus.pk])).status_code == 404


# --- uploads ------------------------------------------------------------------


def upload(
    page: Client, corpus: Corpus, content: bytes, name: str = "notes.txt", **more: Any
) -> Response:
    file = SimpleUploadedFile(name, content)
    return page.post(reverse("ingestion:upload", args=[corpus.pk]), {"file": file}, **more)


def test_a_file_that_is_taken_is_told_with_its_id(page: Client, corpus: Corpus) -> None:
    response = upload(page, corpus, b"Some words.", headers=JSON)

    document = Document.objects.get()
    assert response.status_code == 201
    told = {"document_id": document.pk, "name": "notes.txt"}
    assert response.json() == told | {
        "documents": [told],
        "refused": [],
        "sentence": "notes.txt is uploaded.",
    }
    assert document.uploaded_by == corpus.owner
    assert blob_path(document).read_bytes() == b"Some words."


@pytest.mark.parametrize(
    ("content", "name", "status", "words"),
    [
        (b"", "empty.txt", 422, "The file is empty."),
        (b"x" * (1024 * 1024 + 1), "big.txt", 413, "larger than this site accepts"),
        (b"\x00\x01\x02" * 50, "tool.exe", 422, "This kind of file cannot be read."),
    ],
)
def test_a_refused_file_is_told_why_and_leaves_nothing(
    page: Client,
    corpus: Corpus,
    settings: Settings,
    content: bytes,
    name: str,
    status: int,
    words: str,
) -> None:
    settings.UPLOAD_MAX_MB = 1

    response = upload(page, corpus, content, name, headers=JSON)

    assert response.status_code == status
    assert words in response.json()["error"]
    assert not Document.objects.exists()


def test_a_file_that_is_there_already_is_linked(page: Client, corpus: Corpus) -> None:
    held = upload(page, corpus, b"Some words.", headers=JSON).json()["document_id"]

    response = upload(page, corpus, b"Some words.", "copy.txt", headers=JSON)

    assert response.status_code == 409
    assert "already holds a file with exactly this content" in response.json()["error"]
    assert response.json()["document_url"] == reverse("ingestion:document", args=[held])
    assert Document.objects.count() == 1


def test_a_request_without_a_file_is_told_so(page: Client, corpus: Corpus) -> None:
    response = page.post(reverse("ingestion:upload", args=[corpus.pk]), headers=JSON)

    assert response.status_code == 422
    assert response.json()["error"].startswith("No file arrived.")


def test_a_plain_form_comes_back_to_the_page_with_the_sentence(
    page: Client, corpus: Corpus
) -> None:
    response = upload(page, corpus, b"")

    assert response.headers["Location"] == reverse("ingestion:corpus", args=[corpus.pk])


def test_a_viewer_sees_no_place_to_drop_and_no_buttons(
    client: Client, viv: User, corpus: Corpus
) -> None:
    Corpus.objects.update(visibility="open")
    document = add(corpus, state=State.FAILED, error_code="no_text")
    client.force_login(viv)

    shown = text_of(client.get(reverse("ingestion:corpus", args=[corpus.pk])))
    read = text_of(client.get(reverse("ingestion:document", args=[document.pk])))

    for address in ("upload", "retry", "delete", "set_enabled", "edit_corpus", "delete_corpus"):
        assert reverse(f"ingestion:{address}", args=[corpus.pk]) + '"' not in shown + read
    assert "No text was found in the file." in shown


# --- the table ----------------------------------------------------------------


def table(page: Client, corpus: Corpus, /, **query: Any) -> Response:
    return page.get(reverse("ingestion:documents", args=[corpus.pk]), query, headers=HTMX)


@pytest.mark.parametrize("state", [State.READY, State.FAILED, State.QUARANTINED, State.DELETING])
def test_the_table_is_not_asked_again_when_all_is_done(
    page: Client, corpus: Corpus, state: str
) -> None:
    add(corpus, state=state)

    assert "every 1s" not in text_of(table(page, corpus))


@pytest.mark.parametrize("state", [State.RECEIVED, State.PARSING, State.EMBEDDING, State.INDEXING])
def test_the_table_is_asked_every_second_while_a_document_is_worked_on(
    page: Client, corpus: Corpus, state: str
) -> None:
    add(corpus, state=state)

    assert "every 1s" in text_of(table(page, corpus))
    # even while the filter hides it, so that it appears when it is done
    assert "every 1s" in text_of(table(page, corpus, state="failed"))


def test_a_row_shows_stage_progress_age_and_why_it_waits(page: Client, corpus: Corpus) -> None:
    add(
        corpus,
        state=State.EMBEDDING,
        progress_done=30,
        progress_total=120,
        state_since=timezone.now() - timedelta(seconds=75),
        error_code="inference_unreachable",
    )

    row = text_of(table(page, corpus))

    assert "Embedding" in row
    assert '<progress value="30" max="120"' in row
    assert "30 of 120" in row
    assert ">1 min<" in row
    assert "The model server is not reachable. Processing goes on by itself" in row


def test_a_failure_is_told_in_its_sentence(page: Client, corpus: Corpus) -> None:
    add(corpus, state=State.FAILED, error_code="password", error_detail="/srv/blobs/x: secret")

    row = text_of(table(page, corpus))

    assert "Remove the protection and upload it again." in row
    assert "secret" not in row


def test_names_are_text_and_never_markup(page: Client, corpus: Corpus) -> None:
    add(corpus, name='<img src=x onerror="alert(1)">.pdf')

    assert "<img" not in text_of(table(page, corpus))


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({}, {"a.pdf", "b.pdf", "c.pdf", "d.pdf"}),
        ({"state": "ready"}, {"a.pdf"}),
        ({"state": "failed"}, {"b.pdf"}),
        ({"state": "working"}, {"c.pdf"}),
        ({"state": "off"}, {"d.pdf"}),
        ({"state": "nonsense"}, {"a.pdf", "b.pdf", "c.pdf", "d.pdf"}),
        ({"q": "B.P"}, {"b.pdf"}),
        ({"q": "nothing"}, set()),
        ({"page": "99"}, {"a.pdf", "b.pdf", "c.pdf", "d.pdf"}),
        ({"page": "-1"}, {"a.pdf", "b.pdf", "c.pdf", "d.pdf"}),
    ],
)
def test_the_table_is_filtered_by_state_and_name(
    page: Client, corpus: Corpus, query: dict[str, str], names: set[str]
) -> None:
    add(corpus, "a.pdf")
    add(corpus, "b.pdf", State.QUARANTINED)
    add(corpus, "c.pdf", State.CHUNKING)
    add(corpus, "d.pdf", enabled=False)
    add(corpus, "e.pdf", State.DELETING)

    response = table(page, corpus, **query)

    assert {document.name for document in response.context["page"]} == names


def test_the_table_asks_again_for_what_it_shows(page: Client, corpus: Corpus) -> None:
    add(corpus, "a & b.pdf")

    shown = text_of(table(page, corpus, state="ready", q="a & b"))

    assert "table/?state=ready&amp;q=a+%26+b" in shown


def test_filtering_changes_the_address_of_the_page(page: Client, corpus: Corpus) -> None:
    response = table(page, corpus, state="failed", filtering="1")

    expected = reverse("ingestion:corpus", args=[corpus.pk]) + "?state=failed"
    assert response.headers["HX-Replace-Url"] == expected


@pytest.mark.parametrize("documents", [1, 40])
def test_the_table_costs_the_same_number_of_queries_however_long(
    page: Client,
    corpus: Corpus,
    documents: int,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    for _ in range(documents):
        add(corpus)

    with django_assert_num_queries(
        9
    ):  # session, person, corpus, counts, number, rows, their labels, all labels
        table(page, corpus)


@pytest.mark.parametrize(
    ("seconds", "words"), [(-5, "0 s"), (59, "59 s"), (60, "1 min"), (7200, "2 h"), (90_000, "1 d")]
)
def test_ages_have_one_unit(seconds: int, words: str) -> None:
    assert age(timezone.now() - timedelta(seconds=seconds)) == words


# --- what is done to documents ------------------------------------------------


def test_retry_takes_the_failed_among_the_chosen(page: Client, corpus: Corpus) -> None:
    failed = add(corpus, state=State.FAILED, error_code="too_slow")
    aside = add(corpus, state=State.QUARANTINED, error_code="parser_crashed")
    ready = add(corpus)
    chosen = {"document": [failed.pk, ready.pk]}

    response = page.post(reverse("ingestion:retry", args=[corpus.pk]), chosen, headers=HTMX)

    states = dict(Document.objects.values_list("pk", "state"))
    assert states == {
        failed.pk: State.RECEIVED,
        aside.pk: State.QUARANTINED,
        ready.pk: State.READY,
    }
    assert "documents-changed" in response.headers["HX-Trigger"]
    assert "1 document will be tried again." in text_of(response)


def test_ready_documents_are_read_again_where_their_file_is_there(
    page: Client, corpus: Corpus
) -> None:
    ready = add(corpus, chunk_count=1_200)
    lost = add(corpus, error_code="file_missing")
    failed = add(corpus, state=State.FAILED)
    address = reverse("ingestion:read_again", args=[corpus.pk])
    chosen = {"document": [ready.pk, lost.pk, failed.pk]}

    asked = text_of(page.get(address, chosen, headers=HTMX))
    assert "Read 1 document again?" in asked
    assert "1,200 passages are left out of answers until each is ready again" in asked
    assert Document.objects.filter(state=State.RECEIVED).count() == 0
    done = page.post(address, chosen, headers=HTMX)

    assert "1 document will be read again." in text_of(done)
    states = dict(Document.objects.values_list("pk", "state"))
    assert states == {ready.pk: State.RECEIVED, lost.pk: State.READY, failed.pk: State.FAILED}


def test_all_failed_documents_are_retried_at_once(page: Client, corpus: Corpus) -> None:
    add(corpus, state=State.FAILED)
    add(corpus, state=State.QUARANTINED)
    add(corpus)

    page.post(reverse("ingestion:retry", args=[corpus.pk]), {"all": "failed"}, headers=HTMX)

    assert Document.objects.filter(state=State.RECEIVED).count() == 2


@pytest.mark.parametrize("headers", [HTMX, {}])
def test_changes_of_many_documents_are_asked_with_counts(
    page: Client, corpus: Corpus, headers: dict[str, str]
) -> None:
    failed = [add(corpus, f"f{n}.txt", state=State.FAILED) for n in range(7)]
    on = [add(corpus, f"on{n}.txt", chunk_count=600) for n in range(2)]
    off = add(corpus, "off.txt", enabled=False)
    chosen: dict[str, Any] = {"document": [one.pk for one in (*failed[:2], *on, off)]}
    address = {
        name: reverse(f"ingestion:{name}", args=[corpus.pk]) for name in ("retry", "set_enabled")
    }

    tried = text_of(page.get(address["retry"], chosen, headers=headers))
    every = text_of(page.get(address["retry"], {"all": "failed"}, headers=headers))
    switched = text_of(
        page.get(address["set_enabled"], {**chosen, "enabled": "0"}, headers=headers)
    )

    assert "Try 2 documents again?" in tried
    assert tried.count('name="document"') == 2
    assert "Try 7 documents again?" in every
    assert "and 2 more" in every
    assert 'name="all" value="failed"' in every
    assert "Switch 4 documents off?" in switched
    assert "1,200 passages are left out of answers from now on" in switched
    assert "1 document off already." in switched
    assert 'name="enabled" value="0"' in switched
    assert ("<html" in switched) == (headers == {})
    rows = Document.objects.filter(corpus=corpus)
    assert rows.filter(state=State.FAILED, enabled=True).count() == 7  # GET changes nothing


@pytest.mark.parametrize("name", ["retry", "read_again", "delete", "set_enabled"])
def test_documents_of_another_corpus_are_out_of_reach(
    page: Client, corpus: Corpus, bob: User, name: str
) -> None:
    theirs = Corpus.objects.create(owner=bob, name="Theirs", visibility="open")
    state = State.READY if name == "read_again" else State.FAILED
    document = add(theirs, state=state)
    form = {"document": document.pk, "enabled": "0"}

    page.post(reverse(f"ingestion:{name}", args=[corpus.pk]), form)

    document.refresh_from_db()
    assert (document.state, document.enabled) == (state, True)


def test_deletion_is_asked_with_counts_and_then_done(page: Client, corpus: Corpus) -> None:
    first = add(corpus, "first.pdf", pages=3, chunk_count=11)
    second = add(corpus, "second.pdf", pages=4, chunk_count=1200)
    kept = add(corpus, "kept.pdf")
    address = reverse("ingestion:delete", args=[corpus.pk])
    chosen = {"document": [first.pk, second.pk]}

    asked = text_of(page.get(address, chosen, headers=HTMX))

    assert "Delete 2 documents?" in asked
    assert "7 pages and 1,211 passages" in asked
    assert not Document.objects.filter(state=State.DELETING).exists()

    response = page.post(address, chosen, headers=HTMX)

    gone = Document.objects.filter(state=State.DELETING)
    assert set(gone.values_list("pk", flat=True)) == {first.pk, second.pk}
    assert "done" in response.headers["HX-Trigger"]
    assert "2 documents deleted" in text_of(response)
    assert kept.name in text_of(table(page, corpus))
    assert "first.pdf" not in text_of(table(page, corpus))


def test_deletion_works_without_scripts(page: Client, corpus: Corpus) -> None:
    document = add(corpus)
    address = reverse("ingestion:delete", args=[corpus.pk])

    asked = text_of(page.get(address, {"document": document.pk}))
    response = page.post(address, {"document": document.pk})

    assert "<!doctype html>" in asked
    assert response.headers["Location"] == reverse("ingestion:corpus", args=[corpus.pk])


@pytest.mark.parametrize("value", ["x", "-1", "1.5", "9" * 30, "²"])
def test_a_document_that_is_no_number_is_not_there(
    page: Client, corpus: Corpus, value: str
) -> None:
    address = reverse("ingestion:delete", args=[corpus.pk])

    assert page.post(address, {"document": value}).status_code == 404


def test_a_document_is_taken_out_of_answers_and_put_back(page: Client, corpus: Corpus) -> None:
    document = add(corpus)
    address = reverse("ingestion:set_enabled", args=[corpus.pk])

    page.post(address, {"document": document.pk, "enabled": "0"})
    assert not Document.objects.searchable().exists()
    assert "Switched off" in text_of(table(page, corpus))

    page.post(address, {"document": document.pk, "enabled": "1"})
    assert Document.objects.searchable().exists()


# --- the banner ---------------------------------------------------------------


def banner(page: Client, corpus: Corpus) -> str:
    return text_of(page.get(reverse("ingestion:queue", args=[corpus.pk]), headers=HTMX))


def waiting_for(seconds: int) -> dict[str, Any]:
    return {"state": State.RECEIVED, "state_since": timezone.now() - timedelta(seconds=seconds)}


def test_uploads_that_nobody_takes_are_said_to_be_safe(page: Client, corpus: Corpus) -> None:
    add(corpus, **waiting_for(60))

    assert "Processing is paused; uploads are safe." in banner(page, corpus)


def test_readers_of_a_finished_corpus_are_not_alarmed(
    client: Client, viv: User, corpus: Corpus, bob: User
) -> None:
    Corpus.objects.update(visibility="open")
    add(corpus)
    add(Corpus.objects.create(owner=bob, name="Elsewhere"), **waiting_for(60))
    client.force_login(viv)

    assert "paused" not in banner(client, corpus)
    add(corpus, **waiting_for(1))
    assert "paused" in banner(client, corpus)


def test_there_is_no_alarm_about_what_came_just_now(page: Client, corpus: Corpus) -> None:
    add(corpus, **waiting_for(2))

    assert "paused" not in banner(page, corpus)


def test_there_is_no_alarm_while_a_worker_is_at_it(page: Client, corpus: Corpus) -> None:
    add(corpus, **waiting_for(600))
    add(corpus, state=State.PARSING, lease_until=timezone.now() + timedelta(minutes=1))

    assert "paused" not in banner(page, corpus)


# --- one document -------------------------------------------------------------


@pytest.fixture
def book(corpus: Corpus) -> Document:
    """Three pages and three passages, the second of which runs from page 1 to page 2."""
    document = add(corpus, "Zürich – Übersicht.pdf", pages=3, chunk_count=3, format="pdf")
    texts = ["Alpha beta. Gamma <b>delta</b>.", "Epsilon zeta. Eta.", "Theta iota."]
    generation = IndexGeneration.objects.create(
        corpus=corpus,
        embedding_model="m",
        embedding_revision="1",
        dimension=1,
        pipeline_version="1",
    )
    for number, text in enumerate(texts):
        DocumentPart.objects.create(
            document=document, generation=generation, ordinal=number, page=number + 1, text=text
        )
    spans = [[[0, 0, 11]], [[0, 12, 31], [1, 0, 13]], [[2, 0, 11]]]
    for ordinal, ranges in enumerate(spans):
        Chunk.objects.create(
            id=f"chunk{ordinal}",
            document=document,
            generation=generation,
            ordinal=ordinal,
            text=" ".join(texts[part][start:end] for part, start, end in ranges),
            heading_path="Overview › Greek",
            page_from=ranges[0][0] + 1,
            page_to=ranges[-1][0] + 1,
            spans=ranges,
            tokens=20 + ordinal,
        )
    return document


def read(page: Client, document: Document, /, **query: Any) -> Response:
    return page.get(reverse("ingestion:document", args=[document.pk]), query)


def test_a_document_opens_at_its_first_page_beside_its_passages(
    page: Client, book: Document
) -> None:
    shown = text_of(read(page, book))

    assert "Alpha beta." in shown
    assert "Theta iota.</article>" not in shown  # only the asked page is sent
    assert "<mark" not in shown
    assert shown.count('class="passage"') == 3
    assert "p. 1–2" in shown
    assert "Overview › Greek" in shown


def test_a_passage_is_marked_exactly_and_is_where_the_page_scrolls_to(
    page: Client, book: Document
) -> None:
    first, second = read(page, book, chunk="chunk1"), read(page, book, chunk="chunk1", page=2)

    mark = '<mark id="passage" data-viewer-mark>'
    assert f"{mark}Gamma &lt;b&gt;delta&lt;/b&gt;.</mark>" in text_of(first)
    assert "Alpha beta. <mark" in text_of(first)
    assert f"{mark}Epsilon zeta.</mark> Eta." in text_of(second)


def test_the_text_of_a_document_is_never_markup(page: Client, book: Document) -> None:
    assert "<b>" not in text_of(read(page, book))


def test_a_passage_that_is_gone_is_said_to_be(page: Client, book: Document) -> None:
    response = read(page, book, chunk="f" * 32)

    assert response.status_code == 200
    assert "no longer part of this document" in text_of(response)
    assert "<mark" not in text_of(response)


def test_a_passage_of_another_document_is_not_marked(
    page: Client, book: Document, corpus: Corpus
) -> None:
    other = add(corpus)
    DocumentPart.objects.create(
        document=other,
        generation=IndexGeneration.objects.get(corpus=corpus),
        ordinal=0,
        page=None,
        text="Something else.",
    )

    assert "<mark" not in text_of(read(page, other, chunk="chunk0"))


@pytest.mark.parametrize("number", ["99", "0", "-3", "x", "9" * 40])
def test_a_page_that_is_not_there_shows_one_that_is(
    page: Client, book: Document, number: str
) -> None:
    response = read(page, book, page=number)

    assert response.status_code == 200
    assert "</article>" in text_of(response)


def test_turning_a_page_sends_the_text_alone(page: Client, book: Document) -> None:
    address = reverse("ingestion:document", args=[book.pk])

    part = text_of(page.get(address, {"page": 3}, headers={**HTMX, "HX-Target": "reader"}))

    assert "Theta iota." in part
    assert "<html" not in part
    assert 'id="passages"' not in part


def test_going_back_in_the_history_sends_the_whole_page(page: Client, book: Document) -> None:
    headers = {**HTMX, "HX-Target": "reader", "HX-History-Restore-Request": "true"}
    address = reverse("ingestion:document", args=[book.pk])

    assert "<html" in text_of(page.get(address, {"page": 3}, headers=headers))


def test_a_document_that_is_worked_on_says_so_and_reloads_when_done(
    page: Client, corpus: Corpus
) -> None:
    document = add(corpus, state=State.PARSING)
    address = reverse("ingestion:document", args=[document.pk])
    headers = {**HTMX, "HX-Target": "document-state"}

    assert "every 1s" in text_of(page.get(address))
    assert "HX-Refresh" not in page.get(address, headers=headers).headers
    Document.objects.update(state=State.READY)
    assert page.get(address, headers=headers).headers["HX-Refresh"] == "true"


def test_a_deleted_document_is_not_there(page: Client, book: Document) -> None:
    Document.objects.update(state=State.DELETING)

    assert read(page, book).status_code == 404


@pytest.mark.parametrize("passages", [1, 60])
def test_a_document_costs_the_same_number_of_queries_however_long(
    page: Client,
    book: Document,
    passages: int,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    generation = IndexGeneration.objects.get()
    Chunk.objects.bulk_create(
        Chunk(
            id=f"more{number}",
            document=book,
            generation=generation,
            ordinal=10 + number,
            text="words",
            tokens=1,
        )
        for number in range(passages)
    )

    # session, person, document; parts, text, outline; number and rows of passages; two lists of
    # the rail
    with django_assert_num_queries(12):
        read(page, book)


def test_the_file_is_downloaded_as_it_was_uploaded_and_never_shown(
    alice: User, book: Document
) -> None:
    content = bytes(range(256)) * 3000
    blob_path(book).parent.mkdir(parents=True, exist_ok=True)
    blob_path(book).write_bytes(content)
    client = AsyncClient()
    client.force_login(alice)

    async def download() -> tuple[Any, bytes]:
        response: Any = await client.get(reverse("ingestion:original", args=[book.pk]))
        return response, b"".join([block async for block in response.streaming_content])

    response, body = async_to_sync(download)()

    assert body == content
    disposition = response.headers["Content-Disposition"]
    assert disposition == f"attachment; filename*=utf-8''{quote('Zürich – Übersicht.pdf')}"
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert response.headers["Content-Length"] == str(len(content))
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Security-Policy"].startswith("sandbox")


def test_a_file_that_is_missing_on_the_disk_is_not_there(alice: User, book: Document) -> None:
    client = AsyncClient()
    client.force_login(alice)

    response = async_to_sync(client.get)(reverse("ingestion:original", args=[book.pk]))

    assert response.status_code == 404
