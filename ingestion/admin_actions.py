"""Actions of the admin panel that ask first, with counts: chosen rows, and what will be done."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import helpers
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

NAMED = 10


def confirmation(
    request: HttpRequest,
    queryset: QuerySet[Any],
    *,
    panel: Any,
    question: str,
    detail: str,
) -> HttpResponse | None:
    """The page that asks, or None once it was answered with yes.

    Args:
        queryset: the chosen rows; the first NAMED are named.
        panel: the ModelAdmin whose action this is.
        question: one sentence with the count. detail: what follows from a yes.
    """
    if request.POST.get("confirmed"):
        return None
    rows: list[Model] = list(queryset[: NAMED + 1])
    context = {
        **panel.admin_site.each_context(request),
        "title": question,
        "detail": detail,
        "opts": panel.model._meta,
        "named": rows[:NAMED],
        "more": len(rows) > NAMED,
        "keys": list(queryset.values_list("pk", flat=True)),
        "checkbox": helpers.ACTION_CHECKBOX_NAME,
        "action": request.POST.get("action", ""),
    }
    return TemplateResponse(request, "admin/confirm_action.html", context)
