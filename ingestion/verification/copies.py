"""What other apps keep of documents: nothing of those that are gone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from ingestion.holders import holders
from ingestion.verification.findings import Examination, Finding

NAME = "copies"


def examine(run: Examination) -> Iterator[Finding]:
    """Documents that do not exist any more and that a holder still keeps something of."""
    for holder in holders():
        for document_id in holder.strays():
            subject = f"{holder.name}, document {document_id}"
            yield Finding("kept_text", subject, repair=partial(holder.forget, document_id))
