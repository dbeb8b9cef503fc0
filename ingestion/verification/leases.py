"""Leases and times that no worker can have set: after a clock that jumped, or by hand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial

from django.db.models import Q
from django.utils import timezone

from ingestion.models import Document, IndexGeneration
from ingestion.restore import LEASE_SECONDS
from ingestion.verification.findings import Examination, Finding

NAME = "leases"
# Longer than any pause before a retry, and than two clocks may differ.
SLACK_SECONDS = 600
# A lease that ran out is free for the next claim; on a finished document nobody claims it.
FORGOTTEN_SECONDS = 600


def examine(run: Examination) -> Iterator[Finding]:
    """Leases and waits too far ahead, and leases forgotten on documents that are finished."""
    now = timezone.now()
    soon = now + timedelta(seconds=SLACK_SECONDS)
    far = now + timedelta(seconds=run.settings.lease_seconds + SLACK_SECONDS)
    long_ago = now - timedelta(seconds=FORGOTTEN_SECONDS)
    finished = ~Q(state__in=Document.WORK_STATES)
    wrong = Document.objects.filter(
        Q(lease_until__gt=far)
        | Q(retry_at__gt=soon)
        | Q(nudged_at__gt=soon)
        | (finished & Q(lease_until__lt=long_ago))
    )
    for document in wrong.order_by("pk"):
        yield Finding("impossible_time", str(document), repair=partial(_free, document))
    late = now + timedelta(seconds=LEASE_SECONDS + SLACK_SECONDS)
    for generation in IndexGeneration.objects.filter(copied_until__gt=late):
        mine = IndexGeneration.objects.filter(
            pk=generation.pk, copied_until=generation.copied_until
        )
        yield Finding(
            "impossible_time", str(generation), repair=partial(mine.update, copied_until=None)
        )


def _free(document: Document) -> None:
    """Give the document back, unless somebody has taken it meanwhile."""
    Document.objects.filter(pk=document.pk, claims=document.claims).update(
        lease_until=None, retry_at=None, nudged_at=None
    )
