"""Which index generation a corpus has, and whether the model server still fits it.

A generation is bound to one embedding model: its id, the revision of its weights and its
dimension. Vectors of two models are never mixed, also not when their dimensions agree.
"""

from __future__ import annotations

from contextlib import suppress

from django.db import IntegrityError, transaction

from inference.client import InferenceClient
from inference.errors import InferenceRejected, InferenceTransientError, NoModel
from inference.types import ModelInfo
from ingestion.errors import EmbedderChanged, VectorStoreError
from ingestion.models import Corpus, IndexGeneration
from ingestion.types import PIPELINE_VERSION, ChunkOptions
from ingestion.vectors import VectorStore


def current_generation(
    corpus: Corpus, *, client: InferenceClient, store: VectorStore, site: ChunkOptions
) -> IndexGeneration:
    """The generation that new documents go to; made from the model server's embedder at first.

    Args:
        site: how documents are cut where the corpus does not say.

    Raises:
        InferenceError: there is none yet and the model server cannot say what it has.
    """
    if live := live_generation(corpus):
        return live
    made = new_generation(corpus, corpus.chunk_options(site=site), client=client)
    try:
        with transaction.atomic():
            made.save(force_insert=True)
    except IntegrityError:  # another worker was first
        return corpus.generations.get(state=IndexGeneration.State.LIVE)
    # Only so that a question meanwhile finds an empty collection; indexing makes sure of it.
    with suppress(VectorStoreError):
        store.ensure(made.collection_name, made.dimension)
    return made


def new_generation(
    corpus: Corpus,
    options: ChunkOptions,
    *,
    client: InferenceClient,
    state: IndexGeneration.State = IndexGeneration.State.LIVE,
) -> IndexGeneration:
    """A generation for the model that the server has now, cut in this way; not saved.

    Raises:
        InferenceError: the model server cannot say what it has.
    """
    model = embedder(client)
    return IndexGeneration(
        corpus=corpus,
        state=state,
        embedding_model=model.model_id,
        embedding_revision=model.revision,
        # Text Embeddings Inference does not tell the dimension.
        dimension=model.dimension or client.embed(["?"], lane="ingestion").shape[1],
        pipeline_version=PIPELINE_VERSION,
        chunk_strategy=options.strategy,
        chunk_max_tokens=options.max_tokens,
        chunk_overlap_tokens=options.overlap_tokens,
    )


def embedder(client: InferenceClient) -> ModelInfo:
    """The model that the server embeds with now.

    Raises:
        NoModel: it has none; ModelLoading and the like: not yet.
    """
    try:
        model = client.info().embedder
        if model is None:
            # `/info` does not say why; the attempt does.
            client.embed(["?"], lane="ingestion")
            model = client.info().embedder
    except InferenceRejected as exc:  # another server at this address, and no document's fault
        raise InferenceTransientError(str(exc)) from exc
    if model is None:
        raise NoModel("the model server names no embedding model")
    return model


def made_with(generation: IndexGeneration, model: ModelInfo) -> bool:
    """Whether this is the model that the generation was built with."""
    built_with = (generation.embedding_model, generation.embedding_revision)
    return built_with == (model.model_id, model.revision)


def check_embedder(generation: IndexGeneration, model: ModelInfo) -> None:
    """Raise EmbedderChanged unless this is the model that the generation was built with."""
    if not made_with(generation, model):
        raise EmbedderChanged(
            f"generation {generation.key} was built with {generation.embedding_model} "
            f"{generation.embedding_revision}, the server has {model.model_id} {model.revision}"
        )


def live_generation(corpus: Corpus) -> IndexGeneration | None:
    """The generation that questions go to; None while the corpus has none."""
    return corpus.generations.filter(state=IndexGeneration.State.LIVE).first()
