"""The way to Ollama: what it has, its answer as a stream of text, models to be fetched.

The only module that imports the Ollama client, and only when it is used. Closing a stream,
or cancelling the task that reads it, closes the connection; Ollama then stops.

Source: Ollama's HTTP API, github.com/ollama/ollama, docs/api.md
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import httpx

from chat.errors import (
    AnswerCut,
    GenerationInterrupted,
    GeneratorBusy,
    GeneratorFailed,
    GeneratorModelMissing,
    GeneratorUnreachable,
    PullFailed,
)
from chat.prompt import message_tokens
from chat.types import GenerationSettings, GeneratorStatus, Message, PullProgress

if TYPE_CHECKING:
    from ollama import AsyncClient, ChatResponse, ProgressResponse

OLLAMA_PORT = 11434
# Ollama loads a model anew whenever the context changes its size: few sizes, few loads.
SMALLEST_CONTEXT_TOKENS = 4096

logger = logging.getLogger(__name__)


def base_url(host: str) -> str:
    """The address of an Ollama server from how `OLLAMA_HOST` may name it.

    Scheme and port may be missing (`gpu-box`, `:11434`, `0.0.0.0`), as Ollama allows; the
    address on which a server listens to all is asked on loopback.

    Raises:
        GeneratorUnreachable: this is no address.
    """
    host = host.strip().rstrip("/")
    has_scheme = "://" in host
    try:
        parts = urlsplit(host if has_scheme else f"http://{host}")
        port = parts.port
    except ValueError as exc:
        raise GeneratorUnreachable(f"{host!r} is no address") from exc
    if port is None:
        port = OLLAMA_PORT if not has_scheme else 443 if parts.scheme == "https" else 80
    name = parts.hostname or "127.0.0.1"
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name)  # noqa: S104
    name = f"[{name}]" if ":" in name else name
    return f"{parts.scheme}://{name}:{port}{parts.path}"


def context_tokens(messages: Sequence[Message], settings: GenerationSettings) -> int:
    """The context to ask for: the prompt and the longest answer, at the next power of two."""
    needed = message_tokens(messages) + settings.max_answer_tokens
    size = SMALLEST_CONTEXT_TOKENS
    while size < needed:
        size *= 2
    return min(size, settings.max_context_tokens)


async def status(settings: GenerationSettings) -> GeneratorStatus:
    """Its version and models. Raises `GeneratorUnreachable` and others of `GenerationError`."""
    url = base_url(settings.host)
    async with httpx.AsyncClient(**_connection(settings)) as client:
        try:
            answer = (await client.get(f"{url}/api/version")).raise_for_status()
            version = str(answer.json()["version"])
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as exc:
            raise GeneratorUnreachable(str(exc)) from exc
    async with _translated(settings), _client(settings) as ollama:
        listed = await ollama.list()
    found = GeneratorStatus(
        model=settings.model,
        reachable=True,
        version=version,
        models=tuple(sorted(entry.model for entry in listed.models if entry.model)),
    )
    return found if found.has_model else replace(found, problem=GeneratorModelMissing(found.model))


async def pieces(
    messages: Sequence[Message], *, settings: GenerationSettings, max_answer_tokens: int
) -> AsyncGenerator[str]:
    """Every part's text, empty ones included; ends only when the server said `done`.

    Raises:
        GenerationError: as for `chat.generation.stream`, which watches the clock.
    """
    is_done, why = False, None
    async with _client(settings) as ollama, _translated(settings):
        # Without `think` a reasoning model would think aloud before the first word.
        parts = await ollama.chat(
            model=settings.model,
            messages=[{"role": m.role, "content": m.content} for m in messages],
            stream=True,
            think=False,
            keep_alive=_keep_alive(settings.keep_alive),
            options={
                "temperature": settings.temperature,
                "num_ctx": context_tokens(messages, settings),
                "num_predict": max_answer_tokens,
            },
        )
        async with aclosing(cast("AsyncGenerator[ChatResponse]", parts)) as received:
            async for part in received:
                is_done, why = bool(part.done), part.done_reason
                yield part.message.content or ""
                if is_done:
                    break
    if not is_done:
        raise GenerationInterrupted("the stream ended without `done`")
    if why == "length":
        raise AnswerCut(max_answer_tokens)


async def pull(model: str, *, settings: GenerationSettings) -> AsyncGenerator[PullProgress]:
    """Have Ollama fetch a model; what it reports, as it reports it.

    Ends when the model is there. Closing it ends the download; what has come is kept by
    Ollama, and the next pull goes on from there.

    Raises:
        GeneratorUnreachable: nothing answers at the address.
        GenerationInterrupted: the connection broke.
        PullFailed: Ollama cannot fetch it; `sentence` has its reason.
    """
    import ollama as vendor

    is_done = False
    async with _client(settings) as ollama, _translated(settings):
        try:
            parts = await ollama.pull(model, stream=True)
            async with aclosing(cast("AsyncGenerator[ProgressResponse]", parts)) as received:
                async for part in received:
                    is_done = part.status == "success"
                    yield PullProgress(part.status or "", part.completed or 0, part.total or 0)
        except vendor.ResponseError as exc:
            raise PullFailed(model, exc.error) from exc
    if not is_done:
        raise GenerationInterrupted("the stream ended without `success`")


@asynccontextmanager
async def _translated(settings: GenerationSettings) -> AsyncGenerator[None]:
    """The client's errors as ours."""
    import ollama

    try:
        yield
    except ollama.ResponseError as exc:
        if exc.status_code == 404:
            raise GeneratorModelMissing(settings.model) from exc
        if exc.status_code in (429, 503):
            raise GeneratorBusy(str(exc)) from exc
        logger.warning("Ollama reported an error: %s", exc)
        raise GeneratorFailed(str(exc)) from exc
    except (
        ConnectionError,
        httpx.ConnectError,
        httpx.TimeoutException,
        httpx.UnsupportedProtocol,
        httpx.InvalidURL,
    ) as exc:
        raise GeneratorUnreachable(str(exc)) from exc
    except httpx.HTTPError as exc:
        raise GenerationInterrupted(str(exc)) from exc
    except (ValueError, TypeError, AttributeError) as exc:
        logger.warning("what answers at OLLAMA_HOST does not speak Ollama's API: %s", exc)
        raise GeneratorFailed(str(exc)) from exc


def _connection(settings: GenerationSettings) -> dict[str, Any]:
    return {
        # Reading has no limit here: `chat.generation` watches the clock.
        "timeout": httpx.Timeout(None, connect=settings.connect_seconds),
        "trust_env": False,
        "follow_redirects": False,
        "verify": _tls(),
    }


def _client(settings: GenerationSettings) -> AsyncClient:
    from ollama import AsyncClient

    return AsyncClient(host=base_url(settings.host), **_connection(settings))


@cache
def _tls() -> ssl.SSLContext:
    """Made once: reading the certificates takes 20 ms."""
    return ssl.create_default_context()


def _keep_alive(text: str) -> str | float:
    """Ollama takes durations as "5m" and plain seconds as a number."""
    try:
        return float(text)
    except ValueError:
        return text
