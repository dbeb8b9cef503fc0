"""The audit log: who did what to whose things, and when. It holds no text of a document.

Entries are only ever added. They keep the names they were about, so that they can be read
when the person or the corpus is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models
from django.utils import timezone

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

MAX_NAME = 255


class Action(models.TextChoices):
    """What is written down."""

    SIGNED_IN = "signed_in", "signed in"
    SIGN_IN_FAILED = "sign_in_failed", "failed to sign in"
    SIGNED_OUT_EVERYWHERE = "signed_out_everywhere", "signed out everywhere"
    PASSWORD_CHANGED = "password_changed", "changed the password"
    SECOND_FACTOR_CHANGED = "second_factor_changed", "changed the second factor"
    INVITED = "invited", "invited"
    JOINED = "joined", "joined by invitation"
    PERSON_CHANGED = "person_changed", "changed a person"
    CORPUS_CREATED = "corpus_created", "made a corpus"
    CORPUS_CHANGED = "corpus_changed", "changed the settings of a corpus"
    CORPUS_DELETED = "corpus_deleted", "deleted a corpus"
    CORPUS_EXPORTED = "corpus_exported", "exported a corpus"
    CORPUS_IMPORTED = "corpus_imported", "imported a corpus"
    SHARED = "shared", "shared a corpus"
    SHARE_CHANGED = "share_changed", "changed a share"
    REVOKED = "revoked", "took a share back"
    LEFT = "left", "left a corpus"
    TRANSFERRED = "transferred", "gave a corpus to another owner"
    DOCUMENTS_DELETED = "documents_deleted", "deleted documents"
    INDEX_CHANGED = "index_changed", "changed an index"
    MODEL_FETCHED = "model_fetched", "had a language model fetched"
    CONVERSATION_READ = "conversation_read", "read a conversation in the admin panel"
    SITE_CHANGED = "site_changed", "changed something in the admin panel"


class AuditEntry(models.Model):
    """One line of the audit log.

    `about` is the kind of thing ("corpus", "user"), `about_id` its key as text and `about_name`
    what it was called then. `detail` has what a reader needs beside: roles, counts, settings.
    """

    at = models.DateTimeField(default=timezone.now, db_index=True)
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    person_name = models.CharField(max_length=MAX_NAME, blank=True)
    action = models.CharField(max_length=30, choices=Action, db_index=True)
    about = models.CharField(max_length=30, blank=True)
    about_id = models.CharField(max_length=40, blank=True)
    about_name = models.CharField(max_length=MAX_NAME, blank=True)
    detail = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["-at", "-pk"]
        verbose_name = "entry of the audit log"
        verbose_name_plural = "audit log"

    def __str__(self) -> str:
        who = self.person_name or "somebody"
        return f"{who} {self.get_action_display()} {self.about_name}".strip()


def record(
    action: Action,
    *,
    person: User | AnonymousUser | None,
    about: models.Model | None = None,
    name: str = "",
    **detail: Any,
) -> AuditEntry:
    """Write one line.

    Args:
        person: who did it; None for the site itself.
        about: the row that it was done to, if any.
        name: what to call that, instead of its own text; of somebody who is no row, too.
        detail: JSON values; never text of a document or of a question.
    """
    known = person is not None and person.is_authenticated
    return AuditEntry.objects.create(
        person_id=person.pk if known and person else None,
        person_name=person.get_username()[:MAX_NAME] if known and person else "",
        action=action,
        about=str(about._meta.verbose_name) if about is not None else "",
        about_id=str(about.pk) if about is not None else "",
        about_name=(name or (str(about) if about is not None else ""))[:MAX_NAME],
        detail=detail,
    )
