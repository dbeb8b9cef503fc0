"""The way to Ollama: the real client against a server that speaks its API."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from contextlib import aclosing
from dataclasses import replace

import pytest

from chat import generation as gateway
from chat import ollama_api
from chat.errors import (
    AnswerCut,
    GenerationError,
    GenerationInterrupted,
    GeneratorBusy,
    GeneratorFailed,
    GeneratorLate,
    GeneratorModelMissing,
    GeneratorUnreachable,
)
from chat.types import GenerationSettings, Message
from ragsite.health import check_ollama
from ragsite.processes import ROOT, free_port
from tests.ollama_server import MODEL, VERSION, Mode, OllamaServer

MESSAGES = [
    Message("system", "Answer."),
    Message("user", '<<passages x>>\n{"n": 1, "text": "RRF fuses rankings."}\n<<end x>>\n\nHow?'),
]


async def pieces_and_error(
    settings: GenerationSettings,
) -> tuple[list[str], GenerationError | None]:
    """Everything that came, and what ended it early."""
    pieces: list[str] = []
    try:
        async for piece in gateway.stream(MESSAGES, settings=settings):
            pieces += [piece]  # kept when an error follows
    except GenerationError as exc:
        return pieces, exc
    return pieces, None


def answer(settings: GenerationSettings) -> tuple[list[str], GenerationError | None]:
    """The same from a test that is not async."""
    return asyncio.run(pieces_and_error(settings))


def test_the_answer_arrives_word_by_word(generation: GenerationSettings) -> None:
    pieces, error = answer(generation)

    assert error is None
    assert len(pieces) > 5
    assert "".join(pieces) == "According to the documents:\n\n- RRF fuses rankings. [1]"


def test_the_request_asks_for_low_temperature_and_a_context_that_fits(
    ollama: OllamaServer, generation: GenerationSettings
) -> None:
    answer(replace(generation, keep_alive="90"))

    body = ollama.chats[0].body
    assert body["model"] == MODEL
    assert body["messages"][0] == {"role": "system", "content": "Answer."}
    assert body["options"] == {"temperature": 0.1, "num_ctx": 4096, "num_predict": 1024}
    assert body["keep_alive"] == 90.0
    assert body["think"] is False


def test_the_context_grows_in_steps_with_the_prompt_up_to_its_limit() -> None:
    settings = GenerationSettings(host="", model=MODEL, max_context_tokens=16_384)

    def context(words: int) -> int:
        return ollama_api.context_tokens([Message("user", "word " * words)], settings)

    assert context(10) == 4096
    assert context(1950) == 4096
    assert context(2000) == 8192
    assert context(9000) == 16_384
    assert context(90_000) == 16_384


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
    ollama: OllamaServer,
    generation: GenerationSettings,
    mode: Mode,
    expected: type[GenerationError],
) -> None:
    ollama.mode = mode
    pieces, error = answer(replace(generation, first_token_seconds=0.3))

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
    ollama: OllamaServer, generation: GenerationSettings, mode: Mode, why: str
) -> None:
    ollama.mode = mode
    pieces, error = answer(replace(generation, silence_seconds=0.3))

    assert "".join(pieces).startswith("According to")
    assert isinstance(error, GenerationInterrupted)
    assert why in error.sentence


def test_an_answer_ended_by_its_length_says_so_after_the_last_word(
    ollama: OllamaServer, generation: GenerationSettings
) -> None:
    ollama.mode = Mode.LONG
    pieces, error = answer(generation)

    assert "".join(pieces).endswith("[1]")
    assert isinstance(error, AnswerCut)
    assert "1,024 tokens" in error.sentence


def test_a_missing_model_names_the_line_that_installs_it(
    ollama: OllamaServer, generation: GenerationSettings
) -> None:
    ollama.mode = Mode.MISSING
    _, error = answer(generation)

    assert isinstance(error, GeneratorModelMissing)
    assert f"ollama pull {MODEL}" in error.sentence


def test_nobody_there_is_known_at_once(generation: GenerationSettings) -> None:
    began = time.monotonic()
    pieces, error = answer(replace(generation, host=f"127.0.0.1:{free_port()}"))

    assert pieces == []
    assert isinstance(error, GeneratorUnreachable)
    assert time.monotonic() - began < 1.0


def test_a_server_that_speaks_something_else_is_no_ollama(generation: GenerationSettings) -> None:
    async def talk() -> tuple[list[str], GenerationError | None]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<hr>\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            settings = replace(generation, host=f"127.0.0.1:{port}")
            status = await gateway.available(settings)
            assert isinstance(status.problem, GeneratorUnreachable)
            return await pieces_and_error(settings)

    pieces, error = asyncio.run(talk())
    assert pieces == []
    assert isinstance(error, GeneratorFailed)


@pytest.mark.parametrize("mode", [Mode.NORMAL, Mode.SLOW, Mode.SILENT])
def test_cancelling_closes_the_connection_so_that_ollama_stops(
    ollama: OllamaServer, generation: GenerationSettings, mode: Mode
) -> None:
    ollama.mode, ollama.token_seconds = mode, 0.05

    async def cancel_early() -> None:
        task = asyncio.create_task(pieces_and_error(replace(generation, silence_seconds=60)))
        await asyncio.sleep(0.3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(cancel_early())
    assert ollama.chats[0].client_left.wait(2.0)


def test_closing_the_stream_early_closes_the_connection_too(
    ollama: OllamaServer, generation: GenerationSettings
) -> None:
    ollama.token_seconds = 0.05

    async def leave_early() -> None:
        async with aclosing(gateway.stream(MESSAGES, settings=generation)) as pieces:
            await anext(pieces)

    asyncio.run(leave_early())
    assert ollama.chats[0].client_left.wait(2.0)


def test_the_status_tells_version_models_and_what_to_install(
    ollama: OllamaServer, generation: GenerationSettings
) -> None:
    ollama.models = ["qwen3:4b-instruct", "llama3:latest"]

    async def statuses() -> list[object]:
        there = await gateway.available(generation)
        assert (there.reachable, there.version, there.has_model) == (True, VERSION, True)
        assert there.problem is None
        latest = await gateway.available(replace(generation, model="llama3"))
        assert latest.has_model
        lacking = await gateway.available(replace(generation, model="phi4"))
        assert lacking.reachable
        assert lacking.pull_command == "ollama pull phi4"
        away = await gateway.available(replace(generation, host=f"127.0.0.1:{free_port()}"))
        assert not away.reachable
        return [lacking.problem, away.problem]

    lacking, away = asyncio.run(statuses())
    assert isinstance(lacking, GeneratorModelMissing)
    assert isinstance(away, GeneratorUnreachable)


def test_a_server_that_accepts_and_says_nothing_counts_as_away(
    generation: GenerationSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "STATUS_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        status = asyncio.run(gateway.available(replace(generation, host=f"127.0.0.1:{port}")))

    assert isinstance(status.problem, GeneratorUnreachable)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("http://127.0.0.1:11434", "http://127.0.0.1:11434"),
        ("http://127.0.0.1:11434/", "http://127.0.0.1:11434"),
        ("127.0.0.1:11500", "http://127.0.0.1:11500"),
        ("gpu-box", "http://gpu-box:11434"),
        (":11500", "http://127.0.0.1:11500"),
        ("", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:11500", "http://127.0.0.1:11500"),
        ("[::1]:11500", "http://[::1]:11500"),
        ("https://ollama.example", "https://ollama.example:443"),
        ("http://ollama.example", "http://ollama.example:80"),
        ("https://ollama.example/behind", "https://ollama.example:443/behind"),
    ],
)
def test_the_host_may_be_written_as_ollama_allows(host: str, url: str) -> None:
    assert ollama_api.base_url(host) == url


@pytest.mark.parametrize("host", ["host:port", "http://[oops", "host:99999"])
def test_a_host_that_is_no_address_counts_as_away(
    generation: GenerationSettings, host: str
) -> None:
    status = asyncio.run(gateway.available(replace(generation, host=host)))

    assert isinstance(status.problem, GeneratorUnreachable)
    assert isinstance(answer(replace(generation, host=host))[1], GeneratorUnreachable)


def test_the_client_is_imported_only_when_it_is_used() -> None:
    code = (
        "import django; from django.conf import settings; settings.configure(); django.setup();"
        "import chat.generation, sys; sys.exit('ollama' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_status_page_understands_the_same_hosts(ollama: OllamaServer) -> None:
    assert check_ollama(ollama.url.removeprefix("http://"), model=MODEL).up
    assert not check_ollama("host:port", model=MODEL).up
