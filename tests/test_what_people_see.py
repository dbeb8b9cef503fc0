"""Bad files and dead services, as a person sees them: page by page, with the real services."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import AsyncClient, Client
from django.urls import reverse
from django.utils import timezone

from chat.forms import MAX_QUESTION_CHARACTERS
from chat.models import Turn
from ingestion import pipeline
from ingestion.models import Corpus, Document
from ragsite.processes import free_port
from tests.chat.test_views import as_person, read_stream
from tests.ingestion.sample_files import Line, docx, p, pdf
from tests.ingestion.workbench import upload
from tests.ollama_server import MODEL, Mode, OllamaServer

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from pytest_django import Settings

QUESTION = "What does a cross-encoder read?"
JSON = {"Accept": "application/json"}
SOUND = pdf([[Line("A sound page about lighthouses.", y=700)]])
FILES: dict[str, tuple[bytes, str]] = {
    "empty.txt": (b"", "The file is empty."),
    "locked.pdf": (
        pdf([[Line("Secret.", y=700)]], user_password="x"),
        "The file is protected by a password",
    ),
    "cut.docx": (docx(p("A long enough text. " * 50))[:600], "The file is damaged"),
    "cut.pdf": (SOUND[:300], "The file is damaged"),
    "picture.docx": (b"\x89PNG\r\n\x1a\n" + bytes(200), "The file is damaged"),
    "notes.docx": (b"Only text, whatever the name says.", "is not what its name says"),
    "huge.txt": (b"word " * 300_000, "larger than this site accepts"),
    "tool.exe": (b"\x00\x01\x02" * 50, "This kind of file cannot be read."),
}

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.services]


@pytest.fixture
def answering(corpus: Corpus, tmp_data: Path, chroma_url: str, inference_url: str) -> Corpus:
    """A corpus with one ready document."""
    document = upload(corpus, "It is about rerankers.")
    assert pipeline.work_on(document.pk)
    document.refresh_from_db()
    assert document.state == Document.State.READY
    return corpus


@pytest.fixture
def ollama(settings: Settings) -> Iterator[OllamaServer]:
    """The stand-in for Ollama; the site's settings point at it."""
    with OllamaServer() as server:
        settings.OLLAMA_HOST = server.url
        settings.OLLAMA_MODEL = MODEL
        yield server


def nobody_listens() -> str:
    """An address at which nothing answers."""
    return f"http://127.0.0.1:{free_port()}"


def ask(person: User, corpus: Corpus, question: str = QUESTION) -> tuple[Turn, str, str]:
    """Ask on the page: the turn as it was kept, all that streamed, and the page afterwards."""

    async def stream() -> str:
        client = AsyncClient()
        await client.aforce_login(person)
        answer = await client.post(
            reverse("chat:ask"), {"question": question, "corpora": corpus.pk}
        )
        assert answer.status_code == 302
        turn = await Turn.objects.alatest("pk")
        found: Any = await client.get(reverse("chat:stream", args=[turn.pk]))
        return await read_stream(found)

    told = html.unescape(async_to_sync(stream)())
    turn = Turn.objects.latest("pk")
    page = as_person(person).get(reverse("chat:conversation", args=[turn.conversation_id]))
    return turn, told, html.unescape(page.content.decode())


def test_bad_files_are_told_their_reason_and_harm_no_other(
    corpus: Corpus, tmp_data: Path, chroma_url: str, inference_url: str, settings: Settings
) -> None:
    settings.UPLOAD_MAX_MB = 1
    page = as_person(corpus.owner)
    address = reverse("ingestion:upload", args=[corpus.pk])
    told: dict[str, str] = {}
    for name, content in {**{n: c for n, (c, _) in FILES.items()}, "sound.pdf": SOUND}.items():
        answer = page.post(address, {"file": SimpleUploadedFile(name, content)}, headers=JSON)
        told[name] = answer.json().get("error", "")
        assert answer.status_code in (201, 413, 422), name
    for document in Document.objects.all():
        pipeline.work_on(document.pk)

    table = page.get(reverse("ingestion:documents", args=[corpus.pk])).content.decode()
    rows = {
        name: html.unescape(row)
        for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL)
        for name in (*FILES, "sound.pdf")
        if name in row
    }
    for name, (_, sentence) in FILES.items():
        assert sentence in told[name] + rows.get(name, ""), name
    assert Document.objects.get(state=Document.State.READY).name == "sound.pdf"
    assert "Ready" in rows["sound.pdf"]
    assert "Traceback" not in table


def test_a_question_of_ten_thousand_characters_is_answered_and_a_longer_one_refused(
    answering: Corpus, ollama: OllamaServer, settings: Settings
) -> None:
    longest = ("What does a cross-encoder read? " * 400)[:MAX_QUESTION_CHARACTERS]
    turn, told, _ = ask(answering.owner, answering, longest)
    assert turn.state == Turn.State.DONE
    assert "event: sources" in told

    refused = as_person(answering.owner).post(
        reverse("chat:ask"), {"question": longest + "x", "corpora": answering.pk}
    )
    assert refused.status_code == 422
    assert f"{MAX_QUESTION_CHARACTERS:,}" in refused.content.decode()


def test_with_everything_there_nothing_is_missed(answering: Corpus, ollama: OllamaServer) -> None:
    turn, told, page = ask(answering.owner, answering)

    assert turn.state == Turn.State.DONE
    assert {d["code"] for d in turn.degraded} <= {"low_relevance"}
    assert turn.trace is not None
    assert turn.trace["rerank"]["model"] == "bundled"
    assert told.index("event: sources") < told.index("event: answer")
    assert "[1]" in turn.answer
    assert "page.md" in page


Break = Callable[["Settings", OllamaServer], None]


def _no_chroma(settings: Settings, ollama: OllamaServer) -> None:
    settings.CHROMA_URL = nobody_listens()


def _no_inference(settings: Settings, ollama: OllamaServer) -> None:
    settings.EMBED_URL = settings.RERANK_URL = nobody_listens()


def _no_redis(settings: Settings, ollama: OllamaServer) -> None:
    settings.REDIS_URL = nobody_listens().replace("http", "redis")


def _no_ollama(settings: Settings, ollama: OllamaServer) -> None:
    settings.OLLAMA_HOST = nobody_listens()


def _no_model(settings: Settings, ollama: OllamaServer) -> None:
    settings.OLLAMA_MODEL = "absent:1b"


def _mode(mode: Mode) -> Break:
    def set_mode(settings: Settings, ollama: OllamaServer) -> None:
        ollama.mode = mode

    return set_mode


@pytest.mark.parametrize(
    ("broken", "code", "sentence"),
    [
        pytest.param(_no_chroma, "vectors_unavailable", "Not searched by meaning", id="chroma"),
        pytest.param(
            _no_inference, "embedder_unreachable", "Not searched by meaning", id="inference"
        ),
        pytest.param(_no_redis, None, "", id="redis"),
        pytest.param(_no_ollama, "generator_unreachable", "Start Ollama", id="ollama"),
        pytest.param(_no_model, "generator_model_missing", "ollama pull absent:1b", id="model"),
        pytest.param(_mode(Mode.BUSY), "generator_failed", "is busy", id="busy"),
        pytest.param(_mode(Mode.CUT), "generation_interrupted", "broke off", id="cut stream"),
    ],
)
def test_one_dead_service_costs_its_stage_and_is_named(
    answering: Corpus,
    ollama: OllamaServer,
    settings: Settings,
    broken: Break,
    code: str | None,
    sentence: str,
) -> None:
    broken(settings, ollama)

    turn, told, page = ask(answering.owner, answering)

    assert turn.has_ended
    assert turn.state != Turn.State.FAILED
    assert turn.answer
    assert turn.sources[0]["document"] == "page.md"
    codes = {d["code"] for d in turn.degraded} - {"no_reranker", "reranker_unreachable"}
    assert codes == ({code} if code else set())
    assert sentence in told
    assert sentence in page
    assert told.rstrip().split("\n\n")[-1].find("event: end") >= 0


def test_with_all_services_dead_every_page_stands_and_an_upload_is_kept(
    answering: Corpus, admin: User, settings: Settings
) -> None:
    away = nobody_listens()
    settings.CHROMA_URL = settings.EMBED_URL = settings.RERANK_URL = away
    settings.OLLAMA_HOST, settings.REDIS_URL = away, away.replace("http", "redis")
    page = as_person(answering.owner)
    sent = {"file": SimpleUploadedFile("late.txt", b"Written while nothing was there.")}

    answer = page.post(reverse("ingestion:upload", args=[answering.pk]), sent, headers=JSON)
    assert answer.status_code == 201
    late = Document.objects.get(name="late.txt")
    assert late.state == Document.State.RECEIVED
    Document.objects.filter(pk=late.pk).update(
        created_at=timezone.now() - timedelta(minutes=1),
        state_since=timezone.now() - timedelta(minutes=1),
    )
    for address in (
        reverse("chat:new"),
        reverse("ingestion:corpora"),
        reverse("ingestion:corpus", args=[answering.pk]),
        reverse("ingestion:document", args=[late.pk]),
        reverse("status"),
        reverse("account"),
    ):
        assert page.get(address).status_code == 200, address
    banner = page.get(reverse("ingestion:queue", args=[answering.pk])).content.decode()
    assert "Processing is paused; uploads are safe." in banner

    turn, told, _ = ask(answering.owner, answering)
    assert turn.has_ended
    assert "event: notice" in told
    checks = Client()
    checks.force_login(admin)
    shown = html.unescape(checks.get(reverse("status-checks")).content.decode())
    assert shown.count("Down") >= 3
