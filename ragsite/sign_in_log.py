"""Sign-ins in the audit log. Django announces them, whichever back end or page they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


def _signed_in(*, user: User, request: HttpRequest | None, **_: Any) -> None:
    audit.record(Action.SIGNED_IN, person=user, address=_address(request))


def _failed(*, credentials: dict[str, Any], request: HttpRequest | None = None, **_: Any) -> None:
    # Django has starred out the password; a one-time link has no name at all.
    name = str(credentials.get("username") or credentials.get("email") or "")[:MAX_NAME]
    audit.record(Action.SIGN_IN_FAILED, person=None, name=name, address=_address(request))


def _address(request: HttpRequest | None) -> str:
    return (request.META.get("REMOTE_ADDR") or "") if request is not None else ""
