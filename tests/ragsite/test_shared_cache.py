"""The cache that all web processes share, and what becomes of it while Redis is away."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from django.core.cache import caches
from django.test import Client
from django.urls import reverse
from redis import Redis

from ragsite import shared_cache
from ragsite.processes import free_port
from ragsite.shared_cache import SharedCache

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from pytest_django.fixtures import Settings


@pytest.fixture(autouse=True)
def _asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_cache, "_away_until", 0.0)


@pytest.fixture(params=["there", "away"])
def redis(request: pytest.FixtureRequest, settings: Settings) -> str:
    """A Redis, and none."""
    if request.param == "there":
        settings.REDIS_URL = request.getfixturevalue("redis_url")
    else:
        settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"
    caches["default"].clear()
    return str(request.param)


@pytest.mark.services
def test_it_keeps_what_it_is_given_for_as_long_as_it_is_told(redis: str) -> None:
    cache = caches["default"]
    assert cache.get("a") is None
    assert cache.get("a", "none") == "none"
    for value in (None, 0, "text", [1.5, 2], {"b": [True]}):
        cache.set("a", value)
        assert cache.get("a", "none") == value
    assert cache.has_key("a") == ("a" in cache)
    assert not cache.add("a", 1)
    assert cache.add("b", 1, timeout=0.2)
    assert cache.incr("b") == 2
    assert cache.touch("a", 100)
    assert not cache.touch("nothing")
    cache.set("c", 1, timeout=0.05)
    cache.set("d", 1, timeout=None)
    time.sleep(0.1)
    assert cache.get_many(["c", "d"]) == {"d": 1}
    cache.set("d", 1, timeout=0)
    assert cache.get("d") is None
    assert cache.delete("a")
    assert not cache.delete("a")


@pytest.mark.services
def test_another_process_sees_it_and_nothing_is_unpickled(
    redis_url: str, settings: Settings
) -> None:
    settings.REDIS_URL = redis_url
    here, there = caches["default"], SharedCache("another", {})
    here.clear()

    assert here.add("code", True)
    assert not there.add("code", True)  # used once, for all
    with Redis.from_url(redis_url) as client:
        client.set("celery", "a task")
        names = list(client.scan_iter("ragsite:cache:*"))
        assert [client.get(name) for name in names] == [b"true"]
        assert 0 < client.ttl(names[0]) <= 300
        here.clear()
        assert client.get("celery") == b"a task"
        assert not list(client.scan_iter("ragsite:cache:*"))
        client.delete("celery")
    with pytest.raises(TypeError):
        here.set("a", object())


@pytest.mark.services
@pytest.mark.django_db
def test_failed_sign_ins_are_counted_whichever_process_takes_them(
    redis: str, client: Client, alice: User
) -> None:
    guess = {"login": alice.username, "password": "wrong"}
    answers = [client.post(reverse("account_login"), guess) for _ in range(6)]

    told = [answer.content.decode() for answer in answers]
    assert "too many attempts" not in told[4]
    assert "too many attempts" in told[5]


@pytest.mark.services
def test_when_redis_is_back_it_is_asked_again(
    redis_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_cache, "REDIS_PAUSE_SECONDS", 0.1)
    cache = caches["default"]
    settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"
    cache.clear()
    cache.set("a", "here")
    settings.REDIS_URL = redis_url
    assert cache.get("a") == "here"
    time.sleep(0.2)
    cache.set("a", "there")
    assert SharedCache("another", {}).get("a") == "there"
