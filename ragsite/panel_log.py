"""What is changed in the admin panel goes into the audit log: which thing and which fields.

The panel keeps a log of its own of every form and deletion; each of its lines becomes one of ours.
Where many things are deleted at once it writes those lines in bulk, which nobody hears of: there
the action that deletes tells. Names are told of things that are not made of anybody's words.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin import ModelAdmin, actions
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.db.models import Model, QuerySet
from django.db.models.signals import post_save
from django.http import HttpRequest, HttpResponse

from ingestion import audit
from ingestion.audit import Action

VERBS = {ADDITION: "added", CHANGE: "changed", DELETION: "deleted"}
NAMED = {"user", "group", "corpus", "share", "site"}


def listen() -> None:
    """Hear of changes from now on."""
    post_save.connect(_record, sender=LogEntry, dispatch_uid="audit-panel")
    admin.site.disable_action("delete_selected")
    admin.site.add_action(delete_selected)


@admin.action(permissions=["delete"], description="Delete selected %(verbose_name_plural)s")
def delete_selected(
    panel: ModelAdmin[Any], request: HttpRequest, queryset: QuerySet[Any]
) -> HttpResponse | None:
    """Django's own, which tells of every single one where there are several."""
    chosen = [(str(row.pk), str(row)) for row in queryset] if "post" in request.POST else []
    answer = actions.delete_selected(panel, request, queryset)
    if answer is None and len(chosen) > 1:  # done; one alone is heard of
        for key, name in chosen:
            _tell(request.user, panel.model, DELETION, key=key, name=name)
    return answer


def _record(*, instance: LogEntry, created: bool, **_: Any) -> None:
    # Changes of people in their form are written where they are saved.
    kind = instance.content_type
    if not created or kind is None:
        return
    if kind.model == "user" and instance.action_flag != DELETION:
        return
    model = kind.model_class()
    assert model is not None  # what the panel changes is installed
    _tell(
        instance.user,
        model,
        instance.action_flag,
        key=str(instance.object_id or ""),
        name=instance.object_repr,
        what=instance.get_change_message(),
    )


def _tell(
    person: Any, model: type[Model], flag: int, *, key: str, name: str, what: str = ""
) -> None:
    is_named = model._meta.model_name in NAMED
    audit.record(
        Action.SITE_CHANGED,
        person=person,
        name=name if is_named else "",
        kind=str(model._meta.verbose_name),
        id=key,
        verb=VERBS[flag],
        what=what[:500] if is_named else "",
    )
