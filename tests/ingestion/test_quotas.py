"""Limits of corpora and people: what counts, what does not, and what is said."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from ingestion import services
from ingestion.errors import QuotaReached
from ingestion.models import Corpus, Document, PersonQuota

if TYPE_CHECKING:
    from pytest_django.fixtures import Settings

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("tmp_data")]


def take(corpus: Corpus, text: str) -> Document:
    content = BytesIO(text.encode())
    return services.receive(corpus=corpus, person=corpus.owner, name="a.txt", content=content)


def test_a_corpus_takes_as_many_documents_as_it_may(corpus: Corpus, settings: Settings) -> None:
    settings.QUOTA_CORPUS_DOCUMENTS = 2
    take(corpus, "one")
    going = take(corpus, "two")

    with pytest.raises(QuotaReached, match="This corpus is full: This corpus holds 2 of 2 doc"):
        take(corpus, "three")
    assert Document.objects.count() == 2

    services.request_deletion(documents=Document.objects.filter(pk=going.pk))
    take(corpus, "three")


def test_bytes_count_to_the_last(corpus: Corpus, settings: Settings) -> None:
    settings.QUOTA_CORPUS_MB = 1
    take(corpus, "x " * (512 * 1024 - 2))

    with pytest.raises(QuotaReached, match="does not fit"):
        take(corpus, "12345")
    take(corpus, "1234")


def test_a_persons_limit_counts_all_their_corpora(
    corpus: Corpus, alice: User, settings: Settings
) -> None:
    settings.QUOTA_PERSON_DOCUMENTS = 2
    other = Corpus.objects.create(owner=alice, name="Other")
    take(corpus, "one")
    take(other, "two")

    with pytest.raises(QuotaReached, match="alice is full"):
        take(other, "three")


def test_own_limits_take_the_place_of_the_sites(
    corpus: Corpus, alice: User, settings: Settings
) -> None:
    settings.QUOTA_CORPUS_DOCUMENTS = settings.QUOTA_PERSON_DOCUMENTS = 1
    Corpus.objects.filter(pk=corpus.pk).update(quota_documents=3)
    corpus.refresh_from_db()
    PersonQuota.objects.create(person=alice, documents=2)
    take(corpus, "one")
    take(corpus, "two")

    with pytest.raises(QuotaReached, match="alice is full"):
        take(corpus, "three")


def test_the_page_says_how_full_it_is_and_an_upload_what_to_do(
    client: Client, corpus: Corpus, alice: User, settings: Settings
) -> None:
    settings.QUOTA_CORPUS_DOCUMENTS = 1
    take(corpus, "one")
    client.force_login(alice)

    page = client.get(reverse("ingestion:corpus", args=[corpus.pk])).content.decode()
    answer = client.post(
        reverse("ingestion:upload", args=[corpus.pk]),
        {"file": SimpleUploadedFile("b.txt", b"another")},
        headers={"Accept": "application/json"},
    )

    assert "This corpus holds 1 of 1 documents." in page
    assert answer.status_code == 413
    assert answer.json()["code"] == "quota"
    assert "ask the administrator for more room" in answer.json()["error"]
    assert list((settings.DATA_DIR / "blobs").rglob("*")) != []
    assert Document.objects.count() == 1


def test_without_limits_nothing_is_counted(
    corpus: Corpus, django_assert_num_queries: object
) -> None:
    from ingestion import quotas

    assert quotas.usages(corpus) == []
