"""The chat's routes: who may, what comes back, and how a stream is read."""

from __future__ import annotations

import asyncio
import html
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import User
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.test import AsyncClient, Client
from django.urls import reverse
from django.utils import timezone

from chat import services as chat_services
from chat import turns
from chat.admission import Line
from chat.conf import generation_settings
from chat.forms import MAX_QUESTION_CHARACTERS
from chat.models import Conversation, Turn
from chat.types import ChatServices
from inference.client import shared_client
from ingestion.models import Corpus, Document
from ingestion.types import Passage
from ragsite.processes import free_port
from search.types import Candidate, Outcome, RetrievalSettings, Trace
from tests.chat.test_pages import document
from tests.chat.test_panel import source, trace
from tests.ollama_server import OllamaServer

if TYPE_CHECKING:
    from pytest_django import Settings

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
    ("post", "chat:again", "turn"),
    ("post", "chat:show", "turn"),
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
    assert answer.url.startswith(reverse("account_login"))


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


def test_the_panel_says_what_relevance_is_or_that_there_is_none(turn: Turn, alice: User) -> None:
    address = reverse("chat:sources", args=[turn.pk])
    turn.sources = [source | {"relevance": 2.36e-187} for source in turn.sources]
    turn.save()

    html = as_person(alice).get(address).content.decode()
    assert "Relevance is the reranker's estimate" in html
    assert "Relevance </span>0.00<" in html

    unread = {"relevance": None, "rerank_rank": None, "rerank_logit": None}
    turn.sources = [source | unread for source in turn.sources]
    turn.save()
    html = as_person(alice).get(address).content.decode()
    assert "These were not reranked: their order is that of fusion." in html
    assert "Relevance" not in html


def test_a_card_links_to_its_passage_until_the_document_is_deleted(turn: Turn, alice: User) -> None:
    address = reverse("chat:sources", args=[turn.pk])
    (pk,) = Document.objects.values_list("pk", flat=True)
    link = f"{reverse('ingestion:document', args=[pk])}?chunk=c1"

    assert link in as_person(alice).get(address).content.decode()

    Document.objects.update(state=Document.State.DELETING)
    gone = as_person(alice).get(address).content.decode()
    assert link not in gone
    assert "document deleted" in gone
    assert "The passage." not in gone


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("model", ["small:1b", ""])
def test_a_corpus_that_was_closed_again_takes_its_passages_and_quotes_wherever_they_stood(
    turn: Turn, alice: User, bob: User, model: str
) -> None:
    Turn.objects.update(model=model)  # without one the answer is made of quotes
    page = as_person(alice)

    def told() -> dict[str, str]:
        asked = {
            "page": page.get(reverse("chat:conversation", args=[turn.conversation_id])),
            "panel": page.get(reverse("chat:sources", args=[turn.pk])),
            "copied": page.get(reverse("chat:turn_text", args=[turn.pk])),
            "export": page.get(reverse("chat:export", args=[turn.conversation_id, "json"])),
        }
        pages = {name: answer.content.decode() for name, answer in asked.items()}
        return pages | {"stream": "".join(data for _, _, data in events_of(alice, turn))}

    for name, before in told().items():
        assert "guide.pdf" in before, name
        assert "ranks" in before or name == "panel", name
    Corpus.objects.update(owner=bob)
    after = told()

    for name, shown in after.items():
        assert "guide.pdf" not in shown, name
        assert "The passage." not in shown, name
        assert reverse("ingestion:document", args=[Document.objects.get().pk]) not in shown, name
        if name != "panel":
            assert ("ranks" in shown) == bool(model), name
    for name in ("page", "panel", "stream"):
        assert "no longer shared with you" in after[name], name


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
    assert "Ask again" in page.content.decode()


def test_an_answer_that_was_stopped_before_its_search_does_not_say_that_nothing_was_found(
    turn: Turn, alice: User
) -> None:
    Turn.objects.update(state=Turn.State.STOPPED, answer="", sources=[], trace=None)
    address = reverse("chat:conversation", args=[turn.conversation_id])
    stopped = as_person(alice).get(address).content.decode()
    Turn.objects.update(state=Turn.State.DONE, trace=trace(0, reranked=0, truncated=0))
    done = as_person(alice).get(address).content.decode()

    assert "Nothing was written until then." in stopped
    assert "The answer ended before its sources were found." in stopped
    assert "Nothing was found for this question." not in stopped
    assert "Nothing was found for this question." in done


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
        turn.parent_id, turn.pk = turn.pk, None
        turn.save(force_insert=True)

    with django_assert_max_num_queries(13):
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


# --- streams ------------------------------------------------------------------


async def read_stream(answer: Any) -> str:
    """All that a stream sends until it ends."""
    assert isinstance(answer, StreamingHttpResponse)
    return b"".join([part async for part in aiter(answer)]).decode()


def events_of(person: User, turn: Turn, **request: Any) -> list[tuple[int | None, str, str]]:
    """The events of a turn's stream until it ends: number, name, data."""

    async def read() -> str:
        client = AsyncClient()
        await client.aforce_login(person)
        answer: Any = await client.get(reverse("chat:stream", args=[turn.pk]), **request)
        assert answer.status_code == 200
        assert answer["Content-Type"] == "text/event-stream"
        assert answer["Cache-Control"] == "no-store"
        assert answer["X-Accel-Buffering"] == "no"
        return await read_stream(answer)

    found = []
    for message in async_to_sync(read)().split("\n\n"):
        if not (name := re.search(r"^event: (.+)$", message, re.MULTILINE)):
            continue
        number = re.search(r"^id: (\d+)$", message, re.MULTILINE)
        data = "\n".join(re.findall(r"^data: (.*)$", message, re.MULTILINE))
        found.append((int(number[1]) if number else None, name[1], data))
    return found


stored_stream = pytest.mark.django_db(transaction=True)


@stored_stream
def test_the_stream_of_an_answer_that_ended_meanwhile_tells_all_of_it(
    turn: Turn, alice: User
) -> None:
    events = events_of(alice, turn)
    by_name = {name: data for _, name, data in events}

    assert [name for _, name, _ in events] == [
        "begin",
        "sources",
        "notice",
        "answer",
        "citations",
        "end",
    ]
    assert [number for number, _, _ in events] == [None, 1, 2, 3, 4, 5]
    # The page rendered the turn as running: the body it gets must listen to what follows.
    for name in ("notice", "answer", "sources,citations", "end"):
        assert f'sse-swap="{name}"' in by_name["begin"]
    assert "<strong>ranks</strong>" in by_name["answer"]
    assert f'hx-swap-oob="innerHTML:#sources-of-{turn.pk}"' in by_name["citations"]
    assert 'data-group="cited"' in by_name["citations"]
    assert "24 of 100 reranked" in by_name["end"]


@stored_stream
@pytest.mark.parametrize("how", ["header", "query"])
def test_a_stream_that_is_taken_up_again_begins_anew_where_no_log_is_left(
    how: str, turn: Turn, alice: User
) -> None:
    request: dict[str, Any] = (
        {"headers": {"Last-Event-ID": "7"}} if how == "header" else {"query_params": {"after": 7}}
    )
    events = events_of(alice, turn, **request)

    assert [number for number, _, _ in events] == list(range(8, 14))
    assert events[0][1] == "begin"
    assert events[-1][1] == "end"


@stored_stream
def test_names_and_sentences_are_only_text_in_the_stream(turn: Turn, alice: User) -> None:
    hostile = "<img src=x onerror=alert(1)>\n\nevent: end\ndata: x"
    Turn.objects.update(
        answer=hostile,
        sources=[source(1, document=hostile, text=hostile, cited=True)],
        degraded=[{"code": "x", "sentence": hostile}],
    )
    events = events_of(alice, turn)

    assert not any("<img" in data for _, _, data in events)
    assert [name for _, name, _ in events].count("end") == 1


# --- asking and following, with the real engine ---------------------------------


@pytest.fixture
def nothing_runs(settings: Settings, tmp_data: Path) -> None:
    """Every service of the site is away."""
    away = f"http://127.0.0.1:{free_port()}"
    settings.CHROMA_URL = settings.EMBED_URL = settings.RERANK_URL = away
    settings.OLLAMA_HOST = away


@stored_stream
@pytest.mark.usefixtures("nothing_runs")
def test_a_question_becomes_a_turn_that_is_answered_and_kept(alice: User, corpus: Corpus) -> None:
    document(corpus, "a.md")

    async def ask_and_follow() -> tuple[list[HttpResponseBase], str]:
        client = AsyncClient()
        await client.aforce_login(alice)
        fields: dict[str, Any] = {"question": " Who?\n", "corpora": corpus.pk}
        first = await client.post(reverse("chat:ask"), fields)
        turn = await Turn.objects.aget()
        stream = await read_stream(await client.get(reverse("chat:stream", args=[turn.pk])))
        fields["conversation"] = turn.conversation_id
        second = await client.post(reverse("chat:ask"), fields, headers=HTMX)
        last = await Turn.objects.alast()
        assert last
        await read_stream(await client.get(reverse("chat:stream", args=[last.pk])))
        del fields["conversation"]
        third = await client.post(reverse("chat:ask"), fields, headers=HTMX)
        last = await Turn.objects.alast()
        assert last
        await read_stream(await client.get(reverse("chat:stream", args=[last.pk])))
        return [first, second, third], stream

    (first, second, third), stream = async_to_sync(ask_and_follow)()

    turns = list(Turn.objects.all())
    assert [turn.question for turn in turns] == ["Who?", "Who?", "Who?"]
    assert all(turn.has_ended for turn in turns)
    assert "event: notice" in stream
    assert stream.rstrip().split("\n\n")[-1].find("event: end") > 0
    address = reverse("chat:conversation", args=[turns[0].conversation_id])
    assert first.headers["Location"] == f"{address}#turn-{turns[0].pk}"
    fragment = second.getvalue().decode() if isinstance(second, HttpResponse) else ""
    assert f'sse-connect="{reverse("chat:stream", args=[turns[1].pk])}?after=0"' in fragment
    assert f'id="sources-of-{turns[1].pk}"' in fragment
    assert "2 questions" in fragment
    assert third.headers["HX-Redirect"] == reverse(
        "chat:conversation", args=[turns[2].conversation_id]
    )
    page = as_person(alice).get(address).content.decode()
    assert turns[0].degraded[0]["sentence"] in html.unescape(page)


@stored_stream
@pytest.mark.usefixtures("nothing_runs")
def test_stopping_ends_the_turn_and_leaving_does_not(
    alice: User, corpus: Corpus, settings: Settings
) -> None:
    document(corpus, "a.md", "Zebrafish")
    ollama = OllamaServer(token_seconds=0.01, answer="word " * 500)
    settings.OLLAMA_HOST = ollama.start().url
    found = Trace(
        question="Who?",
        settings=RetrievalSettings(),
        candidates=[Candidate(chunk_id="c", rrf_rank=1, outcome=Outcome.SELECTED)],
        passages={
            "c": Passage("c", Document.objects.get().pk, "a.md", "", "", None, None, "Text.")
        },
        stage_timings_ms={},
    )
    services = ChatServices(
        retrieve=lambda question, corpora, on_stage: found,
        generation=generation_settings(),
        sentences=shared_client(settings.EMBED_URL, settings.RERANK_URL),
        line=Line(parallel=1, most_waiting=1),
    )

    async def leave_then_stop() -> list[str]:
        client = AsyncClient()
        await client.aforce_login(alice)
        asked = await sync_to_async(chat_services.ask)(
            person=alice, question="Who?", corpora=[corpus]
        )
        turns.start(asked, services=services)
        answer: Any = await client.get(reverse("chat:stream", args=[asked.pk]))
        parts = aiter(answer)
        while b"event: tail" not in await anext(parts):
            pass
        await parts.aclose()
        again: Any = await client.get(reverse("chat:stream", args=[asked.pk]))
        seen = []
        async for part in aiter(again):
            seen.append(part.decode())
            if b"event: tail" in part:
                break
        stopped = await client.post(reverse("chat:stop", args=[asked.pk]), headers=HTMX)
        assert stopped.status_code == 204
        rest = await client.get(
            reverse("chat:stream", args=[asked.pk]), query_params={"after": "3"}
        )
        return [*seen, await read_stream(rest)]

    try:
        seen = async_to_sync(leave_then_stop)()
    finally:
        ollama.stop()

    assert any("event: tail" in part for part in seen)  # it went on after the first reader left
    assert "You stopped this answer." in seen[-1]
    turn = Turn.objects.get()
    assert turn.state == Turn.State.STOPPED
    assert turn.answer.startswith("word word")
    assert turn.answer.count("word") < 500


@stored_stream
def test_an_open_stream_ends_soon_for_who_is_signed_out_or_switched_off(
    turn: Turn, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat.sse.ALLOWED_SECONDS", 0.1)
    Turn.objects.update(state=Turn.State.RUNNING, heartbeat_at=timezone.now())

    async def play() -> list[list[bool]]:
        browsers = [AsyncClient(), AsyncClient()]
        reading = []
        for browser in browsers:
            await browser.aforce_login(alice)
            answer = await browser.get(reverse("chat:stream", args=[turn.pk]))
            reading.append(asyncio.create_task(read_stream(answer)))
        open_at_first = await asyncio.wait(reading, timeout=0.5)
        await sync_to_async(browsers[0].session.delete)()
        signed_out = await asyncio.wait(reading, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        await User.objects.filter(pk=alice.pk).aupdate(is_active=False)
        switched_off = await asyncio.wait(reading, timeout=10)
        steps = (open_at_first, signed_out, switched_off)
        return [[one in done for one in reading] for done, _ in steps]

    assert async_to_sync(play)() == [[False, False], [True, False], [True, True]]
