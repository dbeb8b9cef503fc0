"""Limits per person: counted together, answered with when to come back, and never in the way."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import URLPattern, get_resolver, reverse
from pytest_django.fixtures import Settings
from redis import RedisError

from ingestion.models import Corpus
from ragsite import limits

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def one_minute(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[None]:
    monkeypatch.setattr(
        "ragsite.limits.time.time", lambda: 1_800_000_010.5
    )  # 10.5 s into its minute
    limits._here.clear()
    with contextlib.suppress(RedisError):  # that other tests have started or not
        counts = limits.shared_client(settings.REDIS_URL)
        for key in counts.scan_iter("ragsite:limit:*"):
            counts.delete(key)
    monkeypatch.setattr(limits, "_away_until", 0.0)
    yield
    limits._here.clear()


def ask(client: Client, **headers: str) -> int:
    return client.post(reverse("chat:ask"), {"question": ""}, headers=headers).status_code


def test_one_too_many_is_told_when_to_come_back(
    client: Client, alice: User, settings: Settings
) -> None:
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "questions": 2}
    client.force_login(alice)
    assert [ask(client), ask(client)] == [422, 422]

    refused = client.post(reverse("chat:ask"), headers={"Accept": "application/json"})

    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == "50"
    assert "Wait 50 seconds" in refused.json()["error"]
    page = client.post(reverse("chat:ask"), headers={"HX-Request": "true", "Accept": "*/*"})
    assert page.headers["Content-Type"].startswith("text/plain")


def test_each_person_and_each_kind_is_counted_apart(
    client: Client, alice: User, bob: User, corpus: Corpus, settings: Settings
) -> None:
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "questions": 1}
    client.force_login(alice)
    assert [ask(client), ask(client)] == [422, 429]
    assert client.post(reverse("search:inspector")).status_code == 422
    assert client.get(reverse("chat:new")).status_code == 200

    client.force_login(bob)
    assert ask(client) == 422


def test_the_next_minute_begins_anew(
    client: Client, alice: User, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "questions": 1}
    client.force_login(alice)
    assert [ask(client), ask(client)] == [422, 429]

    monkeypatch.setattr("ragsite.limits.time.time", lambda: 1_800_000_060.5)

    assert ask(client) == 422


def test_web_processes_count_together_in_redis(
    client: Client, alice: User, settings: Settings, redis_url: str
) -> None:
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "questions": 1}
    settings.REDIS_URL = redis_url
    client.force_login(alice)
    window = int(time.time() // 60)
    limits.shared_client(redis_url).set(
        f"ragsite:limit:questions:{alice.pk}:{window}", 1
    )  # another's

    assert ask(client) == 429
    assert not limits._here


def test_downloads_count_and_zero_is_no_limit(
    client: Client, alice: User, corpus: Corpus, settings: Settings
) -> None:
    client.force_login(alice)
    address = reverse("search:judgements", args=[corpus.pk])
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "exports": 1}
    assert [client.get(address).status_code for _ in range(2)] == [200, 429]
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "exports": 0}
    assert client.get(address).status_code == 200


def test_every_limited_route_exists() -> None:
    names = {
        f"{space}:{pattern.name}"
        for space in ("chat", "search", "ingestion")
        for pattern in get_resolver().namespace_dict[space][1].url_patterns
        if isinstance(pattern, URLPattern)
    }
    assert set(limits.ROUTES) <= names
