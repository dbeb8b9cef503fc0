"""Callers of the model server that come together, stay connected, or vanish."""

from __future__ import annotations

import gc
import logging
import socket
import time
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from inference.client import InferenceClient
from inference.models import Models, Slot
from tests.inference.conftest import Connect
from tests.inference.stand_ins import HeldEngine, serving

HEAD = b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"


class _Held(Models):
    """Models whose embedder is the one that the test put in."""

    def load(self) -> None:
        pass


def test_ten_callers_at_once_each_get_their_own_vectors(
    connect: Connect, inference_url: str
) -> None:
    client = connect(inference_url)
    callers = [
        [
            f"caller {who} asks about {who * 31 + n} " + "and more " * (n * who % 23)
            for n in range(9)
        ]
        for who in range(10)
    ]
    alone = [client.embed(texts) for texts in callers]

    with ThreadPoolExecutor(10) as pool:
        together = list(pool.map(client.embed, callers))

    assert np.stack(together) == pytest.approx(np.stack(alone), abs=1e-5)


def test_an_idle_connection_outlives_the_clients_patience(inference_url: str) -> None:
    address = urlsplit(inference_url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        for idle_seconds in (0.0, 5.5):  # uvicorn itself closes after 5, clients keep for 20
            time.sleep(idle_seconds)
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")


def test_a_caller_that_vanishes_while_sending_is_counted_and_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine: Any = HeldEngine()
    models = _Held("held", "held", embedder=Slot(engine, ""))
    with serving(models) as url, caplog.at_level(logging.ERROR):
        address = urlsplit(url)
        with socket.create_connection((address.hostname, address.port)) as connection:
            connection.sendall(HEAD + b'{"inp')
        counted = 'requests_total{path="/embed",status="499"} 1'
        deadline = time.monotonic() + 10
        while counted not in httpx.get(f"{url}/metrics", trust_env=False).text:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    assert caplog.records == []


def test_a_client_that_is_let_go_closes_its_connections(inference_url: str) -> None:
    client = InferenceClient(embed_url=inference_url, rerank_url=inference_url)
    client.embed(["x"])
    gone = weakref.ref(client)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        del client
        gc.collect()

    assert gone() is None
    assert not [one for one in warned if issubclass(one.category, ResourceWarning)]
