"""Tags and metadata as people type them and as addresses carry them.

A label is a (name, value) pair. A tag has the name `tag`; every other name is a field of metadata.
In an address and in a form it is `name=value`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from django.db.models import Count

from ingestion.errors import InvalidLabel
from ingestion.models import Corpus, Document, DocumentLabel

TAG = DocumentLabel.TAG
MAX_NAME = 60
MAX_VALUE = 200
MAX_LABELS = 50
# A page offers so many, those of most documents first.
MAX_CHOICES = 60

Label = tuple[str, str]


def key(label: Label) -> str:
    """The label as one string."""
    return f"{label[0]}={label[1]}"


def in_words(label: Label) -> str:
    """The label as pages show it."""
    name, value = label
    return value if name == TAG else f"{name}: {value}"


def read_one(text: str) -> Label | None:
    """The label of such a string; None if it is none."""
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not name or not value or len(name) > MAX_NAME or len(value) > MAX_VALUE:
        return None
    return name, value


def read_all(texts: Iterable[str]) -> tuple[Label, ...]:
    """The labels of such strings; what is none is left out, repeats too."""
    return tuple(dict.fromkeys(found for text in texts if (found := read_one(text))))


def from_text(*, tags: str, metadata: str) -> list[Label]:
    """Labels as people type them: tags separated by commas, one `name: value` a line.

    Raises:
        InvalidLabel: a line without a colon, an overlong name or value, too many.
    """
    found: list[Label] = [(TAG, tag.strip()) for tag in tags.replace("\n", ",").split(",")]
    for line in filter(str.strip, metadata.splitlines()):
        name, colon, value = (part.strip() for part in line.partition(":"))
        if not colon or not name or not value:
            raise InvalidLabel(f"Write metadata as “name: value”, one a line, unlike “{line}”.")
        if "=" in name or name.casefold() == TAG:
            raise InvalidLabel(f"“{name}” cannot be the name of a field. Choose another.")
        found.append((name, value))
    found = [label for label in dict.fromkeys(found) if label[1]]
    if any(len(name) > MAX_NAME or len(value) > MAX_VALUE for name, value in found):
        raise InvalidLabel(f"Names have at most {MAX_NAME}, values {MAX_VALUE} characters.")
    if len(found) > MAX_LABELS:
        raise InvalidLabel(f"A document carries at most {MAX_LABELS} tags and fields.")
    return found


@dataclass(frozen=True, slots=True)
class Choice:
    """A label that documents carry, for a filter."""

    key: str
    text: str
    documents: int
    is_chosen: bool


def choices(corpora: Iterable[Corpus], *, chosen: Collection[Label] = ()) -> list[Choice]:
    """The labels of the documents of these corpora, and those chosen, by name and value."""
    documents = Document.objects.exclude(state=Document.State.DELETING).newest()
    rows = (
        DocumentLabel.objects.filter(document__in=documents.filter(corpus__in=corpora))
        .order_by()
        .values_list("name", "value")
        .annotate(count=Count("document"))
        .order_by("-count", "name", "value")[:MAX_CHOICES]
    )
    counts: dict[Label, int] = {(name, value): count for name, value, count in rows}
    listed = {**dict.fromkeys(chosen, 0), **counts}
    found = [Choice(key(one), in_words(one), n, one in chosen) for one, n in listed.items()]
    return sorted(found, key=lambda choice: choice.text.casefold())
