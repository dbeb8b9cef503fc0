"""The client of a model server, ours or Text Embeddings Inference. Imports no torch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import httpx
import numpy as np
from numpy.typing import NDArray

from inference.errors import (
    InferenceBusy,
    InferenceLate,
    InferencePermanentError,
    InferenceRejected,
    InferenceTransientError,
    InferenceUnreachable,
    ModelLoading,
    NoModel,
)
from inference.types import ModelInfo, RerankScore, ServerInfo

DEFAULT_CLIENT_BATCH = 32  # what TEI allows unless told otherwise
CONNECT_SECONDS = 2.0


class InferenceClient:
    """Embeds and reranks over HTTP. One object serves all threads of a process.

    Long lists are sent in the server's batch size; 413 halves a batch, 429 waits as the
    server says, both within the time allowed.
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
        self._batch_sizes: dict[str, int] = {}

    def embed(
        self,
        texts: Sequence[str],
        *,
        lane: Literal["question", "ingestion"] = "question",
        timeout_seconds: float | None = None,
    ) -> NDArray[np.float32]:
        """(n, dimension) unit rows, one per text, in their order.

        Raises:
            inference.errors.InferenceError: the tree in that module.
        """
        deadline = self._deadline(timeout_seconds)
        rows: list[list[float]] = []
        for start, size in self._batches(self.embed_url, len(texts), deadline):
            body = {"inputs": list(texts[start : start + size]), "normalize": True}
            rows += self._halving("/embed", body, "inputs", lane, deadline)
        if len(rows) != len(texts):
            raise InferenceRejected(f"{len(texts)} texts sent, {len(rows)} vectors came back")
        return np.asarray(rows, dtype=np.float32).reshape(len(texts), -1)

    def rerank(
        self, question: str, texts: Sequence[str], *, timeout_seconds: float | None = None
    ) -> list[RerankScore]:
        """The raw logit of each text, in the order of the texts.

        Raises:
            inference.errors.InferenceError: the tree in that module.
        """
        deadline = self._deadline(timeout_seconds)
        scores: list[RerankScore] = []
        for start, size in self._batches(self.rerank_url, len(texts), deadline):
            body: dict[str, Any] = {"query": question, "texts": list(texts[start : start + size])}
            body |= {"raw_scores": True, "truncate": True}
            rows = self._halving("/rerank", body, "texts", "question", deadline)
            rows.sort(key=lambda row: row["index"])
            scores += [
                RerankScore(start + row["index"], row["score"], bool(row.get("truncated")))
                for row in rows
            ]
        return scores

    def info(self, timeout_seconds: float = 2.0) -> ServerInfo:
        """The models behind both addresses; a server of one model tells only of that one."""
        deadline = self._deadline(timeout_seconds)
        told = self._call("GET", f"{self.embed_url}/info", deadline)
        other = told
        if self.rerank_url != self.embed_url:
            other = self._call("GET", f"{self.rerank_url}/info", deadline)
        reranker = _model(other, "reranker")
        reason = str(other.get("reranker_reason") or "")
        return ServerInfo(
            version=str(told.get("version", "")),
            embedder=_model(told, "embedder"),
            reranker=reranker,
            reranker_reason="" if reranker else reason or "no reranker is installed",
            queue_depth=int(told.get("queue_depth") or 0),
        )

    def _deadline(self, timeout_seconds: float | None) -> float:
        return time.monotonic() + (timeout_seconds or self.timeout_seconds)

    def _batches(self, url: str, count: int, deadline: float) -> list[tuple[int, int]]:
        """(start, size) of each batch; the server is asked for its size when it matters."""
        size = self._batch_sizes.get(url, DEFAULT_CLIENT_BATCH)
        if count > size and url not in self._batch_sizes:
            told = self._call("GET", f"{url}/info", deadline)
            size = int(told.get("max_client_batch_size") or DEFAULT_CLIENT_BATCH)
            self._batch_sizes[url] = size
        return [(start, min(size, count - start)) for start in range(0, count, size)]

    def _halving(
        self, path: str, body: dict[str, Any], field: str, lane: str, deadline: float
    ) -> list[Any]:
        """Post a batch; where it is too large for the server, its halves."""
        url = (self.embed_url if path == "/embed" else self.rerank_url) + path
        try:
            rows: list[Any] = self._call("POST", url, deadline, body=body, lane=lane)
        except _TooLarge as exc:
            texts = body[field]
            if len(texts) == 1:
                raise InferenceRejected(str(exc)) from exc
            half = len(texts) // 2
            rows = self._halving(path, {**body, field: texts[:half]}, field, lane, deadline)
            more = self._halving(path, {**body, field: texts[half:]}, field, lane, deadline)
            if path == "/rerank":
                more = [{**row, "index": row["index"] + half} for row in more]
            rows = rows + more
        return rows

    def _call(
        self,
        method: str,
        url: str,
        deadline: float,
        *,
        body: dict[str, Any] | None = None,
        lane: str = "question",
    ) -> Any:
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise InferenceLate(f"{url}: no answer within the time allowed")
            timeout = httpx.Timeout(left, connect=min(left, CONNECT_SECONDS))
            try:
                response = self._http.request(
                    method, url, json=body, headers={"X-Lane": lane}, timeout=timeout
                )
            except httpx.ConnectTimeout as exc:
                raise InferenceUnreachable(f"{url}: {exc}") from exc
            except httpx.TimeoutException as exc:
                raise InferenceLate(f"{url}: no answer within the time allowed") from exc
            except (httpx.HTTPError, httpx.InvalidURL) as exc:
                raise InferenceUnreachable(f"{url}: {exc}") from exc
            if response.is_success:
                return _json(url, response)
            try:
                _raise(url, response)
            except InferenceBusy as exc:
                if time.monotonic() + exc.retry_after_seconds >= deadline:
                    raise
                time.sleep(exc.retry_after_seconds)


class _TooLarge(InferencePermanentError):
    """The server wants a smaller batch."""


def _json(url: str, response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError as exc:
        raise InferenceRejected(f"{url} did not answer in JSON") from exc


def _raise(url: str, response: httpx.Response) -> None:
    """Turn an error answer into its exception."""
    try:
        told = response.json()
        error, kind = str(told["error"]), str(told.get("error_type", ""))
    except (ValueError, KeyError, TypeError):
        error, kind = response.text[:200], ""
    text = f"{url}: {response.status_code} {error}"
    status = response.status_code
    if status == 429:
        raise InferenceBusy(text, retry_after_seconds=_retry_after(response))
    if status == 503:
        raise ModelLoading(error) if "loading" in (kind + error) else InferenceUnreachable(text)
    if status == 424 and kind == "no_model":
        raise NoModel(error)
    if status == 413 or (status == 422 and "batch size" in error):
        raise _TooLarge(text)
    if status >= 500 or status in (408, 424):
        raise InferenceTransientError(text)
    raise InferenceRejected(text)


def _retry_after(response: httpx.Response) -> float:
    try:
        return max(0.1, float(response.headers.get("Retry-After", "1")))
    except ValueError:
        return 1.0


def _model(told: dict[str, Any], kind: Literal["embedder", "reranker"]) -> ModelInfo | None:
    """One model of `/info`: ours tells it as an object, TEI by `model_type`."""
    if kind in told:
        return ModelInfo(**told[kind]) if told[kind] else None
    types = told.get("model_type") or {}
    if ("embedding" if kind == "embedder" else "reranker") not in types:
        return None
    return ModelInfo(
        model_id=str(told.get("model_id", "")),
        revision=str(told.get("model_sha") or told.get("model_id", "")),
        device="remote",
        dtype=str(told.get("model_dtype", "")),
        max_tokens=int(told.get("max_input_length") or 512),
    )


@lru_cache(maxsize=16)
def shared_client(embed_url: str, rerank_url: str) -> InferenceClient:
    """The client of these addresses, one per process."""
    return InferenceClient(embed_url=embed_url, rerank_url=rerank_url)
