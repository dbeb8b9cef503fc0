"""Taking a question: what is stored, and what is refused with nothing stored."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.contrib.auth.models import AnonymousUser
from django.utils import timezone

from chat import services
from chat.errors import QuestionRefused
from chat.models import Conversation, Turn
from ingestion.models import Corpus

if TYPE_CHECKING:
    from django.contrib.auth.models import User

pytestmark = pytest.mark.django_db


def test_a_first_question_begins_a_conversation_and_names_it(alice: User, corpus: Corpus) -> None:
    turn = services.ask(person=alice, question="  What is RRF?\n", corpora=[corpus])

    assert turn.state == Turn.State.PENDING
    assert turn.question == "What is RRF?"
    assert turn.conversation.title == "What is RRF?"
    assert turn.conversation.owner == alice
    assert list(turn.conversation.corpora.all()) == [corpus]


def test_a_further_question_goes_on_with_it_in_the_new_scope(alice: User, corpus: Corpus) -> None:
    first = services.ask(person=alice, question="What is RRF?", corpora=[corpus])
    Conversation.objects.update(updated_at=timezone.now() - timedelta(days=1))
    other = Corpus.objects.create(name="Other", owner=alice)
    second = services.ask(
        person=alice, question="Why 60?", corpora=[other], conversation=first.conversation
    )

    conversation = Conversation.objects.get()
    assert second.conversation_id == conversation.pk
    assert conversation.title == "What is RRF?"
    assert list(conversation.corpora.all()) == [other]
    assert timezone.now() - conversation.updated_at < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("question", "says"),
    [
        ("", "is empty"),
        (" \n\t\x00", "is empty"),
        ("x" * 10_001, "10,001 characters; at most 10,000"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused_with_a_sentence(
    alice: User, corpus: Corpus, question: str, says: str
) -> None:
    with pytest.raises(QuestionRefused) as refused:
        services.ask(person=alice, question=question, corpora=[corpus])

    assert says in refused.value.sentence
    assert not Conversation.objects.exists()


def test_ten_thousand_characters_can_be_asked(alice: User, corpus: Corpus) -> None:
    assert services.ask(person=alice, question="x" * 10_000, corpora=[corpus]).pk


def test_what_a_person_may_not_read_cannot_be_asked(bob: User, corpus: Corpus) -> None:
    own = Corpus.objects.create(name="Own", owner=bob)
    for corpora in ([corpus], [own, corpus], []):
        with pytest.raises(QuestionRefused):
            services.ask(person=bob, question="What?", corpora=corpora)
    with pytest.raises(QuestionRefused):
        services.ask(person=AnonymousUser(), question="What?", corpora=[corpus])
    assert not Conversation.objects.exists()


def test_a_conversation_of_somebody_else_cannot_be_gone_on_with(
    alice: User, bob: User, corpus: Corpus
) -> None:
    held = services.ask(person=alice, question="What?", corpora=[corpus]).conversation
    own = Corpus.objects.create(name="Own", owner=bob)
    with pytest.raises(QuestionRefused):
        services.ask(person=bob, question="What?", corpora=[own], conversation=held)
    assert list(held.corpora.all()) == [corpus]


@pytest.mark.parametrize(
    ("question", "title"),
    [
        ("Short?", "Short?"),
        ("Two\n  lines?", "Two lines?"),
        ("word " * 40, "word " * 15 + "word…"),
        ("x" * 100, "x" * 79 + "…"),
    ],
)
def test_a_title_is_the_question_cut_between_words(question: str, title: str) -> None:
    assert services.title(question) == title
    assert len(title) <= 80
