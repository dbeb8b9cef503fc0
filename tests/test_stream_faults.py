"""A service that dies before a question, during its search, or in the middle of its answer.

Everything is real but the language model: each service stands behind a gate that breaks its
connections at the chosen moment. What is told in the stream, what stands on the page
afterwards and what is stored are compared with what was promised.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient
from django.urls import reverse

from chat import turns
from chat.models import Turn
from ingestion import pipeline
from ingestion.models import Corpus
from search.types import DegradedCode
from tests.chat.test_views import as_person
from tests.gate import Gate, Way
from tests.ingestion.workbench import upload
from tests.ollama_server import MODEL, Mode, OllamaServer

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.services]
QUESTION = "What does a cross-encoder read?"
ANSWER = "A cross-encoder reads question and passage together [1]. " * 8


class Moment(StrEnum):
    """When a service goes away."""

    BEFORE = "before"
    SEARCHING = "during the search"
    WRITING = "in the middle of the answer"
    STALLED = "still there, but silent"


@dataclass(frozen=True)
class End:
    """How a turn is to end: its state, what was missed, and a sentence the person reads."""

    state: Turn.State = Turn.State.DONE
    missed: tuple[str, ...] = ()
    says: str = ""
    is_quoted: bool = False


@pytest.fixture
def ollama(settings: Settings) -> Iterator[OllamaServer]:
    """The stand-in for Ollama; the site's settings point at it."""
    with OllamaServer(answer=ANSWER, token_seconds=0.01) as server:
        settings.OLLAMA_HOST, settings.OLLAMA_MODEL = server.url, MODEL
        yield server


@pytest.fixture
def library(
    corpus: Corpus, tmp_data: Path, chroma_url: str, inference_url: str, redis_url: str
) -> Corpus:
    """A corpus with one ready document."""
    assert pipeline.work_on(upload(corpus, "It is about rerankers.").pk)
    return corpus


def ask(corpus: Corpus, when_writing: Callable[[], None]) -> tuple[Turn, str, str]:
    """Ask on the page: the turn as it is stored, all that streamed, and the page afterwards."""

    async def follow() -> str:
        client = AsyncClient()
        await client.aforce_login(corpus.owner)
        answer = await client.post(
            reverse("chat:ask"), {"question": QUESTION, "corpora": corpus.pk}
        )
        assert answer.status_code == 302
        turn = await Turn.objects.alatest("pk")
        stream: Any = await client.get(reverse("chat:stream", args=[turn.pk]))
        told = b""
        async for part in aiter(stream):
            told += part
            if b"event: tail" in part:
                when_writing()
        return told.decode()

    told = html.unescape(async_to_sync(follow)())
    turn = Turn.objects.latest("pk")
    page = as_person(corpus.owner).get(reverse("chat:conversation", args=[turn.conversation_id]))
    return turn, told, html.unescape(page.content.decode())


def check(turn: Turn, told: str, page: str, end: End) -> None:
    """The promises of every turn, and those of this end."""
    names = [line.removeprefix("event: ") for line in told.splitlines() if line[:6] == "event:"]
    assert names[0] == "begin"
    assert names[-1] == "end"
    assert names.count("end") == names.count("answer") == 1
    assert names.index("sources") < min(
        names.index(name) for name in ("tail", "block", "answer") if name in names
    )
    assert turn.state == end.state
    assert turn.ended_at is not None
    assert tuple(sorted(d["code"] for d in turn.degraded)) == tuple(sorted(end.missed))
    assert turn.sources[0]["document"] == "page.md"
    assert end.says in told
    assert end.says in page
    if end.is_quoted:
        assert turn.model == ""
        assert "Quotes, not a written answer" in page
    else:
        assert turn.model == MODEL
        assert turn.answer.startswith("A cross-encoder reads question")
        assert (turn.answer == ANSWER.strip()) == (end.state == Turn.State.DONE)
    assert "[1]" in turn.answer or turn.state == Turn.State.INTERRUPTED
    assert not turns._live


QUOTED = End(
    missed=(DegradedCode.GENERATOR_UNREACHABLE,), says="Start Ollama, or set", is_quoted=True
)
KEYWORDS_ONLY = End(missed=(DegradedCode.VECTORS_UNAVAILABLE,), says="Not searched by meaning")
NO_MODELS = End(
    missed=(DegradedCode.EMBEDDER_UNREACHABLE, DegradedCode.RERANKER_UNREACHABLE),
    says="Not searched by meaning",
)
UNHARMED = End()
BROKEN_OFF = End(
    state=Turn.State.INTERRUPTED,
    missed=(DegradedCode.GENERATION_INTERRUPTED,),
    says="The answer broke off because",
)
ENDS: dict[str, dict[Moment, End]] = {
    "OLLAMA_HOST": {
        Moment.BEFORE: QUOTED,
        Moment.SEARCHING: QUOTED,
        Moment.WRITING: BROKEN_OFF,
        Moment.STALLED: QUOTED,
    },
    "CHROMA_URL": {
        Moment.BEFORE: KEYWORDS_ONLY,
        Moment.SEARCHING: KEYWORDS_ONLY,
        Moment.WRITING: UNHARMED,
        Moment.STALLED: KEYWORDS_ONLY,
    },
    "INFERENCE_URL": {
        Moment.BEFORE: NO_MODELS,
        Moment.SEARCHING: NO_MODELS,
        Moment.WRITING: UNHARMED,
    },
    "REDIS_URL": {
        Moment.BEFORE: UNHARMED,
        Moment.SEARCHING: UNHARMED,
        Moment.WRITING: UNHARMED,
        Moment.STALLED: UNHARMED,
    },
}


@pytest.mark.parametrize("service", ENDS)
def test_a_service_that_goes_away_costs_what_it_does_and_no_more(
    library: Corpus, ollama: OllamaServer, settings: Settings, service: str
) -> None:
    url = getattr(settings, service)
    for moment, end in ENDS[service].items():
        with ExitStack() as stack:
            gate = stack.enter_context(Gate(url))
            setattr(settings, service, gate.url)
            if service == "INFERENCE_URL":
                settings.EMBED_URL = settings.RERANK_URL = gate.url
            if moment == Moment.BEFORE:
                gate.shut()
            elif moment == Moment.SEARCHING:
                gate.way = Way.SHUT_AT_REQUEST
            elif moment == Moment.STALLED:
                gate.way = Way.STALLED
            found = ask(library, gate.shut if moment == Moment.WRITING else lambda: None)
        try:
            check(*found, end)
        except AssertionError as exc:
            exc.add_note(f"{service} {moment}")
            raise


@pytest.mark.parametrize(
    ("mode", "end"),
    [
        (Mode.MISSING, End(missed=("generator_model_missing",), says=f"ollama pull {MODEL}")),
        (Mode.BUSY, End(missed=("generator_failed",), says="The language model is busy")),
        (Mode.FAILING, End(missed=("generator_failed",), says="reported an error")),
        (Mode.EMPTY, End(missed=("generator_failed",), says="reported an error")),
    ],
)
def test_a_model_that_cannot_answer_is_replaced_by_quotes(
    library: Corpus, ollama: OllamaServer, mode: Mode, end: End
) -> None:
    ollama.mode = mode
    turn, told, page = ask(library, lambda: None)

    check(turn, told, page, End(end.state, end.missed, end.says, is_quoted=True))


def test_a_slow_first_word_is_waited_for_and_the_wait_is_told(
    library: Corpus, ollama: OllamaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat.answering.WAITING_SECONDS", 0.2)
    ollama.mode, ollama.first_token_seconds = Mode.SLOW, 0.8
    turn, told, page = ask(library, lambda: None)

    check(turn, told, page, UNHARMED)
    assert f"Waiting for {MODEL} to begin" in told


@pytest.mark.parametrize("mode", [Mode.CUT, Mode.ERROR])
def test_a_stream_that_breaks_keeps_what_came(
    library: Corpus, ollama: OllamaServer, mode: Mode
) -> None:
    ollama.mode = mode

    check(*ask(library, lambda: None), BROKEN_OFF)
