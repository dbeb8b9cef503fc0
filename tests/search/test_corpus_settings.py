"""Settings of a corpus: what is in force, where it comes from, and how it is inherited again."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from pytest_django.fixtures import Settings

from ingestion.audit import AuditEntry
from ingestion.models import Corpus
from search.conf import retrieval_settings
from search.types import Fusion

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("tmp_data")]
EMPTY = dict.fromkeys(("bm25_k", "dense_k", "fusion", "rrf_k", "bm25_weight", "pool"), "")
EMPTY |= dict.fromkeys(("top_n", "rerank", "threshold"), "")


@pytest.fixture
def page(client: Client, alice: User, corpus: Corpus) -> str:
    """The address, with alice signed in."""
    client.force_login(alice)
    return reverse("search:settings", args=[corpus.pk])


def row(content: str, label: str) -> str:
    """The text of one row."""
    cells = next(part for part in content.split("<tr>") if f"<strong>{label}</strong>" in part)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", cells.partition("</tr>")[0]))


def test_what_a_corpus_sets_counts_and_the_rest_is_inherited(
    client: Client, corpus: Corpus, page: str
) -> None:
    client.post(page, {**EMPTY, "pool": "40", "fusion": "weighted", "threshold": "0.3"})

    corpus.refresh_from_db()
    assert corpus.retrieval == {"pool": 40, "fusion": "weighted", "threshold": 0.3}
    now = retrieval_settings([corpus])
    assert (now.pool, now.fusion, now.threshold, now.top_n) == (40, Fusion.WEIGHTED, 0.3, 10)
    content = client.get(page).content.decode()
    assert "40 this corpus inherited would be 100" in row(content, "Pool")
    assert "10 the product&#x27;s default" in row(content, "Top n")
    assert AuditEntry.objects.filter(action="corpus_changed").count() == 1


def test_one_setting_or_all_are_inherited_again(client: Client, corpus: Corpus, page: str) -> None:
    Corpus.objects.filter(pk=corpus.pk).update(retrieval={"pool": 40, "top_n": 5, "rrf_k": 9})

    client.post(page, {"inherit": "pool"})
    corpus.refresh_from_db()
    assert corpus.retrieval == {"top_n": 5, "rrf_k": 9}

    client.post(page, {"inherit": "all"})
    corpus.refresh_from_db()
    assert corpus.retrieval == {}


def test_what_equals_the_inherited_value_is_not_kept_as_its_own(
    client: Client, corpus: Corpus, page: str
) -> None:
    client.post(page, {**EMPTY, "pool": "100", "rerank": "1", "fusion": "rrf"})

    corpus.refresh_from_db()
    assert corpus.retrieval == {}


def test_the_reranker_is_switched_off_for_a_corpus(
    client: Client, corpus: Corpus, page: str
) -> None:
    client.post(page, {**EMPTY, "rerank": "0"})

    corpus.refresh_from_db()
    assert corpus.retrieval == {"rerank": False}
    assert not retrieval_settings([corpus]).rerank
    assert '<option value="0" selected>' in client.get(page).content.decode()


def test_a_value_out_of_range_is_refused_and_nothing_is_lost(
    client: Client, corpus: Corpus, page: str
) -> None:
    Corpus.objects.filter(pk=corpus.pk).update(retrieval={"top_n": 5})

    response = client.post(page, {**EMPTY, "top_n": "5", "pool": "0", "bm25_k": "0"})
    silent = client.post(page, {**EMPTY, "bm25_k": "0", "dense_k": "0"})

    assert (response.status_code, silent.status_code) == (422, 422)
    assert "greater than or equal to 1" in response.content.decode()
    assert "With both k at 0 nothing is searched" in silent.content.decode()
    corpus.refresh_from_db()
    assert corpus.retrieval == {"top_n": 5}


def test_the_variable_that_a_setting_comes_from_is_named(
    client: Client, corpus: Corpus, page: str, settings: Settings
) -> None:
    settings.RERANK_BUDGET_MS = 900
    settings.CHUNK_MAX_TOKENS = 200
    Corpus.objects.filter(pk=corpus.pk).update(chunk_overlap_tokens=8, quota_documents=3)

    content = client.get(page).content.decode()

    assert "900 ms the site (RERANK_BUDGET_MS)" in row(content, "Time for reranking")
    assert "200 tokens the site (CHUNK_MAX_TOKENS)" in row(content, "Size of a passage")
    assert "8 tokens this corpus inherited would be 32 tokens" in row(content, "Overlap")
    assert "3 this corpus inherited would be no limit" in row(content, "Most documents")
    assert "no limit the site (QUOTA_CORPUS_MB)" in row(content, "Most MB of files")
