"""The edge where Django's settings become what retrieval works with."""

from __future__ import annotations

from django.conf import settings

from inference.client import shared_client
from ingestion.conf import ingestion_settings
from ingestion.vectors import shared_store
from search.pipeline import SearchServices
from search.types import RetrievalSettings


def retrieval_settings() -> RetrievalSettings:
    """The site's default knobs."""
    return RetrievalSettings(rerank_budget_ms=settings.RERANK_BUDGET_MS)


def search_services() -> SearchServices:
    """The running processes as the settings name them now; connections are kept and shared."""
    ingestion = ingestion_settings()
    return SearchServices(
        inference=shared_client(settings.EMBED_URL, settings.RERANK_URL),
        vectors=shared_store(ingestion.chroma_url, ingestion.chroma_token),
        lexical_dir=ingestion.lexical_dir,
    )
