"""The vector store: one Chroma collection for each index generation. Imports chromadb, alone.

Chroma holds copies: text and embeddings are in SQL, and every id found here counts only if SQL
knows it. Present ids are never written again, because that costs recall (misses went from 1 to
40 of 3,000 after 46 repeated batches); what is missing is added and read back.
"""

from __future__ import annotations

import importlib
import math
import os
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING
from uuid import UUID

import httpx
import numpy as np
from numpy.typing import NDArray

from ingestion.errors import VectorStoreError
from ingestion.types import Hit, IngestionSettings

if TYPE_CHECKING:
    from chromadb.api.fastapi import FastAPI

# Fixed when a collection is made: ef_search changed later has no effect before a restart.
# On 30,000 vectors without clusters, harder than text, M 32 and ef_construction 200 found 79, 92
# and 98 % of the exact top 50 with ef_search 100, 200 and 400, in 5 to 9 ms; Chroma's defaults
# (16, 100, 100) found 60 %.
HNSW = {"space": "cosine", "max_neighbors": 32, "ef_construction": 200, "ef_search": 200}
WRITE_BATCH = 150
READ_BATCH = 5_000
LIST_BATCH = 500
CALL_SECONDS = 30.0
# Dropping a collection of 90,000 vectors took 28 s.
DROP_SECONDS = 120.0

_deadline: ContextVar[float] = ContextVar("_deadline")


class NoCollection(VectorStoreError):
    """The server answers and has no such collection."""


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection of the server: the dimension it was made for, and the site that made it."""

    name: str
    dimension: int
    site: str


class VectorStore:
    """A Chroma server. Safe to share among threads; every call is bounded in time.

    Raises VectorStoreError from every method when the server does not answer in time, answers
    with an error, or has no such collection (`delete`, `missing` and `drop` take that for done).
    """

    def __init__(self, url: str, *, token: str = "", site: str = "") -> None:
        self.url = url
        self.site = site
        self._token = token
        self._lock = threading.Lock()
        self._api: FastAPI | None = None
        self._ids: dict[str, UUID] = {}

    def heartbeat(self, *, timeout_seconds: float = 2.0) -> None:
        """Return if the server answers. Says nothing about the health of a collection."""
        with self._call("heartbeat", seconds=timeout_seconds):
            self._server().heartbeat()

    def ensure(self, collection: str, dimension: int) -> None:
        """Make the collection unless it exists."""
        with self._call(f"ensure {collection}"):
            model = self._server().create_collection(
                name=collection,
                configuration={"hnsw": HNSW},
                metadata={"dimension": dimension, "site": self.site},
                get_or_create=True,
            )
            self._ids[collection] = model.id

    def add_missing(self, collection: str, ids: Sequence[str], vectors: NDArray[np.float32]) -> int:
        """Add the vectors whose ids the collection lacks, and leave the others alone.

        Args:
            collection: exists already.
            ids: (n,) without repeats.
            vectors: (n, d), row i for id i.

        Returns:
            How many were added.
        """
        if len(ids) != len(vectors):
            raise ValueError(f"{len(ids)} ids for {len(vectors)} vectors")
        added = 0
        for start in range(0, len(ids), WRITE_BATCH):
            batch = list(ids[start : start + WRITE_BATCH])
            absent = set(self.missing(collection, batch))
            rows = [i for i, key in enumerate(batch, start) if key in absent]
            if not rows:
                continue
            with self._call(f"add to {collection}"):
                self._server()._add(
                    ids=[ids[i] for i in rows],
                    collection_id=self._id(collection),
                    embeddings=[vectors[i] for i in rows],
                )
            added += len(rows)
        return added

    def missing(self, collection: str, ids: Sequence[str]) -> list[str]:
        """Which of these ids the collection does not hold, in their order."""
        present: set[str] = set()
        try:
            for batch in _batches(ids, READ_BATCH):
                with self._call(f"get from {collection}"):
                    found = self._server()._get(self._id(collection), ids=batch, include=[])
                    present.update(found["ids"])
        except NoCollection:
            return list(ids)
        return [key for key in ids if key not in present]

    def search(
        self,
        collection: str,
        vector: NDArray[np.float32],
        *,
        k: int,
        timeout_seconds: float = 2.0,
    ) -> list[Hit]:
        """The k nearest passages by cosine similarity.

        Args:
            collection: exists already.
            vector: (d,), the collection's d.
            k: how many at most, > 0.
            timeout_seconds: for the whole call.

        Returns:
            At most k hits, best first; equal similarity: lower chunk id first.
        """
        self._server()  # once a process, this imports chromadb: a second or two of no search
        with self._call(f"query {collection}", seconds=timeout_seconds):
            found = self._server()._query(
                self._id(collection), [vector], n_results=k, include=["distances"]
            )
            distances = (found["distances"] or [[]])[0]
            pairs = zip(found["ids"][0], distances, strict=True)
            hits = [Hit(key, 1.0 - float(distance)) for key, distance in pairs]
        return sorted(hits, key=lambda hit: (-hit.score, hit.chunk_id))

    def delete(self, collection: str, ids: Sequence[str]) -> None:
        """Take these ids out; ids and collections that are not there are fine."""
        try:
            for batch in _batches(ids, WRITE_BATCH):
                with self._call(f"remove from {collection}"):
                    self._server()._delete(self._id(collection), ids=batch)
        except NoCollection:
            return

    def ids(self, collection: str) -> set[str]:
        """Every id that the collection holds."""
        found: set[str] = set()
        while True:
            with self._call(f"list {collection}"):
                page = self._server()._get(
                    self._id(collection), limit=READ_BATCH, offset=len(found), include=[]
                )["ids"]
            found.update(page)
            if len(page) < READ_BATCH:
                return found

    def vectors(self, collection: str, ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """The vectors (d,) that the collection holds for these ids; ids it lacks are left out."""
        found: dict[str, NDArray[np.float32]] = {}
        for batch in _batches(ids, WRITE_BATCH):
            with self._call(f"get from {collection}"):
                page = self._server()._get(self._id(collection), ids=batch, include=["embeddings"])
                rows = page["embeddings"]
                if rows is not None:
                    for key, row in zip(page["ids"], rows, strict=True):
                        found[key] = np.asarray(row, dtype=np.float32)
        return found

    def collections(self) -> list[Collection]:
        """All collections of this server, other sites' included."""
        found: list[Collection] = []
        while True:
            with self._call("list collections"):
                page = self._server().list_collections(limit=LIST_BATCH, offset=len(found))
            for row in page:
                about = row.metadata or {}
                dimension, site = about.get("dimension", 0), about.get("site", "")
                found.append(Collection(row.name, int(dimension), str(site)))
            if len(page) < LIST_BATCH:
                return found

    def count(self, collection: str) -> int:
        """How many vectors the collection holds."""
        with self._call(f"count {collection}"):
            return int(self._server()._count(self._id(collection)))

    def exists(self, collection: str) -> bool:
        """Whether the server has this collection."""
        self._ids.pop(collection, None)
        try:
            with self._call(f"look for {collection}"):
                self._id(collection)
        except NoCollection:
            return False
        return True

    def drop(self, collection: str) -> None:
        """Remove the collection with all it holds, and see that it is gone."""
        try:
            with self._call(f"drop {collection}", seconds=DROP_SECONDS):
                self._server().delete_collection(collection)
        except NoCollection:
            return
        if self.exists(collection):
            raise VectorStoreError(f"{collection} is still there after it was dropped")

    def _id(self, collection: str) -> UUID:
        """The server's own id of a collection, asked for once."""
        known = self._ids.get(collection)
        if known is None:
            known = self._ids[collection] = self._server().get_collection(collection).id
        return known

    def _server(self) -> FastAPI:
        with self._lock:
            if self._api is None:
                self._api = _connect(self.url, self._token)
                weakref.finalize(self, self._api._session.close)
            return self._api

    @contextmanager
    def _call(self, what: str, *, seconds: float = CALL_SECONDS) -> Iterator[None]:
        """Bound one call in time and translate whatever goes wrong in it."""
        try:
            self._server()  # importing chromadb takes a second or more, once, and not of `seconds`
            token = _deadline.set(time.monotonic() + seconds)
            try:
                yield
            finally:
                _deadline.reset(token)
        except VectorStoreError:
            raise
        except Exception as exc:
            if type(exc).__name__ == "NotFoundError":
                self._ids.clear()
                raise NoCollection(f"{what}: {exc}") from exc
            raise VectorStoreError(f"{what} at {self.url}: {type(exc).__name__}: {exc}") from exc


def _connect(url: str, token: str) -> FastAPI:
    """The client side of Chroma's HTTP API, with limits on its connections.

    `chromadb.HttpClient` cannot be used as it is: it has no timeouts, and its constructor asks
    the server twice before they could be set, so a server that hangs would hang us. This puts
    together the parts that it is made of.
    """
    from chromadb.api.fastapi import FastAPI
    from chromadb.config import Settings, System

    auth = "chromadb.auth.token_authn.TokenAuthClientProvider" if token else None
    system = System(
        Settings(
            _env_file=None,
            anonymized_telemetry=False,
            chroma_api_impl="chromadb.api.fastapi.FastAPI",
            chroma_server_host=url.rstrip("/"),
            chroma_server_http_port=0,
            chroma_server_ssl_enabled=url.startswith("https"),
            chroma_client_auth_provider=auth,
            chroma_client_auth_credentials=token or None,
        )
    )
    api = system.instance(FastAPI)
    bounded = httpx.Client(
        headers=api._session.headers,
        event_hooks={"request": [_limit]},
        trust_env=False,
        limits=httpx.Limits(keepalive_expiry=30.0),
    )
    api._session.close()
    api._session = bounded
    system.start()
    return api


def _limit(request: httpx.Request) -> None:
    """Give a request the time that is left of the call it belongs to."""
    left = _deadline.get() - time.monotonic()
    if left <= 0:
        raise httpx.ConnectTimeout("no time left", request=request)
    limits = httpx.Timeout(left, connect=min(left, 2.0))
    request.extensions = {**request.extensions, "timeout": limits.as_dict()}


def _batches(ids: Sequence[str], size: int) -> Iterator[list[str]]:
    rest = iter(ids)
    for _ in range(math.ceil(len(ids) / size)):
        yield list(islice(rest, size))


def load_vendor() -> None:
    """Import chromadb: half a second of CPU time, which processes forked afterwards do not need."""
    importlib.import_module("chromadb.api.fastapi")


def shared_store(settings: IngestionSettings) -> VectorStore:
    """The store that the settings name, one object per process."""
    return _store_of_process(settings.chroma_url, settings.chroma_token, settings.site, os.getpid())


@lru_cache(maxsize=8)
def _store_of_process(url: str, token: str, site: str, pid: int) -> VectorStore:
    return VectorStore(url, token=token, site=site)
