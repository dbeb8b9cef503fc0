"""What a check finds, and the shape of a check: one module per store, with one function."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from ingestion.models import IndexGeneration
from ingestion.types import IngestionSettings
from ingestion.vectors import VectorStore


@dataclass(frozen=True, slots=True)
class Finding:
    """One way in which a store differs from what SQL says.

    code: names a sentence of `SENTENCES`. subject: which corpus or document. count: how many
    passages, files or rows it is about. repair: sets it right; None where only a person can.
    """

    code: str
    subject: str
    count: int = 1
    repair: Callable[[], object] | None = None


@dataclass(slots=True)
class Examination:
    """What the checks of one run work with. `examined` counts what they compared."""

    settings: IngestionSettings
    vectors: VectorStore
    deep: bool = False
    examined: Counter[str] = field(default_factory=Counter)

    def generations(self) -> list[IndexGeneration]:
        """The generations whose indexes must agree with SQL now."""
        found = IndexGeneration.objects.in_use().select_related("corpus")
        return list(found.order_by("corpus_id", "pk"))


class Check(Protocol):
    """A module that compares one store with SQL."""

    NAME: str

    def examine(self, run: Examination, /) -> Iterator[Finding]:
        """Compare, and yield what differs. What changes meanwhile is no finding."""
        ...


SENTENCES: dict[str, str] = {
    "lost_passages": "Passages or text of a document are missing; it is read again.",
    "lost_embeddings": "Embeddings are missing or damaged; they are made again.",
    "altered_passages": "Passages are not what was read from the file; it is read again.",
    "impossible_time": "A lease or a waiting time lies where none can be; it is taken away.",
    "lost_blob": "An uploaded file is missing. Upload the same file again to put it back.",
    "damaged_blob": "An uploaded file has changed on the disk. Upload the same file again.",
    "ownerless_blob": "A stored file belongs to no document; it is removed.",
    "damaged_words": "A keyword index cannot be read; it is built anew.",
    "missing_words": "Passages are missing in a keyword index; it is built anew.",
    "unknown_words": "A keyword index holds passages that are gone; it is built anew.",
    "ownerless_words": "A keyword index belongs to no corpus; it is removed.",
    "vectors_away": "Chroma does not answer, so that nothing could be compared with it.",
    "lost_collection": "A collection is gone; it is filled anew.",
    "wedged_collection": "A collection does not answer a query; it is filled anew.",
    "wrong_dimension": "A collection was made for other vectors; it is filled anew.",
    "missing_vectors": "Vectors are missing; they are added.",
    "unknown_vectors": "A collection holds vectors of passages that are gone; they are removed.",
    "wrong_vectors": "Vectors are not those in SQL; the collection is filled anew.",
    "unfindable_vectors": "Too many vectors are not found by themselves; the collection is filled "
    "anew.",
    "ownerless_collection": "A collection belongs to no corpus; it is removed.",
    "bloated_files": "An index file of Chroma has grown out of proportion; it is filled anew.",
    "ownerless_files": "A folder of Chroma belongs to no collection; it is removed.",
    "kept_text": "Text of a deleted document is still kept; it is removed.",
}
