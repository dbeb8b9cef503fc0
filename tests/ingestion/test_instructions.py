"""What a corpus asks of the language model, in its settings."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from chat.answering import _instructions
from ingestion.models import MAX_INSTRUCTIONS, Corpus

pytestmark = pytest.mark.django_db


def test_instructions_are_set_kept_and_limited(alice: User, corpus: Corpus) -> None:
    client = Client()
    client.force_login(alice)
    address = reverse("ingestion:edit_corpus", args=[corpus.pk])
    form = {"name": corpus.name, "visibility": "private"}

    client.post(address, {**form, "instructions": " Be formal.\n"})
    corpus.refresh_from_db()
    assert corpus.instructions == "Be formal."

    client.post(address, form)  # a form that does not ask leaves them
    too_long = client.post(address, {**form, "instructions": "x" * (MAX_INSTRUCTIONS + 1)})
    assert "at most 2000 characters" in too_long.content.decode()
    corpus.refresh_from_db()
    assert corpus.instructions == "Be formal."

    client.post(address, {**form, "instructions": ""})
    corpus.refresh_from_db()
    assert corpus.instructions == ""


def test_instructions_of_several_corpora_say_whose_they_are(alice: User, corpus: Corpus) -> None:
    corpus.instructions = "Be formal."
    other = Corpus(owner=alice, name="Law")

    assert _instructions([corpus]) == "Be formal."
    assert _instructions([corpus, other]) == f"For what is from “{corpus.name}”: Be formal."
    assert _instructions([other]) == ""
