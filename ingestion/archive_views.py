"""Export of a corpus as a ZIP, and import of one."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import aget_object_or_404, redirect
from django.utils.http import content_disposition_header
from django.views.decorators.http import require_GET, require_POST

from ingestion import audit, corpus_archive
from ingestion.audit import Action
from ingestion.errors import UploadRefused
from ingestion.models import Corpus
from ingestion.views import count_documents

MOST_NAMED = 3


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
    """A new corpus of this person's own from an export."""
    assert isinstance(request.user, User)  # everybody else was sent to sign in
    file: Any = request.FILES.get("file")
    if file is None:
        messages.error(request, "No file arrived. Choose the ZIP of an export.")
        return redirect("ingestion:corpora")
    with tempfile.NamedTemporaryFile(suffix=".zip") as copy:
        for piece in file.chunks():
            copy.write(piece)
        copy.flush()
        try:
            made = corpus_archive.import_corpus(owner=request.user, path=Path(copy.name))
        except UploadRefused as exc:
            messages.error(request, f"{file.name}: {exc.sentence}")
            return redirect("ingestion:corpora")
    audit.record(
        Action.CORPUS_IMPORTED, person=request.user, about=made.corpus, documents=made.documents
    )
    messages.success(request, f"{count_documents(made.documents)} imported; each is read anew.")
    if made.refused:
        said = " ".join(f"{name}: {why}" for name, why in made.refused[:MOST_NAMED])
        messages.warning(request, f"Not taken: {count_documents(len(made.refused))}. {said}")
    return redirect("ingestion:corpus", made.corpus.pk)
