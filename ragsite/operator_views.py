"""The pages of those who run the site: overview, queue, rerankers, clinic. For staff alone."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from chat import clinic
from ingestion.models import Corpus
from ragsite import figures, rerankers, workers

SHOWN = 200


def _staff(request: HttpRequest) -> User:
    """The person, who runs the site; for everybody else there is no such page."""
    person = request.user
    assert isinstance(person, User)  # everybody else was sent to sign in
    if not person.is_staff:
        raise Http404
    return person


@require_safe
@never_cache
def overview(request: HttpRequest) -> HttpResponse:
    """How much is asked and how it goes, what waits, what failed, what fills the disk."""
    _staff(request)
    return render(request, "ragsite/overview.html", {"figures": figures.gather()})


@require_safe
def queue(request: HttpRequest) -> HttpResponse:
    """The frame of the queue; what the workers say loads into it, so that it always renders."""
    _staff(request)
    return render(request, "ragsite/queue.html")


@require_safe
@never_cache
def queue_now(request: HttpRequest) -> HttpResponse:
    """What every worker has in hand, and what waits."""
    _staff(request)
    return render(request, "ragsite/_queue.html", {"queue": workers.look()})


@require_safe
@never_cache
def reranker_list(request: HttpRequest) -> HttpResponse:
    """The frame at once; what is in use loads into it, however slow the model server is."""
    _staff(request)
    if request.headers.get("HX-Request") != "true":
        return render(request, "ragsite/rerankers.html")
    return render(request, "ragsite/_rerankers.html", {"choice": rerankers.look()})


@require_safe
@never_cache
def query_clinic(request: HttpRequest) -> HttpResponse:
    """Questions whose answers look weak, grouped; `?reason=` and `?corpus=` narrow them."""
    person = _staff(request)
    wanted = request.GET.get("reason", "")
    reason = clinic.Reason(wanted) if wanted in set(clinic.Reason) else None
    chosen = request.GET.get("corpus", "")
    corpus_id = int(chosen) if chosen.isdecimal() and len(chosen) < 19 else None
    found = clinic.cases(reason=reason, corpus_id=corpus_id)
    mine = set(Corpus.objects.readable_by(person).values_list("pk", flat=True))
    context = {
        "cases": [(case, sorted(case.corpora & mine)) for case in found[:SHOWN]],
        "more": max(0, len(found) - SHOWN),
        "reasons": clinic.REASONS.items(),
        "reason": reason,
        "corpora": Corpus.objects.present().only("pk", "name"),
        "corpus_id": corpus_id,
        "latest": clinic.LATEST,
    }
    return render(request, "ragsite/clinic.html", context)
