"""What other apps keep of documents: passages quoted in stored answers, cached scores.

Deleting a document must reach them, and imports go the other way; so each such app names its
keeper here when it is ready (`AppConfig.ready`), and `purge` and `verification` ask all of them.
"""

from __future__ import annotations

from typing import Protocol


class Holder(Protocol):
    """Something outside ingestion that keeps text, names or scores of documents.

    `name` is the key of its count on a receipt.
    """

    name: str

    def forget(self, document_id: int) -> int:
        """Take out all that is of this document. Returns of how many records."""
        ...

    def holds(self, document_id: int) -> bool:
        """Whether anything of the document is left, read anew."""
        ...

    def strays(self) -> list[int]:
        """Documents that it still keeps something of and that do not exist any more."""
        ...


_holders: dict[str, Holder] = {}


def register(holder: Holder) -> None:
    """Have this holder asked at every deletion. A second one of the same name replaces it."""
    _holders[holder.name] = holder


def holders() -> list[Holder]:
    """All that are registered."""
    return list(_holders.values())
