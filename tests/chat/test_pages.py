"""What the chat page shows around its turns."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from django.utils import timezone

from chat import pages, suggesting
from chat.models import Conversation, Turn
from ingestion.models import Chunk, Corpus, Document, IndexGeneration

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from pytest_django import DjangoAssertNumQueries

pytestmark = pytest.mark.django_db


def document(corpus: Corpus, name: str, *headings: str, state: str = "ready") -> Document:
    """A document whose chunks have these heading paths."""
    generation, _ = IndexGeneration.objects.get_or_create(
        corpus=corpus,
        state=IndexGeneration.State.LIVE,
        defaults={
            "embedding_model": "m",
            "embedding_revision": "r",
            "dimension": 3,
            "pipeline_version": "1",
        },
    )
    made = Document.objects.create(
        corpus=corpus, name=name, size_bytes=1, sha256=name.ljust(64, "0"), state=state
    )
    for ordinal, path in enumerate(headings):
        Chunk.objects.create(
            id=f"{made.pk}-{ordinal}",
            document=made,
            generation=generation,
            ordinal=ordinal,
            text="text",
            heading_path=path,
            tokens=1,
        )
    return made


def test_conversations_lie_under_the_day_of_their_last_turn(alice: User) -> None:
    today = date(2026, 3, 20)

    def conversation(days_ago: int) -> Conversation:
        day = today - timedelta(days=days_ago)
        noon = timezone.make_aware(datetime(day.year, day.month, day.day, 12))
        return Conversation(owner=alice, title=str(days_ago), updated_at=noon)

    days = pages.by_day([conversation(n) for n in (0, 0, 1, 2, 7, 8, 40)], today=today)

    assert [(d.title, [c.title for c in d.conversations]) for d in days] == [
        ("Today", ["0", "0"]),
        ("Yesterday", ["1"]),
        ("Previous 7 days", ["2", "7"]),
        ("March 2026", ["8"]),
        ("February 2026", ["40"]),
    ]


def test_a_search_finds_titles_and_questions_of_this_person_alone(alice: User, bob: User) -> None:
    titled = Conversation.objects.create(owner=alice, title="Rerankers")
    asked = Conversation.objects.create(owner=alice, title="Other")
    Turn.objects.create(conversation=asked, question="What is a RERANKER?")
    Turn.objects.create(conversation=asked, question="And which reranker is best?")
    Conversation.objects.create(owner=alice, title="Chunking")
    Conversation.objects.create(owner=bob, title="Bob's rerankers")

    days = pages.conversations_by_day(alice, search="reranker")

    assert [c for day in days for c in day.conversations] == [asked, titled]


def test_the_scope_offers_what_may_be_read_and_counts_what_is_ready(
    alice: User, bob: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    full = Corpus.objects.create(owner=alice, name="Full")
    Corpus.objects.create(owner=alice, name="Empty")
    Corpus.objects.create(owner=bob, name="Bob's")
    document(full, "a.md")
    document(full, "b.md", state="embedding")
    document(full, "c.md", state="failed")

    with django_assert_num_queries(1):
        choices = pages.corpus_choices(alice, chosen=None)

    assert [(c.name, c.ready, c.waiting, c.is_chosen) for c in choices] == [
        ("Empty", 0, 0, False),
        ("Full", 1, 1, True),
    ]


def test_a_new_chat_takes_over_the_last_scope_as_far_as_it_may_still_be_read(
    alice: User, bob: User
) -> None:
    assert pages.last_scope(alice) is None
    mine = Corpus.objects.create(owner=alice, name="Mine")
    opened = Corpus.objects.create(owner=bob, name="Opened", visibility="open")
    Conversation.objects.create(owner=alice).corpora.set([mine, opened])

    assert pages.last_scope(alice) == {mine.pk, opened.pk}
    Corpus.objects.filter(pk=opened.pk).update(visibility="private")
    assert pages.last_scope(alice) == {mine.pk}


def test_first_questions_come_from_the_middle_of_each_document_in_turn(
    corpus: Corpus, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    document(corpus, "plain.txt", "", "")
    headings = ("Guide", "Guide › Preface", "Guide › Why fuse?", "Guide › Ranks", "Guide › Licence")
    document(corpus, "guide.pdf", *headings)
    document(corpus, "wait.pdf", "Never", state="embedding")

    with django_assert_num_queries(2):
        questions = suggesting.first_questions([corpus.pk])

    assert questions == [
        "Why fuse?",
        "What is “plain.txt” about?",
        "What does “guide.pdf” say about “Ranks”?",
        "What does “guide.pdf” say about “Licence”?",
    ]
