"""Sharing: the rules against a small model of them, the page, and the audit log."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from django.contrib.auth.models import Group, User
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse

from ingestion import services, sharing
from ingestion.audit import Action, AuditEntry
from ingestion.errors import SharingRefused
from ingestion.models import Corpus, Document, Share

pytestmark = pytest.mark.django_db

RANKS = {"viewer": 1, "editor": 2, "owner": 3}
CHECKS = 10_000


@dataclass
class Model:
    """What ought to be true, in plain Python: the other half of the property test."""

    owner: dict[int, str] = field(default_factory=dict)
    open: set[int] = field(default_factory=set)
    persons: dict[tuple[int, str], str] = field(default_factory=dict)
    groups: dict[tuple[int, str], str] = field(default_factory=dict)
    members: dict[str, set[str]] = field(default_factory=dict)
    inactive: set[str] = field(default_factory=set)
    deleted: set[int] = field(default_factory=set)

    def rank(self, corpus: int, person: str) -> int:
        """0 nothing, 1 reads, 2 edits, 3 owns."""
        if person in self.inactive or corpus in self.deleted:
            return 0
        if self.owner[corpus] == person:
            return 3
        by_name = self.persons.get((corpus, person), "")
        ranks = [1 if corpus in self.open else 0, RANKS.get(by_name, 0)]
        for group, members in self.members.items():
            if person in members:
                ranks.append(RANKS.get(self.groups.get((corpus, group), ""), 0))
        return max(ranks)


def test_ten_thousand_answers_agree_with_a_model_while_shares_come_and_go() -> None:
    chance = random.Random(20261123)
    people = {name: User.objects.create(username=name) for name in "abcd"}
    groups = {name: Group.objects.create(name=name) for name in ("g", "h")}
    corpora = {}
    model = Model(members={name: set() for name in groups})
    for number, name in enumerate("abca"):
        corpus = Corpus.objects.create(owner=people[name], name=f"corpus {number}")
        document = Document.objects.create(corpus=corpus, name="x", size_bytes=1, sha256="a" * 64)
        corpora[corpus.pk] = document.pk
        model.owner[corpus.pk] = name
    checked, steps = 0, 0
    while checked < CHECKS:
        step(chance, model, people, groups)
        steps += 1
        for name, person in people.items():
            person.refresh_from_db()
            found = [
                set(of(person).values_list("pk", flat=True))
                for of in (
                    Corpus.objects.readable_by,
                    Corpus.objects.editable_by,
                    Corpus.objects.owned_by,
                )
            ]
            documents = set(Document.objects.readable_by(person).values_list("pk", flat=True))
            for pk, document_id in corpora.items():
                rank = model.rank(pk, name)
                assert [pk in some for some in found] == [rank >= 1, rank >= 2, rank >= 3]
                assert (document_id in documents) == (rank >= 1)
                checked += 4
    assert steps > 100


def step(
    chance: random.Random, model: Model, people: dict[str, User], groups: dict[str, Group]
) -> None:
    """One change, in the site and in the model."""
    corpus = Corpus.objects.get(pk=chance.choice(list(model.owner)))
    name, group = chance.choice(list(people)), chance.choice(list(groups))
    role, by = chance.choice(list(RANKS)), corpus.owner
    is_there = corpus.pk not in model.deleted
    acts = ["share"] * 4 + ["group"] * 2
    acts += ["revoke", "ungroup", "member", "transfer", "open", "active"]
    if not model.deleted and chance.random() < 0.02:
        acts = ["delete"]
    act = chance.choice(acts)
    if act == "share" and is_there and name not in {model.owner[corpus.pk], *model.inactive}:
        sharing.share(corpus=corpus, by=by, name=name, role=role)
        model.persons[corpus.pk, name] = role
    elif act == "group" and is_there:
        sharing.share(corpus=corpus, by=by, name=f"group:{group}", role=role)
        model.groups[corpus.pk, group] = role
    elif act in ("revoke", "ungroup"):
        holder = {"person": people[name]} if act == "revoke" else {"group": groups[group]}
        held = corpus.shares.select_related("corpus").filter(**holder).first()
        if held is not None:
            sharing.revoke(shared=held, by=by)
        (model.persons if act == "revoke" else model.groups).pop(
            (corpus.pk, name if act == "revoke" else group), None
        )
    elif act == "member":
        members = model.members[group]
        (people[name].groups.remove if name in members else people[name].groups.add)(groups[group])
        members ^= {name}
    elif act == "transfer" and is_there and (corpus.pk, name) in model.persons:
        if name in model.inactive:
            with pytest.raises(SharingRefused):
                sharing.transfer(corpus=corpus, by=by, to=name)
        else:
            sharing.transfer(corpus=corpus, by=by, to=name)
            model.persons.pop((corpus.pk, name))
            model.persons[corpus.pk, model.owner[corpus.pk]] = "editor"
            model.owner[corpus.pk] = name
    elif act == "open":
        is_open = corpus.pk in model.open
        Corpus.objects.filter(pk=corpus.pk).update(visibility="private" if is_open else "open")
        model.open ^= {corpus.pk}
    elif act == "active":
        model.inactive ^= {name}
        User.objects.filter(pk=people[name].pk).update(is_active=name not in model.inactive)
    elif act == "delete":
        services.delete_corpus(corpus=corpus, person=by)
        model.deleted.add(corpus.pk)


# --- the rules one by one ----------------------------------------------------------------


def test_sharing_again_changes_the_role(corpus: Corpus, alice: User, bob: User) -> None:
    sharing.share(corpus=corpus, by=alice, name="bob", role="viewer")
    sharing.share(corpus=corpus, by=alice, name=" bob ", role="editor")

    assert [(one.holder, one.role) for one in corpus.shares.all()] == [("bob", "editor")]


def test_a_person_is_found_by_an_address_that_is_theirs_alone(
    corpus: Corpus, alice: User, bob: User, viv: User
) -> None:
    User.objects.filter(pk=bob.pk).update(email="Bob@example.org")
    shared = sharing.share(corpus=corpus, by=alice, name="bob@example.org", role="viewer")
    assert shared.person == bob

    User.objects.filter(pk=viv.pk).update(email="bob@example.org")
    with pytest.raises(SharingRefused, match="neither a person nor a group"):
        sharing.share(corpus=corpus, by=alice, name="bob@example.org", role="viewer")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nobody", "neither a person nor a group"),
        ("group:bob", "no group called"),
        ("alice", "owns this corpus"),
        ("off", "switched off"),
        ("", "neither a person nor a group"),
    ],
)
def test_whom_it_cannot_be_shared_with(
    corpus: Corpus, alice: User, bob: User, name: str, sentence: str
) -> None:
    User.objects.create(username="off", is_active=False)

    with pytest.raises(SharingRefused, match=sentence):
        sharing.share(corpus=corpus, by=alice, name=name, role="viewer")
    assert not corpus.shares.exists()


def test_a_share_is_with_a_person_or_with_a_group(corpus: Corpus, bob: User) -> None:
    group = Group.objects.create(name="readers")

    for holder in ({}, {"person": bob, "group": group}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Share.objects.create(corpus=corpus, **holder)


def test_a_corpus_goes_to_somebody_who_has_it_and_no_other_of_its_name(
    corpus: Corpus, alice: User, bob: User
) -> None:
    with pytest.raises(SharingRefused, match="Share the corpus with bob first"):
        sharing.transfer(corpus=corpus, by=alice, to="bob")
    sharing.share(corpus=corpus, by=alice, name="bob", role="viewer")
    other = Corpus.objects.create(owner=bob, name=corpus.name)
    with pytest.raises(SharingRefused, match="already has a corpus called"):
        sharing.transfer(corpus=corpus, by=alice, to="bob")
    other.delete()

    sharing.transfer(corpus=corpus, by=alice, to="bob")

    corpus.refresh_from_db()
    assert corpus.owner == bob
    assert [(one.holder, one.role) for one in corpus.shares.all()] == [("alice", "editor")]


def test_each_change_stands_in_the_audit_log(corpus: Corpus, alice: User, bob: User) -> None:
    shared = sharing.share(corpus=corpus, by=alice, name="bob", role="viewer")
    sharing.change(shared=shared, by=alice, role="owner")
    sharing.revoke(shared=shared, by=bob)
    services.delete_corpus(corpus=corpus, person=alice)

    lines = AuditEntry.objects.filter(about_id=str(corpus.pk)).order_by("pk")
    assert [(line.person_name, line.action) for line in lines] == [
        ("alice", Action.SHARED),
        ("alice", Action.SHARE_CHANGED),
        ("bob", Action.LEFT),
        ("alice", Action.CORPUS_DELETED),
    ]
    assert lines[1].detail == {"to": "bob", "before": "viewer", "role": "owner"}
    bob.delete()
    assert lines[2].person_name == "bob"


def test_sign_ins_stand_in_the_audit_log(client: Client, alice: User) -> None:
    client.post(reverse("account_login"), {"login": "alice", "password": "wrong"})
    client.post(reverse("account_login"), {"login": "alice", "password": "alice-long-password"})

    failed, signed_in = AuditEntry.objects.order_by("pk")
    assert (failed.action, failed.about_name) == (Action.SIGN_IN_FAILED, "alice")
    assert (signed_in.action, signed_in.person) == (Action.SIGNED_IN, alice)
    assert "wrong" not in str(failed.detail)


# --- the page ------------------------------------------------------------------------


def test_an_owner_shares_changes_and_takes_back(
    client: Client, corpus: Corpus, alice: User, bob: User
) -> None:
    client.force_login(alice)
    address = reverse("ingestion:share", args=[corpus.pk])

    client.post(address, {"name": "bob", "role": "viewer"})
    shared = corpus.shares.get()
    assert "bob" in client.get(address).content.decode()
    client.post(reverse("ingestion:change_share", args=[corpus.pk, shared.pk]), {"role": "editor"})
    assert corpus.shares.get().role == "editor"
    client.post(reverse("ingestion:change_share", args=[corpus.pk, shared.pk]), {"act": "revoke"})

    assert not corpus.shares.exists()


def test_a_wrong_name_says_so_and_keeps_what_was_typed(
    client: Client, corpus: Corpus, alice: User
) -> None:
    client.force_login(alice)

    answer = client.post(
        reverse("ingestion:share", args=[corpus.pk]), {"name": "bub", "role": "editor"}
    )

    page = answer.content.decode()
    assert answer.status_code == 422
    assert "There is neither a person nor a group called “bub”." in page
    assert 'value="bub"' in page


def test_an_editor_sees_what_they_may_do_and_not_what_they_may_not(
    client: Client, corpus: Corpus, alice: User, bob: User
) -> None:
    sharing.share(corpus=corpus, by=alice, name="bob", role="editor")
    client.force_login(bob)

    page = client.get(reverse("ingestion:corpus", args=[corpus.pk])).content.decode()

    assert reverse("ingestion:upload", args=[corpus.pk]) in page
    assert reverse("ingestion:leave", args=[corpus.pk]) in page
    assert reverse("ingestion:share", args=[corpus.pk]) not in page
    assert reverse("ingestion:delete_corpus", args=[corpus.pk]) not in page


def test_who_leaves_a_corpus_sees_it_no_more(
    client: Client, corpus: Corpus, alice: User, bob: User
) -> None:
    sharing.share(corpus=corpus, by=alice, name="bob", role="viewer")
    client.force_login(bob)

    client.post(reverse("ingestion:leave", args=[corpus.pk]))

    assert client.get(reverse("ingestion:corpus", args=[corpus.pk])).status_code == 404


def test_a_co_owner_renames_a_corpus_and_it_stays_its_owners(
    client: Client, corpus: Corpus, alice: User, bob: User
) -> None:
    sharing.share(corpus=corpus, by=alice, name="bob", role="owner")
    client.force_login(bob)

    client.post(
        reverse("ingestion:edit_corpus", args=[corpus.pk]),
        {"name": "Renamed", "visibility": "private"},
    )

    corpus.refresh_from_db()
    assert (corpus.name, corpus.owner) == ("Renamed", alice)
