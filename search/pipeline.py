"""Retrieval: from a question to ranked candidates, with the record of how they got there.

Both arms run side by side in threads; SQL is asked in the calling thread only. A service
that is away or late costs its stage and leaves a `Degradation` in the trace: `retrieve`
does not raise for it. Time limits: 2.5 s for the question's vector, 2 s for Chroma, 6 s for
the whole, or more where the person allowed the reranker more.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeVar

from django.db.models import Exists, OuterRef

from inference.errors import InferenceError
from inference.types import Calibration, ServerInfo
from ingestion.embeddings import from_bytes
from ingestion.models import Corpus, Document, IndexGeneration
from ingestion.passages import resolve
from ingestion.types import DocumentFilter, Passage, passage_text
from search import arms, degraded
from search import rerank as reranking
from search.arms import Found, QuestionVector, Scope, Within
from search.errors import InvalidSettings
from search.fusion import fuse, fuse_weighted
from search.score_cache import Remembering, ScoreCache
from search.types import (
    Candidate,
    Degradation,
    Fusion,
    Outcome,
    RerankReport,
    RetrievalSettings,
    Trace,
)
from telemetry.requests import Threads

RETRIEVAL_SECONDS = 6.0
ARMS_SECONDS = 5.0
INFO_SECONDS = 2.0
# An arm is asked for more than its k, because some hits may be of documents that are
# deleted, disabled or not in SQL any more; if that was not enough, once more for a lot more.
OVERFETCH = (2, 16)
MAX_FETCH = 2000
MAX_K = 1000
# What a filter leaves is searched exactly up to this: 15 MB of vectors read from SQL.
MAX_WITHIN_DOCUMENTS = 1000
MAX_WITHIN_PASSAGES = 20_000
MAX_SCOPE_THREADS = 8
SCRIPT_TEXTS = 5  # of the best passages tell which script the corpus is in

logger = logging.getLogger(__name__)
T = TypeVar("T")


class ModelServer(arms.Embedder, reranking.Reranker, Protocol):
    """What runs the models: `inference.client.InferenceClient`, or a stand-in that ranks."""

    def info(self, timeout_seconds: float = INFO_SECONDS) -> ServerInfo:
        """The models it has. Raises `inference.errors.InferenceError`."""
        ...


@dataclass(frozen=True, slots=True)
class SearchServices:
    """What retrieval talks to; the one seam at which tests put stand-ins.

    scores: what a reranker said before; None where every question shall be measured.
    """

    inference: ModelServer
    vectors: arms.VectorSearch
    lexical_dir: Path
    scores: ScoreCache | None = None


@dataclass(frozen=True, slots=True)
class _Run:
    """One retrieval under way."""

    question: str
    corpora: Sequence[Corpus]
    scopes: Sequence[Scope]
    settings: RetrievalSettings
    services: SearchServices
    threads: Executor
    info: Future[ServerInfo | None]
    vector: Future[QuestionVector]
    deadline: float


@dataclass(frozen=True, slots=True)
class _Hits:
    """What both arms found, cut to what may be shown."""

    keywords: Found = field(default_factory=Found)
    meaning: Found = field(default_factory=Found)
    passages: Mapping[str, Passage] = field(default_factory=dict)
    resolve_ms: float = 0.0


def retrieve(
    question: str,
    *,
    corpora: Sequence[Corpus],
    settings: RetrievalSettings,
    services: SearchServices,
    on_stage: Callable[[str], None] | None = None,
    generation: IndexGeneration | None = None,
) -> Trace:
    """Find the passages of these corpora that answer the question, best first.

    BM25 and dense top k -> only what SQL says may be shown -> RRF -> the pool -> the
    cross-encoder on `passage_text` -> order by its score -> the top n are selected.

    Args:
        question: as the person asked it; blank gives an empty trace.
        corpora: what the asking person may read; the caller has checked it.
        settings: the knobs. `bm25_k` or `dense_k` of 0 leaves that arm out.
        on_stage: called in this thread with a line for people as a stage begins.
        generation: of one of these corpora, to be searched alone and instead of the live ones.

    Returns:
        A trace of every candidate that either arm returned. Where the corpora hold
        nothing searchable it is empty and not degraded.

    Raises:
        InvalidSettings: a knob is outside its range.
    """
    _check(settings)
    started = time.perf_counter()
    tell = on_stage or (lambda line: None)
    # Lone surrogates, which a browser can send, fit into no encoding.
    question = question.encode(errors="replace").decode().strip()
    scopes: list[Scope] = []
    if question and corpora:
        scopes = _scopes(corpora, services.lexical_dir, generation, only=settings.only)
    if not scopes:
        return Trace(question, settings, [], {}, {"total": _ms_since(started)}, [])

    tell(_searching(scopes))
    threads = Threads(4 + min(len(scopes), MAX_SCOPE_THREADS), "retrieve")
    try:
        run = _Run(
            question=question,
            corpora=corpora,
            scopes=scopes,
            settings=settings,
            services=services,
            threads=threads,
            info=threads.submit(_server_info, services.inference),
            vector=threads.submit(_question_vector, question, settings, services.inference),
            deadline=started + ARMS_SECONDS,
        )
        hits = _search(run)
        info = _by(run.deadline, run.info, late=None)
        vector = _by(run.deadline, run.vector, late=QuestionVector(None, ARMS_SECONDS * 1000))
    finally:
        # Not waited for: what hangs ends at its own time limit.
        threads.shutdown(wait=False, cancel_futures=True)

    fusing = time.perf_counter()
    fused = _fused(hits, settings)
    pool, outside = fused[: settings.pool], fused[settings.pool :]

    reranking_began = time.perf_counter()
    pool, report, not_reranked = _rerank(
        pool,
        hits.passages,
        run=run,
        info=info,
        seconds_left=started + RETRIEVAL_SECONDS - reranking_began,
        tell=tell,
    )
    return Trace(
        question=question,
        settings=settings,
        candidates=with_outcomes(pool, outside, top_n=settings.top_n),
        passages={c.chunk_id: hits.passages[c.chunk_id] for c in fused},
        stage_timings_ms={
            "bm25": hits.keywords.ms,
            "embed": vector.ms,
            "dense": hits.meaning.ms,
            "resolve": hits.resolve_ms,
            "fuse": (reranking_began - fusing) * 1000,
            "rerank": _ms_since(reranking_began),
            "total": _ms_since(started),
        },
        degraded=[
            problem
            for problem in (hits.keywords.problem, hits.meaning.problem, not_reranked)
            if problem
        ],
        rerank=report,
    )


def _fused(hits: _Hits, settings: RetrievalSettings) -> list[Candidate]:
    keywords, meaning = hits.keywords.hits, hits.meaning.hits
    if settings.fusion == Fusion.WEIGHTED:
        return fuse_weighted(keywords, meaning, bm25_weight=settings.bm25_weight)
    return fuse(keywords, meaning, k=settings.rrf_k)


def _check(settings: RetrievalSettings) -> None:
    ranges = {
        "bm25_k": (0, MAX_K),
        "dense_k": (0, MAX_K),
        "rrf_k": (1, 10_000),
        "pool": (1, 2 * MAX_K),
        "top_n": (1, 2 * MAX_K),
        "rerank_budget_ms": (1, 24 * 3600 * 1000),
        "rerank_at_most": (0, 2 * MAX_K),
        "bm25_weight": (0, 1),
        "threshold": (0, 1),
    }
    for name, (least, most) in ranges.items():
        value = getattr(settings, name)
        if value is not None and not least <= value <= most:
            raise InvalidSettings(f"{name} must lie between {least} and {most}, not at {value}.")
    if not settings.bm25_k and not settings.dense_k:
        raise InvalidSettings("bm25_k and dense_k are both 0, so nothing would be searched.")


def _scopes(
    corpora: Sequence[Corpus],
    lexical_dir: Path,
    chosen: IndexGeneration | None,
    *,
    only: DocumentFilter,
) -> list[Scope]:
    """The live generations of those corpora that have a searchable document, or the chosen one."""
    searchable = Document.objects.searchable().passing(only).filter(corpus=OuterRef("corpus"))
    found = IndexGeneration.objects.filter(Exists(searchable), corpus__in=corpora)
    if chosen is None:
        found = found.filter(state=IndexGeneration.State.LIVE)
    else:
        found = found.filter(pk=chosen.pk)
    return [
        Scope(
            generation_id=generation.pk,
            corpus=generation.corpus.name,
            language=generation.corpus.language,
            lexical_folder=lexical_dir / generation.key,
            collection=generation.collection_name,
            dimension=generation.dimension,
            embedding_revision=generation.embedding_revision,
            within=_within(generation, only) if only else None,
        )
        for generation in found.select_related("corpus").order_by("corpus_id")
    ]


def _within(generation: IndexGeneration, only: DocumentFilter) -> Within | None:
    """What a filter leaves of a corpus; None where that is so much that over-fetching does."""
    documents = Document.objects.searchable().passing(only).filter(corpus=generation.corpus_id)
    pks = list(documents.values_list("pk", flat=True)[: MAX_WITHIN_DOCUMENTS + 1])
    chunks = generation.embedded(generation.chunks.filter(document__in=pks))
    if len(pks) > MAX_WITHIN_DOCUMENTS or chunks.count() > MAX_WITHIN_PASSAGES:
        return None
    rows = list(chunks.order_by("pk").values_list("pk", "embedding"))
    stored = [bytes(one) for _, one in rows if one is not None]
    vectors = from_bytes(stored, dimension=generation.dimension)
    return Within(pks, [pk for pk, _ in rows], vectors)


def _server_info(inference: ModelServer) -> ServerInfo | None:
    """What the server has; None if it does not say, and then its answers must tell."""
    try:
        return inference.info(timeout_seconds=INFO_SECONDS)
    except InferenceError as exc:
        logger.warning("the model server gave no information about itself: %s", exc)
        return None


def _question_vector(
    question: str, settings: RetrievalSettings, embedder: arms.Embedder
) -> QuestionVector:
    if not settings.dense_k:
        return QuestionVector(None)
    return arms.embed_question(question, embedder=embedder)


def _search(run: _Run) -> _Hits:
    """Both arms, until each has its k passages that may be shown or has no more."""
    hits = _Hits()
    settings = run.settings
    for factor in OVERFETCH:
        keywords_job = run.threads.submit(_keywords, run, _fetch(settings.bm25_k, factor))
        meaning_job = run.threads.submit(_meaning, run, _fetch(settings.dense_k, factor))
        keywords = _by(run.deadline, keywords_job, late=_late_keywords(run))
        meaning = _by(run.deadline, meaning_job, late=_late_meaning(run))
        if factor != OVERFETCH[0] and (keywords.problem or meaning.problem):
            break  # what the first round found is worth more
        began = time.perf_counter()
        ids = [hit.chunk_id for hit in (*keywords.hits, *meaning.hits)]
        # Of the generations that were searched: another one may have become live since.
        searched = [scope.generation_id for scope in run.scopes]
        passages = resolve(ids, corpora=run.corpora, generations=searched, only=settings.only)
        hits = _Hits(
            keywords=_shown(keywords, passages, settings.bm25_k),
            meaning=_shown(meaning, passages, settings.dense_k),
            passages=passages,
            resolve_ms=hits.resolve_ms + _ms_since(began),
        )
        starved = (hits.keywords.more and len(hits.keywords.hits) < settings.bm25_k) or (
            hits.meaning.more and len(hits.meaning.hits) < settings.dense_k
        )
        if not starved or hits.keywords.problem or hits.meaning.problem:
            break
    return hits


def _fetch(k: int, factor: int) -> int:
    return min(k * factor, MAX_FETCH)


def _keywords(run: _Run, k: int) -> Found:
    return arms.search_keywords(run.question, run.scopes, k=k) if k else Found()


def _meaning(run: _Run, k: int) -> Found:
    if not k:
        return Found()
    vector = run.vector.result()
    if vector.vector is None:
        return Found(problem=vector.problem)
    info = run.info.result()
    return arms.search_meaning(
        vector.vector,
        run.scopes,
        k=k,
        vectors=run.services.vectors,
        revision=info.embedder.revision if info and info.embedder else "",
        threads=run.threads,
    )


def _late_keywords(run: _Run) -> Found:
    names = [scope.corpus for scope in run.scopes]
    problem = degraded.lexical_unavailable(
        names, of=len(names), reason="the keyword index did not answer in time"
    )
    return Found(ms=ARMS_SECONDS * 1000, problem=problem)


def _late_meaning(run: _Run) -> Found:
    names = [scope.corpus for scope in run.scopes]
    problem = degraded.vectors_unavailable(
        names, of=len(names), reason="the vector store did not answer in time"
    )
    return Found(ms=ARMS_SECONDS * 1000, problem=problem)


def _shown(found: Found, passages: Mapping[str, Passage], k: int) -> Found:
    hits = [hit for hit in found.hits if hit.chunk_id in passages]
    return replace(found, hits=hits[:k])


def _rerank(
    pool: list[Candidate],
    passages: Mapping[str, Passage],
    *,
    run: _Run,
    info: ServerInfo | None,
    seconds_left: float,
    tell: Callable[[str], None],
) -> tuple[list[Candidate], RerankReport, Degradation | None]:
    """The pool in final order, what was done to it, and what was not."""
    report = RerankReport(candidates=len(pool))
    if not pool or not run.settings.rerank:
        return pool, report, None
    model = info.reranker if info else None
    if info is not None and model is None:
        return pool, report, degraded.no_reranker(info.reranker_reason)

    texts = [
        passage_text(heading_path=passage.heading_path, text=passage.text)
        for passage in (passages[candidate.chunk_id] for candidate in pool)
    ][: run.settings.rerank_at_most or None]
    if model is not None:
        report = replace(
            report,
            model=model.model_id,
            device=model.device,
            chosen=model.chosen,
            dtype=model.dtype,
        )
        script = reranking.foreign_script([run.question, *texts[:SCRIPT_TEXTS]], model.languages)
        if script:
            return pool, report, degraded.unread_script(script, model.languages)
    budget_seconds = run.settings.rerank_budget_ms / 1000
    planned = reranking.planned_pairs(
        run.question, texts, model=model, budget_seconds=budget_seconds
    )
    pairs = f"{planned} of {len(pool)}" if planned else f"up to {len(pool)}"
    tell(f"Reranking {pairs} passages{reranking.place(model.device) if model else ''}…")
    documents = [passages[candidate.chunk_id].document_id for candidate in pool]
    read = list(zip(documents, texts, strict=False))
    cache = run.services.scores if model else None
    known = cache.known(model, run.question, read) if cache and model else {}
    scored = reranking.score(
        run.question,
        texts,
        reranker=Remembering(run.services.inference, known),
        model=model,
        budget_seconds=budget_seconds,
        limit_seconds=max(seconds_left, budget_seconds),
    )
    problem = None
    if scored.error is not None:
        logger.warning("reranking failed: %s", scored.error)
        problem = degraded.not_reranked(
            scored.error, reranked=len(scored.scores), pool=len(pool), model=model
        )
    if reranking.are_flat(texts, scored.scores):
        return pool, report, degraded.flat_scores()
    fresh = [
        (document, text, score)
        for (document, text), score in zip(read, scored.scores, strict=False)
        if text not in known
    ]
    if cache and model:
        cache.keep(model, run.question, fresh)
    calibration = model.calibration if model else Calibration()
    report = replace(
        report,
        reranked=len(scored.scores),
        remembered=len(scored.scores) - len(fresh),
        truncated=sum(score.truncated for score in scored.scores),
        place_weight=calibration.place,
        threshold=calibration.threshold
        if run.settings.threshold is None
        else run.settings.threshold,
    )
    return reranking.reorder(pool, scored.scores, calibration), report, problem


def with_outcomes(
    pool: Sequence[Candidate], outside: Sequence[Candidate], *, top_n: int
) -> list[Candidate]:
    """The pool in final order and what fusion left outside, each with where its journey ended."""
    return [
        *(replace(c, outcome=Outcome.SELECTED) for c in pool[:top_n]),
        *(replace(c, outcome=Outcome.BELOW_TOP_N) for c in pool[top_n:]),
        *(replace(c, outcome=Outcome.OUTSIDE_POOL) for c in outside),
    ]


def _searching(scopes: Sequence[Scope]) -> str:
    if len(scopes) == 1:
        return f"Searching {scopes[0].corpus}…"
    return f"Searching {len(scopes)} corpora…"


def _by(deadline: float, job: Future[T], *, late: T) -> T:
    """The job's result if it is there by the deadline; `late` if not."""
    try:
        return job.result(timeout=max(0.0, deadline - time.perf_counter()))
    except TimeoutError:
        logger.warning("a stage of retrieval missed its deadline")
        return late


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
