"""Pages of corpora and documents. What one may not see is not there: 404."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, BinaryIO

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.models import User
from django.core.paginator import Paginator
from django.db.models import Sum
from django.db.models.functions import Coalesce
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    JsonResponse,
    StreamingHttpResponse,
)
from django.shortcuts import aget_object_or_404, get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.http import content_disposition_header
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import HttpResponseClientRedirect, trigger_client_event
from django_htmx.middleware import HtmxDetails

from ingestion import audit, labels, quotas, reader, services, uploads
from ingestion.audit import Action
from ingestion.errors import ACCEPTED_KINDS, UploadRefused
from ingestion.forms import ACCEPTED, CorpusForm, DeleteCorpusForm
from ingestion.listing import (
    FAILED,
    FILTERS,
    PAGE_SIZE,
    Filter,
    corpora_of,
    imports_context,
    summarise,
)
from ingestion.models import (
    Chunk,
    Corpus,
    Deletion,
    Document,
    DocumentQuerySet,
    IndexGeneration,
)

PASSAGES_PER_PAGE = 50
FILE_CHUNK_BYTES = 256 * 1024
PAUSED_AFTER_SECONDS = 10
REFUSAL_STATUS = {"too_large": 413, "quota": 413, "duplicate": 409, "disk_full": 507}


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # everybody else was sent to sign in
    return request.user


def _htmx(request: HttpRequest) -> HtmxDetails:
    details: HtmxDetails = request.htmx  # type: ignore[attr-defined]
    return details


def _may_edit(request: HttpRequest, corpus: Corpus) -> bool:
    return Corpus.objects.editable_by(request.user).filter(pk=corpus.pk).exists()


def _wants_fragment(request: HttpRequest) -> bool:
    details = _htmx(request)
    return bool(details) and not details.history_restore_request


def _go_to(request: HttpRequest, address: str) -> HttpResponse:
    return HttpResponseClientRedirect(address) if _htmx(request) else redirect(address)


# --- corpora -------------------------------------------------------------------


@require_GET
def corpora(request: HttpRequest) -> HttpResponse:
    """All corpora this person may ask."""
    return _corpora_page(request, CorpusForm(owner=_person(request)))


def _corpora_page(request: HttpRequest, form: CorpusForm) -> HttpResponse:
    context = {
        "corpora": corpora_of(_person(request)),
        "form": form,
        **imports_context(request.user),
    }
    status = 422 if form.errors else 200
    return render(request, "ingestion/corpora.html", context, status=status)


@require_POST
def create_corpus(request: HttpRequest) -> HttpResponse:
    """A new corpus, empty, of this person's own."""
    form = CorpusForm(request.POST, owner=_person(request))
    if not form.is_valid():
        if _htmx(request):
            return _form(request, form, action=reverse("ingestion:create_corpus"))
        return _corpora_page(request, form)
    made = services.create_corpus(owner=_person(request), **form.cleaned_data)
    return _go_to(request, reverse("ingestion:corpus", args=[made.pk]))


def _form(request: HttpRequest, form: CorpusForm, *, action: str) -> HttpResponse:
    context = {"form": form, "action": action, "corpus": form.instance}
    return render(request, "ingestion/_corpus_form.html", context, status=422)


@require_GET
def corpus(request: HttpRequest, corpus_id: int) -> HttpResponse:
    """One corpus: its documents, and the place to drop more."""
    return _corpus_page(request, get_object_or_404(corpora_of(_person(request)), pk=corpus_id))


def _corpus_page(
    request: HttpRequest,
    found: Corpus,
    *,
    form: CorpusForm | None = None,
    delete_form: DeleteCorpusForm | None = None,
) -> HttpResponse:
    person = _person(request)
    context = _table(request, found) | {
        "form": form or CorpusForm(instance=found, owner=found.owner),
        "delete_form": delete_form or DeleteCorpusForm(corpus=found),
        "is_owner": Corpus.objects.owned_by(person).filter(pk=found.pk).exists(),
        "is_shared_by_name": found.shares.filter(person=person).exists(),
        "usages": quotas.usages(found) if _may_edit(request, found) else (),
        "not_taken": found.sources.filter(is_watched=True).exclude(error_code="")[:20],
        "accepted": ACCEPTED,
        "accepted_kinds": ACCEPTED_KINDS,
        "max_mb": settings.UPLOAD_MAX_MB,
        "max_bytes": settings.UPLOAD_MAX_MB * 1024 * 1024,
    }
    status = 422 if form or delete_form else 200
    return render(request, "ingestion/corpus.html", context, status=status)


@require_POST
def edit_corpus(request: HttpRequest, corpus_id: int) -> HttpResponse:
    """Rename a corpus, describe it, open it or close it."""
    person = _person(request)
    owned = Corpus.objects.owned_by(person).select_related("owner")
    found = get_object_or_404(owned, pk=corpus_id)
    form = CorpusForm(request.POST, instance=found, owner=found.owner)
    if not form.is_valid():
        found.refresh_from_db()
        if _htmx(request):
            return _form(request, form, action=request.path)
        return _corpus_page(request, found, form=form)
    form.save()
    audit.record(Action.CORPUS_CHANGED, person=person, about=found, changed=form.changed_data)
    messages.success(request, "The corpus is changed.")
    return _go_to(request, reverse("ingestion:corpus", args=[corpus_id]))


@require_POST
def delete_corpus(request: HttpRequest, corpus_id: int) -> HttpResponse:
    """Delete a corpus with everything in it, once its name has been typed."""
    found = get_object_or_404(Corpus.objects.owned_by(_person(request)), pk=corpus_id)
    form = DeleteCorpusForm(request.POST, corpus=found)
    if not form.is_valid():
        if _htmx(request):
            context = {"delete_form": form, "corpus": found, "summary": summarise(found)}
            return render(request, "ingestion/_delete_corpus_form.html", context, status=422)
        return _corpus_page(request, found, delete_form=form)
    name = found.name
    services.delete_corpus(corpus=found, person=_person(request))
    messages.success(request, f"{name} is deleted with everything in it.")
    return _go_to(request, reverse("ingestion:corpora"))


@require_GET
def deletions(request: HttpRequest) -> HttpResponse:
    """The receipts of what this person deleted, and of what others deleted of theirs."""
    receipts = Deletion.objects.readable_by(_person(request)).select_related("requested_by")
    page = Paginator(receipts, PAGE_SIZE).get_page(request.GET.get("page"))
    return render(request, "ingestion/deletions.html", {"page": page})


# --- documents of a corpus -------------------------------------------------------


def _table(request: HttpRequest, found: Corpus) -> dict[str, Any]:
    shown = Filter.read(request.GET.dict())
    summary = summarise(found)
    return {
        "corpus": found,
        "shown": shown,
        "summary": summary,
        "page": shown.apply(found.documents.all()),
        "filters": [(key, label, summary.count(key)) for key, (label, _) in FILTERS.items()],
        "labels": labels.choices([found], chosen=[shown.label] if shown.label else []),
        "may_edit": _may_edit(request, found),
        "table_url": reverse("ingestion:documents", args=[found.pk]) + shown.query,
    }


@require_GET
def documents(request: HttpRequest, corpus_id: int) -> HttpResponse:
    """The table of documents, asked again every second while anything is unfinished."""
    person = _person(request)
    found = get_object_or_404(Corpus.objects.readable_by(person), pk=corpus_id)
    context = _table(request, found)
    response = render(request, "ingestion/_documents.html", context)
    if "filtering" in request.GET:
        address = reverse("ingestion:corpus", args=[corpus_id])
        response["HX-Replace-Url"] = address + context["shown"].query
    return response


@require_GET
def queue(request: HttpRequest, corpus_id: int) -> HttpResponse:
    """A banner when documents wait and nobody works; asked by the page after it has rendered.

    For those whom it concerns: who may upload here, and readers whose corpus is unfinished.
    """
    person = _person(request)
    found = get_object_or_404(Corpus.objects.readable_by(person), pk=corpus_id)
    concerns = _may_edit(request, found) or found.documents.unfinished().exists()
    state = services.queue_state()
    is_late = (state["oldest_waiting_seconds"] or 0) > PAUSED_AFTER_SECONDS
    is_paused = concerns and is_late and not state["working"]
    context = {"corpus": found, "is_paused": is_paused, "queue": state}
    return render(request, "ingestion/_queue.html", context)


@require_POST
def upload(request: HttpRequest, corpus_id: int) -> HttpResponse:
    """Take one file. A script hears JSON, a plain form is sent back to the page."""
    person = _person(request)
    found = get_object_or_404(Corpus.objects.editable_by(person), pk=corpus_id)
    wants_json = request.get_preferred_type(["text/html", "application/json"]) != "text/html"
    file = request.FILES.get("file")
    try:
        if file is None:
            raise UploadRefused("no file in the request", code="no_file")
        received = services.receive_all(
            corpus=found,
            person=person,
            name=file.name or "",
            content=_as_binary(file),
            replace=request.POST.get("replace") == "1",
        )
    except UploadRefused as exc:
        sentence = _NO_FILE if exc.code == "no_file" else exc.sentence
        if wants_json:
            answer = {"error": sentence, "code": exc.code}
            if exc.document_id is not None:
                answer["document_url"] = reverse("ingestion:document", args=[exc.document_id])
            return JsonResponse(answer, status=REFUSAL_STATUS.get(exc.code, 422))
        messages.error(request, f"{file.name}: {sentence}" if file else sentence)
        return redirect("ingestion:corpus", corpus_id)
    if wants_json:
        status = 201 if received.documents else 422
        return JsonResponse(uploads.answer(received), status=status)
    tell = messages.warning if received.refusals else messages.success
    tell(request, uploads.sentence(received))
    return redirect("ingestion:corpus", corpus_id)


_NO_FILE = "No file arrived. Choose a file and upload it again."


def _as_binary(file: Any) -> BinaryIO:
    binary: BinaryIO = file.file
    return binary


def chosen_documents(request: HttpRequest, corpus_id: int) -> DocumentQuerySet:
    """The documents of this corpus named in the request, as far as they may be changed.

    Raises Http404 when the corpus may not be changed, or when a name is not a number.
    """
    person = _person(request)
    found = get_object_or_404(Corpus.objects.editable_by(person), pk=corpus_id)
    values = request.GET if request.method == "GET" else request.POST
    mine = Document.objects.editable_by(person).filter(corpus=found)
    if values.get("all") == "failed":
        return mine.filter(state__in=FAILED)
    names = values.getlist("document")
    if not all(name.isdecimal() and len(name) < 19 for name in names):
        raise Http404
    return mine.filter(pk__in=[int(name) for name in names])


def documents_changed(request: HttpRequest, corpus_id: int) -> HttpResponse:
    """Tell the page that documents changed; whoever came from a document's page goes back."""
    address = reverse("ingestion:corpus", args=[corpus_id])
    if not _htmx(request):
        return redirect(address)
    body = render_to_string("_messages.html", {"oob": True}, request=request)
    response = HttpResponse(body)
    trigger_client_event(response, "documents-changed", {})
    return trigger_client_event(response, "done", {})


def _confirm(
    request: HttpRequest,
    chosen: DocumentQuerySet,
    *,
    question: str,
    verb: str,
    consequence: str,
    **more: Any,
) -> HttpResponse:
    """Ask whether to change these documents, in the dialog or on a page of its own."""
    context = {
        "chosen": list(chosen.only("pk", "name")),
        "count": chosen.count(),
        "question": question,
        "verb": verb,
        "consequence": consequence,
        "action": request.path,
        **more,
    }
    name = "_bulk_form.html" if _wants_fragment(request) else "bulk.html"
    return render(request, f"ingestion/{name}", context)


@require_http_methods(["GET", "POST"])
def retry(request: HttpRequest, corpus_id: int) -> HttpResponse:
    """Set failed documents to work again from the beginning; GET asks whether, with counts."""
    chosen = chosen_documents(request, corpus_id).filter(state__in=FAILED)
    if request.method == "GET":
        told = count_documents(chosen.count())
        return _confirm(
            request,
            chosen,
            question=f"Try {told} again?" if chosen else "Nothing to try again",
            verb=f"Retry {told}",
            consequence="Each is read anew from its stored file. What failed before may fail "
            "again; then it says why."
            if chosen
            else "None of the chosen documents failed.",
            takes_all=request.GET.get("all") == "failed",
        )
    count = services.retry(documents=chosen)
    if count:
        messages.success(request, f"{count_documents(count)} will be tried again.")
    else:
        messages.warning(request, "Nothing to try again: none of these documents failed.")
    if "stay" in request.POST and len(request.POST.getlist("document")) == 1:
        return redirect("ingestion:document", request.POST["document"])
    return documents_changed(request, corpus_id)


@require_http_methods(["GET", "POST"])
def read_again(request: HttpRequest, corpus_id: int) -> HttpResponse:
    """Read ready documents anew from their files; GET asks whether, with counts."""
    chosen = services.with_file(chosen_documents(request, corpus_id))
    if request.method == "GET":
        told = count_documents(chosen.count())
        facts = chosen.aggregate(passages=Coalesce(Sum("chunk_count"), 0))
        return _confirm(
            request,
            chosen,
            question=f"Read {told} again?" if chosen else "Nothing to read again",
            verb=f"Read {told} again",
            consequence=f"Their {facts['passages']:,} passages are left out of answers until each "
            "is ready again; passages that come out the same are not embedded again."
            if chosen
            else "None of the chosen documents is ready.",
        )
    if count := services.read_again(documents=chosen):
        messages.success(request, f"{count_documents(count)} will be read again.")
    else:
        messages.warning(request, "Nothing to read again: none of these documents is ready.")
    return documents_changed(request, corpus_id)


@require_http_methods(["GET", "POST"])
def delete(request: HttpRequest, corpus_id: int) -> HttpResponse:
    """GET asks whether, with counts; POST deletes."""
    chosen = chosen_documents(request, corpus_id)
    if request.method == "GET":
        facts = chosen.with_versions().aggregate(
            pages=Coalesce(Sum("pages"), 0), passages=Coalesce(Sum("chunk_count"), 0)
        )
        context = facts | {
            "chosen": list(chosen.only("pk", "name", "state")),
            "corpus": get_object_or_404(Corpus, pk=corpus_id),
            "from_document": "from_document" in request.GET,
        }
        name = "_delete_form.html" if _wants_fragment(request) else "delete.html"
        return render(request, f"ingestion/{name}", context)
    count = services.request_deletion(documents=chosen, person=_person(request))
    if count:
        messages.success(
            request, f"{count_documents(count)} deleted; answers no longer rest on them."
        )
    else:
        messages.warning(request, "There was nothing left to delete.")
    if "from_document" in request.POST:
        return _go_to(request, reverse("ingestion:corpus", args=[corpus_id]))
    return documents_changed(request, corpus_id)


@require_http_methods(["GET", "POST"])
def set_enabled(request: HttpRequest, corpus_id: int) -> HttpResponse:
    """Let answers rest on documents, or not, without deleting them; GET asks, with counts."""
    chosen = chosen_documents(request, corpus_id)
    if request.method == "GET":
        return _confirm_switch(request, chosen, enabled=request.GET.get("enabled") == "1")
    enabled = request.POST.get("enabled") == "1"
    count = chosen.update(enabled=enabled)
    if count > 1:
        answers = "can be used in answers again" if enabled else "left out of answers from now on"
        messages.success(request, f"{count_documents(count)} {answers}.")
    if "stay" in request.POST and len(request.POST.getlist("document")) == 1:
        return redirect("ingestion:document", request.POST["document"])
    return documents_changed(request, corpus_id)


def _confirm_switch(
    request: HttpRequest, chosen: DocumentQuerySet, *, enabled: bool
) -> HttpResponse:
    changing = chosen.exclude(enabled=enabled)
    facts = changing.aggregate(passages=Coalesce(Sum("chunk_count"), 0))
    told, word = count_documents(changing.count()), "on" if enabled else "off"
    same = chosen.count() - changing.count()
    effect = "can be used in answers again" if enabled else "are left out of answers from now on"
    said = f"{facts['passages']:,} passages {effect}; nothing is deleted."
    return _confirm(
        request,
        changing,
        question=f"Switch {told} {word}?" if changing else f"All of them are {word} already",
        verb=f"Switch {told} {word}",
        consequence=said + (f" {count_documents(same)} {word} already." if same else ""),
        enabled="1" if enabled else "0",
    )


def count_documents(count: int) -> str:
    return "1 document" if count == 1 else f"{count} documents"


# --- one document ------------------------------------------------------------------


def _number(values: dict[str, str], name: str) -> int | None:
    value = values.get(name, "")
    return int(value) if value.isdecimal() and len(value) < 9 else None


@require_GET
def document(request: HttpRequest, document_id: int) -> HttpResponse:
    """A document's text, one part at a time, beside its passages; one may be marked."""
    person = _person(request)
    readable = Document.objects.readable_by(person)
    found = get_object_or_404(
        readable.select_related("corpus", "corpus__owner").prefetch_related("labels"),
        pk=document_id,
    )
    values = request.GET.dict()
    chunk = None
    if "chunk" in values:
        chunk = Chunk.objects.defer("embedding").filter(document=found, pk=values["chunk"]).first()
    context = {
        "document": found,
        "corpus": found.corpus,
        "may_edit": _may_edit(request, found.corpus),
        "view": reader.open_part(found, number=_number(values, "page"), chunk=chunk),
        "chunk": chunk,
        "is_lost": chunk is None and bool(values.get("chunk")),
        "rail_corpus_id": found.corpus_id,
    }
    target = _htmx(request).target if _wants_fragment(request) else None
    if target == "reader":
        return render(request, "ingestion/_reader.html", context)
    context["versions"] = _versions(readable, found)
    context["passages"] = _passages(found, chunk=chunk, page=_number(values, "passages"))
    if target == "passages":
        return render(request, "ingestion/_passages.html", context)
    if target == "document-state":
        return _document_state(request, context)
    return render(request, "ingestion/document.html", context)


def _versions(readable: DocumentQuerySet, found: Document) -> list[Document]:
    """All versions of a document, the newest first; nothing where there is but one."""
    if not found.lineage:
        return []
    return list(readable.filter(lineage=found.lineage).order_by("-version"))


def _document_state(request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    response = render(request, "ingestion/_document_state.html", context)
    if context["document"].is_terminal:
        response["HX-Refresh"] = "true"
    return response


def _passages(found: Document, *, chunk: Chunk | None, page: int | None) -> Any:
    listed = (
        Chunk.objects.filter(document=found, generation__state=IndexGeneration.State.LIVE)
        .defer("embedding", "spans")
        .order_by("ordinal")
    )
    if page is None and chunk is not None:
        page = listed.filter(ordinal__lt=chunk.ordinal).count() // PASSAGES_PER_PAGE + 1
    return Paginator(listed, PASSAGES_PER_PAGE).get_page(page or 1)


@require_GET
async def original(request: HttpRequest, document_id: int) -> HttpResponseBase:
    """The file as it was uploaded: always a download, never shown in the site's own origin."""
    person = await request.auser()
    found = await aget_object_or_404(Document.objects.readable_by(person), pk=document_id)
    path = services.blob_path(found)
    if not path.is_file():
        raise Http404
    return StreamingHttpResponse(
        _read(path),
        content_type="application/octet-stream",
        headers={
            "Content-Length": str(path.stat().st_size),
            "Content-Disposition": str(content_disposition_header(True, found.name)),
            "Content-Security-Policy": "sandbox; default-src 'none'",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "private, no-store",
        },
    )


async def _read(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while block := await asyncio.to_thread(file.read, FILE_CHUNK_BYTES):
            yield block
