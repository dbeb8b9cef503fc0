"""How much a corpus and a person may hold: bytes of uploaded files, and documents.

The site's limits are for every corpus and every person; a corpus and a person may have their own
in their place, set in the admin panel. What a person holds is what lies in the corpora they own,
whoever uploaded it. Documents being deleted do not count.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db.models import Count, Sum
from django.db.models.functions import Coalesce
from django.template.defaultfilters import filesizeformat

from ingestion.conf import quota_settings
from ingestion.errors import QuotaReached
from ingestion.models import Document, PersonQuota

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from ingestion.models import Corpus, DocumentQuerySet
    from ingestion.types import QuotaSettings

MB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Usage:
    """What is held of what may be held; None where there is no limit.

    whose: "This corpus", or "alice".
    """

    whose: str
    size_bytes: int
    documents: int
    max_bytes: int | None
    max_documents: int | None

    @property
    def sentence(self) -> str:
        """For people: how much of each limit is used."""
        parts = []
        if self.max_bytes is not None:
            used, most = filesizeformat(self.size_bytes), filesizeformat(self.max_bytes)
            parts.append(f"{used} of {most}")
        if self.max_documents is not None:
            parts.append(f"{self.documents} of {self.max_documents} documents")
        return f"{self.whose} holds {' and '.join(parts)}."


def usages(corpus: Corpus) -> list[Usage]:
    """How full a corpus and its owner are, as far as there are limits."""
    return list(_limited(corpus, quota_settings()))


def check(corpus: Corpus, *, size_bytes: int) -> None:
    """See that one more file of this size fits.

    Raises:
        QuotaReached: it does not, and the sentence says which limit and what to do.
    """
    for usage in _limited(corpus, quota_settings()):
        room = "Delete documents, or ask the administrator for more room."
        if usage.max_documents is not None and usage.documents + 1 > usage.max_documents:
            raise QuotaReached(f"{usage.whose} is full: {usage.sentence} {room}")
        if usage.max_bytes is not None and usage.size_bytes + size_bytes > usage.max_bytes:
            size = filesizeformat(size_bytes)
            raise QuotaReached(f"The file of {size} does not fit. {usage.sentence} {room}")


def _limited(corpus: Corpus, site: QuotaSettings) -> Iterator[Usage]:
    max_bytes = _bytes(corpus.quota_mb, site.corpus_mb)
    max_documents = _limit(corpus.quota_documents, site.corpus_documents)
    if max_bytes is not None or max_documents is not None:
        held = Document.objects.filter(corpus=corpus)
        yield _usage("This corpus", held, max_bytes, max_documents)
    own = PersonQuota.objects.filter(person=corpus.owner_id).first() or PersonQuota()
    max_bytes = _bytes(own.mb, site.person_mb)
    max_documents = _limit(own.documents, site.person_documents)
    if max_bytes is not None or max_documents is not None:
        owner: User = corpus.owner
        held = Document.objects.filter(corpus__owner=owner)
        yield _usage(owner.get_username(), held, max_bytes, max_documents)


def _limit(own: int | None, site: int) -> int | None:
    """The limit that counts; of the site's, 0 is none."""
    return own if own is not None else site or None


def _bytes(own: int | None, site: int) -> int | None:
    limit = _limit(own, site)
    return None if limit is None else limit * MB


def _usage(
    whose: str,
    documents: DocumentQuerySet,
    max_bytes: int | None,
    max_documents: int | None,
) -> Usage:
    held = documents.exclude(state=Document.State.DELETING).aggregate(
        size=Coalesce(Sum("size_bytes"), 0), count=Count("pk")
    )
    return Usage(whose, held["size"], held["count"], max_bytes, max_documents)
