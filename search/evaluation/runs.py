"""Evaluation runs: begun on a page, worked on by a worker, kept with every question's figures.

The row says what is to be done and how far it is; the answers so far lie in a file, so that a
run whose worker was killed goes on where it was. A run whose worker has gone is found by
`resume`, which runs every minute.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from celery import current_app
from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings as django_settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from inference.errors import InferenceError
from ingestion.models import Corpus
from ingestion.nudges import BROKER_ERRORS
from search import judging
from search.conf import retrieval_settings, search_services
from search.evaluation import report, runner
from search.evaluation.beir import Collection
from search.evaluation.metrics import paired_p_value
from search.evaluation.runner import Measured
from search.models import EvaluationRun
from search.types import RetrievalSettings

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

POOLS = (10, 20, 30, 50, 100)
# Fewer questions than this cannot tell two settings apart.
FEW_QUESTIONS = 20
BEAT_SECONDS = 1.0
# A run that was not heard of for this long has lost its worker.
LOST_SECONDS = 120

logger = logging.getLogger(__name__)
Run, State = EvaluationRun, EvaluationRun.State


class CannotMeasure(Exception):
    """There is nothing to measure, or nothing to measure it with; the text says why."""


class _Stopped(Exception):
    """Somebody asked for the end of a run."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One stage of two runs on the questions that both asked. `p_value`: paired, two-sided."""

    stage: str
    before: float
    after: float
    p_value: float

    @property
    def difference(self) -> float:
        """What the later run gained, of nDCG@10."""
        return self.after - self.before


@dataclass(frozen=True, slots=True)
class Moved:
    """One question whose nDCG@10 differs between two runs."""

    text: str
    before: float
    after: float

    @property
    def difference(self) -> float:
        """What the later run gained."""
        return self.after - self.before


def judged(corpus: Corpus, *, reader: User | AnonymousUser) -> Collection:
    """The judgements of a corpus as a collection; its documents are left out, they are indexed.

    Questions for which nobody called any passage relevant are left out and named.
    """
    found = judging.evaluation_set(corpus, reader=reader)
    graded = {
        key: grades
        for key, grades in found.judgements.items()
        if any(grade > 0 for grade in grades.values())
    }
    notes = []
    if none := len(found.judgements) - len(graded):
        notes.append(f"{none} questions have no passage judged relevant and are left out")
    if found.lost:
        notes.append(f"{found.lost} judgements are of passages that the index no longer has")
    queries = {key: found.queries[key] for key in graded}
    return Collection(corpus.name, [], queries, graded, notes)


def begin(corpus: Corpus, *, owner: User, pools: Sequence[int] = POOLS) -> EvaluationRun:
    """Put a run of the corpus's judgements in the queue.

    Raises:
        CannotMeasure: nothing was judged yet, or a run of this corpus is under way.
    """
    if not judged(corpus, reader=owner).queries:
        raise CannotMeasure(
            f"No passage of “{corpus.name}” was judged relevant yet. Ask questions and mark the "
            "sources that answer them; then measure."
        )
    with transaction.atomic():
        under_way = Run.objects.filter(corpus=corpus).exclude(state__in=Run.ENDED)
        if under_way.exists():
            raise CannotMeasure(f"“{corpus.name}” is being measured already. Wait, or stop it.")
        plan = {"pools": list(pools), "settings": asdict(retrieval_settings([corpus]))}
        begun = Run.objects.create(owner=owner, corpus=corpus, collection=corpus.name, plan=plan)
    _nudge(begun.pk)
    return begun


def stop(run: EvaluationRun) -> None:
    """End a run that waits at once, one under way at its next question."""
    now = timezone.now()
    mine = Run.objects.filter(pk=run.pk)
    if mine.filter(state=State.WAITING).update(state=State.STOPPED, ended_at=now):
        return
    lost = Q(heartbeat_at__lt=now - timedelta(seconds=LOST_SECONDS))
    if mine.filter(lost, state=State.RUNNING).update(state=State.STOPPED, ended_at=now):
        return
    mine.filter(state=State.RUNNING).update(state=State.STOPPING)


def resume() -> int:
    """Tell workers of runs that nobody works on; end those that were to stop. Returns how many."""
    silent = timezone.now() - timedelta(seconds=LOST_SECONDS)
    Run.objects.filter(state=State.STOPPING, heartbeat_at__lt=silent).update(
        state=State.STOPPED, ended_at=timezone.now()
    )
    undone = Q(state=State.WAITING) | Q(state=State.RUNNING, heartbeat_at__lt=silent)
    found = list(Run.objects.filter(undone).values_list("pk", flat=True))
    for pk in found:
        _nudge(pk)
    return len(found)


def _nudge(run_id: int) -> None:
    def send() -> None:
        try:
            # One too many does no harm; those that nobody takes do not pile up.
            current_app.send_task("search.tasks.evaluate", [run_id], expires=LOST_SECONDS)
        except BROKER_ERRORS as exc:
            logger.warning("no worker could be told of run %d: %s", run_id, exc)

    transaction.on_commit(send)


def carry_out(run_id: int) -> None:
    """Measure what a run asks for, if nobody else does; its row says how it ended."""
    if not _claim(run_id):
        return
    run = Run.objects.select_related("corpus", "owner").get(pk=run_id)
    results = results_file(run)
    try:
        measured, texts = _measure(run, results)
    except _Stopped:
        _end(run, State.STOPPED)
    except SoftTimeLimitExceeded:
        raise  # the answers so far are kept, and `resume` finds the run
    except (CannotMeasure, InferenceError) as exc:
        sentence = str(exc)
        if isinstance(exc, InferenceError):
            sentence = f"The model server cannot be used ({exc}). Look at the status page."
        _end(run, State.FAILED, error=sentence)
    except Exception:
        logger.exception("run %d failed", run_id)
        _end(run, State.FAILED, error="It failed; the log of the worker has the details.")
    else:
        _end(run, State.DONE, **_kept(measured, texts))
    results.unlink(missing_ok=True)


def results_file(run: EvaluationRun) -> Path:
    """Where the answers of a run are gathered while it is under way."""
    return Path(django_settings.DATA_DIR) / "evaluations" / f"run-{run.pk}.jsonl"


def keep(
    measured: Measured, *, owner: User, texts: Mapping[str, str], plan: Mapping[str, Any]
) -> EvaluationRun:
    """Keep what was measured elsewhere, such as on a collection in BEIR's layout."""
    return Run.objects.create(
        owner=owner,
        collection=measured.report.collection[:255],
        state=State.DONE,
        plan=dict(plan),
        ended_at=timezone.now(),
        **_kept(measured, texts),
    )


def compare(before: EvaluationRun, after: EvaluationRun) -> tuple[list[Compared], list[Moved]]:
    """Two runs on the questions that both asked: each stage, and the last stage's questions.

    Questions that did not change are left out; the most changed come first.
    """
    common = [key for key in before.queries if key in after.queries]
    if not common:
        return [], []
    stages = [name for name in before.report["stages"] if name in after.report["stages"]]

    def values(run: EvaluationRun, stage: str) -> Any:
        return np.array([run.queries[key]["ndcg"][stage] for key in common])

    rows = []
    for stage in stages:
        first, second = values(before, stage), values(after, stage)
        p_value = paired_p_value(second, first)
        rows.append(Compared(stage, float(first.mean()), float(second.mean()), p_value))
    moved = [
        Moved(after.queries[key]["text"], float(first), float(second))
        for key, first, second in zip(
            common, values(before, stages[-1]), values(after, stages[-1]), strict=True
        )
        if first != second
    ]
    return rows, sorted(moved, key=lambda one: -abs(one.difference))


def _claim(run_id: int) -> bool:
    now = timezone.now()
    lost = Q(state=State.RUNNING, heartbeat_at__lt=now - timedelta(seconds=LOST_SECONDS))
    free = Run.objects.filter(Q(state=State.WAITING) | lost, pk=run_id)
    return bool(free.update(state=State.RUNNING, heartbeat_at=now))


def _measure(run: EvaluationRun, results: Path) -> tuple[Measured, Mapping[str, str]]:
    corpus = run.corpus
    if corpus is None:
        raise CannotMeasure("The corpus of this run is gone.")
    collection = judged(corpus, reader=run.owner)
    if not collection.queries:
        raise CannotMeasure("No judgement of this corpus can be read any more.")
    services = search_services()
    info = services.inference.info()
    stages, notes = list(runner.STAGES), list(collection.notes)
    if info.reranker is None:
        notes.append(f"not reranked: {info.reranker_reason}")
        stages.remove("reranked")
    if len(collection.queries) < FEW_QUESTIONS:
        notes.append(
            f"{len(collection.queries)} questions are few: only large differences can be told"
        )
    pools = [int(pool) for pool in run.plan["pools"]]
    measured = runner.measure(
        collection,
        corpus=corpus,
        documents=judging.passages_by_id(corpus),
        stages=stages,
        pools=pools,
        settings=runner.evaluation_settings(
            pools=pools,
            rerank="reranked" in stages,
            base=RetrievalSettings.from_json(run.plan["settings"]),
        ),
        services=services,
        models={
            "embedder": info.embedder.model_id if info.embedder else "",
            "reranker": info.reranker.model_id if info.reranker else "",
        },
        results=results,
        notes=notes,
        progress=_Beat(run.pk),
    )
    return measured, collection.queries


class _Beat:
    """Progress as the row shows it; where the run is to stop, the end of it."""

    def __init__(self, run_id: int) -> None:
        self._run_id, self._last = run_id, timezone.now() - timedelta(hours=1)

    def __call__(self, done: int, total: int, what: str) -> None:
        now = timezone.now()
        if now - self._last < timedelta(seconds=BEAT_SECONDS):
            return
        self._last = now
        mine = Run.objects.filter(pk=self._run_id, state=State.RUNNING)
        if not mine.update(
            heartbeat_at=now, progress_done=done, progress_total=total, progress_what=what
        ):
            raise _Stopped


def _kept(measured: Measured, texts: Mapping[str, str]) -> dict[str, Any]:
    return {
        "report": report.as_json(measured.report),
        "queries": {
            key: {"text": text, "ndcg": {stage: v[key] for stage, v in measured.ndcg.items()}}
            for key, text in texts.items()
        },
    }


def _end(run: EvaluationRun, state: EvaluationRun.State, **values: Any) -> None:
    # One that was deleted meanwhile stays so.
    Run.objects.filter(pk=run.pk).update(state=state, ended_at=timezone.now(), **values)
