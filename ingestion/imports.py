"""Imports of corpora: rows that are the outbox of `importing.py`, as a document's row is."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from ingestion.errors import SENTENCES

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

# Longer than taking in one file, the largest that may be uploaded.
LEASE_SECONDS = 300
SHOWN_FOR = timedelta(days=1)


class CorpusImportQuerySet(models.QuerySet["CorpusImport"]):
    """Imports, and the atomic step by which a worker takes one."""

    def shown_to(self, user: User | AnonymousUser) -> CorpusImportQuerySet:
        """This person's imports that are under way, or ended within a day and were not put away."""
        if not user.is_authenticated or not user.is_active:
            return self.none()
        recent = Q(finished_at=None) | Q(finished_at__gte=timezone.now() - SHOWN_FOR)
        return self.filter(recent, owner=user, is_hidden=False)

    def due(self) -> CorpusImportQuerySet:
        """Those that no worker holds and that have not ended."""
        free = Q(lease_until=None) | Q(lease_until__lt=timezone.now())
        return self.filter(free, finished_at=None)

    def claim(self, pk: int) -> CorpusImport | None:
        """Take an import for one worker; None if it is not to be had. `claims` is the token."""
        until = timezone.now() + timedelta(seconds=LEASE_SECONDS)
        taken = (
            self.due()
            .filter(pk=pk)
            .update(lease_until=until, claims=F("claims") + 1, deaths=F("deaths") + 1)
        )
        return self.select_related("owner", "corpus").get(pk=pk) if taken else None


class CorpusImport(models.Model):
    """An uploaded archive on its way to a corpus: waiting -> held -> finished, with or without
    `error_code`.

    `position` counts the documents of the archive that were dealt with, `documents` those that were
    taken; `refused` has [name, code] of the others. `deaths` counts the workers that took
    it since it last got further.
    """

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="imports"
    )
    name = models.CharField(max_length=255)
    blob_key = models.CharField(max_length=32, unique=True, editable=False)
    corpus = models.ForeignKey(
        "ingestion.Corpus", null=True, on_delete=models.SET_NULL, related_name="imports"
    )
    is_begun = models.BooleanField(default=False)
    total = models.PositiveIntegerField(default=0)
    position = models.PositiveIntegerField(default=0)
    documents = models.PositiveIntegerField(default=0)
    refused = models.JSONField(default=list, blank=True)
    error_code = models.CharField(max_length=40, blank=True)
    claims = models.PositiveIntegerField(default=0)
    deaths = models.PositiveIntegerField(default=0)
    lease_until = models.DateTimeField(null=True, blank=True)
    is_hidden = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = CorpusImportQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-pk"]
        verbose_name = "import"

    def __str__(self) -> str:
        return self.name

    @property
    def is_finished(self) -> bool:
        """Whether it ended."""
        return self.finished_at is not None

    @property
    def error_sentence(self) -> str:
        """Why it failed; empty if it did not."""
        return (
            SENTENCES.get(self.error_code, SENTENCES["internal_error"]) if self.error_code else ""
        )

    @property
    def refusals(self) -> list[tuple[str, str]]:
        """(file, why it was not taken) in sentences."""
        unknown = SENTENCES["internal_error"]
        return [(name, SENTENCES.get(code, unknown)) for name, code in self.refused]

    def write(self, **changes: object) -> bool:
        """Write `changes` under this claim and renew its lease. False if it was lost."""
        until = timezone.now() + timedelta(seconds=LEASE_SECONDS)
        return self._write({"lease_until": until, **changes})

    def release(self, **changes: object) -> bool:
        """Write `changes` under this claim and end it. False if it was lost."""
        return self._write({**changes, "lease_until": None})

    def _write(self, changes: dict[str, object]) -> bool:
        mine = CorpusImport.objects.filter(
            pk=self.pk, claims=self.claims, lease_until__isnull=False
        )
        if not mine.update(**changes):
            return False
        for name, value in changes.items():
            setattr(self, name, value)
        return True
