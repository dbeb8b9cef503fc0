"""The stages of one document, each under its lease and each safe to run again.

Parts and chunks are replaced in one transaction and keep the embeddings of passages that
stayed the same; embeddings are computed only where there is none; vectors are added only
where the store lacks them. A stage that is interrupted anywhere leaves nothing that the next
run would double.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db import transaction
from django.utils import timezone
from numpy.typing import NDArray

from inference.client import InferenceClient, shared_client
from inference.errors import InferenceTransientError
from ingestion import blobs
from ingestion.chunk_ids import chunk_id
from ingestion.chunking import chunk
from ingestion.conf import ingestion_settings
from ingestion.embeddings import from_bytes, to_bytes
from ingestion.errors import (
    EmbedderChanged,
    LexicalIndexError,
    ParseError,
    PermanentError,
    TransientError,
    VectorStoreError,
    notice_text,
)
from ingestion.generations import check_embedder, embedder
from ingestion.lease import BuildLease, Lease
from ingestion.lexical import LexicalEntry
from ingestion.models import (
    Chunk,
    Corpus,
    Document,
    DocumentBuild,
    DocumentPart,
    IndexGeneration,
)
from ingestion.parsing import Format, OcrSettings, parse_in_child, sniff
from ingestion.purge import lexical_index
from ingestion.tokenizer import PassageTokenizer, load_tokenizer
from ingestion.types import (
    HEADING_SEPARATOR,
    PIPELINE_VERSION,
    ChunkDraft,
    IngestionSettings,
    ParsedDocument,
    PartDraft,
    passage_text,
)
from ingestion.vectors import WRITE_BATCH, VectorStore, shared_store

State = Document.State
ROWS_AT_ONCE = 500
SENTENCES_AT_ONCE = 256
# The model server may be busy with other people's questions, which go first.
EMBED_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Tools:
    """What the stages work with."""

    settings: IngestionSettings
    client: InferenceClient
    store: VectorStore


def tools() -> Tools:
    """The tools that the settings name."""
    settings = ingestion_settings()
    return Tools(
        settings=settings,
        client=shared_client(settings.embed_url, ""),
        store=shared_store(settings),
    )


def read(lease: Lease, given: Tools) -> None:
    """PARSING and CHUNKING: from the file to parts and chunks in SQL; then EMBEDDING.

    The chunks are those of the lease's generation, cut as that says.

    Raises:
        ParseError, ParserCrashed: the file is to blame.
        InferenceError, EmbedderChanged: it is cut by meaning, and the generation's model
            is not to be had.
        VectorStoreError: passages of an earlier run could not be removed.
        LeaseLost: the document is somebody else's by now.
    """
    document, settings = lease.document, given.settings
    generation = _generation(lease)
    lease.advance(state=State.PARSING, progress_done=0, progress_total=0)
    path = blobs.blob_file(settings.blobs_dir, document.blob_key)
    if not path.is_file():
        raise ParseError(f"no blob {document.blob_key}", code="file_missing")
    workdir = settings.data_dir / "tmp"
    workdir.mkdir(parents=True, exist_ok=True)
    parsed = parse_in_child(
        path,
        format=Format(document.format) if document.format else sniff(path, document.name),
        timeout_seconds=settings.parse_timeout_seconds,
        memory_bytes=settings.parse_memory_bytes,
        workdir=workdir,
        ocr=OcrSettings(settings.ocr_languages, settings.ocr_timeout_seconds),
    )
    lease.advance(state=State.CHUNKING)
    options = generation.chunk_options
    parts, drafts = chunk(
        parsed,
        tokenizer=_tokenizer(settings),
        max_tokens=options.max_tokens,
        overlap_tokens=options.overlap_tokens,
        strategy=options.strategy,
        embed=lambda texts: _embed_sentences(texts, lease, given),
    )
    if not drafts:
        raise ParseError("no passages", code="no_text")
    chunks = [_chunk_row(document, generation, draft) for draft in drafts]
    _forget_other_vectors(lease, {row.pk for row in chunks}, given.store)
    _replace(lease, parsed, parts, chunks)


def unembedded(lease: Lease) -> list[str]:
    """The ids of the chunks that have no embedding yet, in order."""
    return list(
        lease.chunks.filter(embedding=None).order_by("ordinal").values_list("pk", flat=True)
    )


def embed(chunk_ids: Sequence[str], given: Tools) -> dict[str, bytes]:
    """Embed these chunks, whatever documents they belong to, in one request.

    Args:
        chunk_ids: of chunks whose generation has the model that the server has.
        given: the tools.

    Returns:
        The embedding of each chunk that exists, as it is stored.

    Raises:
        InferenceError: the model server did not do it.
        EmbedderChanged: it answered with vectors of another dimension.
    """
    rows = Chunk.objects.select_related("generation").in_bulk(chunk_ids)
    chunks = [rows[pk] for pk in chunk_ids if pk in rows]
    if not chunks:
        return {}
    texts = [passage_text(heading_path=row.heading_path, text=row.text) for row in chunks]
    vectors = given.client.embed(texts, lane="ingestion", timeout_seconds=EMBED_SECONDS)
    if {row.generation.dimension for row in chunks} != {vectors.shape[1]}:
        raise EmbedderChanged(f"the server's vectors have {vectors.shape[1]} dimensions")
    if not np.isfinite(vectors).all():
        raise InferenceTransientError("the model server answered with numbers that are none")
    return {row.pk: packed for row, packed in zip(chunks, to_bytes(vectors), strict=True)}


def keep_embeddings(lease: Lease, embeddings: dict[str, bytes], *, left: int) -> None:
    """Store embeddings of one document's chunks; `left` chunks remain to be embedded.

    Raises:
        LeaseLost: nothing was stored.
    """
    total = lease.row.chunk_count
    with transaction.atomic():
        lease.advance(
            state=State.EMBEDDING, progress_done=max(0, total - left), progress_total=total
        )
        rows = [Chunk(pk=pk, embedding=packed) for pk, packed in embeddings.items()]
        Chunk.objects.bulk_update(rows, ["embedding"], batch_size=100)


def index(leases: Sequence[Lease], given: Tools) -> None:
    """INDEXING: from SQL into the vector store and the lexical index, in one commit for all.

    Each store is read again before this returns; `publish` makes the documents ready then.

    Args:
        leases: of documents whose work is for the same generation.
        given: the tools.

    Raises:
        VectorStoreError, LexicalIndexError: a store is away, or did not keep what it took.
        LeaseLost: one of the documents is somebody else's by now.
    """
    for lease in leases:
        total = lease.row.chunk_count
        lease.advance(state=State.INDEXING, progress_done=0, progress_total=total)
    _index_vectors(leases, _generation(leases[0]), given.store)
    _index_words(leases, _generation(leases[0]), given.settings)


def publish(lease: Lease) -> None:
    """READY, if the generation is still the live one; otherwise from the beginning for that.

    The corpus's row is locked, as it is where generations begin and change places: a document
    is ready in the live one, and on the list of one that is being built, or not ready yet.
    Where the vectors were copied into a new collection meanwhile, it is indexed once more.

    Raises:
        LeaseLost: the document is somebody else's by now.
    """
    generation, count = _generation(lease), lease.chunks.count()
    done: dict[str, Any] = {
        "state": State.READY,
        "chunk_count": count,
        "progress_done": count,
        "progress_total": count,
        "error_code": "",
        "error_detail": "",
        "crashes": 0,
        "retry_at": None,
    }
    if not isinstance(lease, BuildLease):
        done["ready_at"] = timezone.now()
    with transaction.atomic():
        Corpus.objects.select_for_update().get(pk=generation.corpus_id)
        others = IndexGeneration.objects.filter(corpus=generation.corpus_id)
        same = {"pk": generation.pk, "collection_revision": generation.collection_revision}
        if not others.filter(**same).exists() and others.filter(pk=generation.pk).exists():
            lease.release(state=State.INDEXING, nudged_at=None)
            return
        if isinstance(lease, BuildLease):
            lease.release(**done)
            return
        if not others.filter(pk=generation.pk, state=IndexGeneration.State.LIVE).exists():
            lease.release(state=State.RECEIVED, nudged_at=None)
            return
        lease.release(**done)
        building = others.filter(state=IndexGeneration.State.BUILDING)
        DocumentBuild.objects.bulk_create(
            [DocumentBuild(generation=row, document=lease.document) for row in building],
            ignore_conflicts=True,
        )


def _generation(lease: Lease) -> IndexGeneration:
    assert lease.generation is not None  # set when the work began
    return lease.generation


def _embed_sentences(texts: Sequence[str], lease: Lease, given: Tools) -> NDArray[np.float32]:
    """Vectors of sentences, which are only compared with each other and then forgotten."""
    check_embedder(_generation(lease), embedder(given.client))
    vectors = []
    for start in range(0, len(texts), SENTENCES_AT_ONCE):
        lease.advance()
        batch = texts[start : start + SENTENCES_AT_ONCE]
        vectors.append(given.client.embed(batch, lane="ingestion", timeout_seconds=EMBED_SECONDS))
    return np.concatenate(vectors)


def _tokenizer(settings: IngestionSettings) -> PassageTokenizer:
    try:
        return load_tokenizer(settings.embedding_model)
    except PermanentError as exc:  # the site's fault and not the document's, which waits
        raise TransientError(str(exc), code=exc.code) from exc


def _chunk_row(document: Document, generation: IndexGeneration, draft: ChunkDraft) -> Chunk:
    return Chunk(
        id=chunk_id(
            document_id=document.pk,
            generation_key=generation.key,
            pipeline_version=PIPELINE_VERSION,
            ordinal=draft.ordinal,
            text=draft.text,
        ),
        document=document,
        generation=generation,
        ordinal=draft.ordinal,
        text=draft.text,
        heading_path=HEADING_SEPARATOR.join(draft.heading_path),
        page_from=draft.page_from,
        page_to=draft.page_to,
        spans=[[span.part, span.start, span.end] for span in draft.spans],
        tokens=draft.tokens,
    )


def _forget_other_vectors(lease: Lease, kept: set[str], store: VectorStore) -> None:
    """Remove vectors of passages that this run no longer makes, while SQL still names them."""
    earlier = lease.chunks.values_list("pk", flat=True)
    stale = [pk for pk in earlier if pk not in kept]
    store.delete(_generation(lease).collection_name, stale)


def _replace(
    lease: Lease, parsed: ParsedDocument, parts: Sequence[PartDraft], chunks: Sequence[Chunk]
) -> None:
    """Put these parts and chunks in place of earlier ones of the generation, or do nothing."""
    document, generation = lease.document, _generation(lease)
    with transaction.atomic():
        lease.advance(
            state=State.EMBEDDING,
            title=parsed.title[:500],
            pages=parsed.pages,
            notice=notice_text(parsed.notices),
            chunk_count=len(chunks),
            progress_done=0,
            progress_total=len(chunks),
        )
        done = dict(lease.chunks.exclude(embedding=None).values_list("pk", "embedding"))
        for row in chunks:
            row.embedding = done.get(row.pk)
        lease.chunks.delete()
        document.parts.filter(generation=generation).delete()
        DocumentPart.objects.bulk_create(
            [
                DocumentPart(
                    document=document,
                    generation=generation,
                    ordinal=part.ordinal,
                    page=part.page,
                    text=part.text,
                )
                for part in parts
            ],
            batch_size=ROWS_AT_ONCE,
        )
        Chunk.objects.bulk_create(chunks, batch_size=ROWS_AT_ONCE)


def _index_vectors(
    leases: Sequence[Lease], generation: IndexGeneration, store: VectorStore
) -> None:
    """Add the vectors that the store lacks, and see all of them there afterwards."""
    name = generation.collection_name
    store.ensure(name, generation.dimension)
    ids = [
        (lease, place, pk)
        for lease in leases
        for place, pk in enumerate(lease.chunks.order_by("ordinal").values_list("pk", flat=True))
    ]
    for start in range(0, len(ids), WRITE_BATCH):
        batch = ids[start : start + WRITE_BATCH]
        first_places = {lease: place for lease, place, _ in reversed(batch)}
        for lease, place in first_places.items():
            lease.advance(progress_done=place)  # also the fence before a write that has none
        rows = Chunk.objects.filter(pk__in=[pk for *_, pk in batch])
        pairs = rows.values_list("pk", "embedding")
        packed = {pk: embedding for pk, embedding in pairs if embedding is not None}
        vectors = from_bytes(list(packed.values()), dimension=generation.dimension)
        store.add_missing(name, list(packed), vectors)
    if lost := store.missing(name, [pk for *_, pk in ids]):
        raise VectorStoreError(f"{len(lost)} of {len(ids)} vectors are not in {name}")


def _index_words(
    leases: Sequence[Lease], generation: IndexGeneration, settings: IngestionSettings
) -> None:
    lexical = lexical_index(generation, settings)
    documents = {lease.document.pk: _entries(lease) for lease in leases}
    lexical.replace_documents(documents.items())
    for document_id, entries in documents.items():
        kept = lexical.chunk_ids(document_id)
        if kept != {entry.chunk_id for entry in entries}:
            raise LexicalIndexError(f"{len(kept)} of {len(entries)} passages are in the index")


def _entries(lease: Lease) -> list[LexicalEntry]:
    rows = lease.chunks.order_by("ordinal").values_list("pk", "heading_path", "text")
    return [
        LexicalEntry(pk, passage_text(heading_path=heading_path, text=text))
        for pk, heading_path, text in rows
    ]
