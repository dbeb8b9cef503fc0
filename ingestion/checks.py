"""System checks of the settings of ingestion."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Error, register

from ingestion.conf import ingestion_settings
from ingestion.types import MAX_PASSAGE_TOKENS, MIN_PASSAGE_TOKENS, WINDOW_TOKENS


@register()
def check_passage_size(**_: Any) -> list[CheckMessage]:
    """A passage and a question must fit together into what rerankers read."""
    site = ingestion_settings().chunk
    if not MIN_PASSAGE_TOKENS <= site.max_tokens <= MAX_PASSAGE_TOKENS:
        return [
            Error(
                f"CHUNK_MAX_TOKENS is {site.max_tokens}. Set it to {MIN_PASSAGE_TOKENS} to "
                f"{MAX_PASSAGE_TOKENS}: rerankers read question and passage together, "
                f"{WINDOW_TOKENS} tokens in all.",
                id="ingestion.E001",
            )
        ]
    if not 0 <= site.overlap_tokens <= site.max_tokens // 3:
        return [
            Error(
                f"CHUNK_OVERLAP_TOKENS is {site.overlap_tokens}. Set it to 0 to "
                f"{site.max_tokens // 3}, a third of CHUNK_MAX_TOKENS.",
                id="ingestion.E002",
            )
        ]
    return []
