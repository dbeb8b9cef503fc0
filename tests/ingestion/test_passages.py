"""Which ids become passages that a person may see."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.contrib.auth.models import User
from pytest_django import DjangoAssertNumQueries

from ingestion.models import Chunk, Corpus, Document, IndexGeneration
from ingestion.passages import resolve
from ingestion.types import Span
from tests.search.stand_ins import Library


@pytest.fixture
def library(db: None, tmp_path: Path) -> Library:
    return Library(tmp_path)


def test_a_passage_has_what_a_reader_needs(library: Library, corpus: Corpus) -> None:
    document = library.add(corpus, "alpha", "beta", name="guide.pdf", heading_path="Guide › Setup")

    passage = resolve(["p002"], corpora=[corpus])["p002"]

    assert passage.document_id == document.pk
    assert (passage.document, passage.title) == ("guide.pdf", "Guide")
    assert (passage.heading_path, passage.text) == ("Guide › Setup", "beta")
    assert (passage.page_from, passage.page_to, passage.corpus_id) == (2, 2, corpus.pk)
    assert passage.spans == (Span(0, 1, 5),)


def test_any_number_of_ids_takes_one_query(
    library: Library, corpus: Corpus, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    library.add(corpus, *(f"text {n}" for n in range(20)))
    asked = [f"p{n:03}" for n in range(1, 21)] + [f"unknown{n}" for n in range(3000)]

    with django_assert_num_queries(1):
        found = resolve(asked, corpora=[corpus])

    assert len(found) == 20


def test_only_the_asked_corpora_count(library: Library, corpus: Corpus, bob: User) -> None:
    other = Corpus.objects.create(name="Bob's", owner=bob)
    library.add(corpus, "mine")
    library.add(other, "his")

    assert set(resolve(["p001", "p002"], corpora=[corpus])) == {"p001"}
    assert set(resolve(["p001", "p002"], corpora=[corpus, other])) == {"p001", "p002"}
    assert resolve(["p001", "p002"], corpora=[]) == {}


@pytest.mark.parametrize("state", [s for s in Document.State if s != Document.State.READY])
def test_a_document_that_is_not_ready_is_not_shown(
    library: Library, corpus: Corpus, state: str
) -> None:
    library.add(corpus, "shown")
    library.add(corpus, "hidden", state=state)

    assert set(resolve(["p001", "p002"], corpora=[corpus])) == {"p001"}


def test_a_disabled_document_is_not_shown(library: Library, corpus: Corpus) -> None:
    library.add(corpus, "hidden", enabled=False)

    assert resolve(["p001"], corpora=[corpus]) == {}


@pytest.mark.parametrize("state", ["building", "old"])
def test_a_generation_that_is_not_live_is_not_shown(
    library: Library, corpus: Corpus, state: str
) -> None:
    library.add(corpus, "text")
    IndexGeneration.objects.update(state=state)

    assert resolve(["p001"], corpora=[corpus]) == {}


def test_a_chunk_that_sql_lost_is_not_shown(library: Library, corpus: Corpus) -> None:
    library.add(corpus, "text")
    Chunk.objects.all().delete()

    assert resolve(["p001"], corpora=[corpus]) == {}
