"""The language model, whichever server has it: what it has, and its answer as a stream of text.

Two kinds of server, each behind its own gateway with the same functions: Ollama, and any
that speaks OpenAI's API. Closing the stream, or cancelling the task that reads it, closes
the connection; the server then stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from chat import ollama_api, openai_api
from chat.errors import (
    AnswerCut,
    GenerationError,
    GenerationInterrupted,
    GeneratorLate,
)
from chat.types import GenerationSettings, GeneratorKind, GeneratorStatus, Message

STATUS_SECONDS = 3.0


async def available(settings: GenerationSettings) -> GeneratorStatus:
    """Ask the server for its models; never raises, `problem` says what is wrong."""
    status = openai_api.status if settings.kind == GeneratorKind.OPENAI else ollama_api.status
    try:
        async with asyncio.timeout(STATUS_SECONDS):
            return await status(settings)
    except GenerationError as exc:
        return GeneratorStatus(model=settings.model, problem=exc)
    except TimeoutError:
        problem = settings.unreachable(f"no answer within {STATUS_SECONDS} s")
        return GeneratorStatus(model=settings.model, problem=problem)


async def stream(
    messages: Sequence[Message],
    *,
    settings: GenerationSettings,
    max_answer_tokens: int | None = None,
) -> AsyncGenerator[str]:
    """The model's answer, piece by piece as it comes.

    Args:
        messages: the conversation to go on with.
        settings: which model, where, and how long to wait.
        max_answer_tokens: another limit than that of the settings.

    Raises:
        GeneratorUnreachable: nothing answers at the address.
        GeneratorRefused: the server does not take our key.
        GeneratorModelMissing: the server lacks the model.
        GeneratorBusy: its queue is full.
        GeneratorLate: it did not begin in time.
        GeneratorFailed: it reported an error before the first piece.
        GenerationInterrupted: it broke off, fell silent or failed after the first piece.
        AnswerCut: the answer was ended by its length limit; all pieces were given.
    """
    has_begun = False
    said = openai_api.pieces if settings.kind == GeneratorKind.OPENAI else ollama_api.pieces
    limit = max_answer_tokens or settings.max_answer_tokens
    async with aclosing(said(messages, settings=settings, max_answer_tokens=limit)) as pieces:
        while True:
            seconds = settings.silence_seconds if has_begun else settings.first_token_seconds
            try:
                async with asyncio.timeout(seconds):
                    piece = await anext(pieces, None)
            except TimeoutError as exc:
                if has_begun:
                    raise GenerationInterrupted(
                        f"silent for {seconds} s", why="the language model fell silent"
                    ) from exc
                raise GeneratorLate(f"nothing within {seconds} s") from exc
            except AnswerCut:
                raise
            except GenerationError as exc:
                if has_begun and not isinstance(exc, GenerationInterrupted):
                    raise GenerationInterrupted(
                        str(exc), why="the language model reported an error"
                    ) from exc
                raise
            if piece is None:
                return
            if piece:
                has_begun = True
                yield piece
