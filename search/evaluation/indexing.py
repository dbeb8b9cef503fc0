"""A test collection as a corpus of the site: indexed by the same stages as an upload.

The collection is one document whose passages are the collection's documents, whole, as
published figures have them; title first, cut by the embedder's own limit and not by us. It
enters the pipeline where chunks wait for their embedding, so that leases, batches and both
indexes are the product's, and a build that is stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from django.db import transaction

from ingestion import pipeline, services, stages
from ingestion.chunk_ids import chunk_id
from ingestion.generations import current_generation
from ingestion.models import Chunk, Corpus, Document, IndexGeneration
from ingestion.types import PIPELINE_VERSION
from search.evaluation.beir import BeirDocument, Collection

if TYPE_CHECKING:
    from django.contrib.auth.models import User

PAUSE_SECONDS = 0.5
ROWS_AT_ONCE = 500


class IndexingFailed(Exception):
    """The collection could not be indexed; the text is a sentence that says why."""


def corpus_of(
    collection: Collection,
    *,
    owner: User,
    language: str,
    progress: Callable[[int, int, str], None],
) -> tuple[Corpus, dict[str, str]]:
    """The corpus of this collection, ready to be asked; made, or found from an earlier run.

    Returns:
        The corpus, and the collection's document id by chunk id.

    Raises:
        IndexingFailed: a service the pipeline needs is away, or refused a text.
        InferenceError: the model server cannot say what it has.
    """
    name = f"Evaluation: {collection.name[:60]} {_digest(collection)}"
    corpus = Corpus.objects.filter(owner=owner, name=name).first()
    if corpus is None:
        corpus = services.create_corpus(
            owner=owner, name=name, description="Made by `evaluate`.", language=language
        )
    given = stages.tools()
    generation = current_generation(
        corpus, client=given.client, store=given.store, site=given.settings.chunk
    )
    document = corpus.documents.first() or _insert(collection, corpus, generation)
    _finish(document, progress)
    chunks = document.chunks.order_by("ordinal").values_list("pk", flat=True)
    return corpus, {pk: found.id for pk, found in zip(chunks, collection.documents, strict=True)}


def _digest(collection: Collection) -> str:
    """Tells two collections of one name apart; the order of documents counts."""
    digest = hashlib.sha256()
    for document in collection.documents:
        digest.update(f"{document.id}\x1f{document.title}\x1f{document.text}\x1e".encode())
    return digest.hexdigest()[:8]


def _insert(collection: Collection, corpus: Corpus, generation: IndexGeneration) -> Document:
    """The rows of the collection, with everything but the embeddings."""
    with transaction.atomic():
        document = Document.objects.create(
            corpus=corpus,
            name=f"{collection.name} corpus.jsonl"[:255],
            format="beir",
            size_bytes=sum(len(d.title) + len(d.text) for d in collection.documents),
            sha256=hashlib.sha256(corpus.name.encode()).hexdigest(),
            state=Document.State.EMBEDDING,
            chunk_count=len(collection.documents),
        )
        Chunk.objects.bulk_create(
            [
                _row(document, generation, ordinal, found)
                for ordinal, found in enumerate(collection.documents)
            ],
            batch_size=ROWS_AT_ONCE,
        )
    return document


def _row(
    document: Document, generation: IndexGeneration, ordinal: int, found: BeirDocument
) -> Chunk:
    text, title = (found.text, found.title) if found.text else (found.title, "")
    return Chunk(
        id=chunk_id(
            document_id=document.pk,
            generation_key=generation.key,
            pipeline_version=PIPELINE_VERSION,
            ordinal=ordinal,
            text=text,
        ),
        document=document,
        generation=generation,
        ordinal=ordinal,
        text=text,
        heading_path=title,
        tokens=0,
    )


def _finish(document: Document, progress: Callable[[int, int, str], None]) -> None:
    """Work on the document, or watch a worker do it, until it can be asked."""
    while True:
        document.refresh_from_db()
        progress(document.progress_done, document.chunk_count, "passages indexed")
        if document.state == Document.State.READY:
            return
        if document.is_terminal:
            raise IndexingFailed(document.error_sentence)
        if not pipeline.work_on(document.pk):
            document.refresh_from_db()
            if document.error_code and document.lease_until is None:
                raise IndexingFailed(document.error_sentence)
            time.sleep(PAUSE_SECONDS)
