"""What the chat page shows around its turns: scope and conversations by day."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from django.db.models import Count, F, Q
from django.utils import timezone

from chat.models import Conversation
from ingestion.forms import MAX_DOCUMENTS
from ingestion.models import Corpus, Document
from ingestion.types import DocumentFilter

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

CONVERSATIONS_LISTED = 100
DOCUMENTS_FOUND = 20
PINNED = "Pinned"


@dataclass(frozen=True, slots=True)
class CorpusChoice:
    """A corpus that can be asked. `waiting` counts the documents on their way to being ready."""

    id: int
    name: str
    ready: int
    waiting: int
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class Day:
    """Conversations whose last turn was on one day, or in one stretch of days."""

    title: str
    conversations: Sequence[Conversation]


def corpus_choices(
    person: User | AnonymousUser, *, chosen: Collection[int] | None
) -> list[CorpusChoice]:
    """The corpora this person may ask, by name.

    Args:
        person: who asks.
        chosen: ids in scope; None for "all that have something to search".
    """
    documents = Document.State
    ready = Q(documents__state=documents.READY, documents__enabled=True)
    stages = [s for s in Document.WORK_STATES if s != documents.DELETING]
    corpora = Corpus.objects.readable_by(person).annotate(
        ready=Count("documents", filter=ready),
        waiting=Count("documents", filter=Q(documents__state__in=stages)),
    )
    # An annotated query forgets the model's order.
    counted = corpora.order_by("name", "pk").values_list("pk", "name", "ready", "waiting")
    return [
        CorpusChoice(pk, name, ready, waiting, ready > 0 if chosen is None else pk in chosen)
        for pk, name, ready, waiting in counted
    ]


@dataclass(frozen=True, slots=True)
class FoundDocuments:
    """Documents to choose from, and how many more there are.

    names_corpora: whether they lie in several corpora, so that names alone may mislead.
    """

    documents: Sequence[Document]
    more: int
    names_corpora: bool


def found_documents(
    person: User | AnonymousUser, *, search: str, besides: Collection[int] = ()
) -> FoundDocuments:
    """Documents that this person may ask, the latest first.

    Args:
        person: who asks.
        search: words that name or title must have, each somewhere; empty for all.
        besides: ids of those that are chosen already.
    """
    found = Document.objects.readable_by(person).searchable().exclude(pk__in=besides)
    for word in search.split():
        found = found.filter(Q(name__icontains=word) | Q(title__icontains=word))
    latest = found.select_related("corpus").order_by("-created_at", "-pk")
    shown = list(latest[:DOCUMENTS_FOUND])
    return FoundDocuments(
        documents=shown,
        more=max(0, found.count() - DOCUMENTS_FOUND),
        names_corpora=len({document.corpus_id for document in shown}) > 1,
    )


def chosen_documents(person: User | AnonymousUser, keys: Sequence[int]) -> list[Document]:
    """Those of these documents that this person may ask, each in its newest version, by name."""
    if not keys:
        return []
    chosen = DocumentFilter(documents=tuple(keys))
    found = Document.objects.readable_by(person).passing(chosen).newest()
    return list(found.select_related("corpus").order_by("name", "pk")[:MAX_DOCUMENTS])


def last_scope(person: User | AnonymousUser) -> set[int] | None:
    """The corpora of this person's latest conversation that they may still ask, or None."""
    latest = Conversation.objects.of(person).first()
    if latest is None:
        return None
    readable = Corpus.objects.readable_by(person)
    return set(readable.filter(conversations=latest).values_list("pk", flat=True)) or None


def conversations_by_day(person: User | AnonymousUser, *, search: str = "") -> list[Day]:
    """This person's latest conversations, newest first, under the day of their last turn.

    Args:
        person: whose conversations.
        search: keep those with this text in the title, a question or an answer; empty keeps all.
    """
    found = Conversation.objects.of(person).order_by(
        F("pinned_at").desc(nulls_last=True), "-updated_at", "-pk"
    )
    if search:
        asked = (
            Q(title__icontains=search)
            | Q(turns__question__icontains=search)
            | Q(turns__answer__icontains=search)
        )
        found = found.filter(pk__in=Conversation.objects.filter(asked).values("pk"))
    return by_day(found[:CONVERSATIONS_LISTED], today=timezone.localdate())


def by_day(conversations: Iterable[Conversation], *, today: date) -> list[Day]:
    """Put conversations under Pinned, Today, Yesterday, Previous 7 days, and months."""
    days: dict[str, list[Conversation]] = defaultdict(list)
    for conversation in conversations:
        day = timezone.localdate(conversation.updated_at)
        title = PINNED if conversation.pinned_at else _day_title(day, today)
        days[title].append(conversation)
    return [Day(title, listed) for title, listed in days.items()]


def _day_title(day: date, today: date) -> str:
    if day >= today:
        return "Today"
    if day == today - timedelta(days=1):
        return "Yesterday"
    if day >= today - timedelta(days=7):
        return "Previous 7 days"
    return day.strftime("%B %Y")
