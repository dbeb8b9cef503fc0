"""Rebuilding a corpus beside its live index: begin, watch, cancel, put into use, go back.

A rebuild is a generation in state BUILDING with one `DocumentBuild` for each ready document,
worked off by the pipeline while questions go to the live one. Documents uploaded meanwhile
become ready in the live generation and get a build, too; deleted ones leave both. Where
generations begin or change places the corpus's row is locked, as it is when a document
becomes ready: no document falls between two generations.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import Count, Exists, Max, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from inference.client import InferenceClient
from inference.types import ModelInfo
from ingestion import nudges
from ingestion.errors import RebuildRefused, VectorStoreError
from ingestion.generations import embedder, live_generation, made_with, new_generation
from ingestion.models import (
    KEPT_FOR_ROLLBACK,
    ChunkStrategy,
    Corpus,
    Document,
    DocumentBuild,
    DocumentQuerySet,
    IndexGeneration,
)
from ingestion.types import PIPELINE_VERSION, ChunkOptions
from ingestion.vectors import VectorStore

State = Document.State
Generation = IndexGeneration.State
FAILED = (State.FAILED, State.QUARANTINED)
# What a document's row says of the generation that is live.
TAKEN_OVER = ("title", "notice", "pages", "chunk_count")
ROWS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Progress:
    """Documents of a generation being built, and what there is of it.

    `blocked` is the sentence about what documents wait for; empty when they do not.
    """

    total: int
    ready: int
    failed: int
    passages: int
    tokens: int
    blocked: str = ""

    @property
    def done(self) -> int:
        """Documents that are built, or cannot be."""
        return self.ready + self.failed

    @property
    def left(self) -> int:
        """Documents that still have to be built."""
        return self.total - self.ready - self.failed

    @property
    def is_complete(self) -> bool:
        """Whether nothing remains to be built."""
        return not self.left


@dataclass(frozen=True, slots=True)
class Facts:
    """What a generation holds of documents that can be searched."""

    documents: int
    passages: int
    tokens: int
    longest: int

    @property
    def mean_tokens(self) -> int:
        """Tokens of a passage, on average."""
        return round(self.tokens / self.passages) if self.passages else 0


def facts(generation: IndexGeneration) -> Facts:
    """Count what a generation holds."""
    counts = generation.chunks.filter(document__state=State.READY).aggregate(
        documents=Count("document", distinct=True),
        passages=Count("pk"),
        longest=Coalesce(Max("tokens"), 0),
        total=Coalesce(Sum("tokens"), 0),
    )
    return Facts(
        documents=counts["documents"],
        passages=counts["passages"],
        tokens=counts["total"],
        longest=counts["longest"],
    )


def kept_until(former: IndexGeneration) -> datetime | None:
    """Until when the corpus can go back to this generation."""
    return former.retired_at + KEPT_FOR_ROLLBACK if former.retired_at else None


def start(
    corpus: Corpus, *, options: ChunkOptions, client: InferenceClient, store: VectorStore
) -> IndexGeneration:
    """Begin to build a generation with the model that the server has now, cut in this way.

    Raises:
        RebuildRefused: `rebuild_running`, `nothing_to_rebuild`, or `chunks_too_long` for the
            model.
        InferenceError: the model server cannot say what it has.
    """
    limit = embedder(client).max_tokens
    if limit and options.max_tokens > limit:
        raise RebuildRefused(f"the model reads {limit} tokens", code="chunks_too_long")
    made = new_generation(corpus, options, client=client, state=Generation.BUILDING)
    try:
        with transaction.atomic():
            _lock(corpus.pk)
            if live_generation(corpus) is None or not _ready(corpus).exists():
                raise RebuildRefused("no document is ready", code="nothing_to_rebuild")
            made.save(force_insert=True)
            _list(made)
            transaction.on_commit(nudges.nudge_waiting, robust=True)
    except IntegrityError as exc:
        raise RebuildRefused("one is being built", code="rebuild_running") from exc
    with suppress(VectorStoreError):  # indexing makes sure of it
        store.ensure(made.collection_name, made.dimension)
    return made


def list_missing() -> None:
    """List again what a generation being built lacks and nobody has listed."""
    for generation in IndexGeneration.objects.filter(state=Generation.BUILDING):
        with transaction.atomic(), suppress(RebuildRefused):
            _lock(generation.corpus_id)
            _list(generation)


def differences(live: IndexGeneration, wanted: ChunkOptions, model: ModelInfo | None) -> list[str]:
    """Why the live generation is not what a rebuild would make, one clause each.

    Args:
        live: the live generation.
        wanted: how the corpus is to be cut now.
        model: what the server embeds with now; None where that is not known.
    """
    has = live.chunk_options
    clauses = []
    if has.strategy != wanted.strategy:
        names = ChunkStrategy(has.strategy).label, ChunkStrategy(wanted.strategy).label
        clauses.append(f"it is cut at “{names[0]}”, the settings say “{names[1]}”")
    if has.max_tokens != wanted.max_tokens:
        clauses.append(
            f"its passages have up to {has.max_tokens} tokens, the settings say {wanted.max_tokens}"
        )
    if has.overlap_tokens != wanted.overlap_tokens:
        clauses.append(
            f"its passages overlap by {has.overlap_tokens} tokens, the settings say "
            f"{wanted.overlap_tokens}"
        )
    if live.pipeline_version != PIPELINE_VERSION:
        clauses.append("an earlier version of ragsite read its documents")
    if model is not None and not made_with(live, model):
        clauses.append(
            f"its vectors are of {live.embedding_model}, the model server has {model.model_id} "
            f"{model.revision}"
        )
    return clauses


def building(corpus: Corpus) -> IndexGeneration | None:
    """The generation that is being built for this corpus."""
    return corpus.generations.filter(state=Generation.BUILDING).first()


def former(corpus: Corpus) -> IndexGeneration | None:
    """The generation that the corpus can go back to: the last one in use, for a day."""
    since = timezone.now() - KEPT_FOR_ROLLBACK
    old = corpus.generations.filter(state=Generation.OLD, retired_at__gt=since)
    return old.order_by("-retired_at").first()


def progress(generation: IndexGeneration) -> Progress:
    """How far a generation being built is."""
    shown = generation.builds.exclude(document__state=State.DELETING)
    counts = shown.aggregate(
        total=Count("pk"),
        ready=Count("pk", filter=Q(state=State.READY)),
        failed=Count("pk", filter=Q(state__in=FAILED)),
    )
    made = generation.chunks.aggregate(passages=Count("pk"), tokens=Sum("tokens"))
    blocked = shown.unfinished().exclude(error_code="").first()
    return Progress(
        total=counts["total"],
        ready=counts["ready"],
        failed=counts["failed"],
        passages=made["passages"],
        tokens=made["tokens"] or 0,
        blocked=blocked.error_sentence if blocked else "",
    )


def failures(generation: IndexGeneration) -> QuerySet[DocumentBuild]:
    """The documents that could not be built, with the reason."""
    failed = generation.builds.filter(state__in=FAILED).exclude(document__state=State.DELETING)
    return failed.select_related("document").order_by("document__name")


def retry(generation: IndexGeneration) -> int:
    """Begin anew with the documents that failed. Returns how many."""
    count = generation.builds.filter(
        state__in=FAILED, generation__state=Generation.BUILDING
    ).update(state=State.RECEIVED, error_code="", error_detail="", crashes=0, retry_at=None)
    transaction.on_commit(nudges.nudge_waiting, robust=True)
    return count


def cancel(generation: IndexGeneration) -> None:
    """Stop building; what there is of it is purged. The live generation is not touched.

    Raises:
        RebuildRefused: `not_building`; it is in use already, or cancelled.
    """
    mine = IndexGeneration.objects.filter(pk=generation.pk, state=Generation.BUILDING)
    if not mine.update(state=Generation.DISCARDED, retired_at=timezone.now()):
        raise RebuildRefused("not being built", code="not_building")
    transaction.on_commit(nudges.nudge_generations, robust=True)


def flip(generation: IndexGeneration, *, without_failed: bool = False) -> None:
    """Put a complete generation into use in place of the live one, which can be gone back to.

    Questions under way end on the generation that they began with.

    Args:
        generation: being built, and complete.
        without_failed: even if documents failed in it; they are then failed documents.

    Raises:
        RebuildRefused: `not_building`, `not_complete` or `has_failed`; nothing has changed.
    """
    with transaction.atomic():
        corpus = _lock(generation.corpus_id)
        generation.refresh_from_db()
        if generation.state != Generation.BUILDING:
            raise RebuildRefused("not being built", code="not_building")
        builds = generation.builds.filter(document=OuterRef("pk"))
        lacking = _ready(corpus).exclude(Exists(builds.filter(state=State.READY)))
        failed = lacking.filter(Exists(builds.filter(state__in=FAILED)))
        if lacking.exclude(pk__in=failed.values("pk")).exists():
            raise RebuildRefused("documents are being built", code="not_complete")
        if failed.exists() and not without_failed:
            raise RebuildRefused("documents failed", code="has_failed")
        _exchange(corpus, generation)


def roll_back(corpus: Corpus) -> IndexGeneration:
    """Go back to the generation that was in use before; the present one takes its place.

    Documents that became ready since are brought into it anew; they cannot be searched until
    that is done.

    Raises:
        RebuildRefused: `nothing_to_roll_back_to`; there is none, or its day is over.
    """
    with transaction.atomic():
        corpus = _lock(corpus.pk)
        generation = former(corpus)
        if generation is None:
            raise RebuildRefused("no former generation", code="nothing_to_roll_back_to")
        _exchange(corpus, generation)
    return generation


def _exchange(corpus: Corpus, generation: IndexGeneration) -> None:
    """Make this generation the live one; in a transaction that holds the corpus's lock."""
    now = timezone.now()
    live = live_generation(corpus)
    others = corpus.generations.filter(state=Generation.OLD).exclude(pk=generation.pk)
    others.update(state=Generation.DISCARDED)
    if live is not None:
        _list(live, complete=True)
        corpus.generations.filter(pk=live.pk).update(state=Generation.OLD, retired_at=now)
    corpus.generations.filter(pk=generation.pk).update(state=Generation.LIVE, retired_at=None)
    _take_over(corpus, generation)
    generation.builds.all().delete()
    generation.refresh_from_db()
    transaction.on_commit(nudges.nudge_waiting, robust=True)


def _take_over(corpus: Corpus, generation: IndexGeneration) -> None:
    """Let the documents' rows say how they fare in the generation that is live now."""
    build = generation.builds.filter(document=OuterRef("pk"))
    complete = build.filter(state=State.READY)
    failed = build.filter(state__in=FAILED)
    fresh = {"state_since": timezone.now(), "error_detail": "", "retry_at": None, "nudged_at": None}
    present = Document.objects.filter(corpus=corpus).exclude(state=State.DELETING)
    present.filter(Exists(failed), state=State.READY).update(
        **fresh, state=State.FAILED, error_code=Subquery(failed.values("error_code")[:1])
    )
    found = present.filter(Exists(complete), state__in=(State.READY, *FAILED))
    found.exclude(state=State.READY).update(**fresh, state=State.READY, error_code="")
    found.update(**{name: Subquery(complete.values(name)[:1]) for name in TAKEN_OVER})
    # Ready only in the generation that was live until now: from the beginning for this one.
    present.filter(state=State.READY).exclude(Exists(complete)).update(
        **fresh, state=State.RECEIVED, error_code=""
    )
    # What waited for the former model need not wait any longer.
    present.unfinished().exclude(retry_at=None).update(retry_at=None, nudged_at=None)


def _list(generation: IndexGeneration, *, complete: bool = False) -> None:
    """One build for each ready document that has none: to be done, or done."""
    listed = generation.builds.filter(document=OuterRef("pk"))
    ready = _ready(generation.corpus).exclude(Exists(listed))
    builds = [DocumentBuild(generation=generation, document=document) for document in ready]
    if complete:
        for build in builds:
            build.state = State.READY
            for name in TAKEN_OVER:
                setattr(build, name, getattr(build.document, name))
    DocumentBuild.objects.bulk_create(builds, batch_size=ROWS_AT_ONCE, ignore_conflicts=True)


def _ready(corpus: Corpus) -> DocumentQuerySet:
    return Document.objects.filter(corpus=corpus, state=State.READY)


def _lock(corpus_id: int) -> Corpus:
    """Hold the corpus's row until the end of the transaction.

    Raises:
        RebuildRefused: `corpus_gone`.
    """
    corpus = Corpus.objects.present().select_for_update().filter(pk=corpus_id).first()
    if corpus is None:
        raise RebuildRefused("deleted meanwhile", code="corpus_gone")
    return corpus
