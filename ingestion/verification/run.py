"""One run over all stores, recorded so that the status page can show it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from django.utils import timezone

from ingestion.errors import IngestionError
from ingestion.models import Verification
from ingestion.types import IngestionSettings
from ingestion.vectors import shared_store
from ingestion.verification import blobs, copies, files, leases, rows, vectors, words
from ingestion.verification.findings import SENTENCES, Check, Examination, Finding

logger = logging.getLogger(__name__)

CHECKS: Sequence[Check] = (rows, leases, blobs, words, vectors, files, copies)
KEPT_RUNS = 60
# A store that is wrong everywhere must not make a row of megabytes.
MOST_FINDINGS = 500


def verify(
    settings: IngestionSettings,
    *,
    repair: bool = False,
    deep: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Verification:
    """Compare every store with SQL; with `repair`, set right what can be set right.

    Repairs copy from SQL and embed nothing anew, save where an embedding itself is lost; what
    needs a worker (reading a file again) is handed to it. May run while documents are taken in
    and deleted.

    Args:
        settings: which stores.
        repair: whether to change anything.
        deep: also read every file and every vector.
        tell: called with a line for people as each store begins.

    Returns:
        The record of the run, saved.
    """
    record = Verification.objects.create(deep=deep, repair=repair)
    run = Examination(settings=settings, vectors=shared_store(settings), deep=deep)
    findings: list[dict[str, Any]] = []
    for check in CHECKS:
        tell(f"Comparing {check.NAME} …")
        for finding in check.examine(run):
            repaired = repair and _repaired(finding)
            findings.append(_as_json(check, finding, repaired=repaired))
    record.findings = findings[:MOST_FINDINGS]
    record.examined = dict(run.examined)
    record.ended_at = timezone.now()
    record.save()
    kept = Verification.objects.order_by("-started_at").values_list("pk", flat=True)[:KEPT_RUNS]
    Verification.objects.exclude(pk__in=list(kept)).delete()
    return record


def _repaired(finding: Finding) -> bool:
    if finding.repair is None:
        return False
    try:
        finding.repair()
    except (IngestionError, OSError) as exc:
        logger.warning("%s (%s) not repaired: %s", finding.code, finding.subject, exc)
        return False
    return True


def _as_json(check: Check, finding: Finding, *, repaired: bool) -> dict[str, Any]:
    logger.warning("%s: %s, %s x %d", check.NAME, finding.code, finding.subject, finding.count)
    return {
        "store": check.NAME,
        "code": finding.code,
        "subject": finding.subject,
        "count": finding.count,
        "repaired": repaired,
        "sentence": SENTENCES[finding.code],
    }
