"""Waiting until documents are finished, and doing the work here when no worker runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

from inference.client import shared_client
from inference.errors import InferenceError
from ingestion import nudges, pipeline, rebuild
from ingestion.conf import ingestion_settings
from ingestion.errors import VectorStoreError
from ingestion.models import Document, IndexGeneration
from ingestion.vectors import shared_store

POLL_SECONDS = 0.3
PING_SECONDS = 2.0
SERVICE_SECONDS = 10.0
# How long a worker that answered is trusted when nothing moves.
TRUST_SECONDS = 20.0


class CannotFinish(Exception):
    """Nothing goes on: the corpus is paused, or a service that is needed does not answer.

    The text is the sentence for the person.
    """


def until_finished(
    ids: Collection[int], *, tell: Callable[[Sequence[Document]], None]
) -> list[Document]:
    """Return when each of these documents is ready, failed, set aside or gone.

    Where a worker runs, this only waits. Where none holds a document and none answers, the
    documents are worked on here, one after the other, by the same pipeline.

    Args:
        ids: the documents.
        tell: called with their rows each time they may have changed.

    Raises:
        CannotFinish: what is left is of a paused corpus; or there is no worker, and Chroma or the
            model server does not answer.
    """
    trusted_until = 0.0
    while True:
        rows = list(Document.objects.filter(pk__in=ids).select_related("corpus"))
        tell(rows)
        unfinished = [row for row in rows if not row.is_terminal]
        if not unfinished:
            return rows
        if all(row.corpus.paused_at for row in unfinished) and not _is_held(unfinished):
            raise CannotFinish(
                f"The corpus “{unfinished[0].corpus}” is paused; documents that are kept and wait: "
                f"{len(unfinished)}. Press “Resume” on its page; then they are read."
            )
        if time.monotonic() < trusted_until or _is_held(unfinished):
            time.sleep(POLL_SECONDS)
        elif nudges.worker_answers(PING_SECONDS):
            nudges.nudge_waiting()
            trusted_until = time.monotonic() + TRUST_SECONDS
        else:
            _work_here([row.pk for row in unfinished], ids, tell)


def until_built(
    generation: IndexGeneration, *, tell: Callable[[rebuild.Progress], None]
) -> rebuild.Progress:
    """Return when nothing remains to be built in this generation, or it is no longer built.

    Works as `until_finished` does where no worker runs.

    Args:
        generation: one that is being built.
        tell: called with how far it is each time that may have changed.

    Raises:
        CannotFinish: as `until_finished`.
    """
    trusted_until = 0.0
    while True:
        reached = rebuild.progress(generation)
        tell(reached)
        generation.refresh_from_db()
        if reached.is_complete or generation.state != IndexGeneration.State.BUILDING:
            return reached
        if generation.corpus.paused_at and not generation.builds.held().exists():
            raise CannotFinish(
                f"The corpus “{generation.corpus}” is paused, so its index is not built. Press "
                "“Resume” on its page; then it goes on."
            )
        if time.monotonic() < trusted_until or generation.builds.held().exists():
            time.sleep(POLL_SECONDS)
        elif nudges.worker_answers(PING_SECONDS):
            nudges.nudge_waiting()
            trusted_until = time.monotonic() + TRUST_SECONDS
        else:
            _check_services()
            mine = Document.objects.to_build().filter(corpus=generation.corpus_id)
            for pk in list(mine.values_list("pk", flat=True)):
                pipeline.work_on(pk)
                tell(rebuild.progress(generation))
            time.sleep(POLL_SECONDS)


def _is_held(rows: Sequence[Document]) -> bool:
    pks = [row.pk for row in rows]
    return len(pks) > Document.objects.filter(pk__in=pks).unleased().count()


def _work_here(
    unfinished: Collection[int], ids: Collection[int], tell: Callable[[Sequence[Document]], None]
) -> None:
    """Take each waiting document once."""
    due = Document.objects.in_turn().filter(pk__in=unfinished).values_list("pk", flat=True)
    _check_services()
    for pk in list(due):
        if pipeline.work_on(pk):
            tell(list(Document.objects.filter(pk__in=ids)))
    time.sleep(POLL_SECONDS)


def _check_services() -> None:
    settings = ingestion_settings()
    start = "Start the site with `make run` and run this again; what was uploaded is kept."
    try:
        shared_store(settings).heartbeat(timeout_seconds=SERVICE_SECONDS)
    except VectorStoreError as exc:
        raise CannotFinish(f"Chroma does not answer at {settings.chroma_url}. {start}") from exc
    try:
        shared_client(settings.embed_url, "").info(timeout_seconds=SERVICE_SECONDS)
    except InferenceError as exc:
        raise CannotFinish(
            f"The model server does not answer at {settings.embed_url}. {start}"
        ) from exc
