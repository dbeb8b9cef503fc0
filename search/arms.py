"""The two arms of retrieval: search by keywords and search by meaning.

Everything here runs in threads beside each other, so nothing here touches the ORM: a
`Scope` carries what an arm needs to know of a corpus. An index that fails takes only
itself out of the result.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from inference.errors import InferenceError
from ingestion.errors import LexicalIndexError, VectorStoreError
from ingestion.lexical import open_index
from ingestion.types import Hit
from search import degraded
from search.types import Degradation

EMBED_SECONDS = 2.5
VECTORS_SECONDS = 2.0
# The first search of a process also imports Chroma's client.
VECTORS_GRACE_SECONDS = 1.5

logger = logging.getLogger(__name__)


class Embedder(Protocol):
    """What turns texts into vectors: `inference.client.InferenceClient`, or a stand-in."""

    def embed(
        self,
        texts: Sequence[str],
        *,
        lane: Literal["question", "ingestion"] = "question",
        timeout_seconds: float | None = None,
    ) -> NDArray[np.float32]:
        """(n, d) unit rows. Raises `inference.errors.InferenceError`."""
        ...


class VectorSearch(Protocol):
    """What finds the nearest vectors: `ingestion.vectors.VectorStore`, or a stand-in."""

    def search(
        self,
        collection: str,
        vector: NDArray[np.float32],
        *,
        k: int,
        timeout_seconds: float = VECTORS_SECONDS,
    ) -> list[Hit]:
        """Cosine similarity, best first. Raises `ingestion.errors.VectorStoreError`."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Within:
    """The documents that a filter leaves of a corpus, where they are few.

    documents: their ids. chunk_ids, vectors: (n,) and (n, d) of all their passages, for an exact
    search: an approximate index that is asked for everything and filtered afterwards would miss
    them.
    """

    documents: Sequence[int]
    chunk_ids: Sequence[str]
    vectors: NDArray[np.float32]

    def nearest(self, vector: NDArray[np.float32], *, k: int) -> list[Hit]:
        """The k passages of highest cosine similarity, best first; ties: lower id first."""
        similarity = self.vectors @ vector
        hits = [Hit(key, float(one)) for key, one in zip(self.chunk_ids, similarity, strict=True)]
        return sorted(hits, key=lambda hit: (-hit.score, hit.chunk_id))[:k]


@dataclass(frozen=True, slots=True)
class Scope:
    """One corpus with the indexes of the generation that is searched.

    `within` is set where a filter leaves few of its documents.
    """

    generation_id: int
    corpus: str
    language: str
    lexical_folder: Path
    collection: str
    dimension: int
    embedding_revision: str
    within: Within | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What one arm returned.

    hits: best first over all scopes. more: whether a larger k could bring more.
    """

    hits: Sequence[Hit] = ()
    more: bool = False
    ms: float = 0.0
    problem: Degradation | None = None


@dataclass(frozen=True, slots=True)
class QuestionVector:
    """The question as a unit vector (d,), or why there is none."""

    vector: NDArray[np.float32] | None
    ms: float = 0.0
    problem: Degradation | None = None


def embed_question(question: str, *, embedder: Embedder) -> QuestionVector:
    """Embed the question in the lane that goes before ingestion."""
    started = time.perf_counter()
    try:
        rows = embedder.embed([question], lane="question", timeout_seconds=EMBED_SECONDS)
    except InferenceError as exc:
        logger.warning("question not embedded: %s", exc)
        problem = degraded.question_not_embedded(exc)
        return QuestionVector(None, _ms_since(started), problem)
    return QuestionVector(rows[0], _ms_since(started))


def search_keywords(question: str, scopes: Sequence[Scope], *, k: int) -> Found:
    """BM25 top k over all scopes.

    The lists of several corpora are merged by score. Each corpus weighs a term by how
    rare it is in itself, so scores of different corpora are comparable only roughly;
    the reranker puts right what this gets wrong inside the pool.
    """
    started = time.perf_counter()
    lists: list[list[Hit]] = []
    failed: list[str] = []
    for scope in scopes:
        try:
            index = open_index(scope.lexical_folder, scope.language)
            documents = scope.within.documents if scope.within else None
            lists.append(index.search(question, k=k, documents=documents))
        except LexicalIndexError as exc:
            logger.warning("keyword search in corpus %s failed: %s", scope.corpus, exc)
            failed.append(scope.corpus)
    problem = None
    if failed:
        problem = degraded.lexical_unavailable(
            failed, of=len(scopes), reason="the keyword index cannot be read"
        )
    return Found(_merged(lists, k), _full(lists, k), _ms_since(started), problem)


def search_meaning(
    vector: NDArray[np.float32],
    scopes: Sequence[Scope],
    *,
    k: int,
    vectors: VectorSearch,
    revision: str,
    threads: Executor,
) -> Found:
    """Dense top k over all scopes, whose collections are asked side by side.

    The lists are merged by cosine similarity, which is comparable because one model made
    all vectors. A corpus that was indexed with another model than the question's is left
    out: its similarities would mean nothing.

    Args:
        vector: (d,) the question, unit length.
        revision: of the model that made it; empty where the server does not tell.
    """
    started = time.perf_counter()
    fitting = [scope for scope in scopes if _same_model(scope, len(vector), revision)]
    jobs = [
        threads.submit(scope.within.nearest, vector, k=k)
        if scope.within
        else threads.submit(
            vectors.search, scope.collection, vector, k=k, timeout_seconds=VECTORS_SECONDS
        )
        for scope in fitting
    ]
    lists: list[list[Hit]] = []
    failed: list[str] = []
    for scope, job in zip(fitting, jobs, strict=True):
        try:
            left = started + VECTORS_SECONDS + VECTORS_GRACE_SECONDS - time.perf_counter()
            lists.append(job.result(timeout=max(0.0, left)))
        except (VectorStoreError, TimeoutError) as exc:
            logger.warning("vector search in corpus %s failed: %r", scope.corpus, exc)
            failed.append(scope.corpus)
    problem = None
    if failed:
        problem = degraded.vectors_unavailable(
            failed, of=len(scopes), reason="the vector store did not answer"
        )
    elif len(fitting) < len(scopes):
        others = [scope.corpus for scope in scopes if scope not in fitting]
        problem = degraded.embedder_changed(others, of=len(scopes))
    return Found(_merged(lists, k), _full(lists, k), _ms_since(started), problem)


def _same_model(scope: Scope, dimension: int, revision: str) -> bool:
    if revision and scope.embedding_revision and revision != scope.embedding_revision:
        return False
    return scope.dimension == dimension


def _merged(lists: Iterable[Sequence[Hit]], k: int) -> list[Hit]:
    hits = [hit for found in lists for hit in found]
    return sorted(hits, key=lambda hit: (-hit.score, hit.chunk_id))[:k]


def _full(lists: Iterable[Sequence[Hit]], k: int) -> bool:
    return any(len(found) >= k for found in lists)


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
