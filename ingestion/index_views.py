"""The page of a corpus's index: how documents are cut, what that gives, and rebuilds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import HttpResponseClientRedirect
from numpy.typing import NDArray

from inference.client import shared_client
from inference.errors import InferenceError
from inference.types import ModelInfo
from ingestion import audit, stages
from ingestion import preview as previewing
from ingestion import rebuild as rebuilding
from ingestion.audit import Action
from ingestion.conf import ingestion_settings
from ingestion.errors import IngestionError, PreviewRefused, RebuildRefused
from ingestion.forms import OptionsForm
from ingestion.generations import live_generation
from ingestion.models import Corpus, Document

MODEL_SECONDS = 1.5
EMBED_SECONDS = 15.0
DOCUMENTS_LISTED = 200
SHOWN_PAGES = 2


def _own(request: HttpRequest, corpus_id: int) -> Corpus:
    """The corpus, if this person may change it; otherwise it is not there."""
    assert isinstance(request.user, User)  # everybody else was sent to sign in
    return get_object_or_404(Corpus.objects.editable_by(request.user), pk=corpus_id)


def _is_htmx(request: HttpRequest) -> bool:
    return bool(request.htmx)  # type: ignore[attr-defined]


def _model() -> ModelInfo | None:
    """What the model server embeds with; None where it does not say soon."""
    client = shared_client(ingestion_settings().embed_url, "")
    try:
        return client.info(timeout_seconds=MODEL_SECONDS).embedder
    except InferenceError:
        return None


@require_http_methods(["GET", "POST"])
def index(request: HttpRequest, corpus_id: int) -> HttpResponse:
    """Settings, preview and state; POST saves the settings and touches no index."""
    corpus = _own(request, corpus_id)
    site = ingestion_settings().chunk
    if request.method == "POST":
        model = _model()
        form = OptionsForm(
            request.POST, instance=corpus, site=site, model_tokens=model.max_tokens if model else 0
        )
        if form.is_valid():
            form.save()
            messages.success(request, "The settings are saved.")
            return redirect("ingestion:index", corpus_id)
        corpus = _own(request, corpus_id)  # as it is, not as the form would have it
    else:
        form = OptionsForm(instance=corpus, site=site)
    states = Document.State
    unread = (states.DELETING, states.FAILED, states.QUARANTINED)
    listed = corpus.documents.newest().exclude(state__in=unread).order_by("name", "pk")
    context = _state(corpus, model=None) | {
        "form": form,
        "documents": listed.only("pk", "name")[:DOCUMENTS_LISTED],
        "max_pages": previewing.MAX_PAGES,
        "shown_pages": SHOWN_PAGES,
        "rail_corpus_id": corpus.pk,
    }
    return render(request, "ingestion/index.html", context, status=422 if form.errors else 200)


def _state(corpus: Corpus, *, model: ModelInfo | None) -> dict[str, Any]:
    live, building = live_generation(corpus), rebuilding.building(corpus)
    wanted = corpus.chunk_options(site=ingestion_settings().chunk)
    former = rebuilding.former(corpus)
    return {
        "corpus": corpus,
        "live": live,
        "live_facts": rebuilding.facts(live) if live else None,
        "differences": rebuilding.differences(live, wanted, model) if live else [],
        "building": building,
        "progress": rebuilding.progress(building) if building else None,
        "failures": rebuilding.failures(building)[:20] if building else [],
        "former": former,
        "former_until": rebuilding.kept_until(former) if former else None,
    }


@require_GET
def index_state(request: HttpRequest, corpus_id: int) -> HttpResponse:
    """What is live, what is being built; asked again while something is being built."""
    corpus = _own(request, corpus_id)
    return render(request, "ingestion/_index_state.html", _state(corpus, model=_model()))


@require_GET
def preview(request: HttpRequest, corpus_id: int) -> HttpResponse:
    """How the settings in the form would cut some pages of a document. Nothing is written."""
    corpus = _own(request, corpus_id)
    settings = ingestion_settings()
    model = _model()
    form = OptionsForm(
        request.GET,
        instance=corpus,
        site=settings.chunk,
        model_tokens=model.max_tokens if model else 0,
    )
    document = corpus.documents.exclude(state=Document.State.DELETING).filter(
        pk=_number(request, "document")
    )
    context: dict[str, Any] = {"corpus": corpus, "form": form, "document": document.first()}
    status = 200
    if not form.is_valid():
        status = 422
    elif context["document"]:
        first = _number(request, "page") or 1
        try:
            context["preview"] = previewing.preview(
                context["document"],
                form.options,
                first=first,
                last=first + SHOWN_PAGES - 1,
                settings=settings,
                embed=_embed,
            )
        except (PreviewRefused, IngestionError) as exc:
            context["refusal"], status = exc.sentence, 422
    return render(request, "ingestion/_preview.html", context, status=status)


def _embed(texts: Sequence[str]) -> NDArray[np.float32]:
    client = shared_client(ingestion_settings().embed_url, "")
    return client.embed(texts, lane="ingestion", timeout_seconds=EMBED_SECONDS)


def _number(request: HttpRequest, name: str) -> int:
    value = request.GET.get(name, "")
    return int(value) if value.isdecimal() and len(value) < 9 else 0


@require_POST
def rebuild(request: HttpRequest, corpus_id: int) -> HttpResponse:
    """Begin a rebuild, cancel it, try its failures again, put it into use, or go back."""
    corpus = _own(request, corpus_id)
    try:
        act = request.POST.get("act", "")
        sentence = _act(corpus, act)
        audit.record(Action.INDEX_CHANGED, person=request.user, about=corpus, act=act)
        messages.success(request, sentence)
    except IngestionError as exc:
        messages.error(request, exc.sentence)
    except InferenceError:
        messages.error(
            request, "The model server does not answer. Nothing was begun; try again when it does."
        )
    address = reverse("ingestion:index", args=[corpus_id])
    return HttpResponseClientRedirect(address) if _is_htmx(request) else redirect(address)


def _act(corpus: Corpus, act: str) -> str:
    """Do it, and say so in a sentence. Raises RebuildRefused, InferenceError."""
    if act == "start":
        given = stages.tools()
        rebuilding.start(
            corpus,
            options=corpus.chunk_options(site=given.settings.chunk),
            client=given.client,
            store=given.store,
        )
        return "The rebuild has begun. Questions are answered from the present index meanwhile."
    if act == "roll_back":
        rebuilding.roll_back(corpus)
        return "The former index is in use again."
    building = rebuilding.building(corpus)
    if building is None or act not in ("cancel", "retry", "flip", "flip_without_failed"):
        raise RebuildRefused(act, code="not_building")
    if act == "cancel":
        rebuilding.cancel(building)
        return "The rebuild is cancelled. The present index stays in use."
    if act == "retry":
        rebuilding.retry(building)
        return "The documents that failed are tried again."
    rebuilding.flip(building, without_failed=act == "flip_without_failed")
    return "The new index is in use. For a day you can go back to the former one."
