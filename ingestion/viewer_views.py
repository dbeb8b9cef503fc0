"""A document beside something else: a fragment with its page, and a passage marked in it."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from ingestion import reader, services
from ingestion.conf import ingestion_settings
from ingestion.errors import IngestionError
from ingestion.models import Chunk, Document
from ingestion.page_images import page_image
from ingestion.parsing import Format

PDF = "pdf"


@require_GET
@never_cache
def viewer(request: HttpRequest, document_id: int) -> HttpResponse:
    """The page that `?chunk=` begins on, or `?page=`: a PDF as it looks, the rest as text."""
    readable = Document.objects.readable_by(request.user)
    found = get_object_or_404(readable, pk=document_id)
    chunk = None
    if wanted := request.GET.get("chunk", ""):
        chunk = Chunk.objects.defer("embedding").filter(document=found, pk=wanted).first()
    asked = request.GET.get("page", "")
    page = int(asked) if asked.isdecimal() and len(asked) < 9 else None
    pages = reader.pages_of(chunk) if chunk else []
    context = {
        "document": found,
        "chunk": chunk,
        "is_lost": chunk is None and bool(wanted),
        "is_pdf": found.format == PDF,
        "pages": [{"page": number, "text": text} for number, text in pages],
        "first": pages[0][0] if pages else page or 1,
        "view": None if found.format == PDF else reader.open_part(found, number=page, chunk=chunk),
    }
    return render(request, "ingestion/_viewer.html", context)


@require_GET
@never_cache
def page(request: HttpRequest, document_id: int, number: int) -> HttpResponse:
    """A page of a PDF as it looks, drawn in a parser's child; `?chunk=` is marked on it."""
    found = get_object_or_404(
        Document.objects.readable_by(request.user), pk=document_id, format=PDF
    )
    chunk = Chunk.objects.defer("embedding").filter(document=found, pk=request.GET.get("chunk", ""))
    passage = dict(reader.pages_of(one)).get(number, "") if (one := chunk.first()) else ""
    given = ingestion_settings()
    context = {"document": found, "number": number}
    try:
        image = page_image(
            services.blob_path(found),
            format=Format.PDF,
            number=number,
            passage=passage,
            memory_bytes=given.parse_memory_bytes,
            workdir=given.data_dir,
        )
    except IngestionError as exc:
        context |= {"error": exc.sentence}
    else:
        context |= {"image": image, "is_unplaced": bool(passage) and not image.marks}
    return render(request, "ingestion/_page_image.html", context)
