"""`--corpus` and `--as`."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.core.management.base import CommandError, CommandParser

from ingestion.command_options import add_person_and_corpus, person, readable_corpus
from ingestion.models import Corpus


def options(*arguments: str) -> dict[str, object]:
    parser = CommandParser()
    add_person_and_corpus(parser)
    return vars(parser.parse_args([*arguments]))


def test_the_default_person_is_the_first_active_administrator(admin: User, bob: User) -> None:
    User.objects.create_superuser("second")
    assert person(options("--corpus", "x")) == admin

    User.objects.filter(pk=admin.pk).update(is_active=False)
    assert person(options("--corpus", "x")).username == "second"


@pytest.mark.django_db
def test_without_an_administrator_the_error_says_how_to_make_one() -> None:
    with pytest.raises(CommandError, match="createsuperuser"):
        person(options("--corpus", "x"))


def test_a_person_is_named_by_as(admin: User, bob: User) -> None:
    assert person(options("--corpus", "x", "--as", "bob")) == bob
    with pytest.raises(CommandError, match="“bobby”"):
        person(options("--corpus", "x", "--as", "bobby"))


def test_a_person_who_may_not_sign_in_may_not_be_named(bob: User) -> None:
    User.objects.update(is_active=False)
    with pytest.raises(CommandError):
        person(options("--corpus", "x", "--as=bob"))


def test_a_private_corpus_is_found_by_its_owner_only(
    corpus: Corpus, alice: User, bob: User
) -> None:
    given = options("--corpus", "Papers")

    assert readable_corpus(given, alice) == corpus
    with pytest.raises(CommandError, match="no corpus called “Papers” that bob may search"):
        readable_corpus(given, bob)


def test_an_unknown_name_lists_the_corpora_that_may_be_searched(
    corpus: Corpus, alice: User, bob: User
) -> None:
    Corpus.objects.create(name="Open", owner=bob, visibility=Corpus.Visibility.OPEN)
    Corpus.objects.create(name="Secret", owner=bob)

    with pytest.raises(CommandError) as caught:
        readable_corpus(options("--corpus", "Paper"), alice)

    assert "“Open”, “Papers”" in str(caught.value)
    assert "Secret" not in str(caught.value)


def test_ones_own_corpus_wins_over_an_open_one_of_the_same_name(
    corpus: Corpus, alice: User, bob: User, viv: User
) -> None:
    theirs = Corpus.objects.create(name="Papers", owner=bob, visibility=Corpus.Visibility.OPEN)
    given = options("--corpus", "Papers")

    assert readable_corpus(given, alice) == corpus
    assert readable_corpus(given, viv) == theirs
    Corpus.objects.update(visibility=Corpus.Visibility.OPEN)
    with pytest.raises(CommandError, match="alice, bob"):
        readable_corpus(given, viv)
