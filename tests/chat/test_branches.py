"""The tree of turns: which way is shown, what is kept, and what the model is told of it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import pytest
from django.apps import apps
from django.urls import reverse

from chat import services
from chat.branches import Place, newest_leaf, way
from chat.errors import QuestionRefused
from chat.models import Conversation, Turn
from chat.types import GenerationSettings, TurnOptions
from ingestion.models import Corpus
from tests.chat.engine import QUESTION, answered, asked, engine
from tests.chat.test_views import as_person
from tests.ollama_server import OllamaServer

if TYPE_CHECKING:
    from django.contrib.auth.models import User

# 1 ── 2 ── 3
# └─── 4 ── 5
#      └─── 7
# 6 (the first question in other words)
PARENTS = {1: None, 2: 1, 3: 2, 4: 1, 5: 4, 6: None, 7: 4}


def test_the_way_goes_from_the_first_question_to_the_leaf() -> None:
    shown = way(PARENTS, 5)

    assert shown == [Place(1, (1, 6)), Place(4, (2, 4)), Place(5, (5, 7))]
    assert [(place.number, place.previous, place.next) for place in shown] == [
        (1, None, 6),
        (2, 2, None),
        (1, None, 7),
    ]


def test_without_a_leaf_the_way_ends_at_the_newest_turn() -> None:
    assert [place.turn_id for place in way(PARENTS, None)] == [1, 4, 7]
    assert [place.turn_id for place in way(PARENTS, 99)] == [1, 4, 7]
    assert way({}, None) == []


def test_a_chosen_turn_is_shown_with_what_was_asked_last_below_it() -> None:
    assert newest_leaf(PARENTS, 1) == 7
    assert newest_leaf(PARENTS, 2) == 3
    assert newest_leaf(PARENTS, 6) == 6


def test_an_edited_question_is_a_sibling_and_everything_is_kept(corpus: Corpus, db: None) -> None:
    first = asked(corpus)
    second = asked(corpus, "Why 60?", conversation=first.conversation)
    third = asked(corpus, "And 10?", conversation=first.conversation)
    edited = services.ask_again(second, question="Why k?", options=TurnOptions(top_n=3))

    conversation = Conversation.objects.get()
    assert [p.turn_id for p in conversation.way()] == [
        first.pk,
        edited.pk,
    ]
    assert edited.options == {"top_n": 3}
    assert (second.parent_id, third.parent_id, edited.parent_id) == (
        first.pk,
        second.pk,
        first.pk,
    )

    services.show_branch(second)
    conversation.refresh_from_db()
    assert conversation.leaf_id == third.pk
    assert conversation.shown_turns() == [first, second, third]
    assert Turn.objects.count() == 4


def test_a_question_goes_on_from_the_turn_that_its_page_shows(corpus: Corpus, db: None) -> None:
    first = asked(corpus)
    conversation = first.conversation
    asked(corpus, "Elsewhere", conversation=conversation)
    here = services.ask(
        person=corpus.owner,
        question="Here",
        corpora=[corpus],
        conversation=conversation,
        follows=first.pk,
    )
    assert here.parent_id == first.pk

    strange = asked(corpus, "Another conversation")
    with pytest.raises(QuestionRefused, match="changed meanwhile"):
        services.ask(
            person=corpus.owner,
            question="There",
            corpora=[corpus],
            conversation=conversation,
            follows=strange.pk,
        )


@pytest.mark.django_db(transaction=True)
def test_the_model_is_told_the_branch_and_nothing_of_the_others(
    corpus: Corpus, ollama: OllamaServer, generation: GenerationSettings
) -> None:
    first = asked(corpus)
    answered(first, engine(generation))
    dropped = asked(corpus, "Dropped?", conversation=first.conversation)
    answered(dropped, engine(generation))
    below = asked(corpus, "Below the dropped one?", conversation=first.conversation)
    answered(below, engine(generation))
    edited = services.ask_again(dropped, question="Edited?", options=TurnOptions())
    answered(edited, engine(generation))

    told = [m["content"] for m in ollama.answers[-1].body["messages"] if m["role"] == "user"]
    assert told[0] == QUESTION
    assert len(told) == 2
    assert not any("ropped" in text for text in told)


@pytest.mark.django_db(transaction=True)
def test_the_page_shows_one_branch_with_its_counter_and_switches(
    corpus: Corpus, alice: User
) -> None:
    first = asked(corpus, "First words")
    edited = services.ask_again(first, question="Second words", options=TurnOptions(rerank=False))
    Turn.objects.update(state=Turn.State.DONE, answer="That.")
    client = as_person(alice)
    address = reverse("chat:conversation", args=[first.conversation_id])

    page = client.get(address).content.decode()
    assert "Second words</h2>" in page
    assert "First words</h2>" not in page
    assert "2/2" in page
    assert "Asked again with: without the reranker" in page

    answer = client.post(reverse("chat:show", args=[first.pk]))
    assert answer.headers["Location"] == f"{address}#turn-{first.pk}"
    page = client.get(address).content.decode()
    assert "First words</h2>" in page
    assert "1/2" in page
    assert f'formaction="{reverse("chat:show", args=[edited.pk])}"' in page


@pytest.mark.django_db(transaction=True)
def test_knobs_out_of_range_are_refused_and_nothing_is_stored(corpus: Corpus, alice: User) -> None:
    turn = asked(corpus)
    client = as_person(alice)
    answer = client.post(reverse("chat:again", args=[turn.pk]), {"top_n": "0"}, follow=True)

    assert "a number from 1 to 50" in answer.content.decode()
    assert Turn.objects.count() == 1


def test_turns_of_before_become_one_branch(corpus: Corpus, db: None) -> None:
    turns = [asked(corpus, "One")]
    turns += [asked(corpus, text, conversation=turns[0].conversation) for text in ("Two", "Three")]
    Turn.objects.update(parent=None)
    Conversation.objects.update(leaf=None)
    importlib.import_module("chat.migrations.0006_one_branch_of_old_turns").chain(apps, None)

    conversation = Conversation.objects.get()
    assert [p.turn_id for p in conversation.way()] == [turn.pk for turn in turns]


def test_options_of_a_turn_survive_being_stored() -> None:
    options = TurnOptions(model="other:8b", rerank=False)

    assert TurnOptions.from_json(options.to_json()) == options
    assert options.retrieval == {"rerank": False}
