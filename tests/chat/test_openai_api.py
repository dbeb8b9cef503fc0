"""A server that speaks OpenAI's API as the language model: answers, errors, models, settings."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import environ
import pytest

from chat import generation
from chat.conf import chat_services, generation_settings
from chat.errors import (
    AnswerCut,
    GenerationError,
    GenerationInterrupted,
    GeneratorBusy,
    GeneratorFailed,
    GeneratorLate,
    GeneratorModelMissing,
    GeneratorRefused,
    GeneratorUnreachable,
)
from chat.models import Turn
from chat.types import GenerationSettings, GeneratorKind, GeneratorStatus
from ingestion.models import Corpus
from ragsite.health import check_language_model
from ragsite.processes import free_port
from search.types import DegradedCode
from tests.chat.engine import answered, asked, engine
from tests.chat.test_generation import MESSAGES, answer
from tests.ollama_server import MODEL, Mode
from tests.openai_server import KEY, OpenAIServer

if TYPE_CHECKING:
    from pytest_django import Settings


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    """A server that speaks OpenAI's API."""
    with OpenAIServer() as running:
        yield running


@pytest.fixture
def there(server: OpenAIServer) -> GenerationSettings:
    """Settings that point at it, with short patience."""
    return GenerationSettings(
        kind=GeneratorKind.OPENAI,
        host=server.base_url,
        api_key=KEY,
        model=MODEL,
        first_token_seconds=5.0,
        silence_seconds=1.0,
    )


def test_the_answer_arrives_word_by_word(server: OpenAIServer, there: GenerationSettings) -> None:
    pieces, error = answer(there)

    assert error is None
    assert len(pieces) > 4
    assert "".join(pieces) == "According to the documents:\n\n- RRF fuses rankings. [1]"
    body = server.chats[0].body
    assert body["messages"][0] == {"role": "system", "content": "Answer."}
    assert (body["stream"], body["max_tokens"], body["temperature"]) == (True, 1024, 0.1)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (Mode.MISSING, GeneratorModelMissing),
        (Mode.BUSY, GeneratorBusy),
        (Mode.FAILING, GeneratorFailed),
        (Mode.EMPTY, GenerationInterrupted),
        (Mode.SLOW, GeneratorLate),
    ],
)
def test_a_failure_before_the_first_word_has_its_own_error(
    server: OpenAIServer, there: GenerationSettings, mode: Mode, expected: type[GenerationError]
) -> None:
    server.mode = mode
    pieces, error = answer(replace(there, first_token_seconds=0.3))

    assert pieces == []
    assert type(error) is expected


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        (Mode.CUT, "the connection to the language model was lost"),
        (Mode.SILENT, "the language model fell silent"),
        (Mode.ERROR, "the language model reported an error"),
    ],
)
def test_a_failure_after_the_first_word_interrupts_and_says_why(
    server: OpenAIServer, there: GenerationSettings, mode: Mode, why: str
) -> None:
    server.mode = mode
    pieces, error = answer(replace(there, silence_seconds=0.3))

    assert pieces
    assert isinstance(error, GenerationInterrupted)
    assert error.why == why


def test_an_answer_ended_by_its_length_says_so(
    server: OpenAIServer, there: GenerationSettings
) -> None:
    server.mode = Mode.LONG
    pieces, error = answer(there)

    assert pieces
    assert isinstance(error, AnswerCut)


def test_a_model_with_other_parameters_is_asked_with_those(
    server: OpenAIServer, there: GenerationSettings
) -> None:
    server.refused_parameters = ("max_tokens", "temperature")
    pieces, error = answer(there)

    assert error is None
    assert pieces
    assert server.chats[-1].body["max_completion_tokens"] == 1024
    assert "temperature" not in server.chats[-1].body

    server.refused_parameters = ("messages",)
    assert isinstance(answer(there)[1], GeneratorFailed)


def test_a_wrong_key_and_a_wrong_address_are_told_apart(there: GenerationSettings) -> None:
    _, refused = answer(replace(there, api_key="sk-wrong"))
    assert isinstance(refused, GeneratorRefused)
    assert "OPENAI_API_KEY" in refused.sentence
    assert "sk-" not in refused.sentence + repr(there)

    for host in (f"http://127.0.0.1:{free_port()}/v1", "ftp://x/v1", "http://[oops", "no address"):
        away = replace(there, host=host)
        assert isinstance(asyncio.run(generation.available(away)).problem, GeneratorUnreachable)
        _, error = answer(away)
        assert isinstance(error, GeneratorUnreachable), host
        assert "OPENAI_BASE_URL" in error.sentence
        assert "Ollama" not in error.sentence


def test_the_models_are_listed_and_the_first_is_taken_where_none_is_named(
    server: OpenAIServer, there: GenerationSettings
) -> None:
    server.models = [MODEL, "another"]

    def status(**changes: str) -> GeneratorStatus:
        return asyncio.run(generation.available(replace(there, **changes)))  # type: ignore[arg-type]

    assert status().models == ("another", MODEL)
    assert (status(model="").model, status(model="").problem) == (MODEL, None)
    missing = status(model="third").problem
    assert isinstance(missing, GeneratorModelMissing)
    assert "OPENAI_MODEL" in missing.sentence
    assert isinstance(status(api_key="").problem, GeneratorRefused)

    server.lists_models = False
    assert status().problem is None
    assert isinstance(status(model="").problem, GeneratorModelMissing)


def test_leaving_closes_the_connection_so_that_the_server_stops(
    server: OpenAIServer, there: GenerationSettings
) -> None:
    server.token_seconds = 0.05

    async def leave_early() -> None:
        pieces = generation.stream(MESSAGES, settings=there)
        await anext(pieces)
        await pieces.aclose()

    asyncio.run(leave_early())
    assert server.chats[0].client_left.wait(2.0)


@pytest.mark.django_db(transaction=True)
def test_a_turn_is_answered_by_it_and_quotes_when_it_is_away(
    corpus: Corpus, server: OpenAIServer, there: GenerationSettings
) -> None:
    turn = asked(corpus)
    answered(turn, engine(replace(there, model="")))
    turn.refresh_from_db()
    assert (turn.state, turn.model) == (Turn.State.DONE, MODEL)
    assert "by the places of each passage. [1]" in turn.answer

    server.stop()
    turn = asked(corpus)
    answered(turn, engine(there))
    turn.refresh_from_db()
    assert (turn.state, turn.model) == (Turn.State.DONE, "")
    assert [d["code"] for d in turn.degraded] == [DegradedCode.GENERATOR_UNREACHABLE]
    assert turn.answer


def test_the_settings_choose_it_and_the_status_page_asks_it(
    server: OpenAIServer, settings: Settings
) -> None:
    settings.OPENAI_BASE_URL, settings.OPENAI_API_KEY = server.base_url, KEY
    settings.OPENAI_PARALLEL = 7

    chosen = generation_settings("another")
    assert (chosen.kind, chosen.model, chosen.api_key) == (GeneratorKind.OPENAI, "another", KEY)
    assert chat_services().line.parallel == 7
    check = check_language_model()
    assert check.up
    assert check.facts["model"] == MODEL

    settings.OPENAI_API_KEY = "wrong"
    refused = check_language_model()
    assert not refused.up
    assert "OPENAI_API_KEY" in refused.advice


def test_the_key_may_stand_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("sk-from-a-file")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY_FILE", str(tmp_path / "key"))

    assert environ.FileAwareEnv().str("OPENAI_API_KEY", default="") == "sk-from-a-file"
