"""Fixtures of the chat tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chat.types import GenerationSettings
from tests.ollama_server import MODEL, OllamaServer


@pytest.fixture
def ollama() -> Iterator[OllamaServer]:
    """A server that speaks Ollama's API."""
    with OllamaServer() as server:
        yield server


@pytest.fixture
def generation(ollama: OllamaServer) -> GenerationSettings:
    """Settings that point at it, with short patience."""
    return GenerationSettings(
        host=ollama.url, model=MODEL, first_token_seconds=5.0, silence_seconds=1.0
    )
