"""What every campaign begins with: stores without what other tests left in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
import redis
from django.conf import settings

from tests.ingestion.workbench import store


def _empty() -> None:
    there = store()
    for collection in there.collections():
        there.drop(collection.name)


@pytest.fixture(autouse=True)
def empty_stores(chroma_url: str) -> Iterator[None]:
    """Nothing in the Chroma of all tests before the test, nor after it; no scores either."""
    _empty()
    with suppress(redis.RedisError), redis.Redis.from_url(settings.REDIS_URL) as connection:
        for key in connection.scan_iter("ragsite:scores*"):
            connection.delete(key)
    yield
    _empty()
