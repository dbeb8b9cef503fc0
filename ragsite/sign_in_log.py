"""Sign-ins, passwords and second factors in the audit log.

Django and django-allauth announce them, whichever page they come from.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from allauth.account.signals import password_reset
from allauth.mfa.signals import authenticator_added, authenticator_removed, authenticator_reset
from django.contrib.auth.signals import user_logged_in, user_login_failed

from ingestion import audit
from ingestion.audit import Action

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.http import HttpRequest

MAX_NAME = 150


def listen() -> None:
    """Hear of sign-ins from now on."""
    user_logged_in.connect(_signed_in, dispatch_uid="audit-signed-in")
    user_login_failed.connect(_failed, dispatch_uid="audit-sign-in-failed")
    password_reset.connect(_password_reset, dispatch_uid="audit-password-reset")
    for announced, verb in (
        (authenticator_added, "added"),
        (authenticator_removed, "removed"),
        (authenticator_reset, "made anew"),
    ):
        hear = partial(_second_factor, verb=verb)
        announced.connect(hear, weak=False, dispatch_uid=f"audit-second-factor-{verb}")


def _signed_in(*, user: User, request: HttpRequest | None, **_: Any) -> None:
    audit.record(Action.SIGNED_IN, person=user, address=_address(request))


def _failed(*, credentials: dict[str, Any], request: HttpRequest | None = None, **_: Any) -> None:
    # Django has starred out the password; a one-time link has no name at all.
    name = str(credentials.get("username") or credentials.get("email") or "")[:MAX_NAME]
    audit.record(Action.SIGN_IN_FAILED, person=None, name=name, address=_address(request))


def _password_reset(*, user: User, **_: Any) -> None:
    audit.record(Action.PASSWORD_CHANGED, person=user, by="a link that was e-mailed")


def _second_factor(*, user: User, authenticator: Any, verb: str, **_: Any) -> None:
    audit.record(Action.SECOND_FACTOR_CHANGED, person=user, what=str(authenticator.type), verb=verb)


def _address(request: HttpRequest | None) -> str:
    return (request.META.get("REMOTE_ADDR") or "") if request is not None else ""
