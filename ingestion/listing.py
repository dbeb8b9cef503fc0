"""What the pages list: corpora with their counts, and a corpus's documents, filtered.

Each list costs a fixed number of queries, however long it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.core.paginator import Page, Paginator
from django.db.models import Count, Exists, OuterRef, Q, Sum
from django.db.models.functions import Coalesce

from ingestion import labels
from ingestion.models import Corpus, CorpusImport, CorpusQuerySet, Document, DocumentQuerySet, Share

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

PAGE_SIZE = 50
State = Document.State
FAILED = (State.FAILED, State.QUARANTINED)
WORKING = tuple(state for state in Document.WORK_STATES if state != State.DELETING)
FILTERS = {
    "": ("All", Q()),
    "ready": ("Ready", Q(state=State.READY, enabled=True)),
    "working": ("In progress", Q(state__in=WORKING)),
    "failed": ("Failed", Q(state__in=FAILED)),
    "off": ("Switched off", Q(enabled=False)),
}


def corpora_of(person: User | AnonymousUser) -> CorpusQuerySet:
    """The corpora this person may read, each with `is_shared` and counts of its documents.

    Replaced versions do not count, as they are not in a corpus's own list.
    """
    later = Document.objects.filter(
        lineage=OuterRef("documents__lineage"),
        version__gt=OuterRef("documents__version"),
        state=State.READY,
    )
    newest = Q(~Exists(later.exclude(lineage="")))
    shown = Q(documents__state__in=[s for s in State if s != State.DELETING]) & newest
    return (
        Corpus.objects.readable_by(person)
        .select_related("owner")
        .annotate(
            is_shared=Exists(Share.objects.filter(corpus=OuterRef("pk"))),
            total=Count("documents", filter=shown),
            ready=Count("documents", filter=Q(documents__state=State.READY) & newest),
            working=Count("documents", filter=Q(documents__state__in=WORKING) & newest),
            failed=Count("documents", filter=Q(documents__state__in=FAILED) & newest),
            passages=Coalesce(
                Sum("documents__chunk_count", filter=Q(documents__state=State.READY) & newest), 0
            ),
        )
    )


def imports_context(person: User | AnonymousUser) -> dict[str, Any]:
    """This person's imports, and whether one of them is under way."""
    found = list(CorpusImport.objects.shown_to(person).select_related("corpus"))
    return {"imports": found, "is_importing": not all(row.is_finished for row in found)}


@dataclass(frozen=True, slots=True)
class Summary:
    """Documents of a corpus by how they fare."""

    total: int
    ready: int
    working: int
    failed: int
    off: int
    passages: int

    def count(self, name: str) -> int:
        """The number of documents that the filter of this name shows."""
        return self.total if not name else int(getattr(self, name))


def summarise(corpus: Corpus) -> Summary:
    """Count a corpus's documents in one query."""
    listed = Document.objects.filter(corpus=corpus).exclude(state=State.DELETING).newest()
    counts = listed.aggregate(
        total=Count("pk"),
        ready=Count("pk", filter=FILTERS["ready"][1]),
        working=Count("pk", filter=FILTERS["working"][1]),
        failed=Count("pk", filter=FILTERS["failed"][1]),
        off=Count("pk", filter=FILTERS["off"][1]),
        passages=Coalesce(Sum("chunk_count", filter=Q(state=State.READY)), 0),
    )
    return Summary(**counts)


@dataclass(frozen=True, slots=True)
class Filter:
    """What of a corpus's documents is to be listed, as the address says it."""

    state: str = ""
    name: str = ""
    page: int = 1
    label: tuple[str, str] | None = None

    @classmethod
    def read(cls, values: dict[str, str]) -> Filter:
        """Take what is sensible of a query string, and the defaults for the rest."""
        state, page = values.get("state", ""), values.get("page", "")
        return cls(
            state=state if state in FILTERS else "",
            name=values.get("q", "").strip()[:200],
            page=int(page) if page.isdecimal() and len(page) < 7 else 1,
            label=labels.read_one(values.get("label", "")),
        )

    @property
    def label_key(self) -> str:
        """The label as the address says it; empty for none."""
        return labels.key(self.label) if self.label else ""

    @property
    def query(self) -> str:
        """This filter as a query string, with its question mark; empty when it is the default."""
        values = {
            "state": self.state,
            "q": self.name,
            "label": self.label_key,
            "page": self.page if self.page > 1 else "",
        }
        pairs = {name: value for name, value in values.items() if value}
        return f"?{urlencode(pairs)}" if pairs else ""

    def apply(self, documents: DocumentQuerySet) -> Page[Document]:
        """The page of documents, newest first; the nearest page there is."""
        found = documents.exclude(state=State.DELETING).filter(FILTERS[self.state][1]).newest()
        found = found.prefetch_related("labels")
        if self.label:
            found = found.labelled([self.label])
        if self.name:
            found = found.filter(Q(name__icontains=self.name) | Q(title__icontains=self.name))
        return Paginator(found, PAGE_SIZE).get_page(self.page)
