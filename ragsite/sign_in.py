"""The first administrator and the one-time links that sign a person in."""

from __future__ import annotations

from urllib.parse import urlencode

import sesame.utils
from django.contrib.auth.models import User
from django.urls import reverse


def first_administrator() -> User:
    """The active superuser with the lowest id; made, without a password, where there is none."""
    person = User.objects.filter(is_superuser=True, is_active=True).order_by("pk").first()
    if person is not None:
        return person
    name, number = "admin", 1
    while User.objects.filter(username=name).exists():
        number += 1
        name = f"admin{number}"
    person = User(username=name, is_staff=True, is_superuser=True)
    person.set_unusable_password()
    person.save()
    return person


def one_time_link(person: User, *, base_url: str) -> str:
    """An address that signs this person in once; good for SESAME_MAX_AGE seconds."""
    query = urlencode({"token": sesame.utils.get_token(person)})
    return f"{base_url.rstrip('/')}{reverse('sign-in')}?{query}"
