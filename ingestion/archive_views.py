"""Export of a corpus as a ZIP, and import of one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib import messages
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import aget_object_or_404, redirect, render
from django.utils.http import content_disposition_header
from django.views.decorators.http import require_GET, require_POST

from ingestion import audit, corpus_archive, importing
from ingestion.audit import Action
from ingestion.errors import UploadRefused
from ingestion.listing import imports_context
from ingestion.models import Corpus, CorpusImport


@require_GET
async def export_corpus(request: HttpRequest, corpus_id: int) -> StreamingHttpResponse:
    """The whole corpus as a download, made while it is sent."""
    person = await request.auser()
    found = await aget_object_or_404(Corpus.objects.editable_by(person), pk=corpus_id)
    await sync_to_async(audit.record)(Action.CORPUS_EXPORTED, person=person, about=found)
    return StreamingHttpResponse(
        _pieces(found),
        content_type="application/zip",
        headers={
            "Content-Disposition": str(content_disposition_header(True, f"{found.name}.zip")),
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "private, no-store",
        },
    )


async def _pieces(corpus: Corpus) -> AsyncIterator[bytes]:
    pieces = corpus_archive.exported(corpus)
    while (piece := await sync_to_async(lambda: next(pieces, None))()) is not None:
        if piece:
            yield piece


@require_POST
def import_corpus(request: HttpRequest) -> HttpResponse:
    """Keep an export to be imported as a new corpus of this person's own."""
    file: Any = request.FILES.get("file")
    if file is None:
        messages.error(request, "No file arrived. Choose the ZIP of an export.")
        return redirect("ingestion:corpora")
    try:
        importing.request_import(owner=_person(request), name=file.name or "", content=file.file)
    except UploadRefused as exc:
        messages.error(request, f"{file.name}: {exc.sentence}")
    return redirect("ingestion:corpora")


@require_GET
def imports(request: HttpRequest) -> HttpResponse:
    """How far this person's imports are, for the page that shows them."""
    return render(request, "ingestion/_imports.html", imports_context(request.user))


@require_POST
def hide_import(request: HttpRequest, import_id: int) -> HttpResponse:
    """Take an import that ended off the page."""
    mine = CorpusImport.objects.shown_to(request.user).exclude(finished_at=None)
    if not mine.filter(pk=import_id).update(is_hidden=True):
        raise Http404
    return redirect("ingestion:corpora")


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # everybody else was sent to sign in
    return request.user
