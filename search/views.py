"""Pages about retrieval. What one may not see is not there: 404."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods

from ingestion import audit
from ingestion.audit import Action
from ingestion.generations import live_generation
from ingestion.models import Corpus
from ingestion.rebuild import building, progress
from search import comparison, corpus_settings, judging
from search.conf import retrieval_settings, search_services
from search.corpus_settings import OwnKnobsForm

MAX_QUESTIONS = 10
SHOWN = 5


@require_http_methods(["GET", "POST"])
def compare(request: HttpRequest, corpus_id: int) -> HttpResponse:
    """The index in use beside the one that is being built; POST asks both the questions."""
    assert isinstance(request.user, User)  # everybody else was sent to sign in
    corpus = get_object_or_404(Corpus.objects.editable_by(request.user), pk=corpus_id)
    live, other = live_generation(corpus), building(corpus)
    if live is None or other is None:
        return redirect("ingestion:index", corpus_id)
    error = ""
    if request.method == "POST":
        text = request.POST.get("questions", "")[:20_000]
        questions = comparison.parse_questions(text)
        if not 0 < len(questions) <= MAX_QUESTIONS:
            error = f"Write one to {MAX_QUESTIONS} questions, one a line."
            questions = []
    else:
        questions = []
        begin = comparison.judged_questions(corpus, reader=request.user, count=MAX_QUESTIONS)
        text = "\n".join(map(str, begin or comparison.sample_questions(corpus)))
    found = comparison.compare(
        live, other, questions, settings=retrieval_settings([corpus]), services=search_services()
    )
    context = {
        "corpus": corpus,
        "live": live,
        "building": other,
        "progress": progress(other),
        "found": found,
        "text": text,
        "error": error,
        "rows": [
            (question, [(side, _shown(side)) for side in sides])
            for question, *sides in found.questions
        ],
        "max_questions": MAX_QUESTIONS,
        "depth": comparison.DEPTH,
        "rail_corpus_id": corpus.pk,
    }
    return render(request, "search/compare.html", context, status=422 if error else 200)


def _shown(side: comparison.Side) -> list[dict[str, object]]:
    return side.trace.sources()[:SHOWN]


@require_http_methods(["GET", "HEAD", "POST"])
def settings(request: HttpRequest, corpus_id: int) -> HttpResponse:
    """Every setting with its origin; POST sets the knobs of the search, or inherits them."""
    assert isinstance(request.user, User)
    corpus = get_object_or_404(Corpus.objects.editable_by(request.user), pk=corpus_id)
    form = OwnKnobsForm(corpus=corpus)
    if request.method == "POST":
        inherit = request.POST.get("inherit", "")
        own = None
        if inherit:
            own = {k: v for k, v in corpus.retrieval.items() if inherit not in (k, "all")}
        else:
            form = OwnKnobsForm(request.POST, corpus=corpus)
            if form.is_valid():
                own = form.own()
        if own is not None:
            Corpus.objects.filter(pk=corpus.pk).update(retrieval=own)
            audit.record(Action.CORPUS_CHANGED, person=request.user, about=corpus, retrieval=own)
            messages.success(request, "The settings hold from the next question on.")
            return redirect("search:settings", corpus_id)
    index, page = (
        reverse("ingestion:index", args=[corpus.pk]),
        reverse("ingestion:corpus", args=[corpus.pk]),
    )
    context = {
        "corpus": corpus,
        "knobs": corpus_settings.knobs(corpus, form),
        "others": [
            ("Passages", corpus_settings.reading(corpus), index, "Change them on the page “Index”"),
            (
                "Answers and limits",
                corpus_settings.answering(corpus),
                f"{page}#edit-corpus",
                "Owners change how doubt is met and the instructions in the corpus's settings; "
                "administrators change the limits in the admin panel",
            ),
        ],
        "rail_corpus_id": corpus.pk,
    }
    return render(request, "search/settings.html", context, status=422 if form.errors else 200)


@require_GET
def judgements(request: HttpRequest, corpus_id: int) -> HttpResponse:
    """The judgements about a corpus as an evaluation set in BEIR's layout, packed."""
    assert isinstance(request.user, User)
    corpus = get_object_or_404(Corpus.objects.readable_by(request.user), pk=corpus_id)
    found = judging.evaluation_set(corpus, reader=request.user)
    headers = {"Content-Disposition": f'attachment; filename="judgements-{corpus.pk}.zip"'}
    packed = judging.as_zip(corpus, found)
    return HttpResponse(packed, content_type="application/zip", headers=headers)
