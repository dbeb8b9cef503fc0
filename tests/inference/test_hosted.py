"""Hosted rerankers, against a small server that speaks each API as it is documented."""

from __future__ import annotations

import gc
import json
import math
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from inference import hosted
from inference.errors import InferenceBusy, InferenceLate, InferenceUnreachable, NoModel
from inference.hosted import SERVICES, HostedReranker, service_of
from inference.models import Slot
from tests.inference.stand_ins import HeldEngine, serving
from tests.inference.test_server import _Loaded

PASSAGES = ["Penguins live in the south.", "Paris is the capital of France.", "A cup of flour."]
NAMES = ("cohere:rerank-v3.5", "voyage:rerank-2.5", "jina:jina-reranker-v2-base-multilingual")


@dataclass
class Api:
    """Answers with the statuses it is told, then with scores; keeps what it was asked."""

    rows: str = "results"
    refusals: list[tuple[int, dict[str, str], object]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    reply: object = None
    url: str = ""
    wait: threading.Event | None = None

    def answer(self, body: dict[str, Any]) -> tuple[int, dict[str, str], object]:
        """Status, headers and body of the next reply."""
        self.asked.append(body)
        if self.wait:
            self.wait.wait(10)
        if self.refusals:
            return self.refusals.pop(0)
        if self.reply is not None:
            return 200, {}, self.reply
        scores = [0.9 if "Paris" in text else 0.1 for text in body["documents"]]
        ranked = sorted(range(len(scores)), key=lambda n: -scores[n])
        rows = [{"index": n, "relevance_score": scores[n]} for n in ranked]
        return 200, {}, {self.rows: rows}


class Server(ThreadingHTTPServer):
    request_queue_size = 64
    daemon_threads = True


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setattr(hosted, "FIRST_PAUSE_SECONDS", 0.01)
    served = Api()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            served.keys.append(self.headers.get("Authorization", ""))
            status, headers, reply = served.answer(body)
            content = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Be quiet."""

    server = Server(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_port}/rerank"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield served
    server.shutdown()
    server.server_close()


def reranker(api: Api, name: str = NAMES[0]) -> HostedReranker:
    service = SERVICES[name.partition(":")[0]]
    api.rows = service.rows
    return HostedReranker(name, environment={service.key: "secret"}, url=api.url)


@pytest.mark.parametrize("name", NAMES)
def test_each_service_is_asked_as_it_documents(api: Api, name: str) -> None:
    logits = reranker(api, name).logits("What is the capital of France?", PASSAGES)

    assert logits == pytest.approx([math.log(0.1 / 0.9), math.log(9), math.log(0.1 / 0.9)])
    assert api.keys == ["Bearer secret"]
    asked = api.asked[0]
    assert asked["model"] == name.partition(":")[2]
    assert asked["query"] == "What is the capital of France?"
    assert asked["documents"] == PASSAGES


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_service_is_asked_again(api: Api, status: int) -> None:
    api.refusals = [(status, {"Retry-After": "0.02"}, {}), (status, {}, {})]

    assert len(reranker(api).logits("Where?", PASSAGES)) == 3
    assert len(api.asked) == 3


def test_a_service_that_stays_busy_is_given_up(api: Api) -> None:
    api.refusals = [(429, {}, {})] * 10

    with pytest.raises(InferenceBusy, match="Cohere is too busy"):
        reranker(api).logits("Where?", PASSAGES)
    assert len(api.asked) == hosted.ATTEMPTS


def test_a_pause_beyond_the_time_allowed_is_not_waited_for(api: Api) -> None:
    api.refusals = [(429, {"Retry-After": "3600"}, {})]

    with pytest.raises(InferenceBusy) as busy:
        reranker(api).logits("Where?", PASSAGES)
    assert busy.value.retry_after_seconds == 3600
    assert len(api.asked) == 1


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, "refuses the key in JINA_API_KEY"),
        (403, "refuses the key in JINA_API_KEY"),
        (402, "the account of JINA_API_KEY has no credit"),
    ],
)
def test_a_refused_key_is_named_and_not_tried_again(api: Api, status: int, sentence: str) -> None:
    api.refusals = [(status, {}, {"detail": "no"})]

    with pytest.raises(NoModel, match=sentence):
        reranker(api, NAMES[2]).logits("Where?", PASSAGES)
    assert len(api.asked) == 1


def test_a_service_that_does_not_answer_is_given_up_in_time(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosted, "SECONDS", 0.2)
    answer = threading.Event()
    api.wait = answer

    try:
        with pytest.raises(InferenceLate, match="Cohere did not answer within"):
            reranker(api).logits("Where?", PASSAGES)
    finally:
        answer.set()


def test_a_slow_service_keeps_nobody_else_waiting(api: Api) -> None:
    api.wait = threading.Event()
    embedder: Any = HeldEngine()
    embedder.gate.set()
    models = _Loaded("held", "held", embedder=Slot(embedder, ""), reranker=Slot(reranker(api), ""))
    asked = {"query": "Where?", "texts": PASSAGES}
    many = 33  # more than threads that tokenise, on any machine
    with (
        serving(models) as url,
        httpx.Client(base_url=url, timeout=20, trust_env=False) as client,
        ThreadPoolExecutor(many) as callers,
    ):
        try:
            slow = [callers.submit(client.post, "/rerank", json=asked) for _ in range(many)]
            while len(api.asked) < hosted.AT_ONCE:
                time.sleep(0.01)
            embedded = client.post("/embed", json={"inputs": "two words"}, timeout=5)
            assert (embedded.status_code, len(api.asked)) == (200, hosted.AT_ONCE)
        finally:
            api.wait.set()
        answers = [answer.result() for answer in slow]

    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()[0]["index"] for answer in answers} == {1}
    waited = max(int(answer.headers["x-queue-time"]) for answer in answers)
    assert waited > 0
    assert "x-compute-tokens" not in answers[0].headers
    assert answers[0].headers["x-compute-type"] == "hosted"


def test_only_so_many_requests_wait_for_a_service(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosted, "AT_ONCE", 1)
    monkeypatch.setattr(hosted, "WAITING", 1)
    api.wait = threading.Event()
    service = reranker(api)

    with closing(service):
        under_way = service.submit("first", PASSAGES)
        while not api.asked:
            time.sleep(0.01)
        waiting = service.submit("second", PASSAGES)
        with pytest.raises(InferenceBusy, match="too many requests wait for Cohere"):
            service.submit("third", PASSAGES)
        assert waiting.cancel()
        instead = service.submit("fourth", PASSAGES)
        api.wait.set()
        assert under_way.result(10).argmax() == instead.result(10).argmax() == 1

    assert [asked["query"] for asked in api.asked] == ["first", "fourth"]


def test_the_error_of_a_caller_that_has_gone_is_told_once(
    api: Api, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosted, "SECONDS", 1.0)
    api.wait = threading.Event()
    embedder: Any = HeldEngine()
    models = _Loaded("held", "held", embedder=Slot(embedder, ""), reranker=Slot(reranker(api), ""))
    with serving(models) as url:
        body = {"query": "Where?", "texts": PASSAGES}
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/rerank", json=body, timeout=0.5, trust_env=False)
        while "scored nothing" not in caplog.text:
            time.sleep(0.05)
        api.wait.set()
        for _ in range(3):  # until the server's loop has come to it
            httpx.get(f"{url}/health", trust_env=False)
            gc.collect()

    assert "never retrieved" not in caplog.text


def test_a_refusal_is_told_in_the_services_words(api: Api) -> None:
    api.refusals = [(400, {}, {"detail": "model not found"})]

    with pytest.raises(NoModel, match=r"Voyage AI refuses the request \(400\): model not found"):
        reranker(api, NAMES[1]).logits("Where?", PASSAGES)


def rows(*scores: object) -> dict[str, object]:
    return {"results": [{"index": n, "relevance_score": score} for n, score in enumerate(scores)]}


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"results": [{"index": 0}]},
        {"results": []},
        [1],
        b"<html>Bad gateway</html>",
        b"\xff\xfe",
        rows(0.1, 0.2),
        rows(0.1, 0.2, 0.3, 0.4),
        {"results": [{"index": n, "relevance_score": 0.5} for n in (0, 1, 2, 0)]},
        rows(0.1, "high", 0.3),
        b'{"results": [{"index": 0, "relevance_score": NaN}, {"index": 1, "relevance_score": 0},'
        b' {"index": 2, "relevance_score": 1}]}',
    ],
)
def test_a_reply_without_a_score_for_each_passage_is_an_error(api: Api, reply: object) -> None:
    api.reply = reply

    with pytest.raises(NoModel, match="not a score for each passage"):
        reranker(api).logits("Where?", PASSAGES)


def test_certain_scores_have_finite_logits(api: Api) -> None:
    api.reply = rows(0, 1, 0.5)

    low, high, middle = reranker(api).logits("Where?", PASSAGES)

    assert low == pytest.approx(-high)
    assert math.isfinite(high)
    assert middle == 0


def test_cosines_below_zero_keep_their_order(api: Api) -> None:
    api.reply = rows(-0.12, -0.05, 0.0)

    worst, better, best = reranker(api).logits("Where?", PASSAGES)

    assert worst < better < best


def test_a_service_that_is_away_is_said_to_be() -> None:
    away = HostedReranker(
        NAMES[0], environment={"COHERE_API_KEY": "k"}, url="http://127.0.0.1:1/rerank"
    )

    with pytest.raises(InferenceUnreachable, match="Cohere cannot be reached"):
        away.logits("Where?", PASSAGES)


def test_the_key_comes_from_a_file_too(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("from a file\n")

    assert HostedReranker(NAMES[0], environment={"COHERE_API_KEY_FILE": str(file)})
    with pytest.raises(NoModel, match="the key is missing: set JINA_API_KEY"):
        HostedReranker(NAMES[2], environment={})
    with pytest.raises(NoModel, match="cannot be read"):
        HostedReranker(NAMES[0], environment={"COHERE_API_KEY_FILE": str(tmp_path / "gone")})


@pytest.mark.parametrize("name", ["BAAI/bge-reranker-v2-m3", "cohere:", "other:model", "/a:b"])
def test_other_names_are_no_services(name: str) -> None:
    assert service_of(name) is None
