"""The edge where Django's settings become what the answering engine works with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from django.conf import settings

from chat.types import ChatServices, GenerationSettings
from inference.client import shared_client
from ingestion.models import Corpus
from search.conf import retrieval_settings, search_services
from search.pipeline import retrieve
from search.types import Trace


def generation_settings() -> GenerationSettings:
    """The language model as the settings name it now."""
    return GenerationSettings(
        host=settings.OLLAMA_HOST,
        model=settings.OLLAMA_MODEL,
        keep_alive=settings.OLLAMA_KEEP_ALIVE,
        max_context_tokens=settings.OLLAMA_CONTEXT_TOKENS,
    )


def chat_services() -> ChatServices:
    """The running processes as the settings name them now."""
    return ChatServices(
        retrieve=_retrieve,
        generation=generation_settings(),
        sentences=shared_client(settings.EMBED_URL, settings.RERANK_URL),
    )


def _retrieve(question: str, corpora: Sequence[Corpus], on_stage: Callable[[str], None]) -> Trace:
    return retrieve(
        question,
        corpora=corpora,
        settings=retrieval_settings(corpora),
        services=search_services(remember=True),
        on_stage=on_stage,
    )
