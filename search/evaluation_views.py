"""The evaluation pages: what retrieval is worth on the questions that people judged."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.contrib.auth.models import User
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from ingestion import audit
from ingestion.audit import Action
from ingestion.models import Corpus
from search import difference, judging
from search.conf import retrieval_settings
from search.evaluation import runs
from search.evaluation.report import SweepChart, sweep_chart
from search.evaluation.runner import SweepPoint
from search.models import EvaluationRun
from search.types import RetrievalSettings

RUNS_A_PAGE = 25
QUESTIONS_SHOWN = 100
STAGES = {
    "bm25": "Keywords (BM25)",
    "dense": "Vectors",
    "fused": "Fused",
    "reranked": "Reranked",
}


@dataclass(frozen=True, slots=True)
class Set:
    """The judgements of a corpus. relevant: questions with a passage judged relevant."""

    corpus: Corpus
    judgements: int
    relevant: int
    may_measure: bool
    is_measured: bool


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric of one stage, times 100, with its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Stage:
    """One row of a run's table. p_value: of nDCG@10 against the stage before it."""

    name: str
    ndcg: Figure
    recall: Figure
    mrr: Figure
    ms_p50: float
    ms_p95: float
    p_value: float | None
    compared_with: str

    @property
    def is_better(self) -> bool:
        """Whether chance alone hardly makes the difference to the stage before."""
        return self.p_value is not None and self.p_value < 0.05


@dataclass(frozen=True, slots=True)
class Question:
    """One judged question and its nDCG@10 at the last two stages, 0 to 1."""

    text: str
    before: float | None
    after: float

    @property
    def gain(self) -> float:
        """What the last stage gained."""
        return self.after - (self.after if self.before is None else self.before)


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # everybody else was sent to sign in
    return request.user


def _run(request: HttpRequest, run_id: int) -> EvaluationRun:
    readable = EvaluationRun.objects.readable_by(_person(request))
    return get_object_or_404(readable.select_related("corpus", "owner"), pk=run_id)


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """The sets that can be measured, and every run so far."""
    person = _person(request)
    found = EvaluationRun.objects.readable_by(person).select_related("corpus", "owner")
    page = Paginator(found.defer("queries"), RUNS_A_PAGE).get_page(request.GET.get("page"))
    context = {
        "sets": _sets(person),
        "page": page,
        "runs": [(run, _headline(run)) for run in page],
        "is_waiting": any(not run.has_ended for run in page),
    }
    return render(request, "search/evaluation.html", context)


def _sets(person: User) -> list[Set]:
    readable = Corpus.objects.readable_by(person)
    editable = set(Corpus.objects.editable_by(person).values_list("pk", flat=True))
    under_way = EvaluationRun.objects.exclude(state__in=EvaluationRun.ENDED)
    busy = set(under_way.values_list("corpus", flat=True))
    return [
        Set(
            corpus,
            judgements=count,
            relevant=len(runs.judged(corpus, reader=person).queries),
            may_measure=corpus.pk in editable,
            is_measured=corpus.pk in busy,
        )
        for corpus, count in judging.judged_corpora(person, readable).items()
    ]


def _headline(run: EvaluationRun) -> list[tuple[str, float]]:
    """nDCG@10 times 100 of the last two stages."""
    stages = list(run.report.get("stages", {}).items())[-2:]
    return [(STAGES.get(name, name), 100 * told["ndcg@10"]) for name, told in stages]


@require_POST
def start(request: HttpRequest) -> HttpResponse:
    """Put a run of a corpus's judgements in the queue."""
    person = _person(request)
    wanted = request.POST.get("corpus", "")
    if not wanted.isdecimal() or len(wanted) > 18:
        raise Http404
    corpus = get_object_or_404(Corpus.objects.editable_by(person), pk=int(wanted))
    try:
        begun = runs.begin(corpus, owner=person)
    except runs.CannotMeasure as exc:
        messages.error(request, str(exc))
        return redirect("search:evaluation")
    return redirect("search:evaluation_run", begun.pk)


@require_safe
@never_cache
def run(request: HttpRequest, run_id: int) -> HttpResponse:
    """One run: its progress, or its figures."""
    return render(request, "search/evaluation_run.html", _about(_run(request, run_id)))


@require_safe
@never_cache
def state(request: HttpRequest, run_id: int) -> HttpResponse:
    """How far a run is; when it has ended the page loads itself anew."""
    found = _run(request, run_id)
    response = render(request, "search/_evaluation_state.html", {"run": found})
    if found.has_ended:
        response["HX-Refresh"] = "true"
    return response


def _about(found: EvaluationRun) -> dict[str, Any]:
    questions = _questions(found)
    corpus_id = found.corpus_id
    now = retrieval_settings([found.corpus]) if found.corpus else None
    knee = found.report.get("knee")
    others = EvaluationRun.objects.filter(state=EvaluationRun.State.DONE).exclude(pk=found.pk)
    others = (
        others.filter(corpus=corpus_id)
        if corpus_id
        else others.filter(corpus=None, owner=found.owner, collection=found.collection)
    )
    return {
        "run": found,
        "stages": _stages(found),
        "chart": _chart(found),
        "knee": knee,
        "may_use_knee": knee is not None and now is not None and now.pool != knee,
        "pool_now": now.pool if now else None,
        "questions": questions[:QUESTIONS_SHOWN],
        "more": max(0, len(questions) - QUESTIONS_SHOWN),
        "last": STAGES.get(_last(found), ""),
        "knobs": _knobs(found),
        "others": others.order_by("-pk").only("pk", "created_at", "collection")[:20],
        "rail_corpus_id": corpus_id,
    }


def _stages(found: EvaluationRun) -> list[Stage]:
    def figure(mean: float, interval: list[float]) -> Figure:
        return Figure(100 * mean, 100 * interval[0], 100 * interval[1])

    return [
        Stage(
            name=STAGES.get(name, name),
            ndcg=figure(told["ndcg@10"], told["ci95"]),
            recall=figure(told["recall@100"], told["recall@100_ci95"]),
            mrr=figure(told["mrr@10"], told["mrr@10_ci95"]),
            ms_p50=told["ms_p50"],
            ms_p95=told["ms_p95"],
            p_value=told["p_value"],
            compared_with=STAGES.get(told["compared_with"], ""),
        )
        for name, told in found.report.get("stages", {}).items()
    ]


def _chart(found: EvaluationRun) -> SweepChart | None:
    points = [
        SweepPoint(point["pool"], point["ndcg@10"], point["ms_p50"])
        for point in found.report.get("sweep", ())
    ]
    return sweep_chart(points, found.report.get("knee")) if points else None


def _last(found: EvaluationRun) -> str:
    return next(reversed(found.report.get("stages", {})), "")


def _questions(found: EvaluationRun) -> list[Question]:
    """The worst ones first, and of those the ones that the last stage made worse."""
    stages = list(found.report.get("stages", {}))
    if not stages:
        return []
    before = stages[-2] if len(stages) > 1 else ""
    questions = [
        Question(told["text"], told["ndcg"][before] if before else None, told["ndcg"][stages[-1]])
        for told in found.queries.values()
    ]
    return sorted(questions, key=lambda question: (question.after, question.gain))


def _knobs(found: EvaluationRun) -> list[tuple[str, str]]:
    """The settings it was measured with that are not the product's."""
    if "settings" not in found.plan:
        return []
    given = RetrievalSettings.from_json(found.plan["settings"])
    changes = difference.changed_knobs(RetrievalSettings(), given)
    skipped = ("Pool", "Time for reranking", "Keyword search, k", "Vector search, k")
    return [(one.label, one.after) for one in changes if one.label not in skipped]


@require_POST
def stop(request: HttpRequest, run_id: int) -> HttpResponse:
    """End a run at its next question; what was measured so far is not kept."""
    runs.stop(_run(request, run_id))
    return redirect("search:evaluation_run", run_id)


@require_POST
def delete(request: HttpRequest, run_id: int) -> HttpResponse:
    """Forget a run; one under way ends."""
    _run(request, run_id).delete()
    messages.success(request, "The run was deleted.")
    return redirect("search:evaluation")


@require_POST
def use_pool(request: HttpRequest, run_id: int) -> HttpResponse:
    """Give the corpus the pool at the knee of this run."""
    person = _person(request)
    found = _run(request, run_id)
    knee = found.report.get("knee")
    if found.corpus is None or knee is None:
        raise Http404
    own = {**found.corpus.retrieval, "pool": knee}
    if knee == retrieval_settings().pool:
        del own["pool"]
    Corpus.objects.filter(pk=found.corpus.pk).update(retrieval=own)
    audit.record(Action.CORPUS_CHANGED, person=person, about=found.corpus, retrieval=own)
    messages.success(
        request, f"Questions to {found.corpus.name} are now reranked with a pool of {knee}."
    )
    return redirect("search:evaluation_run", run_id)


@require_safe
def compare(request: HttpRequest) -> HttpResponse:
    """Two runs side by side, on the questions that both asked."""
    before, after = (_chosen(request, name) for name in ("before", "after"))
    stages, moved = runs.compare(before, after)
    context = {
        "before": before,
        "after": after,
        "common": sum(1 for key in before.queries if key in after.queries),
        "stages": [
            (
                STAGES.get(row.stage, row.stage),
                100 * row.before,
                100 * row.after,
                100 * row.difference,
                row.p_value,
            )
            for row in stages
        ],
        "last": STAGES.get(stages[-1].stage, "") if stages else "",
        "moved": moved[:QUESTIONS_SHOWN],
        "more": max(0, len(moved) - QUESTIONS_SHOWN),
        "knobs": difference.changed_knobs(
            *(RetrievalSettings.from_json(run.plan["settings"]) for run in (before, after))
        ),
        "models": [
            (what, before.report["models"].get(what), after.report["models"].get(what))
            for what in ("embedder", "reranker")
        ],
    }
    return render(request, "search/evaluation_compare.html", context)


def _chosen(request: HttpRequest, name: str) -> EvaluationRun:
    wanted = request.GET.get(name, "")
    if not wanted.isdecimal() or len(wanted) > 18:
        raise Http404
    found = _run(request, int(wanted))
    if found.state != EvaluationRun.State.DONE:
        raise Http404
    return found


@require_safe
def export(request: HttpRequest, run_id: int) -> HttpResponse:
    """The run as JSON: what `manage.py evaluate --json` prints, settings and questions."""
    found = _run(request, run_id)
    told = {
        **found.report,
        "state": found.state,
        "measured_at": found.created_at.isoformat(),
        "plan": found.plan,
        "questions": list(found.queries.values()),
    }
    return HttpResponse(
        json.dumps(told, indent=1, ensure_ascii=False),
        content_type="application/json",
        headers={"Content-Disposition": f'attachment; filename="evaluation-{found.pk}.json"'},
    )
