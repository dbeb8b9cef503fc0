"""The vocabulary of retrieval: candidates, their journey, and the trace that records it.

`Trace` is what retrieval returns, what a message stores, what the panel and the inspector
draw and what commands print: one shape for all. Ranks count from 1; None means "not
returned by that stage".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from ingestion.types import DocumentFilter, Passage, Span


class Outcome(StrEnum):
    """Where a candidate's journey ended."""

    SELECTED = "selected"  # among the top n that go on to the answer
    BELOW_TOP_N = "below_top_n"  # ranked, but after the last one that goes on
    OUTSIDE_POOL = "outside_pool"  # fused rank beyond the candidate pool
    NOT_SENT = "not_sent"  # selected, but did not fit the model's context


class DegradedCode(StrEnum):
    """The closed vocabulary of what was missing while a question was answered."""

    NO_RERANKER = "no_reranker"
    RERANKER_LOADING = "reranker_loading"
    RERANKER_UNREACHABLE = "reranker_unreachable"
    RERANKER_LATE = "reranker_late"
    RERANKER_FAILED = "reranker_failed"
    RERANKER_SCRIPT = "reranker_script"
    RERANKER_FLAT = "reranker_flat"
    LOW_RELEVANCE = "low_relevance"
    EMBEDDER_UNREACHABLE = "embedder_unreachable"
    EMBEDDER_CHANGED = "embedder_changed"
    VECTORS_UNAVAILABLE = "vectors_unavailable"
    LEXICAL_UNAVAILABLE = "lexical_unavailable"
    NOT_REWRITTEN = "not_rewritten"
    GENERATOR_UNREACHABLE = "generator_unreachable"
    GENERATOR_MODEL_MISSING = "generator_model_missing"
    GENERATOR_FAILED = "generator_failed"
    GENERATION_INTERRUPTED = "generation_interrupted"
    ANSWER_CUT = "answer_cut"


@dataclass(frozen=True, slots=True)
class Degradation:
    """One missing or late stage: a code for machines and a full sentence for people."""

    code: DegradedCode
    sentence: str


class Fusion(StrEnum):
    """How the rankings of both arms become one."""

    RRF = "rrf"
    WEIGHTED = "weighted"


@dataclass(frozen=True, slots=True)
class RetrievalSettings:
    """The knobs of one retrieval; stored with its trace so that it can be replayed.

    rrf_k counts where `fusion` is RRF, bm25_weight (0 to 1) where it is WEIGHTED.
    rerank_at_most: passages that the reranker reads, best fused first; 0 for as many as time
        allows. What replays an answer whose reranking ran out of time.
    threshold: relevance, 0 to 1, below which the best passage is doubtful; None for the
        reranker's own.
    labels, documents: which documents are searched, as in `ingestion.types.DocumentFilter`.
    """

    bm25_k: int = 50
    dense_k: int = 50
    fusion: Fusion = Fusion.RRF
    rrf_k: int = 60
    bm25_weight: float = 0.5
    pool: int = 100
    top_n: int = 10
    rerank: bool = True
    rerank_budget_ms: int = 2000
    rerank_at_most: int = 0
    threshold: float | None = None
    labels: tuple[tuple[str, str], ...] = ()
    documents: tuple[int, ...] = ()

    @property
    def only(self) -> DocumentFilter:
        """Which documents are searched."""
        return DocumentFilter(labels=self.labels, documents=self.documents)

    def limited_to(self, only: DocumentFilter) -> RetrievalSettings:
        """The same knobs for other documents."""
        return replace(self, labels=only.labels, documents=only.documents)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RetrievalSettings:
        """Read what `asdict` wrote, in this version or an earlier one."""
        fusion = Fusion(value.get("fusion", Fusion.RRF))
        labels = tuple((str(name), str(one)) for name, one in value.get("labels", ()))
        documents = tuple(int(one) for one in value.get("documents", ()))
        return cls(**{**value, "fusion": fusion, "labels": labels, "documents": documents})


@dataclass(frozen=True, slots=True)
class Candidate:
    """One chunk's journey through the stages. Each stage returns a new one.

    bm25_score: BM25, >= 0. similarity: cosine, -1 to 1. rrf_rank and rrf_score: after fusion,
    whichever it was; of RRF the sum of 1/(k + rank), else 0 to 1.
    raw_logit: the cross-encoder's raw score. rerank_logit: the log-odds that it means, raw where
    the model is not calibrated. relevance: the same as a probability, 0 to 1.
    """

    chunk_id: str
    bm25_rank: int | None = None
    bm25_score: float | None = None
    dense_rank: int | None = None
    similarity: float | None = None
    rrf_rank: int | None = None
    rrf_score: float | None = None
    rerank_rank: int | None = None
    raw_logit: float | None = None
    rerank_logit: float | None = None
    relevance: float | None = None
    truncated: bool = False
    outcome: Outcome | None = None

    @property
    def movement(self) -> int | None:
        """Places gained by reranking since fusion (negative: lost); None if not reranked."""
        if self.rerank_rank is None or self.rrf_rank is None:
            return None
        return self.rrf_rank - self.rerank_rank


@dataclass(frozen=True, slots=True)
class RerankReport:
    """What the rerank stage did: how many pairs, where, on what, though it be none.

    place_weight: logits that the fused place counted per unit of ln(rank); 0 where the
    reranker decided alone. threshold: the relevance below which this reranker's best passage is
    doubtful; None where that was not measured. chosen: why it was this reranker, where nobody
    named one. remembered: of those reranked, how many had been scored for this question before.
    dtype: in which the reranker computed.
    """

    candidates: int = 0
    reranked: int = 0
    truncated: int = 0
    model: str = ""
    device: str = ""
    chosen: str = ""
    remembered: int = 0
    place_weight: float = 0.0
    threshold: float | None = None
    dtype: str = ""


@dataclass(frozen=True, slots=True)
class SentText:
    """What a language model was really sent of a passage, and the pages that it is from."""

    text: str
    page_from: int | None = None
    page_to: int | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """The full record of one retrieval.

    candidates: best first in final order; every chunk that either arm returned.
    passages: by chunk id, for every candidate.
    stage_timings_ms: milliseconds by stage: bm25, embed, dense, fuse, resolve, rerank, total.
    sent: by chunk id, what the language model was sent where that was not the passage itself:
        with what stands around it, or cut.
    """

    question: str
    settings: RetrievalSettings
    candidates: Sequence[Candidate]
    passages: Mapping[str, Passage]
    stage_timings_ms: Mapping[str, float]
    degraded: Sequence[Degradation] = ()
    rerank: RerankReport = field(default_factory=RerankReport)
    sent: Mapping[str, SentText] = field(default_factory=dict)

    @property
    def selected(self) -> list[Candidate]:
        """The candidates that go on to the answer, best first."""
        return [c for c in self.candidates if c.outcome == Outcome.SELECTED]

    @property
    def is_doubtful(self) -> bool:
        """Whether even the best passage is less relevant than the reranker's threshold."""
        if self.rerank.threshold is None or not self.candidates:
            return False
        best = self.candidates[0].relevance
        return best is not None and best < self.rerank.threshold

    def source(self, candidate: Candidate, *, rank: int, cited: bool = False) -> dict[str, Any]:
        """One candidate as every command, page and export shows it."""
        passage = self.passages[candidate.chunk_id]
        return {
            "rank": rank,
            "chunk_id": candidate.chunk_id,
            "document_id": passage.document_id,
            "document": passage.document,
            "title": passage.title,
            "heading_path": passage.heading_path,
            "page_from": passage.page_from,
            "page_to": passage.page_to,
            "text": passage.text,
            "sent": asdict(sent) if (sent := self.sent.get(candidate.chunk_id)) else None,
            "bm25_rank": candidate.bm25_rank,
            "bm25_score": candidate.bm25_score,
            "dense_rank": candidate.dense_rank,
            "similarity": candidate.similarity,
            "rrf_rank": candidate.rrf_rank,
            "rrf_score": candidate.rrf_score,
            "rerank_rank": candidate.rerank_rank,
            "raw_logit": candidate.raw_logit,
            "rerank_logit": candidate.rerank_logit,
            "relevance": candidate.relevance,
            "truncated": candidate.truncated,
            "movement": candidate.movement,
            "cited": cited,
            "outcome": candidate.outcome,
        }

    def sources(self) -> list[dict[str, Any]]:
        """Every candidate in final order, ranked from 1."""
        return [self.source(c, rank=rank) for rank, c in enumerate(self.candidates, 1)]

    def to_json(self) -> dict[str, Any]:
        """A JSON value from which `from_json` makes an equal trace."""
        return {
            "question": self.question,
            "settings": asdict(self.settings),
            "candidates": [asdict(c) for c in self.candidates],
            "passages": {key: asdict(p) for key, p in self.passages.items()},
            "stage_timings_ms": dict(self.stage_timings_ms),
            "degraded": [asdict(d) for d in self.degraded],
            "rerank": asdict(self.rerank),
            "sent": {key: asdict(sent) for key, sent in self.sent.items()},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Trace:
        """Read what `to_json` wrote. Raises KeyError, TypeError, ValueError on anything else."""
        return cls(
            question=value["question"],
            settings=RetrievalSettings.from_json(value["settings"]),
            candidates=[
                Candidate(**{**c, "outcome": Outcome(c["outcome"]) if c["outcome"] else None})
                for c in value["candidates"]
            ],
            passages={
                key: Passage(**{**p, "spans": tuple(Span(**s) for s in p["spans"])})
                for key, p in value["passages"].items()
            },
            stage_timings_ms=dict(value["stage_timings_ms"]),
            degraded=[
                Degradation(code=DegradedCode(d["code"]), sentence=d["sentence"])
                for d in value["degraded"]
            ],
            rerank=RerankReport(**value["rerank"]),
            sent={key: SentText(**sent) for key, sent in value.get("sent", {}).items()},
        )
