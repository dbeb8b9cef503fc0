"""Several model servers as one: the least busy is asked, a dead one left out until it is back."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from inference import hosts
from inference.errors import InferenceUnreachable
from inference.hosts import Hosts
from ragsite import processes
from tests.inference.conftest import Connect
from tests.inference.stand_ins import tei


def healthy(url: str) -> bool:
    return True


def test_the_one_with_the_least_under_way_is_asked_and_equals_take_turns() -> None:
    several = Hosts("http://a, http://b,http://c/", healthy)

    with ExitStack() as under_way:
        first = [under_way.enter_context(several.one()).url for _ in range(3)]
        with several.one() as fourth, several.one() as fifth:
            assert fourth.url != fifth.url
    alone = []
    for _ in range(6):
        with several.one() as host:
            alone.append(host.url)

    assert sorted(first) == ["http://a", "http://b", "http://c"]
    assert all(alone.count(url) == 2 for url in first)


def test_a_dead_one_is_left_out_and_comes_back_by_its_health(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hosts, "PROBE_SECONDS", 0.05)
    up: set[str] = set()
    several = Hosts("http://a,http://b", up.__contains__)
    with several.one() as dead:
        several.lost(dead)

    def asked() -> set[str]:
        seen = set()
        for _ in range(8):
            with several.one() as host:
                seen.add(host.url)
        return seen

    assert several.away == [dead.url]
    assert dead.url not in asked()
    time.sleep(0.1)
    asked()  # it is probed, and is still away
    time.sleep(0.1)
    assert several.away == [dead.url]

    up.add(dead.url)
    deadline = time.monotonic() + 5
    while several.away and time.monotonic() < deadline:
        asked()
        time.sleep(0.02)
    assert asked() == {"http://a", "http://b"}


def test_the_only_one_is_asked_whatever_happened() -> None:
    one = Hosts("http://a", healthy)
    with one.one() as host:
        one.lost(host)

    assert one.away == []
    with one.one() as host:
        assert host.url == "http://a"


def test_a_request_goes_to_another_server_when_the_first_has_gone(connect: Connect) -> None:
    with tei() as living, tei() as other:
        dead = f"http://127.0.0.1:{processes.free_port()}"
        client = connect(f"{dead},{living.url},{other.url}")

        for _ in range(6):
            assert client.embed(["x"]).shape[0] == 1

        assert client.away == [dead]
        assert min(len(server.asked) for server in (living, other)) >= 2


def test_callers_at_once_share_the_servers(connect: Connect) -> None:
    with tei(trickle_seconds=0.01) as slow, tei(trickle_seconds=0.01) as other:
        client = connect(f"{slow.url},{other.url}")
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(client.embed, [["x"]] * 16))

        counts = sorted(len(server.asked) for server in (slow, other))
        assert sum(counts) == 16
        assert counts[0] >= 6


def test_when_all_have_gone_it_says_so(connect: Connect) -> None:
    ports = [processes.free_port() for _ in range(2)]
    client = connect(",".join(f"http://127.0.0.1:{port}" for port in ports))

    for _ in range(2):
        with pytest.raises(InferenceUnreachable):
            client.embed(["x"])
