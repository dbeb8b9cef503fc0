"""What is changed in the admin panel goes into the audit log: which thing and which fields.

The panel keeps a log of its own of every form and deletion; each of its lines becomes one of ours.
Names are told of things that are not made of anybody's words.
"""

from __future__ import annotations

from typing import Any

from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.db.models.signals import post_save

from ingestion import audit
from ingestion.audit import Action

VERBS = {ADDITION: "added", CHANGE: "changed", DELETION: "deleted"}
NAMED = {"user", "group", "corpus", "share", "site"}


def listen() -> None:
    """Hear of changes from now on."""
    post_save.connect(_record, sender=LogEntry, dispatch_uid="audit-panel")


def _record(*, instance: LogEntry, created: bool, **_: Any) -> None:
    # Changes of people in their form are written where they are saved.
    kind = instance.content_type
    if not created or kind is None:
        return
    if kind.model == "user" and instance.action_flag != DELETION:
        return
    is_named = kind.model in NAMED
    audit.record(
        Action.SITE_CHANGED,
        person=instance.user,
        name=instance.object_repr if is_named else "",
        kind=kind.name,
        id=str(instance.object_id or ""),
        verb=VERBS[instance.action_flag],
        what=instance.get_change_message()[:500] if is_named else "",
    )
