"""Invitations: the way in for people who have no account yet."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.utils import timezone

if TYPE_CHECKING:
    from django.contrib.auth.models import User


def new_key() -> str:
    """What the link of an invitation ends in: 32 random bytes."""
    return secrets.token_urlsafe(32)


def expiry() -> datetime:
    """When an invitation that is made now runs out."""
    return timezone.now() + timedelta(days=settings.INVITATION_DAYS)


class InvitationQuerySet(models.QuerySet["Invitation"]):
    """Sets of invitations."""

    def good(self) -> InvitationQuerySet:
        """Those that can still be used."""
        return self.filter(accepted_at=None, revoked_at=None, expires_at__gt=timezone.now())


class Invitation(models.Model):
    """Lets one person make an account, once, until it expires."""

    key = models.CharField(max_length=64, unique=True, default=new_key, editable=False)
    email = models.EmailField(blank=True, help_text="Where the link is sent; empty to copy it.")
    groups = models.ManyToManyField(
        "auth.Group", blank=True, related_name="+", help_text="What the person will be in."
    )
    invited_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(default=expiry)
    accepted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    accepted_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = InvitationQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-pk"]

    def __str__(self) -> str:
        return self.email or f"by link, {self.created_at:%d %B %Y}"

    @property
    def is_good(self) -> bool:
        """Whether it can still be used."""
        ended = self.accepted_at is not None or self.revoked_at is not None
        return not ended and self.expires_at > timezone.now()

    def accept(self, person: User) -> bool:
        """Use it up. False if somebody else was quicker; then nothing has changed."""
        mine = Invitation.objects.good().filter(pk=self.pk)
        if not mine.update(accepted_at=timezone.now(), accepted_by=person):
            return False
        person.groups.add(*self.groups.all())
        return True
