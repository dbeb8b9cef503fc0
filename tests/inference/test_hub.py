"""RERANKER=auto with a model hub in reach: a small one that speaks the real one's HTTP API."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from inference.catalogue import WITH_NETWORK
from inference.loading import load_reranker
from ragsite import processes

COMMIT = "0123456789" * 4
QUESTION, PASSAGES = "Who sleeps?", ["Cats sleep all day.", "Trains run at night."]


@dataclass
class Hub:
    """Has one model; its weights come when they are released."""

    folder: Path
    released: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def reply(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and content for a path."""
        if path == f"/api/models/{WITH_NETWORK}":
            names = [str(p.relative_to(self.folder)) for p in self.folder.rglob("*.*")]
            about = {"id": WITH_NETWORK, "sha": COMMIT, "private": False, "tags": []}
            files = [{"rfilename": name} for name in names]
            return 200, {}, json.dumps({**about, "siblings": files}).encode()
        _, _, place = path.partition(f"/{WITH_NETWORK}/resolve/")
        file = self.folder / place.partition("/")[2]
        if not place or not file.is_file():
            return 404, {"X-Error-Code": "EntryNotFound"}, b"{}"
        content = file.read_bytes()
        etag = hashlib.sha256(content).hexdigest()
        return 200, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, content


@pytest.fixture
def hub(modular_cross_encoder: Path) -> Iterator[Hub]:
    served = Hub(modular_cross_encoder)

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(with_content=False)

        def do_GET(self) -> None:
            self.answer(with_content=True)

        def answer(self, *, with_content: bool) -> None:
            status, headers, content = served.reply(self.path.partition("?")[0])
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if with_content:
                if self.path.endswith("model.safetensors"):
                    served.released.wait(120)
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Be quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    served.url = f"http://127.0.0.1:{server.server_port}"
    yield served
    served.released.set()
    server.shutdown()
    server.server_close()


def wait_for(url: str, there: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        try:
            info: dict[str, Any] = httpx.get(f"{url}/info").json()
        except httpx.HTTPError:
            info = {}
        if info and there(info):
            return info
        time.sleep(0.1)
    pytest.fail(f"it did not come to that: {info}")


def test_a_model_of_the_hub_is_fetched_while_the_server_works_and_bears_its_commit(
    hub: Hub, modular_cross_encoder: Path, tmp_path: Path
) -> None:
    port = processes.free_port()
    url = f"http://127.0.0.1:{port}"
    process = processes.Process(
        processes.inference_service(port),
        env={
            "RERANKER": "auto",
            "HF_HOME": str(tmp_path / "hub"),
            "HF_ENDPOINT": hub.url,
            "HF_HUB_OFFLINE": "0",
            "CUDA_VISIBLE_DEVICES": "",
        },
        log=tmp_path / "inference.log",
    )
    body = {"query": QUESTION, "texts": PASSAGES, "raw_scores": True}
    try:
        wait_for(url, lambda info: info["embedder"] and WITH_NETWORK in info["reranker_reason"])
        loading = httpx.post(f"{url}/rerank", json=body)
        assert loading.status_code == 503
        assert loading.json()["error_type"] == "model_loading"
        assert httpx.post(f"{url}/embed", json={"inputs": "Cats sleep."}).status_code == 200

        hub.released.set()
        reranker = wait_for(url, lambda info: info["reranker"])["reranker"]

        scores = httpx.post(f"{url}/rerank", json=body).json()
    finally:
        process.stop()
    log = (tmp_path / "inference.log").read_text()
    assert f"the reranker is ready: {WITH_NETWORK} (cpu, float32, picked by itself" in log
    assert "HTTP Request" not in log
    assert reranker["model_id"] == WITH_NETWORK
    assert reranker["revision"] == COMMIT
    assert reranker["chosen"] == (
        "picked by itself: there is no GPU, and the model hub can be reached"
    )
    engine = load_reranker(str(modular_cross_encoder))
    expected = engine.compute(engine.encode(QUESTION, PASSAGES))
    found = [row["score"] for row in sorted(scores, key=lambda row: int(row["index"]))]
    assert found == pytest.approx(expected.tolist(), abs=1e-4)
