"""From chunk ids to passages: the gate between the indexes and what a person sees."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from ingestion.models import Chunk, Corpus, Document, IndexGeneration
from ingestion.types import EVERYTHING, DocumentFilter, Passage, Span

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User
    from django.db.models import QuerySet


def resolve(
    chunk_ids: Iterable[str],
    *,
    corpora: Collection[Corpus],
    generations: Collection[int] | None = None,
    only: DocumentFilter = EVERYTHING,
) -> dict[str, Passage]:
    """The passages of these ids that may be shown, by id.

    An id counts if it belongs to the live generation of one of these corpora, or to the
    generations named, and to a searchable document (ready, enabled). All others, unknown ones
    included, are left out: an index may lag behind SQL, and SQL is the truth. One query,
    however many ids.

    Args:
        chunk_ids: what the indexes returned; repeats are harmless.
        corpora: corpora that the asking person may read.
        generations: ids of those that were searched, which counts where another one became
            live meanwhile.
        only: which documents may be searched.
    """
    searched = IndexGeneration.objects.filter(corpus__in=corpora)
    if generations is None:
        searched = searched.filter(state=IndexGeneration.State.LIVE)
    else:
        searched = searched.filter(pk__in=generations)
    return _passages(
        Chunk.objects.filter(
            pk__in=set(chunk_ids),
            generation__in=searched,
            document__in=Document.objects.searchable().passing(only),
        )
    )


def readable(chunk_ids: Iterable[str], *, reader: User | AnonymousUser) -> dict[str, Passage]:
    """The passages of these ids that this person may read now, of whichever generation, by id.

    For what was found earlier: passages that are gone, or no longer shared, are left out.
    """
    documents = Document.objects.readable_by(reader)
    return _passages(Chunk.objects.filter(pk__in=set(chunk_ids), document__in=documents))


def _passages(chunks: QuerySet[Chunk]) -> dict[str, Passage]:
    rows = chunks.values_list(
        "pk",
        "document_id",
        "document__name",
        "document__title",
        "heading_path",
        "page_from",
        "page_to",
        "text",
        "generation__corpus_id",
        "spans",
    )
    return {
        row[0]: Passage(
            chunk_id=row[0],
            document_id=row[1],
            document=row[2],
            title=row[3],
            heading_path=row[4],
            page_from=row[5],
            page_to=row[6],
            text=row[7],
            corpus_id=row[8],
            spans=tuple(Span(*span) for span in row[9]),
        )
        for row in rows
    }
