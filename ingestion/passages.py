"""From chunk ids to passages: the gate between the indexes and what a person sees."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ingestion.models import Chunk, Corpus, Document, IndexGeneration
from ingestion.types import Passage, Span


def resolve(
    chunk_ids: Iterable[str],
    *,
    corpora: Collection[Corpus],
    generations: Collection[int] | None = None,
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
    """
    searched = IndexGeneration.objects.filter(corpus__in=corpora)
    if generations is None:
        searched = searched.filter(state=IndexGeneration.State.LIVE)
    else:
        searched = searched.filter(pk__in=generations)
    chunks = Chunk.objects.filter(
        pk__in=set(chunk_ids),
        generation__in=searched,
        document__in=Document.objects.searchable(),
    ).values_list(
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
        chunk_id: Passage(
            chunk_id=chunk_id,
            document_id=document_id,
            document=name,
            title=title,
            heading_path=heading_path,
            page_from=page_from,
            page_to=page_to,
            text=text,
            corpus_id=corpus_id,
            spans=tuple(Span(*span) for span in spans),
        )
        for (
            chunk_id,
            document_id,
            name,
            title,
            heading_path,
            page_from,
            page_to,
            text,
            corpus_id,
            spans,
        ) in chunks
    }
