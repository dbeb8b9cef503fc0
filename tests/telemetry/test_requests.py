"""The id of a request: what is accepted, and that it follows the work."""

from __future__ import annotations

import asyncio

import pytest

from telemetry import requests
from telemetry.requests import Threads


def test_an_id_of_a_proxy_is_kept_and_one_that_could_forge_a_log_line_is_not() -> None:
    with requests.under("abc-123_x.Y") as number:
        assert number == requests.current() == "abc-123_x.Y"
    for forged in ("", "a b", 'x"}\n{"level":"ERROR"', "é", "a" * 65):
        with requests.under(forged) as number:
            assert number != forged
            assert len(number) == 16
    assert requests.current() == ""


def test_threads_of_a_pool_know_the_request_that_they_work_for() -> None:
    with Threads(1) as pool:
        with requests.under("first"):
            first = pool.submit(requests.current)
        with requests.under("second"):
            second = pool.submit(requests.current)

    assert (first.result(), second.result()) == ("first", "second")


def test_work_that_outlives_a_request_keeps_its_id_alone() -> None:
    async def ask() -> str:
        with requests.under("asked"):
            context = requests.detached()
        assert len(list(context)) == 1
        return await asyncio.get_running_loop().create_task(_current(), context=context)

    assert asyncio.run(ask()) == "asked"


async def _current() -> str:
    return requests.current()


def test_headers_name_the_request_and_are_read_again_whatever_their_case() -> None:
    assert requests.headers() == {}
    with requests.under("n1"):
        sent = requests.headers()
    assert sent == {"X-Request-ID": "n1"}
    assert requests.of({"x-request-id": "n1"}) == requests.of(sent) == "n1"


@pytest.fixture(autouse=True)
def no_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
