"""The edge where Django's settings become what retrieval works with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from django.conf import settings

from inference.client import shared_client
from ingestion.conf import ingestion_settings
from ingestion.models import Corpus
from ingestion.vectors import shared_store
from search.forms import KnobsForm, knobs_initial
from search.pipeline import SearchServices
from search.score_cache import shared_cache
from search.types import RetrievalSettings

# What a corpus may set for itself.
OF_A_CORPUS = (
    "bm25_k",
    "dense_k",
    "fusion",
    "rrf_k",
    "bm25_weight",
    "pool",
    "top_n",
    "rerank",
    "threshold",
)


def retrieval_settings(corpora: Iterable[Corpus] = ()) -> RetrievalSettings:
    """The knobs for a question to these corpora.

    A knob that all of them set to the same value has that; every other one is the site's.
    """
    site = RetrievalSettings(rerank_budget_ms=settings.RERANK_BUDGET_MS)
    own = [_own(corpus.retrieval) for corpus in corpora]
    agreed = {
        name: value
        for name, value in (own[0] if own else {}).items()
        if all(name in other and other[name] == value for other in own)
    }
    return RetrievalSettings.from_json({**asdict(site), **agreed})


def _own(stored: Mapping[str, Any]) -> dict[str, Any]:
    """What a corpus sets; an imported one may hold what no knob can be, which counts as not set."""
    own = {name: stored[name] for name in OF_A_CORPUS if name in stored}
    if not own:
        return {}
    form = KnobsForm({**knobs_initial(RetrievalSettings()), **_as_shown(own)})
    form.is_valid()
    return {name: form.cleaned_data[name] for name in own if name in form.cleaned_data}


def _as_shown(own: Mapping[str, Any]) -> dict[str, Any]:
    return {**own, "rerank": "1" if own.get("rerank", True) else "0"}


def search_services(*, remember: bool = False) -> SearchServices:
    """The running processes as the settings name them now; connections are kept and shared.

    Args:
        remember: whether scores that the reranker gave before are used again.
    """
    ingestion = ingestion_settings()
    return SearchServices(
        inference=shared_client(settings.EMBED_URL, settings.RERANK_URL),
        vectors=shared_store(ingestion),
        lexical_dir=ingestion.lexical_dir,
        scores=shared_cache(settings.REDIS_URL) if remember else None,
    )
