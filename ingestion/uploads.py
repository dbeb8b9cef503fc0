"""What became of an upload, in words for a person and in the JSON for the page's script."""

from __future__ import annotations

from typing import Any

from ingestion.services import Received

MOST_NAMES = 5


def sentence(received: Received) -> str:
    """What was taken and what was not, files that were refused for one reason together."""
    count = len(received.documents)
    if count == 1 and not received.refusals:
        return f"{received.documents[0][1].name} is uploaded."
    documents = "1 document" if count == 1 else f"{count} documents"
    said = f"{documents} uploaded." if count else "No file of the archive was taken."
    reasons: dict[str, list[str]] = {}
    for refusal in received.refusals:
        reasons.setdefault(refusal.error.sentence, []).append(refusal.path)
    refused = " ".join(f"{_names(paths)}: {reason}" for reason, paths in reasons.items())
    return f"{said} Not taken: {refused}" if count and refused else f"{said} {refused}".strip()


def answer(received: Received) -> dict[str, Any]:
    """The fields that the script of the page reads; `error` is there if nothing was taken."""
    taken = [{"document_id": one.pk, "name": one.name} for _, one in received.documents]
    told = sentence(received)
    fields: dict[str, Any] = {
        "sentence": told,
        "documents": taken,
        "refused": [
            {"name": refusal.path, "code": refusal.error.code, "error": refusal.error.sentence}
            for refusal in received.refusals
        ],
    }
    if taken:
        return fields | taken[0]
    return fields | {"error": told, "code": received.refusals[0].error.code}


def _names(paths: list[str]) -> str:
    more = len(paths) - MOST_NAMES
    shown = ", ".join(paths[:MOST_NAMES])
    return f"{shown} and {more} more" if more > 0 else shown
