"""An engine that can be held, and a small server that speaks Text Embeddings Inference's API."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import uvicorn
from numpy.typing import NDArray

from inference.engines import Encoded
from inference.models import Models
from inference.scheduler import Scheduler
from inference.server import create_app
from inference.types import ModelInfo
from ragsite import processes

BREAKS = 13  # a text of so many tokens breaks the engine


@dataclass
class HeldEngine:
    """Gives each text its number of tokens as result; `gate` holds it inside a batch."""

    batch_tokens: int = 100
    most_texts: int = 10_000  # in a batch, before it runs out of memory
    max_tokens: int = 512
    batches: list[list[int]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)
    info: ModelInfo = field(
        default_factory=lambda: ModelInfo("held", "h1", "cpu", "float32", 512, 1)
    )
    pooling: str = "mean"
    half: None = None
    is_packed: bool = False
    reads_pairs: bool = False

    def encode(self, *texts: Any) -> list[Encoded]:
        return encoded(*(len(text.split()) for text in texts[-1]))

    def begin(self, batch: Sequence[Encoded]) -> Callable[[], NDArray[np.float32]] | None:
        return None

    def compute(self, batch: Sequence[Encoded]) -> NDArray[np.float32]:
        self.entered.set()
        assert self.gate.wait(20)
        if len(batch) > self.most_texts:
            raise RuntimeError("CUDA out of memory")
        self.batches.append([item.tokens for item in batch])
        if any(item.tokens == BREAKS for item in batch):
            raise ValueError("cannot compute this")
        return np.array([item.tokens for item in batch], dtype=np.float32)


def encoded(*tokens: int) -> list[Encoded]:
    """Texts of these lengths."""
    return [Encoded({"input_ids": [7] * n}, n, truncated=False) for n in tokens]


@contextmanager
def serving(models: Models, scheduler: Scheduler | None = None) -> Iterator[str]:
    """The real application of the model server on a port of its own."""
    port = processes.free_port()
    app = create_app(models, scheduler)
    server = uvicorn.Server(
        uvicorn.Config(app, port=port, log_level="warning", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@dataclass
class Tei:
    """What a Text Embeddings Inference server would answer, and what it was asked.

    max_batch: texts in a request; more get 413. overloaded: so many requests get 429 first.
    trickle_seconds: between the bytes of an answer. status, error: every answer is that error.
    """

    kind: str = "embedding"
    max_batch: int = 4
    overloaded: int = 0
    trickle_seconds: float = 0.0
    status: int = 0
    error: Any = None
    answer: Any = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    def respond(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if self.status:
            return self.status, self.error
        if path == "/info":
            return 200, {
                "model_id": "BAAI/bge-reranker-base",
                "model_sha": "2cfc18c9415c912f9d8155881c133215df768a70",
                "model_dtype": "float16",
                "model_type": {self.kind: {"pooling": "cls"}},
                "max_concurrent_requests": 512,
                "max_input_length": 512,
                "max_batch_tokens": 16384,
                "max_client_batch_size": self.max_batch,
                "auto_truncate": False,
                "tokenization_workers": 4,
                "version": "1.7.1",
            }
        self.asked.append(body)
        if self.overloaded:
            self.overloaded -= 1
            return 429, {"error": "Model is overloaded", "error_type": "Overloaded"}
        texts = body["inputs"] if path == "/embed" else body["texts"]
        if len(texts) > self.max_batch:
            error = f"batch size {len(texts)} > maximum allowed batch size {self.max_batch}"
            return 413, {"error": error, "error_type": "Validation"}
        if not body.get("truncate") and any(len(text.split()) > 512 for text in texts):
            error = "`inputs` must have less than 512 tokens. Given: 600"
            return 413, {"error": error, "error_type": "Validation"}
        if self.answer is not None:
            return 200, self.answer
        if path == "/embed":
            return 200, [[float(len(text)), 1.0] for text in texts]
        if self.kind != "reranker":
            return 424, {"error": "model is not a re-ranker model", "error_type": "Backend"}
        scores = [{"index": n, "score": float(len(text))} for n, text in enumerate(texts)]
        return 200, sorted(scores, key=lambda rank: -rank["score"])


@contextmanager
def tei(**given: Any) -> Iterator[Tei]:
    """A running stand-in."""
    told = Tei(**given)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else {}
            status, value = told.respond(self.path, body)
            content = value.encode() if isinstance(value, str) else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            try:
                for n in range(len(content)):
                    self.wfile.write(content[n : n + 1])
                    time.sleep(told.trickle_seconds)
            except OSError:  # the client has gone
                self.close_connection = True

        do_POST = do_GET

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        told.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield told
        finally:
            server.shutdown()
            thread.join()
