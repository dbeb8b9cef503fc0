"""Running a collection's queries through the product's own retrieval, stage by stage.

Every query is one `retrieve` with both arms 100 deep and the largest pool; the rankings of
all stages, and of every smaller pool, are read off its trace. Results are appended to a
file query by query, so that a run which is stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ingestion.models import Corpus
from search.evaluation.beir import Collection
from search.evaluation.metrics import Estimate, estimate, paired_p_value, per_query
from search.pipeline import SearchServices, retrieve
from search.types import RetrievalSettings, Trace

if TYPE_CHECKING:
    from numpy.typing import NDArray

STAGES = ("bm25", "dense", "fused", "reranked")
DEPTH = 100  # of each arm and of recall
TIMED_QUERIES = 20  # for the milliseconds of each pool of the sweep
NO_TIME_LIMIT_MS = 3600 * 1000
SIGNIFICANT = 0.05

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class QueryResult:
    """What one query gave: document ids best first per stage, and milliseconds per stage.

    logits: the cross-encoder's score by document, of those it read.
    """

    query: str
    rankings: Mapping[str, Sequence[str]]
    logits: Mapping[str, float]
    ms: Mapping[str, float]
    degraded: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class StageReport:
    """One stage over all queries. `p_value` compares its nDCG@10 with the stage before it."""

    ndcg: Estimate
    recall: Estimate
    mrr: Estimate
    ms_p50: float
    ms_p95: float
    p_value: float | None = None
    compared_with: str = ""


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """The quality and cost of one pool size."""

    pool: int
    ndcg: float
    ms_p50: float


@dataclass(frozen=True, slots=True)
class Report:
    """A finished evaluation. `knee`: the smallest pool that is as good as the best one."""

    collection: str
    queries: int
    documents: int
    stages: Mapping[str, StageReport]
    sweep: Sequence[SweepPoint] = ()
    knee: int | None = None
    notes: Sequence[str] = ()
    models: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measured:
    """A report, and the nDCG@10 of each query by stage and by the query's id."""

    report: Report
    ndcg: Mapping[str, Mapping[str, float]]


def evaluation_settings(
    *,
    pools: Sequence[int],
    rerank: bool,
    base: RetrievalSettings = RetrievalSettings(),  # noqa: B008 - frozen
) -> RetrievalSettings:
    """These settings with both arms deep enough for recall@100 and no time limit.

    An arm that is left out stays so.
    """
    return replace(
        base,
        bm25_k=base.bm25_k and DEPTH,
        dense_k=base.dense_k and DEPTH,
        pool=max(pools),
        rerank=rerank,
        rerank_at_most=0,
        rerank_budget_ms=NO_TIME_LIMIT_MS,
    )


def measure(
    collection: Collection,
    *,
    corpus: Corpus,
    documents: Mapping[str, str],
    stages: Sequence[str],
    pools: Sequence[int],
    settings: RetrievalSettings,
    services: SearchServices,
    models: Mapping[str, str],
    results: Path,
    notes: Sequence[str],
    progress: Progress,
) -> Measured:
    """Ask all queries of a corpus and report what each stage and each pool is worth.

    Args:
        documents: as for `run`.
        stages: of STAGES, in their order.
        settings: of `evaluation_settings`, with the largest of the pools.
        models: names by what they do, for the report.
        notes: what is to be said beside the figures; what was missing on the way is added.
    """
    found = run(
        collection,
        corpus=corpus,
        documents=documents,
        settings=settings,
        services=services,
        results=results,
        progress=progress,
    )
    points: list[SweepPoint] = []
    knee: int | None = None
    if "reranked" in stages:
        texts = list(collection.queries.values())[:TIMED_QUERIES]

        def time_pool(pool: int) -> float:
            return median_ms(
                texts,
                corpus=corpus,
                settings=settings,
                services=services,
                pool=pool,
                progress=progress,
            )

        points, knee = sweep(found, collection, pools, time_pool=time_pool)
    report = Report(
        collection=collection.name,
        queries=len(collection.queries),
        documents=len(collection.documents) or len(documents),
        stages=stage_reports(found, collection, stages),
        sweep=points,
        knee=knee,
        notes=[*notes, *_shortcomings(found, stages)],
        models=models,
    )
    return Measured(report, {stage: _ndcg(found, collection, stage) for stage in stages})


def _ndcg(results: Sequence[QueryResult], collection: Collection, stage: str) -> dict[str, float]:
    values = per_query({r.query: r.rankings[stage] for r in results}, collection.judgements)
    return dict(zip(collection.judgements, values["nDCG@10"].tolist(), strict=True))


def _shortcomings(results: Sequence[QueryResult], stages: Sequence[str]) -> list[str]:
    """What was missing while queries were asked: figures from such a run are too low."""
    counts: dict[str, int] = {}
    for result in results:
        for sentence in result.degraded:
            if "reranked" in stages or "rerank" not in sentence.lower():
                counts[sentence] = counts.get(sentence, 0) + 1
    return [f"{count} queries: {sentence.rstrip('.')}" for sentence, count in counts.items()]


def results_file(
    folder: Path, collection: Collection, settings: RetrievalSettings, *, models: str
) -> Path:
    """Where the results of exactly these queries, settings and models are gathered."""
    key = json.dumps([asdict(settings), sorted(collection.queries.items()), models])
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    return folder / f"{collection.name}-{digest}.jsonl"


def run(
    collection: Collection,
    *,
    corpus: Corpus,
    documents: Mapping[str, str],
    settings: RetrievalSettings,
    services: SearchServices,
    results: Path,
    progress: Progress,
) -> list[QueryResult]:
    """Ask every query that `results` does not hold yet; all results, in the queries' order.

    Args:
        documents: the collection's document id by chunk id.
        results: a JSON line per query; a half-written last line is asked again.
    """
    done = {result.query: result for result in gathered(results)}
    results.parent.mkdir(parents=True, exist_ok=True)
    with results.open("w", encoding="utf-8") as lines:  # without a half-written line
        for result in done.values():
            lines.write(json.dumps(asdict(result)) + "\n")
        for number, (key, text) in enumerate(collection.queries.items()):
            progress(number, len(collection.queries), "questions")
            if key in done:
                continue
            trace = retrieve(text, corpora=[corpus], settings=settings, services=services)
            done[key] = result_of(key, trace, documents)
            lines.write(json.dumps(asdict(done[key])) + "\n")
            lines.flush()
    progress(len(collection.queries), len(collection.queries), "questions")
    return [done[key] for key in collection.queries]


def result_of(query: str, trace: Trace, documents: Mapping[str, str]) -> QueryResult:
    """Read the rankings of every stage off one trace."""
    known = [c for c in trace.candidates if c.chunk_id in documents]

    def ranking(rank: str) -> list[str]:
        ranked = [c for c in known if getattr(c, rank) is not None]
        return [documents[c.chunk_id] for c in sorted(ranked, key=lambda c: getattr(c, rank))]

    ms = trace.stage_timings_ms
    total, rerank = ms.get("total", 0.0), ms.get("rerank", 0.0)
    return QueryResult(
        query=query,
        rankings={
            "bm25": ranking("bm25_rank"),
            "dense": ranking("dense_rank"),
            "fused": ranking("rrf_rank"),
            "reranked": [documents[c.chunk_id] for c in known] if trace.rerank.reranked else [],
        },
        logits={documents[c.chunk_id]: c.rerank_logit for c in known if c.rerank_logit is not None},
        ms={
            "bm25": ms.get("bm25", 0.0),
            "dense": ms.get("embed", 0.0) + ms.get("dense", 0.0),
            "fused": total - rerank,
            "reranked": total,
        },
        degraded=[problem.sentence for problem in trace.degraded],
    )


def recut(result: QueryResult, pool: int) -> list[str]:
    """The final ranking if only the best `pool` of fusion had been reranked."""
    head, tail = result.rankings["fused"][:pool], result.rankings["fused"][pool:]
    return [*sorted(head, key=lambda d: -result.logits.get(d, float("-inf"))), *tail]


def stage_reports(
    results: Sequence[QueryResult], collection: Collection, stages: Iterable[str]
) -> dict[str, StageReport]:
    """Each stage's metrics with intervals, times, and the test against the stage before."""
    reports: dict[str, StageReport] = {}
    before: tuple[str, NDArray[np.float64]] | None = None
    for stage in stages:
        values = per_query({r.query: r.rankings[stage] for r in results}, collection.judgements)
        ms = [r.ms[stage] for r in results]
        reports[stage] = StageReport(
            ndcg=estimate(values["nDCG@10"]),
            recall=estimate(values["R@100"]),
            mrr=estimate(values["RR@10"]),
            ms_p50=float(np.percentile(ms, 50)),
            ms_p95=float(np.percentile(ms, 95)),
            p_value=paired_p_value(values["nDCG@10"], before[1]) if before else None,
            compared_with=before[0] if before else "",
        )
        before = stage, values["nDCG@10"]
    return reports


def sweep(
    results: Sequence[QueryResult],
    collection: Collection,
    pools: Sequence[int],
    *,
    time_pool: Callable[[int], float],
) -> tuple[list[SweepPoint], int]:
    """Quality and cost of each pool size, and the knee.

    The knee is the smallest pool whose nDCG@10 a paired test does not tell from the best
    pool's (p >= 0.05): a larger one costs time and brings nothing that was measured.

    Args:
        time_pool: median milliseconds of a retrieval with that pool.
    """
    values = {
        pool: per_query({r.query: recut(r, pool) for r in results}, collection.judgements)[
            "nDCG@10"
        ]
        for pool in sorted(set(pools))
    }
    points = [SweepPoint(pool, float(v.mean()), time_pool(pool)) for pool, v in values.items()]
    best = max(points, key=lambda point: (point.ndcg, -point.pool)).pool
    knee = next(
        pool for pool, v in values.items() if paired_p_value(v, values[best]) >= SIGNIFICANT
    )
    return points, knee


def median_ms(
    queries: Sequence[str],
    *,
    corpus: Corpus,
    settings: RetrievalSettings,
    services: SearchServices,
    pool: int,
    progress: Progress,
) -> float:
    """Median milliseconds of whole retrievals with this pool."""
    settings = replace(settings, pool=pool)
    times = []
    for number, query in enumerate(queries):
        progress(number, len(queries), f"questions timed with a pool of {pool}")
        trace = retrieve(query, corpora=[corpus], settings=settings, services=services)
        times.append(trace.stage_timings_ms["total"])
    return float(np.median(times))


def gathered(path: Path) -> list[QueryResult]:
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            value: dict[str, Any] = json.loads(line)
            found.append(QueryResult(**value))
        except (ValueError, TypeError):
            continue  # the line at which the run was stopped
    return found
