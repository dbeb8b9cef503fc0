"""Taking a deleted document out of stored answers: its passages, its name, and quotes of it.

A turn keeps its trace and its sources, so that an answer can be read as it was given. When a
document is deleted, its passages in there become empty ones of no document; ranks and scores
stay. In an answer of quotes its quotes go, too. What a language model wrote is left as it is:
those are the model's words, and nobody can tell which of them came from where.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet, TextField
from django.db.models.functions import Cast
from django.utils import timezone

from chat.models import Turn
from ingestion.models import Document

NOBODY = 0
NAME = "Deleted document"
QUOTE = "> “This document has been deleted.”"
_NUMBER = re.compile(r"\[(\d+)\]\s*$")
# Older turns were complete when their documents went.
STRAY_DAYS = 2
EMPTY: Mapping[str, Any] = {
    "document_id": NOBODY,
    "document": NAME,
    "title": "",
    "heading_path": "",
    "page_from": None,
    "page_to": None,
    "text": "",
}


class StoredAnswers:
    """The passages that stored answers keep; an `ingestion.holders.Holder`."""

    name = "answers"

    def forget(self, document_id: int) -> int:
        """Empty every stored passage of the document. Returns in how many answers."""
        count = 0
        for pk in list(_turns_with(document_id).values_list("pk", flat=True)):
            with transaction.atomic():
                turn = Turn.objects.select_for_update().get(pk=pk)
                _forget(turn, document_id)
                turn.save(update_fields=["trace", "sources", "answer"])
            count += 1
        return count

    def holds(self, document_id: int) -> bool:
        """Whether any answer still names the document."""
        return _turns_with(document_id).exists()

    def strays(self) -> list[int]:
        """Documents that answers of the last days name and that do not exist any more."""
        since = timezone.now() - timedelta(days=STRAY_DAYS)
        recent = Turn.objects.filter(created_at__gte=since).order_by("pk")
        named: set[int] = set()
        for trace, sources in recent.values_list("trace", "sources").iterator(chunk_size=50):
            passages = (trace or {}).get("passages", {}).values()
            named |= {int(found["document_id"]) for found in (*passages, *sources)}
        named.discard(NOBODY)
        there = Document.objects.filter(pk__in=named).values_list("pk", flat=True)
        return sorted(named - set(there))


def _turns_with(document_id: int) -> QuerySet[Turn]:
    """Turns whose trace or sources name the document, found in the text of their JSON."""
    found = Q()
    for end in ",}":
        named = f'"document_id": {document_id}{end}'
        found |= Q(trace_text__contains=named) | Q(sources_text__contains=named)
    return Turn.objects.annotate(
        trace_text=Cast("trace", TextField()), sources_text=Cast("sources", TextField())
    ).filter(found)


def _forget(turn: Turn, document_id: int) -> None:
    gone = {source["rank"] for source in turn.sources if source["document_id"] == document_id}
    turn.sources = [
        {**source, **EMPTY, "sent": None} if source["rank"] in gone else source
        for source in turn.sources
    ]
    if turn.trace:
        turn.trace = _without(turn.trace, document_id)
    if not turn.model:
        turn.answer = _without_quotes(turn.answer, gone)


def _without(trace: dict[str, Any], document_id: int) -> dict[str, Any]:
    passages = trace["passages"]
    gone = {key for key, found in passages.items() if found["document_id"] == document_id}
    emptied = {**EMPTY, "spans": [], "corpus_id": NOBODY}
    return {
        **trace,
        "passages": {
            key: {**found, **emptied} if key in gone else found for key, found in passages.items()
        },
        "sent": {key: sent for key, sent in trace.get("sent", {}).items() if key not in gone},
    }


def _without_quotes(answer: str, gone: Collection[int]) -> str:
    """The answer with its quotes of these sources taken out."""
    lines = []
    for line in answer.splitlines():
        number = _NUMBER.search(line)
        if line.startswith(">") and number and int(number[1]) in gone:
            lines.append(f"{QUOTE} [{number[1]}]")
        else:
            lines.append(line)
    return "\n".join(lines)
