"""Conversations of thousands of turns: the last ones on the page, the others on demand."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from chat.models import Conversation, Turn
from chat.views import TURNS_SHOWN

pytestmark = pytest.mark.django_db

COUNT = 2_000


@pytest.fixture
def held(alice: User) -> Conversation:
    """A conversation of 2,000 turns, each after the one before."""
    made = Conversation.objects.create(owner=alice, title="Long")
    first = (Turn.objects.order_by("-pk").values_list("pk", flat=True).first() or 0) + 1
    Turn.objects.bulk_create(
        Turn(
            pk=first + n,
            conversation=made,
            parent_id=first + n - 1 if n else None,
            question=f"Question {n}",
            answer=f"Answer {n}.",
            state=Turn.State.DONE,
        )
        for n in range(COUNT)
    )
    return made


def turns_of(page: str) -> list[int]:
    return [int(found) for found in re.findall(r'data-turn="(\d+)"', page)]


def test_a_long_conversation_opens_with_its_last_turns_and_leads_to_the_first(
    alice: User, held: Conversation, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    client = Client()
    client.force_login(alice)
    ids = sorted(held.turns.values_list("pk", flat=True))
    with django_assert_max_num_queries(40):
        page = client.get(reverse("chat:conversation", args=[held.pk])).content.decode()
    seen = turns_of(page)
    assert seen == ids[-TURNS_SHOWN:]

    while found := re.search(r'hx-get="([^"]+/earlier/\?before=\d+)"', page):
        with django_assert_max_num_queries(12):
            page = client.get(found[1]).content.decode()
        seen = turns_of(page) + seen
    assert seen == ids


def test_a_turn_far_up_is_on_the_page_that_names_it(alice: User, held: Conversation) -> None:
    client = Client()
    client.force_login(alice)
    turn = held.turns.order_by("pk")[1_900]

    answer = client.post(reverse("chat:show", args=[turn.pk]), follow=True)

    assert turns_of(answer.content.decode())[0] == turn.pk


def test_a_question_of_a_long_conversation_is_asked_again(alice: User, held: Conversation) -> None:
    client = Client()
    client.force_login(alice)
    turn = held.turns.order_by("pk")[1_500]

    answer = client.post(reverse("chat:again", args=[turn.pk]), {"top_n": "0"})

    assert answer["Location"].endswith(f"?at={turn.pk}#turn-{turn.pk}")
