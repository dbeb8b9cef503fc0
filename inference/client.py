"""The client of a model server, ours or Text Embeddings Inference. Imports no torch."""

from __future__ import annotations

import json
import math
import time
import weakref
from collections.abc import Sequence
from dataclasses import fields
from functools import lru_cache
from typing import Any, Literal

import httpx
import numpy as np
from numpy.typing import NDArray

from inference.errors import (
    InferenceBusy,
    InferenceError,
    InferenceLate,
    InferencePermanentError,
    InferenceRejected,
    InferenceTransientError,
    InferenceUnreachable,
    ModelLoading,
    NoModel,
)
from inference.hosts import Hosts
from inference.types import REMOTE, Calibration, ModelInfo, RerankScore, ServerInfo
from telemetry import requests

DEFAULT_CLIENT_BATCH = 32  # what TEI allows unless told otherwise
CONNECT_SECONDS = 2.0
RERANKER_AWAY = "the server of the reranker does not answer"
Lane = Literal["question", "ingestion"]


class InferenceClient:
    """Embeds and reranks over HTTP. One object serves all threads of a process.

    Long lists are sent in the server's batch size; 413 halves a batch, 429 waits as the
    server says, all of it within the time allowed. Each address may be several, separated by
    commas: servers of the same model.
    """

    def __init__(
        self, *, embed_url: str, rerank_url: str = "", timeout_seconds: float = 30.0
    ) -> None:
        self.embed_url = embed_url.rstrip("/")
        self.rerank_url = (rerank_url or embed_url).rstrip("/")
        self.timeout_seconds = timeout_seconds
        self._http = httpx.Client(
            trust_env=False, limits=httpx.Limits(max_connections=64, keepalive_expiry=20)
        )
        weakref.finalize(self, self._http.close)
        self._batch_sizes: dict[str, int] = {}
        self._embedders = Hosts(self.embed_url, self._is_healthy)
        self._rerankers = self._embedders
        if self.rerank_url != self.embed_url:
            self._rerankers = Hosts(self.rerank_url, self._is_healthy)

    @property
    def away(self) -> list[str]:
        """Which of several servers are left out now, because they did not answer."""
        return list(dict.fromkeys([*self._embedders.away, *self._rerankers.away]))

    def embed(
        self,
        texts: Sequence[str],
        *,
        lane: Lane = "question",
        timeout_seconds: float | None = None,
    ) -> NDArray[np.float32]:
        """(n, dimension) unit rows, one per text, in their order; (0, 0) for no texts.

        Args:
            lane: "ingestion" lets questions go first.
            timeout_seconds: for all of it, however many requests it takes.

        Raises:
            inference.errors.InferenceError: the tree in that module.
        """
        deadline = self._deadline(timeout_seconds)
        rows: list[Any] = []
        for start, size in self._batches(self._embedders, len(texts), deadline):
            body = {"inputs": list(texts[start : start + size]), "normalize": True}
            rows += self._in_parts("/embed", body, "inputs", lane, deadline)
        try:
            vectors = np.asarray(rows, dtype=np.float32).reshape(len(texts), -1 if rows else 0)
        except (TypeError, ValueError) as exc:
            raise InferenceRejected(f"{self.embed_url} gave no vectors of one length") from exc
        # A number that overflowed arrives as null, which numpy reads as NaN.
        if rows and not (vectors.size and np.isfinite(vectors).all()):
            raise InferenceRejected(f"{self.embed_url} gave vectors that are not all numbers")
        return vectors

    def rerank(
        self, question: str, texts: Sequence[str], *, timeout_seconds: float | None = None
    ) -> list[RerankScore]:
        """The raw logit of each text, in the order of the texts.

        Raises:
            inference.errors.InferenceError: the tree in that module.
        """
        deadline = self._deadline(timeout_seconds)
        scores: list[RerankScore] = []
        for start, size in self._batches(self._rerankers, len(texts), deadline):
            body: dict[str, Any] = {"query": question, "texts": list(texts[start : start + size])}
            body |= {"raw_scores": True}
            try:
                found = [
                    RerankScore(
                        start + row["index"], float(row["score"]), bool(row.get("truncated"))
                    )
                    for row in self._in_parts("/rerank", body, "texts", "question", deadline)
                ]
            except (TypeError, ValueError, KeyError, AttributeError) as exc:
                raise InferenceRejected(f"{self.rerank_url} gave no scores") from exc
            scores += sorted(found, key=lambda score: score.index)
        if [score.index for score in scores] != list(range(len(texts))):
            raise InferenceRejected(f"{self.rerank_url} did not score each text once")
        if not all(math.isfinite(score.logit) for score in scores):
            raise InferenceRejected(f"{self.rerank_url} gave scores that are not numbers")
        return scores

    def read_characters(
        self, question: str, text: str, *, timeout_seconds: float | None = None
    ) -> int | None:
        """How many characters of a text the reranker reads beside this question.

        None where the server does not tell, as TEI does not.

        Raises:
            inference.errors.InferenceError: the tree in that module.
        """
        body = {"query": question, "texts": [text], "raw_scores": True, "return_text": True}
        deadline = self._deadline(timeout_seconds)
        (row,) = self._in_parts("/rerank", body, "texts", "question", deadline)
        if row.get("truncated") is False:
            return len(text)
        read = row.get("read")
        return read if isinstance(read, int) else None

    def info(self, timeout_seconds: float = 2.0) -> ServerInfo:
        """The models behind both addresses; a server of one model tells only of that one.

        Raises:
            inference.errors.InferenceError: the embedding server does not tell. A reranking
                server of its own that does not is named in `reranker_reason` instead.
        """
        deadline = self._deadline(timeout_seconds)
        told = self._about(self._embedders, deadline)
        other = told
        if self.rerank_url != self.embed_url:
            try:
                other = self._about(self._rerankers, deadline)
            except InferenceError:
                other = {"reranker_reason": RERANKER_AWAY}
        try:
            embedder, reranker = _model(told, "embedder"), _model(other, "reranker")
            queue_depth = int(told.get("queue_depth") or 0)
            out_of_memory = int(other.get("out_of_memory") or 0)
        except (TypeError, ValueError) as exc:
            raise InferenceRejected(f"{self.embed_url} does not describe its model") from exc
        return ServerInfo(
            version=str(told.get("version", "")),
            embedder=embedder,
            embedder_reason="" if embedder else _reason(told, "embedder"),
            reranker=reranker,
            reranker_reason="" if reranker else _reason(other, "reranker"),
            queue_depth=queue_depth,
            unused_gpu=str(other.get("unused_gpu") or ""),
            out_of_memory=out_of_memory,
        )

    def close(self) -> None:
        """Close the connections; a client that is let go closes its own."""
        self._http.close()

    def _deadline(self, timeout_seconds: float | None) -> float:
        allowed = self.timeout_seconds if timeout_seconds is None else timeout_seconds
        return time.monotonic() + allowed

    def _about(self, hosts: Hosts, deadline: float) -> dict[str, Any]:
        told = self._call("GET", hosts, "/info", deadline)
        if not isinstance(told, dict):
            raise InferenceRejected(f"{hosts.addresses} is no model server")
        return told

    def _batches(self, hosts: Hosts, count: int, deadline: float) -> list[tuple[int, int]]:
        """(start, size) of each batch; the server is asked for its size when it matters."""
        url = hosts.addresses
        size = self._batch_sizes.get(url, DEFAULT_CLIENT_BATCH)
        if count > size and url not in self._batch_sizes:
            told = self._about(hosts, deadline)
            try:
                size = int(told.get("max_client_batch_size") or DEFAULT_CLIENT_BATCH)
            except (TypeError, ValueError) as exc:
                raise InferenceRejected(f"{url} does not tell its batch size") from exc
            if size < 1:
                raise InferenceRejected(f"{url} takes batches of {size} texts")
            self._batch_sizes[url] = size
        return [(start, min(size, count - start)) for start in range(0, count, size)]

    def _in_parts(
        self, path: str, body: dict[str, Any], field: str, lane: Lane, deadline: float
    ) -> list[Any]:
        """Post a batch; where it is too large for the server, its halves."""
        hosts = self._embedders if path == "/embed" else self._rerankers
        texts, whole = body[field], {**body, "truncate": True}
        try:
            rows = self._call("POST", hosts, path, deadline, body=whole, lane=lane)
        except _TooLarge as exc:
            if len(texts) == 1:
                raise InferenceRejected(str(exc)) from exc
            half = len(texts) // 2
            rows = self._in_parts(path, {**body, field: texts[:half]}, field, lane, deadline)
            more = self._in_parts(path, {**body, field: texts[half:]}, field, lane, deadline)
            if path == "/rerank":
                more = [{**row, "index": row["index"] + half} for row in more]
            return [*rows, *more]
        if not isinstance(rows, list) or len(rows) != len(texts):
            address = f"{hosts.addresses}{path}"
            raise InferenceRejected(f"{address} did not answer with {len(texts)} results")
        return rows

    def _call(
        self,
        method: str,
        hosts: Hosts,
        path: str,
        deadline: float,
        *,
        body: dict[str, Any] | None = None,
        lane: Lane = "question",
    ) -> Any:
        """The answer of one server; of several another one where the first has gone."""
        tried: set[str] = set()
        while True:
            try:
                with hosts.one(besides=tried) as host:
                    url = host.url + path
                    response, content = self._send(method, url, deadline, body, lane)
                    if response.is_success:
                        return _json(url, content)
                    _raise(url, response, content)
            except InferenceBusy as exc:
                if time.monotonic() + exc.retry_after_seconds >= deadline:
                    raise
                time.sleep(exc.retry_after_seconds)
            except (InferenceUnreachable, ModelLoading):
                hosts.lost(host)
                tried.add(host.url)
                if len(tried) == len(hosts):
                    raise

    def _is_healthy(self, url: str) -> bool:
        try:
            return self._http.get(f"{url}/health", timeout=CONNECT_SECONDS).is_success
        except (httpx.HTTPError, httpx.InvalidURL):
            return False

    def _send(
        self, method: str, url: str, deadline: float, body: dict[str, Any] | None, lane: Lane
    ) -> tuple[httpx.Response, bytes]:
        """One request and its whole answer, by the deadline."""
        late = f"{url}: no answer within the time allowed"
        left = deadline - time.monotonic()
        if left <= 0:
            raise InferenceLate(late)
        headers = {"X-Lane": lane, "X-Timeout-Ms": str(int(1000 * left)), **requests.headers()}
        timeout = httpx.Timeout(left, connect=min(left, CONNECT_SECONDS))
        content = bytearray()
        try:
            with self._http.stream(
                method, url, json=body, headers=headers, timeout=timeout
            ) as response:
                for piece in response.iter_bytes():
                    content += piece
                    if time.monotonic() > deadline:  # httpx limits each read, not their sum
                        raise InferenceLate(late)
        except httpx.ConnectTimeout as exc:
            raise InferenceUnreachable(f"{url}: {exc}") from exc
        except httpx.TimeoutException as exc:
            raise InferenceLate(late) from exc
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise InferenceUnreachable(f"{url}: {exc}") from exc
        except UnicodeEncodeError as exc:
            raise InferenceRejected(f"a text is not valid Unicode: {exc}") from exc
        return response, bytes(content)


class _TooLarge(InferencePermanentError):
    """The server wants a smaller batch."""


def _json(url: str, content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError as exc:
        raise InferenceRejected(f"{url} did not answer in JSON") from exc


def _raise(url: str, response: httpx.Response, content: bytes) -> None:
    """Turn an error answer into its exception."""
    try:
        told = json.loads(content)
        error, kind = str(told["error"]), str(told.get("error_type", "")).lower()
    except (ValueError, KeyError, TypeError, AttributeError):
        error, kind = content[:200].decode(errors="replace"), ""
    status = response.status_code
    text = f"{url}: {status} {error}"
    if status == 429:
        raise InferenceBusy(text, retry_after_seconds=_retry_after(response))
    if status == 503:
        raise ModelLoading(error) if "loading" in kind + error else InferenceUnreachable(text)
    # TEI says "model is not a re-ranker model" or "… an embedding model" of another kind of model.
    if status == 424 and (kind == "no_model" or "model is not a" in error.lower()):
        raise NoModel(error)
    if status == 413 or (status == 422 and "batch size" in error.lower()):
        raise _TooLarge(text)
    if status == 504:
        raise InferenceLate(text)
    if status >= 500 or status in (408, 424):
        raise InferenceTransientError(text)
    raise InferenceRejected(text)


def _retry_after(response: httpx.Response) -> float:
    try:
        return max(0.1, float(response.headers.get("Retry-After", "1")))
    except ValueError:
        return 1.0


def _described(values: dict[str, Any]) -> ModelInfo:
    if "calibration" in values:
        values["calibration"] = Calibration(**values["calibration"])
    if "languages" in values:
        values["languages"] = tuple(values["languages"])
    return ModelInfo(**values)


def _model(told: dict[str, Any], kind: Literal["embedder", "reranker"]) -> ModelInfo | None:
    """One model of `/info`: ours tells it as an object, TEI by `model_type`."""
    if kind in told:
        known = {field.name for field in fields(ModelInfo)}
        mine = told[kind] or {}
        return _described({key: mine[key] for key in mine if key in known}) if mine else None
    types = told.get("model_type") or {}
    if {"embedder": "embedding", "reranker": "reranker"}[kind] not in types:
        return None
    return ModelInfo(
        model_id=str(told.get("model_id", "")),
        revision=str(told.get("model_sha") or told.get("model_id", "")),
        device=REMOTE,
        dtype=str(told.get("model_dtype", "")),
        max_tokens=int(told.get("max_input_length") or 512),
    )


def _reason(told: dict[str, Any], kind: Literal["embedder", "reranker"]) -> str:
    what = {"embedder": "embedding model", "reranker": "reranker"}[kind]
    return str(told.get(f"{kind}_reason") or f"no {what} is installed")


@lru_cache(maxsize=16)
def shared_client(embed_url: str, rerank_url: str) -> InferenceClient:
    """The client of these addresses, one per process."""
    return InferenceClient(embed_url=embed_url, rerank_url=rerank_url)
