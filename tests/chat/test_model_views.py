"""Choosing a language model, and fetching one: who may, what is told, what is kept."""

from __future__ import annotations

import asyncio
import html
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient
from django.urls import reverse
from django.utils import timezone

from chat import pulls
from chat.models import Conversation, ModelPull, Turn
from chat.threads import in_thread
from ingestion.audit import AuditEntry
from ingestion.models import Corpus
from ragsite.processes import free_port
from tests.chat.engine import asked
from tests.chat.test_pages import document
from tests.chat.test_views import HTMX, as_person, read_stream
from tests.ollama_server import MODEL, UNKNOWN_MODEL, OllamaServer

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from pytest_django import Settings

pytestmark = pytest.mark.django_db(transaction=True)
OTHER = "small:1b"


@pytest.fixture
def ollama(settings: Settings) -> Iterator[OllamaServer]:
    """The stand-in for Ollama; the site's settings point at it."""
    with OllamaServer() as server:
        settings.OLLAMA_HOST, settings.OLLAMA_MODEL = server.url, MODEL
        server.models = [MODEL, OTHER]
        yield server


def fetch(person: User, model: str, *, cancel: bool = False) -> tuple[int, str]:
    """Ask for a model, follow it to its end; the status, and all that was told."""

    async def follow() -> tuple[int, str]:
        client = AsyncClient()
        await client.aforce_login(person)
        answer = await client.post(reverse("chat:pull"), {"pull": model})
        if answer.status_code != 200:
            return answer.status_code, answer.content.decode()
        asked_for = await ModelPull.objects.afirst()
        assert asked_for
        if cancel:
            await asyncio.sleep(0.3)
            await client.post(reverse("chat:cancel_pull", args=[asked_for.pk]))
        stream: Any = await client.get(reverse("chat:pull_stream", args=[asked_for.pk]))
        told = await read_stream(stream)
        while pulls._tasks:
            await asyncio.wait(list(pulls._tasks.values()))
        return answer.status_code, answer.content.decode() + told

    status, told = async_to_sync(follow)()
    return status, html.unescape(told)


def test_the_picker_shows_what_the_server_has_and_what_is_chosen(
    ollama: OllamaServer, corpus: Corpus, alice: User
) -> None:
    held = asked(corpus).conversation
    client = as_person(alice)
    address = f"{reverse('chat:models')}?conversation={held.pk}"

    page = client.get(address).content.decode()
    assert f'value="{OTHER}" form="composer" data-model="{OTHER}">' in page
    assert f'value="" form="composer" data-model="{MODEL}" checked' in page
    assert "Fetch another model" not in page

    Conversation.objects.update(model=OTHER)
    assert f'value="{OTHER}" form="composer" data-model="{OTHER}" checked' in (
        client.get(address).content.decode()
    )
    options = client.get(reverse("chat:models") + "?as=options").content.decode()
    assert f'<option value="{OTHER}">{OTHER}</option>' in options


def test_a_server_that_is_away_is_said_to_be(settings: Settings, alice: User) -> None:
    settings.OLLAMA_HOST = f"http://127.0.0.1:{free_port()}"
    page = as_person(alice).get(reverse("chat:models")).content.decode()

    assert "The language model is not reachable" in page


def test_the_chosen_model_and_the_rewriting_hold_for_the_conversation(
    ollama: OllamaServer, corpus: Corpus, alice: User
) -> None:
    document(corpus, "a.md")
    client = as_person(alice)
    asked_for = {"question": "Why?", "corpora": corpus.pk}

    async def ask(**more: str) -> None:
        client = AsyncClient()
        await client.aforce_login(alice)
        answer = await client.post(reverse("chat:ask"), {**asked_for, **more}, headers=HTMX)
        assert answer.status_code == 200
        turn = await Turn.objects.alatest("pk")
        await read_stream(await client.get(reverse("chat:stream", args=[turn.pk])))

    async_to_sync(ask)(model=OTHER, rewrites="0")
    held = Conversation.objects.get()
    assert (held.model, held.rewrites) == (OTHER, False)
    async_to_sync(ask)(conversation=str(held.pk))
    held.refresh_from_db()
    assert (held.model, held.rewrites) == (OTHER, False)
    page = client.get(reverse("chat:conversation", args=[held.pk])).content.decode()
    assert f"data-model-name>{OTHER}<" in page
    assert not any(chat.is_rewrite for chat in ollama.chats)


def test_a_model_is_fetched_with_its_progress_and_can_then_be_chosen(
    ollama: OllamaServer, admin: User
) -> None:
    ollama.pull_seconds = 0.5
    assert "Fetch another model" in as_person(admin).get(reverse("chat:models")).content.decode()
    status, told = fetch(admin, "new:4b")

    assert status == 200
    assert "of 2.3" in told.replace("\xa0", " ")
    assert "is there and can be chosen" in told
    assert told.rstrip().endswith("event: end\ndata:")
    pull = ModelPull.objects.get()
    assert (pull.state, pull.started_by, pull.ended_at is None) == ("done", admin, False)
    assert "new:4b" in as_person(admin).get(reverse("chat:models")).content.decode()


def test_a_pull_is_cancelled_and_ollama_stops(ollama: OllamaServer, admin: User) -> None:
    ollama.pull_seconds = 0.2
    ollama.pull_steps = 100
    _, told = fetch(admin, "new:4b", cancel=True)

    assert "was cancelled" in told
    assert ollama.pull_left.wait(3)
    assert ModelPull.objects.get().state == ModelPull.State.CANCELLED


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (UNKNOWN_MODEL, "could not be fetched. Ollama says: pull model manifest"),
        ("two words", "letters, digits"),
        ("", "Type the name of a model first"),
    ],
)
def test_what_cannot_be_fetched_says_why(
    ollama: OllamaServer, admin: User, model: str, sentence: str
) -> None:
    assert sentence in fetch(admin, model)[1]


def test_without_ollama_nothing_is_fetched_and_it_says_so(settings: Settings, admin: User) -> None:
    settings.OLLAMA_HOST = f"http://127.0.0.1:{free_port()}"
    assert pulls.UNREACHABLE in fetch(admin, "new:4b")[1]


def test_a_pull_whose_process_was_killed_is_ended(admin: User) -> None:
    old = timezone.now() - timedelta(seconds=pulls.STALE_SECONDS + 1)
    pull = ModelPull.objects.create(model="new:4b", started_by=admin, heartbeat_at=old)

    async def last() -> list[str]:
        return [state.state async for state in pulls.follow(pull.pk)]

    assert async_to_sync(last)() == ["running", "failed"]
    pull.refresh_from_db()
    assert pull.error == pulls.BROKEN
    assert pulls.request_pull("new:4b", person=admin)[1]


def test_a_model_that_is_being_fetched_is_not_fetched_twice(admin: User) -> None:
    first, is_new = pulls.request_pull("new:4b", person=admin)
    again, is_new_again = pulls.request_pull("new:4b", person=admin)

    assert (is_new, is_new_again) == (True, False)
    assert [str(entry) for entry in AuditEntry.objects.all()] == [
        "admin had a language model fetched new:4b"
    ]
    assert first == again


def test_a_process_that_ends_leaves_its_pulls_to_be_taken_up(
    ollama: OllamaServer, admin: User
) -> None:
    ollama.pull_seconds, ollama.pull_steps = 0.2, 100

    async def play() -> None:
        pull, _ = await in_thread(pulls.request_pull, "new:4b", person=admin)
        pulls.start(pull)
        await asyncio.sleep(0.3)
        await pulls.shutdown()

    async_to_sync(play)()
    pull = ModelPull.objects.get()
    assert (pull.state, pull.error) == (ModelPull.State.FAILED, pulls.BROKEN)


def test_nobody_but_an_administrator_fetches(
    ollama: OllamaServer, alice: User, admin: User
) -> None:
    pull = ModelPull.objects.create(model="new:4b", started_by=admin)
    assert fetch(alice, "other:4b")[0] == 404
    client = as_person(alice)
    assert client.get(reverse("chat:pull_stream", args=[pull.pk])).status_code == 404
    assert client.post(reverse("chat:cancel_pull", args=[pull.pk])).status_code == 404
    pull.refresh_from_db()
    assert pull.state == ModelPull.State.RUNNING
