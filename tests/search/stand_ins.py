"""Stand-ins for the model server and the vector store that rank, and rows to rank.

The embedder makes bags of words, the reranker counts shared words: crude, but a reversed
order, a lost passage or a score on the wrong passage changes what they return.
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from inference.errors import InferenceError
from inference.types import ModelInfo, RerankScore, ServerInfo
from ingestion.embeddings import to_bytes
from ingestion.errors import VectorStoreError
from ingestion.lexical import LexicalEntry, LexicalIndex
from ingestion.models import Chunk, Corpus, Document, IndexGeneration
from ingestion.types import Hit, passage_text
from search.pipeline import SearchServices

DIMENSION = 256
EMBEDDER = ModelInfo("words", "r1", "cpu", "float32", 256, dimension=DIMENSION)
RERANKER = ModelInfo("overlap", "o1", "cuda", "float32", 512)


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def embed(text: str) -> NDArray[np.float32]:
    vector = np.full(DIMENSION, 1e-3, dtype=np.float32)
    for word in words(text):
        vector[zlib.crc32(word.encode()) % DIMENSION] += 1
    return vector / np.linalg.norm(vector)


@dataclass
class Models:
    """A model server that counts words; `embed_error` and `rerank_error` make it fail."""

    embedder: ModelInfo | None = EMBEDDER
    reranker: ModelInfo | None = RERANKER
    reranker_reason: str = ""
    info_error: InferenceError | None = None
    embed_error: InferenceError | None = None
    rerank_error: InferenceError | None = None
    reranked: list[list[str]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    def info(self, timeout_seconds: float = 2.0) -> ServerInfo:
        self.calls.append("info")
        if self.info_error:
            raise self.info_error
        return ServerInfo("1", self.embedder, self.reranker, self.reranker_reason)

    def embed(
        self,
        texts: Sequence[str],
        *,
        lane: Literal["question", "ingestion"] = "question",
        timeout_seconds: float | None = None,
    ) -> NDArray[np.float32]:
        self.calls.append(f"embed {lane}")
        if self.embed_error:
            raise self.embed_error
        return np.stack([embed(text) for text in texts])

    def rerank(
        self, question: str, texts: Sequence[str], *, timeout_seconds: float | None = None
    ) -> list[RerankScore]:
        self.calls.append("rerank")
        if self.rerank_error:
            raise self.rerank_error
        self.reranked.append(list(texts))
        return [
            RerankScore(index, logit=self.logit(question, text), truncated=len(text) > 300)
            for index, text in enumerate(texts)
        ]

    def logit(self, question: str, text: str) -> float:
        shared = len(words(question) & words(text))
        return 2.0 * shared - 3.0 - len(words(text)) / 100


@dataclass
class Vectors:
    """Exact search in memory; `error` makes it fail, `seconds` makes it slow."""

    collections: dict[str, dict[str, NDArray[np.float32]]] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    error: VectorStoreError | None = None
    seconds: float = 0.0
    asked: list[int] = field(default_factory=list)

    def add(self, collection: str, chunk_id: str, vector: NDArray[np.float32]) -> None:
        self.collections.setdefault(collection, {})[chunk_id] = vector

    def search(
        self,
        collection: str,
        vector: NDArray[np.float32],
        *,
        k: int,
        timeout_seconds: float = 2.0,
    ) -> list[Hit]:
        self.asked.append(k)
        time.sleep(self.seconds)
        if self.error or collection in self.broken:
            raise self.error or VectorStoreError("no such collection")
        rows = self.collections.get(collection, {})
        hits = [Hit(chunk_id, float(row @ vector)) for chunk_id, row in rows.items()]
        return sorted(hits, key=lambda hit: (-hit.score, hit.chunk_id))[:k]


@dataclass
class Library:
    """Corpora with passages in SQL, in a real lexical index, and in `vectors`."""

    lexical_dir: Path
    models: Models = field(default_factory=Models)
    vectors: Vectors = field(default_factory=Vectors)
    made: int = 0

    @property
    def services(self) -> SearchServices:
        return SearchServices(self.models, self.vectors, self.lexical_dir)

    def generation(self, corpus: Corpus) -> IndexGeneration:
        return IndexGeneration.objects.get_or_create(
            corpus=corpus,
            state=IndexGeneration.State.LIVE,
            defaults={
                "embedding_model": EMBEDDER.model_id,
                "embedding_revision": EMBEDDER.revision,
                "dimension": DIMENSION,
                "pipeline_version": "1",
            },
        )[0]

    def index(self, generation: IndexGeneration) -> LexicalIndex:
        return LexicalIndex(self.lexical_dir / generation.key)

    def add(
        self,
        corpus: Corpus,
        *texts: str,
        name: str = "file.txt",
        heading_path: str = "",
        state: str = Document.State.READY,
        enabled: bool = True,
    ) -> Document:
        """A document of these passages, indexed. Ids are p001, p002, … in order of making."""
        generation = self.generation(corpus)
        document = Document.objects.create(
            corpus=corpus,
            name=name,
            title=name.partition(".")[0].title(),
            size_bytes=1,
            sha256="0" * 64,
            state=state,
            enabled=enabled,
        )
        entries = []
        for ordinal, text in enumerate(texts):
            self.made += 1
            chunk_id = f"p{self.made:03}"
            read = passage_text(heading_path=heading_path, text=text)
            Chunk.objects.create(
                id=chunk_id,
                document=document,
                generation=generation,
                ordinal=ordinal,
                text=text,
                heading_path=heading_path,
                page_from=ordinal + 1,
                page_to=ordinal + 1,
                spans=[[0, ordinal, ordinal + len(text)]],
                tokens=len(text.split()),
                embedding=to_bytes(embed(read)[None])[0],
            )
            entries.append(LexicalEntry(chunk_id, read))
            self.vectors.add(generation.collection_name, chunk_id, embed(read))
        self.index(generation).replace_document(document.pk, entries)
        return document
