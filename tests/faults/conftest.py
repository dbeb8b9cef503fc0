"""What every campaign begins with: a vector store without what other tests left in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ingestion.workbench import store


def _empty() -> None:
    there = store()
    for collection in there.collections():
        there.drop(collection.name)


@pytest.fixture(autouse=True)
def empty_vector_store(chroma_url: str) -> Iterator[None]:
    """Nothing in the session's Chroma before the test, nor after it."""
    _empty()
    yield
    _empty()
