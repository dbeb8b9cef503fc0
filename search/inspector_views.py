"""The inspector's pages. An inspection is its maker's alone; what one may not see is 404."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import HttpResponseClientRedirect
from django_htmx.middleware import HtmxDetails

from inference.errors import InferenceError
from ingestion import audit, labels
from ingestion.audit import Action
from ingestion.models import Corpus, Document
from ingestion.types import passage_text
from search import attribution, exports, inspector, judging, showing, slopes
from search.conf import OF_A_CORPUS, retrieval_settings, search_services
from search.difference import changed_knobs, difference, in_words
from search.errors import SearchError
from search.forms import CutForm, InspectForm, knobs_initial
from search.models import Inspection, Judgement
from search.recut import recut
from search.types import RetrievalSettings, Trace

COMPARED_WITH = 12


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # everybody else was sent to sign in
    return request.user


def _htmx(request: HttpRequest) -> HtmxDetails:
    details: HtmxDetails = request.htmx  # type: ignore[attr-defined]
    return details


def _own(request: HttpRequest, inspection_id: int) -> Inspection:
    return get_object_or_404(Inspection.objects.of(_person(request)), pk=inspection_id)


@require_http_methods(["GET", "POST"])
@never_cache
def ask(request: HttpRequest) -> HttpResponse:
    """The empty inspector; POST retrieves and goes to the result."""
    person = _person(request)
    if request.method == "POST":
        return _asked(request, person)
    chosen = Corpus.objects.readable_by(person)
    asked = request.GET.get("corpus", "")
    if asked.isdecimal() and len(asked) < 19:
        chosen = chosen.filter(pk=int(asked))
    corpora = list(chosen)
    initial = knobs_initial(retrieval_settings(corpora if len(corpora) == 1 else ()))
    initial |= {"question": request.GET.get("question", ""), "corpora": [c.pk for c in corpora]}
    form = InspectForm(initial=initial, person=person)
    return render(request, "search/inspector.html", _controls(form, person))


def _asked(request: HttpRequest, person: User) -> HttpResponse:
    form = InspectForm(request.POST, person=person)
    before_id = request.POST.get("before", "")
    before = None
    if before_id.isdecimal() and len(before_id) < 19:
        before = Inspection.objects.of(person).filter(pk=int(before_id)).first()
    if form.is_valid():
        try:
            kept = inspector.inspect(
                form.cleaned_data["question"],
                person=person,
                corpora=list(form.cleaned_data["corpora"]),
                settings=form.settings(),
                services=search_services(remember=True),
                before=before,
            )
        except SearchError as exc:
            form.add_error(None, exc.sentence)
        else:
            address = reverse("search:inspection", args=[kept.pk])
            return HttpResponseClientRedirect(address) if _htmx(request) else redirect(address)
    context = _controls(form, person) | {"inspection": before}
    if _htmx(request):
        return render(request, "search/_knobs.html", context, status=422)
    return render(request, "search/inspector.html", context, status=422)


def _controls(form: InspectForm, person: User) -> dict[str, Any]:
    chosen = {str(value) for value in form["corpora"].value() or []}
    readable = Corpus.objects.readable_by(person)
    return {
        "form": form,
        "corpora": [(corpus, str(corpus.pk) in chosen) for corpus in readable],
        "only": _only(form, person),
        "judged": list(judging.judged_corpora(person, readable).items()),
        "recent": Inspection.objects.of(person).filter(turn_id=None)[:8],
    }


def _only(form: InspectForm, person: User) -> list[tuple[str, str, str]]:
    """What limits the search to some documents, as ticks: field, value, and what it says."""
    keys = [str(key) for key in form["documents"].value() or [] if str(key).isdecimal()]
    found = Document.objects.readable_by(person).in_bulk([int(key[:18]) for key in keys])
    named = [(key, found.get(int(key[:18]))) for key in keys]
    labelled = labels.read_all(form["labels"].value() or [])
    return [
        *(("documents", key, str(one or "a document that is gone")) for key, one in named),
        *(("labels", labels.key(one), f"what carries {labels.in_words(one)}") for one in labelled),
    ]


@require_GET
@never_cache
def inspection(request: HttpRequest, inspection_id: int) -> HttpResponse:
    """A result, cut anew as `?pool=`, `?top_n=` and `?threshold=` say, compared with `?before=`."""
    person = _person(request)
    kept = _own(request, inspection_id)
    stored = inspector.trace_of(kept, reader=person)
    cut = CutForm(request.GET)
    wanted = cut.cleaned_data if cut.is_valid() else {}
    trace = recut(
        stored,
        pool=wanted.get("pool"),
        top_n=wanted.get("top_n"),
        threshold=_threshold(wanted.get("threshold"), stored),
    )
    is_cut = trace.settings != stored.settings
    same_question = Inspection.objects.of(person).filter(question=kept.question)
    others = same_question.exclude(pk=kept.pk)[:COMPARED_WITH]
    before = _compared_with(request, kept)
    base = stored if is_cut else inspector.trace_of(before, reader=person) if before else None
    context = _results(request, kept, trace if is_cut else stored, base) | {
        "is_cut": is_cut,
        "before": before,
        "others": others,
    }
    if _htmx(request).target == "results":
        return render(request, "search/_results.html", context)
    corpora = list(Corpus.objects.readable_by(person).filter(pk__in=kept.corpora.all()))
    initial = knobs_initial(
        inspector.replay_settings(stored) if kept.turn_id is not None else trace.settings
    )
    initial |= {"question": kept.question, "corpora": [c.pk for c in corpora]}
    context |= _controls(InspectForm(initial=initial, person=person), person)
    context["editable"] = Corpus.objects.editable_by(person).filter(
        pk__in=[corpus.pk for corpus in corpora]
    )
    context["reach"] = max(len(trace.candidates), stored.settings.pool, 1)
    return render(request, "search/inspector.html", context)


def _threshold(asked: float | None, trace: Trace) -> float | None:
    """The threshold to cut with; None where that is the one the trace has."""
    return None if asked is not None and asked == trace.rerank.threshold else asked


def _compared_with(request: HttpRequest, kept: Inspection) -> Inspection | None:
    asked = request.GET.get("before", "")
    if asked == "none":
        return None
    if asked.isdecimal() and len(asked) < 19:
        return get_object_or_404(Inspection.objects.of(request.user), pk=int(asked))
    return kept.before


def _results(
    request: HttpRequest, kept: Inspection, trace: Trace, base: Trace | None
) -> dict[str, Any]:
    tab = request.GET.get("tab", "all")
    tab = tab if tab in showing.TABS else "all"
    found = difference(base, trace) if base else None
    rows = showing.rows(kept, trace, found, reader=_person(request))
    return {
        "inspection": kept,
        "trace": trace,
        "rows": showing.of_tab(rows, tab),
        "tab": tab,
        "tabs": [
            (key, label, len(showing.of_tab(rows, key))) for key, label in showing.TABS.items()
        ],
        "difference": found,
        "entered": [row for row in rows if found and row.candidate.chunk_id in found.entered],
        "left": showing.names(base, found.left) if base and found else [],
        "chart": slopes.chart(trace),
        "timings": showing.timings({**trace.stage_timings_ms, **kept.timings_ms}),
        "line": showing.summary_line(trace),
        "cut_at": sum(row.is_sent for row in rows),
    }


# --- one passage -------------------------------------------------------------------


@require_GET
@never_cache
def passage(request: HttpRequest, inspection_id: int, chunk_id: str) -> HttpResponse:
    """The exact text that was scored; `?why=1` also which of its sentences carry the score."""
    kept = _own(request, inspection_id)
    trace = inspector.trace_of(kept, reader=_person(request))
    if chunk_id not in trace.passages:
        raise Http404
    row = next(
        row
        for row in showing.rows(kept, trace, None, reader=_person(request))
        if row.candidate.chunk_id == chunk_id
    )
    found, error = None, ""
    services = search_services()
    if "why" in request.GET and not row.is_gone:
        try:
            found = attribution.attribute(
                kept.question,
                heading_path=row.passage.heading_path,
                text=row.passage.text,
                reranker=services.inference,
            )
        except InferenceError:
            error = "The reranker did not answer. Try again in a moment."
    text = passage_text(heading_path=row.passage.heading_path, text=row.passage.text)
    read = None
    if row.candidate.truncated and not row.is_gone:
        read = inspector.read_characters(kept.question, text, services=services)
    context = {
        "inspection": kept,
        "row": row,
        "trace": trace,
        "text": text,
        "read": text if read is None else text[:read],
        "unread": "" if read is None else text[read:],
        "attribution": found,
        "error": error,
    }
    return render(request, "search/_passage.html", context)


# --- out of the page ------------------------------------------------------------------


@require_GET
def export(request: HttpRequest, inspection_id: int, kind: str) -> HttpResponse:
    """The whole trace as JSON, or its candidates as CSV."""
    kept = _own(request, inspection_id)
    trace = inspector.trace_of(kept, reader=_person(request))
    if kind == "json":
        names = [corpus.name for corpus in kept.corpora.all()]
        body = exports.as_json(trace, corpora=names, timings_ms=kept.timings_ms)
        media = "application/json"
    else:
        body, media = exports.as_csv(trace), "text/csv; charset=utf-8"
    name = f"inspection-{kept.pk}.{kind}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return HttpResponse(body, content_type=media, headers=headers)


@require_http_methods(["GET", "POST"])
def copy(request: HttpRequest, inspection_id: int, corpus_id: int) -> HttpResponse:
    """GET asks whether, with what would change; POST gives the corpus these settings.

    The cut that is shown (`pool`, `top_n`, `threshold`) counts. POST with `reset` gives the
    corpus the site's settings again.
    """
    person = _person(request)
    kept = _own(request, inspection_id)
    corpus = get_object_or_404(Corpus.objects.editable_by(person), pk=corpus_id)
    values = request.GET if request.method == "GET" else request.POST
    form = CutForm(values)
    wanted = form.cleaned_data if form.is_valid() else {}
    cut = recut(
        Trace.from_json(kept.trace),
        pool=wanted.get("pool"),
        top_n=wanted.get("top_n"),
        threshold=wanted.get("threshold"),
    ).settings
    site, now = retrieval_settings(), retrieval_settings([corpus])
    if request.method == "GET":
        changes = changed_knobs(now, _only_own(cut, now))
        context = {
            "inspection": kept,
            "corpus": corpus,
            "changes": changes,
            "cut": wanted,
            "has_own": bool(corpus.retrieval),
        }
        return render(request, "search/_copy.html", context)
    own: dict[str, Any] = {}
    if "reset" not in request.POST:
        chosen, default = asdict(cut), asdict(site)
        own = {name: chosen[name] for name in OF_A_CORPUS if chosen[name] != default[name]}
    Corpus.objects.filter(pk=corpus.pk).update(retrieval=own)
    audit.record(Action.CORPUS_CHANGED, person=person, about=corpus, retrieval=own)
    said = ", ".join(f"{name.replace('_', ' ')} {in_words(name, own[name])}" for name in own)
    messages.success(
        request,
        f"Questions to {corpus.name} are now searched with these settings: {said}."
        if own
        else f"Questions to {corpus.name} are now searched with the site's settings.",
    )
    address = reverse("search:inspection", args=[kept.pk])
    return HttpResponseClientRedirect(address) if _htmx(request) else redirect(address)


def _only_own(wanted: RetrievalSettings, now: RetrievalSettings) -> RetrievalSettings:
    """`wanted`, with what a corpus does not set for itself as it is `now`."""
    chosen = asdict(wanted)
    own = {name: chosen[name] for name in OF_A_CORPUS}
    return RetrievalSettings.from_json({**asdict(now), **own})


@require_POST
def judge(request: HttpRequest, inspection_id: int, chunk_id: str) -> HttpResponse:
    """Keep whether a passage answers the question; the same word again takes it back."""
    person = _person(request)
    kept = _own(request, inspection_id)
    trace = inspector.trace_of(kept, reader=person)
    candidate = next((c for c in trace.candidates if c.chunk_id == chunk_id), None)
    if candidate is None or inspector.is_gone(trace.passages[chunk_id]):
        raise Http404
    grade = judging.judge(
        person=person,
        question=kept.question,
        passage=trace.passages[chunk_id],
        grade=Judgement.Grade.RELEVANT if request.POST.get("grade") == "1" else 0,
        journey=judging.journey(trace, candidate, turn_id=kept.turn_id),
    )
    context = {"address": request.path, "grade": grade}
    if _htmx(request):
        return render(request, "search/_judge.html", context)
    return redirect("search:inspection", inspection_id)
