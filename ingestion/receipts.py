"""The receipts of deletions: opened when somebody deletes, filled in as each store is purged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from django.db import transaction
from django.utils import timezone

from ingestion.models import Corpus, Deletion, Document

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from ingestion.models import DocumentQuerySet

ROWS_AT_ONCE = 500


def open_for_documents(documents: DocumentQuerySet, *, person: User | None) -> None:
    """One receipt for each of these documents, which are about to be hidden."""
    rows = documents.select_related("corpus")
    Deletion.objects.bulk_create(
        [_receipt(document, person) for document in rows], batch_size=ROWS_AT_ONCE
    )


def open_for_corpus(corpus: Corpus, *, person: User | None) -> None:
    """One receipt for a corpus with all that is in it."""
    facts = list(corpus.documents.values_list("size_bytes", flat=True))
    Deletion.objects.create(
        name=corpus.name,
        size_bytes=sum(facts),
        documents=len(facts),
        corpus_id=corpus.pk,
        corpus_name=corpus.name,
        corpus_owner=corpus.owner,
        requested_by=person,
    )


def of_document(document: Document) -> Deletion:
    """The receipt of a document that is being purged."""
    found = Deletion.objects.filter(document_id=document.pk).first()
    if found is None:  # deleted before there were receipts, or with its corpus
        found = _receipt(document, None)
        found.save(force_insert=True)
    return found


def of_corpus(corpus: Corpus) -> Deletion | None:
    """The receipt of a corpus that is being purged."""
    return Deletion.objects.filter(document_id=None, corpus_id=corpus.pk).first()


def add(receipt: Deletion | None, **counts: int) -> None:
    """Note what was taken out of stores, on top of what an earlier try took out."""
    if receipt is None:
        return
    with transaction.atomic():
        row = Deletion.objects.select_for_update().get(pk=receipt.pk)
        for name, count in counts.items():
            row.removed[name] = row.removed.get(name, 0) + count
        row.save(update_fields=["removed"])
        receipt.removed = row.removed


def purged(receipt: Deletion | None) -> None:
    """Note that every store was read again and holds nothing of it."""
    if receipt is None:
        return
    Deletion.objects.filter(pk=receipt.pk, state=Deletion.State.HIDDEN).update(
        state=Deletion.State.PURGED, purged_at=timezone.now()
    )


def erased(receipts: Sequence[int], *, kept: Sequence[str]) -> None:
    """Note that the files hold nothing of these any more, save what `kept` says."""
    Deletion.objects.filter(pk__in=receipts, state=Deletion.State.PURGED).update(
        state=Deletion.State.ERASED, erased_at=timezone.now(), kept=list(kept)
    )


def _receipt(document: Document, person: User | None) -> Deletion:
    return Deletion(
        document_id=document.pk,
        name=document.name,
        sha256=document.sha256,
        size_bytes=document.size_bytes,
        corpus_id=document.corpus_id,
        corpus_name=document.corpus.name,
        corpus_owner_id=document.corpus.owner_id,
        requested_by=person,
    )
