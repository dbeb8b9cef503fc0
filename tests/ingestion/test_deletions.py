"""The receipts of deletions, as people read them."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from ingestion import receipts, services
from ingestion.models import Corpus, Deletion, Document

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("tmp_data")]


@pytest.fixture(autouse=True)
def _no_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingestion.nudges.nudge_waiting", lambda: 0)
    monkeypatch.setattr("ingestion.nudges.nudge_deleted_corpora", lambda: None)


@pytest.fixture
def document(corpus: Corpus) -> Document:
    return Document.objects.create(
        corpus=corpus, name="plan.pdf", size_bytes=2048, sha256="a" * 64, state="ready"
    )


def page(person: User) -> str:
    client = Client()
    client.force_login(person)
    return client.get(reverse("ingestion:deletions")).content.decode()


def test_a_receipt_is_there_as_soon_as_a_document_is_hidden(
    document: Document, alice: User
) -> None:
    documents = Document.objects.filter(pk=document.pk)

    assert services.request_deletion(documents=documents, person=alice) == 1
    assert services.request_deletion(documents=documents, person=alice) == 0

    receipt = Deletion.objects.get()
    assert (receipt.name, receipt.state, receipt.requested_by) == ("plan.pdf", "hidden", alice)
    shown = page(alice)
    assert "plan.pdf" in shown
    assert "Hidden, to be purged" in shown


def test_counts_of_several_tries_add_up_and_are_shown(document: Document, alice: User) -> None:
    services.request_deletion(documents=Document.objects.all(), person=alice)
    receipt = receipts.of_document(document)
    receipts.add(receipt, vectors=2, words=1)
    receipts.add(receipt, vectors=1, files=1, answers=0)
    receipts.purged(receipt)
    receipts.erased([receipt.pk], kept=["A sentence."])

    shown = page(alice)

    assert "1 file, 3 vectors, 1 keyword entry" in shown
    assert "Erased" in shown
    assert "A sentence." in shown


def test_a_corpus_has_one_receipt_for_all_that_is_in_it(
    document: Document, corpus: Corpus, alice: User
) -> None:
    services.delete_corpus(corpus=corpus, person=alice)
    services.delete_corpus(corpus=corpus, person=alice)

    receipt = Deletion.objects.get()
    assert (receipt.name, receipt.documents, receipt.document_id) == ("Papers", 1, None)
    assert "a corpus with 1 document" in page(alice)


def test_receipts_are_read_by_who_deleted_and_by_the_owner_alone(
    document: Document, alice: User, bob: User, admin: User
) -> None:
    services.request_deletion(documents=Document.objects.all(), person=admin)

    assert "plan.pdf" in page(alice)
    assert "plan.pdf" in page(admin)
    assert "plan.pdf" not in page(bob)
