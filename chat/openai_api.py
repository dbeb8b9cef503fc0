"""The way to a server that speaks OpenAI's API: vLLM, llama.cpp, LM Studio, OpenAI itself.

Models are listed at `/models` and answers streamed from `/chat/completions`, as server-sent
events of which the last is `[DONE]`.

Source: platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import httpx

from chat.errors import (
    AnswerCut,
    GenerationInterrupted,
    GeneratorBusy,
    GeneratorFailed,
    GeneratorModelMissing,
    GeneratorRefused,
)
from chat.types import GenerationSettings, GeneratorStatus, Message

ADVICE = "Set OPENAI_MODEL to one that it has, or choose another model."
# Of an error's text, as much goes into the log.
DETAIL_CHARACTERS = 500
# What some models refuse, and what they take instead; None for nothing.
RENAMED = {"max_tokens": "max_completion_tokens", "temperature": None}

logger = logging.getLogger(__name__)


async def status(settings: GenerationSettings) -> GeneratorStatus:
    """Its models; without a model in the settings, the first one listed is the model.

    A server that lists none is taken at its word when it is asked.

    Raises:
        GeneratorUnreachable: nothing that speaks this API answers at the address.
        GeneratorRefused: the server does not take our key.
        GeneratorFailed: it reported an error.
    """
    async with _translated(settings), _client(settings) as client:
        answer = await client.get("models")
        if answer.status_code in (404, 405):
            names: tuple[str, ...] = ()
        else:
            if answer.is_error:
                _refuse(answer.status_code, _detail(answer.content), settings)
            try:
                names = tuple(str(entry["id"]) for entry in answer.json()["data"])
            except (ValueError, KeyError, TypeError) as exc:
                raise settings.unreachable("what answers is not this API") from exc
    model = settings.model or (names[0] if names else "")
    found = GeneratorStatus(model=model, reachable=True, models=tuple(sorted(names)))
    if found.has_model or (model and not names):
        return found
    return replace(found, problem=GeneratorModelMissing(model or "(none)", advice=ADVICE))


async def pieces(
    messages: Sequence[Message], *, settings: GenerationSettings, max_answer_tokens: int
) -> AsyncGenerator[str]:
    """Every part's text, empty ones included; ends only when the server said why it ends.

    Raises:
        GenerationError: as for `chat.generation.stream`, which watches the clock.
    """
    asked: dict[str, Any] = {
        "model": settings.model,
        "messages": [{"role": m.role, "content": m.content} for m in messages],
        "stream": True,
        "temperature": settings.temperature,
        "max_tokens": max_answer_tokens,
    }
    why = None
    async with _translated(settings), _client(settings) as client:
        while why is None:
            async with client.stream("POST", "chat/completions", json=asked) as answer:
                if answer.is_error:
                    body = await answer.aread()
                    if not _renamed(asked, answer.status_code, body):
                        _refuse(answer.status_code, _detail(body), settings)
                    continue
                async for line in answer.aiter_lines():
                    field, _, value = line.partition(":")
                    if field != "data":
                        continue
                    if value.strip() == "[DONE]":
                        why = why or "stop"
                        break
                    text, why = _part(value, why)
                    yield text
                break
    if why is None:
        raise GenerationInterrupted("the stream ended without a reason")
    if why == "length":
        raise AnswerCut(max_answer_tokens)


def _part(value: str, why: str | None) -> tuple[str, str | None]:
    """The text of one event, and why the answer ends, where that is known by now."""
    part = json.loads(value)
    if error := part.get("error"):
        raise GeneratorFailed(str(error)[:DETAIL_CHARACTERS])
    for choice in part.get("choices") or ():
        text = choice.get("delta", {}).get("content") or ""
        return text, choice.get("finish_reason") or why
    return "", why


def _renamed(asked: dict[str, Any], status_code: int, body: bytes) -> bool:
    """Whether the server refused a parameter that can be asked for in another way; then it is."""
    if status_code != 400:
        return False
    try:
        refused = json.loads(body)["error"]["param"]
    except (ValueError, KeyError, TypeError):
        return False
    if refused not in RENAMED or refused not in asked:
        return False
    value, name = asked.pop(refused), RENAMED[refused]
    if name is not None:
        asked[name] = value
    return True


def _refuse(status_code: int, detail: str, settings: GenerationSettings) -> None:
    """Raise the error that a status means."""
    logger.warning("%s answered %d: %s", settings.host, status_code, detail)
    if status_code in (401, 403):
        raise GeneratorRefused(detail)
    if status_code == 404:
        raise GeneratorModelMissing(settings.model, advice=ADVICE)
    if status_code in (429, 503):
        raise GeneratorBusy(detail)
    raise GeneratorFailed(detail)


def _detail(body: bytes) -> str:
    return body.decode(errors="replace")[:DETAIL_CHARACTERS]


@asynccontextmanager
async def _translated(settings: GenerationSettings) -> AsyncGenerator[None]:
    """The client's errors as ours."""
    try:
        yield
    except (
        httpx.ConnectError,
        httpx.TimeoutException,
        httpx.UnsupportedProtocol,
        httpx.InvalidURL,
    ) as exc:
        raise settings.unreachable(str(exc)) from exc
    except httpx.HTTPError as exc:
        raise GenerationInterrupted(str(exc)) from exc
    except (ValueError, TypeError, AttributeError) as exc:
        logger.warning("what answers at OPENAI_BASE_URL does not speak OpenAI's API: %s", exc)
        raise GeneratorFailed(str(exc)) from exc


def _client(settings: GenerationSettings) -> httpx.AsyncClient:
    key = settings.api_key
    return httpx.AsyncClient(
        base_url=settings.host.rstrip("/") + "/",
        headers={"Authorization": f"Bearer {key}"} if key else {},
        # Reading has no limit here: `chat.generation` watches the clock.
        timeout=httpx.Timeout(None, connect=settings.connect_seconds),
        trust_env=False,
        follow_redirects=False,
        verify=_tls(),
    )


@cache
def _tls() -> ssl.SSLContext:
    """Made once: reading the certificates takes 20 ms."""
    return ssl.create_default_context()
