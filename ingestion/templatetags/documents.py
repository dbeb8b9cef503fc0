"""How states, sizes and ages of documents are put into words and icons."""

from __future__ import annotations

from datetime import datetime

from django import template
from django.utils import timezone

from ingestion.models import Document

register = template.Library()

State = Document.State
_TONES = {State.READY: "good", State.FAILED: "bad", State.QUARANTINED: "bad", State.RECEIVED: ""}
_ICONS = {
    State.READY: "check",
    State.FAILED: "close",
    State.QUARANTINED: "blocked",
    State.RECEIVED: "clock",
}
_KINDS = {
    "markdown": "Markdown",
    "rst": "reStructuredText",
    "text": "Text",
    "notebook": "Notebook",
    "eml": "E-mail",
    "msg": "Outlook message",
    "image": "Picture",
}
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


@register.filter
def tone(document: Document) -> str:
    """The colour family of the document's state: good, bad, busy, or none for waiting."""
    if document.state == State.READY and not document.enabled:
        return ""
    return _TONES.get(State(document.state), "busy")


@register.filter
def state_icon(document: Document) -> str:
    """The icon of the document's state; empty for work going on, which has a spinner."""
    if document.state == State.READY and not document.enabled:
        return "pause"
    return _ICONS.get(State(document.state), "")


@register.filter
def state_label(document: Document) -> str:
    """The state in words."""
    if document.state == State.READY and not document.enabled:
        return "Switched off"
    return str(document.get_state_display())


@register.filter
def age(since: datetime) -> str:
    """How long ago, in one unit: "8 s", "3 min", "2 h", "5 d"."""
    seconds = max(0, int((timezone.now() - since).total_seconds()))
    for length, unit in _UNITS:
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


@register.filter
def kind(document: Document) -> str:
    """The document's format as people write it."""
    return _KINDS.get(document.format, document.format.upper())
