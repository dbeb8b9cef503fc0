"""How people come in: by invitation, by single sign-on, and never by themselves.

The one module that speaks to django-allauth, beside the settings and the addresses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.usersessions.adapter import DefaultUserSessionsAdapter
from django.conf import settings
from django.contrib.auth.models import User
from django.core.mail import send_mail
from django.template.loader import render_to_string
from django.urls import reverse

from ingestion import audit
from ingestion.audit import Action
from ragsite.models import Invitation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from allauth.usersessions.models import UserSession
    from django.contrib.auth.models import Group
    from django.http import HttpRequest

IN_SESSION = "invitation"


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # django-allauth has no types
    """Lets those sign up who hold an invitation."""

    error_messages = DefaultAccountAdapter.error_messages | {
        **dict.fromkeys(
            (
                "username_password_mismatch",
                "email_password_mismatch",
                "username_email_password_mismatch",
            ),
            "That name and password do not match. Both are case-sensitive.",
        ),
        "too_many_login_attempts": "That were too many attempts. Wait some minutes, or ask the "
        "administrator for a one-time link.",
    }

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Whether this browser came by an invitation that is still good."""
        return invitation_of(request) is not None

    def save_user(self, request: HttpRequest, user: User, form: Any, commit: bool = True) -> User:
        """Make the person, use the invitation up, and put them into its groups."""
        person: User = super().save_user(request, user, form, commit=commit)
        invitation = invitation_of(request)
        if commit and invitation is not None:
            invitation.accept(person)
            request.session.pop(IN_SESSION, None)
            audit.record(Action.JOINED, person=person, by=str(invitation.invited_by or ""))
        return person

    def get_signup_redirect_url(self, request: HttpRequest) -> str:
        """Where a person who has just joined goes."""
        return reverse(settings.LOGIN_REDIRECT_URL)


class SocialAccountAdapter(DefaultSocialAccountAdapter):  # type: ignore[misc]
    """Single sign-on: whom the provider knows comes in, unless OIDC_SIGN_UP says otherwise."""

    def is_open_for_signup(self, request: HttpRequest, sociallogin: Any) -> bool:
        """Whether somebody whom this site does not know yet may come in."""
        return settings.OIDC_SIGN_UP or invitation_of(request) is not None

    def save_user(self, request: HttpRequest, sociallogin: Any, form: Any = None) -> User:
        """Make the person; an invitation that they came by is used up."""
        person: User = super().save_user(request, sociallogin, form)
        invitation = invitation_of(request)
        if invitation is not None:
            invitation.accept(person)
            request.session.pop(IN_SESSION, None)
        audit.record(Action.JOINED, person=person, by=settings.OIDC_NAME)
        return person


class SessionsAdapter(DefaultUserSessionsAdapter):  # type: ignore[misc]
    """Signing out elsewhere, with a line in the audit log."""

    def end_sessions(self, sessions: Iterable[UserSession]) -> None:
        """End them, all of one person."""
        ended = list(sessions)
        super().end_sessions(ended)
        for person in {one.user for one in ended}:
            audit.record(Action.SIGNED_OUT_EVERYWHERE, person=person, sessions=len(ended))


def invitation_of(request: HttpRequest) -> Invitation | None:
    """The invitation that this browser came by, while it is good."""
    key = request.session.get(IN_SESSION, "")
    return Invitation.objects.good().filter(key=key).first() if key else None


def invite(*, by: User, email: str = "", groups: list[Group] | None = None) -> Invitation:
    """Make an invitation; sent by e-mail where an address is given and the site can send."""
    made = Invitation.objects.create(invited_by=by, email=email)
    made.groups.set(groups or [])
    audit.record(Action.INVITED, person=by, name=email or "by link")
    return made


def send_invitation(invitation: Invitation, *, link: str) -> bool:
    """E-mail the link. False where this site sends no e-mail, or none was sent."""
    if not settings.EMAIL_URL or not invitation.email:
        return False
    context = {"invitation": invitation, "link": link}
    return bool(
        send_mail(
            f"{settings.ACCOUNT_EMAIL_SUBJECT_PREFIX}you are invited",
            render_to_string("ragsite/invitation.txt", context),
            settings.DEFAULT_FROM_EMAIL,
            [invitation.email],
        )
    )
