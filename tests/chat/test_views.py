"""The chat's routes: who may, what comes back, and how a stream is read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client
from django.urls import reverse

from chat.forms import MAX_QUESTION_CHARACTERS
from chat.models import Conversation, Turn
from ingestion.models import Corpus, Document
from tests.chat.test_pages import document
from tests.chat.test_panel import source, trace

if TYPE_CHECKING:
    from django.contrib.auth.models import User

HTMX = {"HX-Request": "true"}


def as_person(person: User) -> Client:
    """A browser in which this person is signed in."""
    client = Client()
    client.force_login(person)
    return client


@pytest.fixture
def conversation(alice: User, corpus: Corpus) -> Conversation:
    """A conversation of alice's about her corpus, without turns."""
    made = Conversation.objects.create(owner=alice, title="Fusion")
    made.corpora.add(corpus)
    return made


@pytest.fixture
def turn(conversation: Conversation, corpus: Corpus) -> Turn:
    """An answer that has ended, with a cited source that can still be opened."""
    guide = document(corpus, "guide.pdf", "Guide")
    return Turn.objects.create(
        conversation=conversation,
        question="How are rankings merged?",
        answer="By their **ranks** [1].",
        state=Turn.State.DONE,
        model="small:1b",
        sources=[source(1, document_id=guide.pk, cited=True), source(2, document_id=guide.pk)],
        trace=trace(100, reranked=24, truncated=3),
        degraded=[{"code": "reranker_late", "sentence": "The reranker was late."}],
        timings_ms={"generation": 4200.0},
    )


# --- who may ------------------------------------------------------------------


ROUTES: list[tuple[str, str, str]] = [
    ("get", "chat:conversation", "conversation"),
    ("post", "chat:rename", "conversation"),
    ("post", "chat:delete", "conversation"),
    ("get", "chat:stream", "turn"),
    ("post", "chat:stop", "turn"),
    ("get", "chat:sources", "turn"),
]


def address(name: str, what: str, turn: Turn) -> str:
    """The address of a route for this turn or its conversation."""
    return reverse(name, args=[turn.pk if what == "turn" else turn.conversation_id])


@pytest.mark.parametrize(("verb", "name", "what"), ROUTES)
def test_a_stranger_finds_nothing(verb: str, name: str, what: str, turn: Turn, bob: User) -> None:
    assert getattr(as_person(bob), verb)(address(name, what, turn)).status_code == 404
    assert Conversation.objects.filter(pk=turn.conversation_id, title="Fusion").exists()


@pytest.mark.parametrize(("verb", "name", "what"), ROUTES)
def test_nobody_gets_in_without_signing_in(verb: str, name: str, what: str, turn: Turn) -> None:
    answer = getattr(Client(), verb)(address(name, what, turn))

    assert answer.status_code == 302
    assert answer.url.startswith(reverse("login"))


@pytest.mark.parametrize(("verb", "name", "what"), ROUTES)
def test_the_wrong_verb_is_refused(
    verb: str, name: str, what: str, turn: Turn, alice: User
) -> None:
    other = "post" if verb == "get" else "get"

    assert getattr(as_person(alice), other)(address(name, what, turn)).status_code == 405


def test_a_question_cannot_go_on_with_a_strangers_conversation(
    turn: Turn, bob: User, corpus: Corpus
) -> None:
    own = Corpus.objects.create(owner=bob, name="Own")
    document(own, "a.md")
    for conversation in (str(turn.conversation_id), "x", "9" * 30):
        answer = as_person(bob).post(
            reverse("chat:ask"),
            {"question": "Hello?", "corpora": own.pk, "conversation": conversation},
        )
        assert answer.status_code == 404
    assert Turn.objects.count() == 1


def test_a_question_cannot_be_put_to_a_corpus_one_may_not_read(corpus: Corpus, bob: User) -> None:
    document(corpus, "secret.md")
    answer = as_person(bob).post(reverse("chat:ask"), {"question": "?", "corpora": corpus.pk})

    assert answer.status_code == 422
    assert "no longer exists" in answer.content.decode()
    assert "secret" not in answer.content.decode()
    assert not Turn.objects.exists()


# --- pages --------------------------------------------------------------------


def test_an_old_answer_is_shown_with_its_sources_figures_and_notices(
    turn: Turn, alice: User
) -> None:
    page = as_person(alice).get(reverse("chat:conversation", args=[turn.conversation_id]))
    html = page.content.decode()

    assert page.status_code == 200
    assert "<strong>ranks</strong>" in html
    assert 'class="citation" href="#source-1"' in html
    assert f'id="source-{turn.pk}-1"' in html
    assert re.findall(r'data-group="([a-z-]+)"', html) == ["cited", "sent"]
    assert "100 candidates · 24 of 100 reranked on cpu in 1.9 s · 3 truncated" in html
    assert "The reranker was late." in html
    assert "sse-connect" not in html
    assert page["Cache-Control"].find("no-store") >= 0


def test_a_card_links_to_its_passage_until_the_document_is_deleted(turn: Turn, alice: User) -> None:
    address = reverse("chat:sources", args=[turn.pk])
    (pk,) = Document.objects.values_list("pk", flat=True)
    link = f"{reverse('ingestion:document', args=[pk])}?chunk=c1"

    assert link in as_person(alice).get(address).content.decode()

    Document.objects.update(state=Document.State.DELETING)
    gone = as_person(alice).get(address).content.decode()
    assert link not in gone
    assert "document deleted" in gone
    assert "The passage." in gone


def test_a_corpus_that_was_closed_again_leaves_the_text_and_takes_the_link(
    turn: Turn, alice: User, bob: User
) -> None:
    Corpus.objects.update(owner=bob)
    html = as_person(alice).get(reverse("chat:sources", args=[turn.pk])).content.decode()

    assert "no longer shared with you" in html
    assert reverse("ingestion:document", args=[Document.objects.get().pk]) not in html


@pytest.mark.parametrize(
    ("state", "error", "sentence"),
    [
        ("stopped", "", "You stopped this answer."),
        ("interrupted", "", "This answer broke off because the site was restarted."),
        ("failed", "The disk is full.", "The disk is full."),
        ("failed", "", "This question could not be answered."),
    ],
)
def test_an_answer_that_ended_early_says_so_and_offers_to_ask_again(
    state: str, error: str, sentence: str, turn: Turn, alice: User
) -> None:
    Turn.objects.update(state=state, error=error)
    page = as_person(alice).get(reverse("chat:conversation", args=[turn.conversation_id]))

    assert sentence in page.content.decode()
    assert "data-ask-again" in page.content.decode()


def test_quotes_are_not_passed_off_as_a_written_answer(turn: Turn, alice: User) -> None:
    address = reverse("chat:conversation", args=[turn.conversation_id])
    assert "Quotes, not a written answer" not in as_person(alice).get(address).content.decode()

    Turn.objects.update(model="")
    assert "Quotes, not a written answer" in as_person(alice).get(address).content.decode()


def test_names_and_texts_of_documents_are_only_text(turn: Turn, alice: User) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    Turn.objects.update(
        question=hostile,
        answer=f"{hostile} [1]",
        error=hostile,
        sources=[source(1, document=f"{hostile}.pdf", text=hostile, heading_path=hostile)],
        degraded=[{"code": "x", "sentence": hostile}],
    )
    Conversation.objects.update(title=hostile)
    page = as_person(alice).get(reverse("chat:conversation", args=[turn.conversation_id]))

    assert "<img" not in page.content.decode()
    assert page.content.decode().count("onerror=alert(1)&gt;") > 5


def test_a_running_answer_is_followed_from_the_start_after_a_reload(
    turn: Turn, alice: User
) -> None:
    Turn.objects.update(state=Turn.State.RUNNING)
    html = (
        as_person(alice)
        .get(reverse("chat:conversation", args=[turn.conversation_id]))
        .content.decode()
    )

    assert f'sse-connect="{reverse("chat:stream", args=[turn.pk])}?after=0"' in html
    assert reverse("chat:stop", args=[turn.pk]) in html


def test_the_page_asks_the_database_as_often_for_ten_turns_as_for_one(
    turn: Turn, alice: User, django_assert_max_num_queries: Any
) -> None:
    client = as_person(alice)
    address = reverse("chat:conversation", args=[turn.conversation_id])
    client.get(address)
    for _ in range(10):
        turn.pk = None
        turn.save(force_insert=True)

    with django_assert_max_num_queries(12):
        client.get(address)


def test_the_empty_states_say_what_to_do_first(alice: User, corpus: Corpus) -> None:
    client = as_person(alice)
    address = reverse("chat:new")

    Corpus.objects.all().delete()
    assert "Create a corpus" in client.get(address).content.decode()

    corpus.save(force_insert=True)
    empty = client.get(address).content.decode()
    assert "is empty" in empty
    assert reverse("ingestion:corpus", args=[corpus.pk]) in empty

    guide = document(corpus, "guide.pdf", "Fusion", state="embedding")
    assert "Your documents are being read" in client.get(address).content.decode()

    Document.objects.filter(pk=guide.pk).update(state=Document.State.READY)
    assert "What does “guide.pdf” say about “Fusion”?" in client.get(address).content.decode()


def test_the_page_can_be_opened_for_one_corpus_with_a_question(alice: User, corpus: Corpus) -> None:
    document(corpus, "a.md")
    other = Corpus.objects.create(owner=alice, name="Other")
    document(other, "b.md")

    html = (
        as_person(alice)
        .get(reverse("chat:new"), {"corpus": str(other.pk), "question": "What <b>now</b>?"})
        .content.decode()
    )

    assert f'value="{other.pk}" checked' in html
    assert f'value="{corpus.pk}" checked' not in html
    assert "What &lt;b&gt;now&lt;/b&gt;?" in html


def test_the_rail_searches_conversations(turn: Turn, alice: User) -> None:
    client = as_person(alice)
    address = reverse("chat:conversations")

    assert "Fusion" in client.get(address, {"q": "rankings"}).content.decode()
    nothing = client.get(address, {"q": "<i>"}).content.decode()
    assert "No conversation mentions “&lt;i&gt;”." in nothing


# --- tidying up ---------------------------------------------------------------


def test_renaming_keeps_the_old_title_when_the_new_one_is_none(turn: Turn, alice: User) -> None:
    client = as_person(alice)
    address = reverse("chat:rename", args=[turn.conversation_id])

    client.post(address, {"title": " Ranks "})
    assert Conversation.objects.get().title == "Ranks"
    for bad in ("", "x" * 201):
        page = client.post(address, {"title": bad}, follow=True)
        assert "the old one was kept" in page.content.decode()
    assert Conversation.objects.get().title == "Ranks"


def test_deleting_a_conversation_takes_its_turns_and_leaves_the_documents(
    turn: Turn, alice: User
) -> None:
    page = as_person(alice).post(reverse("chat:delete", args=[turn.conversation_id]), follow=True)

    assert "“Fusion” was deleted." in page.content.decode()
    assert not Turn.objects.exists()
    assert Document.objects.exists()


# --- asking -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ("", "Type a question first."),
        (" \n ", "Type a question first."),
        ("x" * (MAX_QUESTION_CHARACTERS + 1), "The question has 10,001 characters"),
    ],
)
def test_a_question_that_cannot_be_asked_comes_back_with_a_sentence(
    question: str, sentence: str, alice: User, corpus: Corpus
) -> None:
    document(corpus, "a.md")
    client = as_person(alice)
    fields = {"question": question, "corpora": corpus.pk}

    for headers in ({}, HTMX):
        answer = client.post(reverse("chat:ask"), fields, headers=headers)
        html = answer.content.decode()
        assert answer.status_code == 422
        assert sentence in html
        assert question in html  # nothing typed is lost
        assert f'value="{corpus.pk}" checked' in html
    assert answer["HX-Retarget"] == "#composer"
    assert not Turn.objects.exists()


def test_a_question_to_nothing_or_to_an_empty_corpus_comes_back_with_a_sentence(
    alice: User, corpus: Corpus
) -> None:
    client = as_person(alice)
    nothing = client.post(reverse("chat:ask"), {"question": "What?"})
    empty = client.post(reverse("chat:ask"), {"question": "What?", "corpora": corpus.pk})

    assert (nothing.status_code, empty.status_code) == (422, 422)
    assert "Choose at least one corpus to ask." in nothing.content.decode()
    assert "“Papers” holds no document that is ready." in empty.content.decode()
    assert not Turn.objects.exists()
