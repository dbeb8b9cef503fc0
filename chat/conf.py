"""The edge where Django's settings become what the answering engine works with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from django.conf import settings

from chat.admission import shared_line
from chat.types import ChatServices, GenerationSettings, GeneratorKind, TurnOptions
from inference.client import shared_client
from ingestion.models import Corpus
from ingestion.types import EVERYTHING, DocumentFilter
from search.conf import retrieval_settings, search_services
from search.pipeline import retrieve
from search.types import Trace

DEFAULT_OPTIONS = TurnOptions()


def generation_settings(model: str = "") -> GenerationSettings:
    """The language model as the settings name it now, or another one of the same server."""
    if settings.OPENAI_BASE_URL:
        return GenerationSettings(
            kind=GeneratorKind.OPENAI,
            host=settings.OPENAI_BASE_URL,
            api_key=settings.OPENAI_API_KEY,
            model=model or settings.OPENAI_MODEL,
            max_context_tokens=settings.OPENAI_CONTEXT_TOKENS,
        )
    return GenerationSettings(
        host=settings.OLLAMA_HOST,
        model=model or settings.OLLAMA_MODEL,
        keep_alive=settings.OLLAMA_KEEP_ALIVE,
        max_context_tokens=settings.OLLAMA_CONTEXT_TOKENS,
    )


def chat_services(
    only: DocumentFilter = EVERYTHING, options: TurnOptions = DEFAULT_OPTIONS
) -> ChatServices:
    """The running processes as the settings name them now.

    Args:
        only: which documents are searched.
        options: what this one turn is to be done with.
    """
    generation = generation_settings(options.model)
    is_ollama = generation.kind == GeneratorKind.OLLAMA
    parallel = settings.OLLAMA_PARALLEL if is_ollama else settings.OPENAI_PARALLEL
    return ChatServices(
        retrieve=partial(_retrieve, only=only, knobs=options.retrieval),
        generation=generation,
        sentences=shared_client(settings.EMBED_URL, settings.RERANK_URL),
        line=shared_line(
            parallel=max(1, parallel),
            most_waiting=settings.GENERATION_QUEUE_MAX,
            redis_url=settings.REDIS_URL,
            key=generation.host,
        ),
    )


def _retrieve(
    question: str,
    corpora: Sequence[Corpus],
    on_stage: Callable[[str], None],
    *,
    only: DocumentFilter,
    knobs: Mapping[str, Any],
) -> Trace:
    return retrieve(
        question,
        corpora=corpora,
        settings=replace(retrieval_settings(corpora).limited_to(only), **knobs),
        services=search_services(remember=True),
        on_stage=on_stage,
    )
