"""Sharing a corpus: with whom, as what, and giving it to another owner.

Callers have checked that the person may do it (`Corpus.objects.owned_by`). Each change stands in
the audit log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models import Q

from ingestion import audit
from ingestion.audit import Action
from ingestion.errors import SharingRefused
from ingestion.models import Corpus, Share

if TYPE_CHECKING:
    from collections.abc import Iterator

GROUP = "group:"
MOST_OFFERED = 200


def share(*, corpus: Corpus, by: User, name: str, role: str) -> Share:
    """Share a corpus, or change the role of whom it is shared with already.

    Args:
        name: a user name or an e-mail address; "group:NAME" for a group, and NAME alone where
            no person is called so.

    Raises:
        SharingRefused: there is nobody of this name, or it is the corpus's owner.
    """
    holder = _holder(name)
    if holder == corpus.owner:
        raise SharingRefused(f"{holder} owns this corpus and may do everything with it.")
    key = {"group": holder} if isinstance(holder, Group) else {"person": holder}
    with transaction.atomic():
        shared, is_new = Share.objects.update_or_create(
            corpus=corpus,
            **key,
            defaults={"role": role},
            create_defaults={"role": role, "granted_by": by},
        )
        action = Action.SHARED if is_new else Action.SHARE_CHANGED
        audit.record(action, person=by, about=corpus, to=shared.holder, role=role)
    return shared


def change(*, shared: Share, by: User, role: str) -> None:
    """Give whom a corpus is shared with another role."""
    with transaction.atomic():
        before, shared.role = shared.role, role
        shared.save(update_fields=["role"])
        detail = {"to": shared.holder, "before": before, "role": role}
        audit.record(Action.SHARE_CHANGED, person=by, about=shared.corpus, **detail)


def revoke(*, shared: Share, by: User) -> None:
    """Take a share back; a person may give up their own."""
    with transaction.atomic():
        shared.delete()
        action = Action.LEFT if shared.person == by else Action.REVOKED
        audit.record(action, person=by, about=shared.corpus, to=shared.holder, role=shared.role)


def transfer(*, corpus: Corpus, by: User, to: str) -> User:
    """Give a corpus to another owner. The owner before stays on as an editor.

    Args:
        to: user name or e-mail address of a person it is shared with by name.

    Raises:
        SharingRefused: nobody of this name can get it, or they have a corpus of its name.
    """
    heir = _person(to)
    if heir is None or not heir.is_active:
        raise SharingRefused(f"There is nobody called “{to.strip()}”. Check the spelling.")
    if heir == corpus.owner:
        raise SharingRefused(f"{heir} owns this corpus already.")
    if not corpus.shares.filter(person=heir).exists():
        raise SharingRefused(f"Share the corpus with {heir} first; then it can become theirs.")
    if Corpus.objects.filter(owner=heir, name=corpus.name).exists():
        raise SharingRefused(
            f"{heir} already has a corpus called “{corpus.name}”. Rename this one first."
        )
    with transaction.atomic():
        before = corpus.owner
        if not Corpus.objects.present().filter(pk=corpus.pk, owner=before).update(owner=heir):
            raise SharingRefused("Somebody else has just changed this corpus. Load the page again.")
        corpus.shares.filter(person=heir).delete()
        corpus.shares.create(person=before, role=Share.Role.EDITOR, granted_by=by)
        audit.record(
            Action.TRANSFERRED,
            person=by,
            about=corpus,
            before=before.get_username(),
            to=heir.get_username(),
        )
    corpus.owner = heir
    return heir


def names_to_offer(corpus: Corpus) -> Iterator[str]:
    """Whom it could be shared with: active people and groups it is not shared with yet."""
    people = User.objects.filter(is_active=True).exclude(pk=corpus.owner_id)
    people = people.exclude(shares__corpus=corpus).order_by("username")
    yield from people.values_list("username", flat=True)[:MOST_OFFERED]
    groups = Group.objects.exclude(shares__corpus=corpus).order_by("name")
    for name in groups.values_list("name", flat=True)[:MOST_OFFERED]:
        yield f"{GROUP}{name}"


def _holder(name: str) -> User | Group:
    wanted = name.strip()
    group = Group.objects.filter(name=wanted.removeprefix(GROUP).strip()).first()
    person = None if wanted.startswith(GROUP) else _person(wanted)
    found = person or group
    if found is None:
        what = "no group" if wanted.startswith(GROUP) else "neither a person nor a group"
        raise SharingRefused(f"There is {what} called “{wanted}”. Check the spelling.")
    if isinstance(found, User) and not found.is_active:
        raise SharingRefused(f"The account of {found} is switched off.")
    return found


def _person(name: str) -> User | None:
    """The person of this user name, or the only active one with this address."""
    wanted = name.strip()
    person = User.objects.filter(username=wanted).first()
    if person is not None or "@" not in wanted:
        return person
    found = list(User.objects.filter(Q(email__iexact=wanted), is_active=True)[:2])
    return found[0] if len(found) == 1 else None
