"""What the rail of every page shows: the reader's corpora and latest conversations."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from chat.pages import conversations_by_day
from ingestion.models import Corpus

RAIL_CORPORA = 12


def rail(request: HttpRequest) -> dict[str, Any]:
    """Lists for the rail; asked of the database only where a template draws them."""
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return {}
    match = request.resolver_match
    return {
        "rail_corpora": SimpleLazyObject(
            lambda: list(Corpus.objects.readable_by(user).only("pk", "name")[:RAIL_CORPORA])
        ),
        "rail_days": SimpleLazyObject(lambda: conversations_by_day(user)),
        "rail_corpus_id": match.kwargs.get("corpus_id") if match else None,
    }


def sign_in(request: HttpRequest) -> dict[str, Any]:
    """What the pages of sign-in say: whether e-mail can be sent, the name of single sign-on."""
    return {
        "can_send_email": bool(settings.EMAIL_URL),
        "single_sign_on": settings.OIDC_NAME if settings.OIDC_ISSUER else "",
    }
