"""What people do with a conversation they keep: pin it, take it along, let others read it."""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import content_disposition_header
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from chat import fragments, transcript
from chat.models import Conversation, Turn
from chat.panel import shown_count
from chat.render import render_markdown
from ingestion.models import Corpus

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.contrib.auth.models import AnonymousUser, User

    from chat.panel import Standing

_FONTS = settings.BASE_DIR / "static" / "vendor" / "pdfjs-6.5.438" / "standard_fonts"
_CONTENT = {
    "md": "text/markdown; charset=utf-8",
    "json": "application/json",
    "pdf": "application/pdf",
}
logger = logging.getLogger(__name__)


@require_POST
def pin(request: HttpRequest, conversation_id: int) -> HttpResponse:
    """Put a conversation above the days of the list, or back among them."""
    held = get_object_or_404(Conversation.objects.of(request.user), pk=conversation_id)
    pinned_at = timezone.now() if request.POST.get("pinned") == "1" else None
    Conversation.objects.filter(pk=held.pk).update(pinned_at=pinned_at)
    return redirect("chat:conversation", conversation_id=held.pk)


@require_POST
def share(request: HttpRequest, conversation_id: int) -> HttpResponse:
    """Make the link at which everybody signed in may read it; or take that back for good."""
    held = get_object_or_404(Conversation.objects.of(request.user), pk=conversation_id)
    others = Conversation.objects.filter(pk=held.pk)
    if request.POST.get("shared") == "1":
        others.filter(share_key=None).update(share_key=secrets.token_urlsafe(32))
    else:
        others.update(share_key=None)
        messages.success(request, "The link leads nowhere any more.")
    address = reverse("chat:conversation", args=[held.pk])
    return redirect(f"{address}#share-dialog")


@require_GET
@never_cache
def export(request: HttpRequest, conversation_id: int, kind: str) -> HttpResponse:
    """The branch that is shown as a file: "md", "json" or "pdf"."""
    held = get_object_or_404(Conversation.objects.of(request.user), pk=conversation_id)
    if kind not in _CONTENT:
        raise Http404
    turns = held.shown_turns()
    found = transcript.transcript(
        held,
        turns,
        corpora=_names(held, request.user),
        standing=fragments.standing_of_documents(turns, reader=request.user),
    )
    if kind == "pdf":
        from chat import transcript_pdf  # its fonts take a moment to load

        fonts = transcript_pdf.fonts_in(_FONTS, fallback=settings.EXPORT_FONT)
        try:
            content: bytes | str = transcript_pdf.to_pdf(found, fonts=fonts)
        except OSError as exc:
            logger.warning("no PDF of conversation %d: %s", held.pk, exc)
            messages.error(
                request,
                "The PDF could not be made, because a font cannot be read. Take the Markdown or "
                "the JSON, and tell the administrator to check EXPORT_FONT.",
            )
            return redirect("chat:conversation", conversation_id=held.pk)
    else:
        content = (transcript.to_json if kind == "json" else transcript.to_markdown)(found)
    name = transcript.file_name(str(held), kind)
    disposition = content_disposition_header(as_attachment=True, filename=name)
    return HttpResponse(
        content,
        content_type=_CONTENT[kind],
        headers={"Content-Disposition": disposition, "X-Content-Type-Options": "nosniff"},
    )


@require_GET
@never_cache
def turn_text(request: HttpRequest, turn_id: int) -> HttpResponse:
    """One answer as Markdown, to be copied; with its sources unless `?sources=0`."""
    turn = get_object_or_404(Turn, pk=turn_id, conversation__owner=request.user)
    standing = fragments.standing_of_documents([turn], reader=request.user)
    part = transcript.part(turn, standing=standing)
    text = part.answer if request.GET.get("sources") == "0" else transcript.part_to_markdown(part)
    return HttpResponse(text, content_type="text/plain; charset=utf-8")


@require_POST
def rate(request: HttpRequest, turn_id: int) -> HttpResponse:
    """Keep what the asker thinks of an answer; the same word again takes it back."""
    turn = get_object_or_404(Turn, pk=turn_id, conversation__owner=request.user)
    said = request.POST.get("rating", "")
    if said not in Turn.Rating.values:
        return HttpResponse("An answer is rated good or bad.", status=400)
    turn.rating = "" if turn.rating == said else said
    turn.save(update_fields=["rating"])
    if request.htmx:  # type: ignore[attr-defined]
        return render(request, "chat/_rate.html", {"turn": turn})
    return redirect("chat:conversation", conversation_id=turn.conversation_id)


@require_GET
@never_cache
def shared(request: HttpRequest, key: str) -> HttpResponse:
    """A conversation that its owner shares by a link, to be read only.

    Sources of corpora that the reader may not read are withheld.
    """
    readers = Conversation.objects.shared_at(key, reader=request.user)
    held = get_object_or_404(readers.select_related("owner"))
    turns = held.shown_turns()
    standing = fragments.standing_of_documents(turns, reader=request.user)
    context = {
        "shared": held,
        "parts": [_shared_part(turn, standing) for turn in turns],
        "names": _names(held, request.user),
    }
    return render(request, "chat/shared.html", context)


def _shared_part(turn: Turn, standing: Callable[[int], Standing]) -> dict[str, Any]:
    part = transcript.part(turn, standing=standing)
    count = shown_count(turn.sources)
    return {
        "turn": turn,
        "part": part,
        "answer": render_markdown(part.answer, sources=count, weak=turn.weak),
        "withheld": sum("withheld" in source for source in part.sources),
        "sources": [
            {**source, "line": transcript.source_line(source), "document_id": held["document_id"]}
            for source, held in zip(part.sources, turn.sources, strict=False)
        ],
    }


def _names(held: Conversation, reader: User | AnonymousUser) -> list[str]:
    """The corpora of a conversation that this person may read."""
    readable = Corpus.objects.readable_by(reader).filter(conversations=held)
    return list(readable.values_list("name", flat=True))
