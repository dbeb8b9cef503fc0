"""What people do to corpora and documents: make, upload, retry, delete.

Each function commits what was asked for and nudges the workers; none of them waits for a
service. The work itself is in `pipeline.py` and `purge.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from django.db import transaction
from django.db.models import Count, Max, Min, Q
from django.utils import timezone

from ingestion import archives, audit, blobs, nudges, quotas, receipts
from ingestion.audit import Action
from ingestion.conf import ingestion_settings
from ingestion.errors import ParseError, UploadRefused
from ingestion.models import Corpus, Document, DocumentLabel, new_key
from ingestion.parsing import Format, sniff

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from ingestion.models import DocumentQuerySet

State = Document.State
# Gone for a person who uploads: a failed document may be uploaded again.
NOT_HELD = (State.FAILED, State.DELETING)
# Codes that stand on a ready document whose stored file `verify` found missing or changed.
FILE_LOST = ("file_missing", "file_damaged")


def create_corpus(
    *,
    owner: User,
    name: str,
    description: str = "",
    visibility: str = Corpus.Visibility.PRIVATE,
    language: str = "en",
    doubtful: str = Corpus.Doubtful.WARN,
    instructions: str = "",
) -> Corpus:
    """Make a corpus.

    Raises:
        django.core.exceptions.ValidationError: the name is empty, too long or in use.
    """
    corpus = Corpus(
        owner=owner,
        name=name.strip(),
        description=description.strip(),
        visibility=visibility,
        language=language,
        doubtful=doubtful,
        instructions=instructions,
    )
    corpus.full_clean()
    with transaction.atomic():
        corpus.save(force_insert=True)
        audit.record(Action.CORPUS_CREATED, person=owner, about=corpus, visibility=visibility)
    return corpus


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file of an archive that was not taken, and why."""

    path: str
    error: UploadRefused


@dataclass(frozen=True, slots=True)
class Received:
    """What became of an upload: its documents, each with its path in the archive or its name."""

    documents: Sequence[tuple[str, Document]]
    refusals: Sequence[Refusal] = ()
    is_archive: bool = False


def receive_all(
    *,
    corpus: Corpus,
    person: User | None,
    name: str,
    content: BinaryIO,
    replace: bool = False,
    earlier: Document | None = None,
) -> Received:
    """Take a file in, or every file of a ZIP, each as a document of its own.

    A file of a ZIP that is refused keeps no other from being taken. Arguments as `receive`;
    of a ZIP, files whose names occur once in it are new versions of documents of these names.

    Raises:
        UploadRefused: as `receive`; for a ZIP also `password` if all of it is encrypted.
    """
    key, name = new_key(), blobs.clean_name(name)
    draft = _draft(content, key)
    try:
        if _kind(draft.path, name) is not Format.ZIP:
            given = _Given(corpus, person, replace=replace, earlier=earlier)
            return Received(documents=[(name, _keep(draft, key, name, given))])
        return _unpack(draft.path, corpus=corpus, person=person, replace=replace)
    finally:
        draft.path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Given:
    """Where an upload goes and what it replaces, as `receive` has it."""

    corpus: Corpus
    person: User | None
    replace: bool = False
    earlier: Document | None = None


def receive(
    *,
    corpus: Corpus,
    person: User | None,
    name: str,
    content: BinaryIO,
    replace: bool = False,
    earlier: Document | None = None,
) -> Document:
    """Take one file in: when this returns, its bytes and its row survive a power cut.

    A new version answers from the moment it is ready; until then, and if it fails, the earlier
    one does. It carries the earlier one's labels. A document that failed with the same bytes is
    tried again, and no second one made.

    Args:
        corpus: one that the person may edit; the caller has checked that.
        person: who uploads, for the record.
        name: what the file is called; only a label.
        content: the bytes, read once to the end.
        replace: whether it is a new version of the one document of this name, if there is one
            and not several.
        earlier: the document of this corpus of which it is a new version, whatever its name.

    Raises:
        UploadRefused: `empty`, `too_large`, `disk_full`, `duplicate` (with the id of the
            document that is there), `quota`, `corpus_gone`, or what `sniff` found: `unsupported`,
            `type_mismatch`, `password`, `corrupt`; `nested_archive` for a ZIP, which
            `receive_all` takes. Nothing is left behind.
    """
    key, name = new_key(), blobs.clean_name(name)
    draft = _draft(content, key)
    try:
        return _keep(draft, key, name, _Given(corpus, person, replace=replace, earlier=earlier))
    finally:
        draft.path.unlink(missing_ok=True)


def _unpack(path: Path, *, corpus: Corpus, person: User | None, replace: bool) -> Received:
    documents: list[tuple[str, Document]] = []
    refusals: list[Refusal] = []
    with archives.opened(path) as archive:
        members = archive.members()
        named = Counter(blobs.clean_name(member.path) for member in members)
        for member in members:
            try:
                with archive.content(member) as content:
                    document = receive(
                        corpus=corpus,
                        person=person,
                        name=member.path,
                        content=content,
                        replace=replace and named[blobs.clean_name(member.path)] == 1,
                    )
            except UploadRefused as exc:
                if exc.code in ("disk_full", "corpus_gone"):
                    raise
                refusals.append(Refusal(member.path, exc))
            else:
                documents.append((member.path, document))
    return Received(documents=documents, refusals=refusals, is_archive=True)


def _draft(content: BinaryIO, key: str) -> blobs.Draft:
    settings = ingestion_settings()
    return blobs.write_draft(
        content,
        settings.blobs_dir,
        key,
        max_bytes=settings.upload_max_bytes,
        floor_bytes=settings.disk_floor_bytes,
    )


def _kind(path: Path, name: str) -> Format:
    try:
        return sniff(path, name)
    except ParseError as exc:
        raise UploadRefused(str(exc), code=exc.code) from exc


def _keep(draft: blobs.Draft, key: str, name: str, given: _Given) -> Document:
    """Give a draft its place and its row, or leave nothing of it."""
    settings = ingestion_settings()
    corpus = given.corpus
    kind = _kind(draft.path, name)
    if kind is Format.ZIP:
        raise UploadRefused("a ZIP", code="nested_archive")
    try:
        if wanted := _lacking_its_file(corpus, draft.sha256):
            return _put_back(draft, wanted)
        _refuse_duplicate(corpus, draft.sha256)
        if again := _begun_anew(draft, name, kind, corpus):
            return again
        blobs.publish(draft, settings.blobs_dir, key)
        with transaction.atomic():
            # The lock makes two uploads of one file at one moment come one after the other.
            if not Corpus.objects.present().select_for_update().filter(pk=corpus.pk).first():
                raise UploadRefused("deleted meanwhile", code="corpus_gone")
            _refuse_duplicate(corpus, draft.sha256)
            quotas.check(corpus, size_bytes=draft.size_bytes)
            document = Document.objects.create(
                corpus=corpus,
                uploaded_by=given.person,
                name=name,
                format=kind.value,
                size_bytes=draft.size_bytes,
                sha256=draft.sha256,
                blob_key=key,
            )
            if earlier := _earlier(given, document):
                _follow(document, earlier)
    except BaseException:
        blobs.remove(settings.blobs_dir, key)
        raise
    _nudge_on_commit()
    return document


def _earlier(given: _Given, document: Document) -> Document | None:
    """The newest version of the document that this one replaces, if it replaces one."""
    others = Document.objects.filter(corpus=given.corpus).exclude(pk=document.pk)
    others = others.exclude(state=State.DELETING)
    if given.earlier is not None:
        return others.filter(pk=given.earlier.pk).first()
    if not given.replace:
        return None
    named = others.filter(name=document.name).order_by("-version", "-pk")
    lineages = {row.lineage or row.blob_key for row in named}
    return named[0] if len(lineages) == 1 else None


def _follow(document: Document, earlier: Document) -> None:
    """Make a document the next version of another, with its labels."""
    lineage = earlier.lineage or earlier.blob_key
    if not earlier.lineage:
        Document.objects.filter(pk=earlier.pk).update(lineage=lineage)
    last = Document.objects.filter(lineage=lineage).aggregate(last=Max("version"))["last"]
    document.lineage, document.version = lineage, last + 1
    document.save(update_fields=["lineage", "version"])
    DocumentLabel.objects.bulk_create(
        DocumentLabel(document=document, name=label.name, value=label.value)
        for label in earlier.labels.all()
    )


def stand_alone(*, document: Document) -> None:
    """Make one version of a document a document of its own, which answers beside the others."""
    Document.objects.filter(pk=document.pk).update(lineage="", version=1)


def label(
    *,
    documents: DocumentQuerySet,
    add: Sequence[tuple[str, str]],
    remove: Sequence[tuple[str, str]] = (),
    only: bool = False,
) -> int:
    """Give documents labels and take labels from them. Returns how many documents.

    Args:
        documents: those that the person may edit; the caller has checked that.
        add, remove: (name, value) pairs.
        only: whether they are to carry nothing but what is added.
    """
    with transaction.atomic():
        pks = list(documents.order_by().values_list("pk", flat=True))
        held = DocumentLabel.objects.filter(document__in=pks)
        if only:
            held.delete()
        for name, value in remove:
            held.filter(name=name, value=value).delete()
        DocumentLabel.objects.bulk_create(
            (
                DocumentLabel(document_id=pk, name=name, value=value)
                for pk in pks
                for name, value in dict.fromkeys(add)
            ),
            ignore_conflicts=True,
        )
    return len(pks)


def pause(*, corpus: Corpus) -> None:
    """Let the documents of a corpus wait; what a worker is at now is finished, answers go on."""
    Corpus.objects.filter(pk=corpus.pk, paused_at=None).update(paused_at=timezone.now())


def resume(*, corpus: Corpus) -> None:
    """Go on with the documents of a paused corpus."""
    Corpus.objects.filter(pk=corpus.pk).update(paused_at=None)
    Document.objects.filter(corpus=corpus).unfinished().update(nudged_at=None)
    _nudge_on_commit()


def retry(*, documents: DocumentQuerySet) -> int:
    """Begin anew with documents that failed, and at once with those that wait for a service.

    Returns how many. Embeddings that are there are kept.
    """
    now = timezone.now()
    failed = documents.filter(state__in=(State.FAILED, State.QUARANTINED)).update(
        state=State.RECEIVED,
        state_since=now,
        error_code="",
        error_detail="",
        crashes=0,
        retry_at=None,
        nudged_at=None,
    )
    blocked = documents.unfinished().exclude(retry_at=None)
    waiting = blocked.update(retry_at=None, nudged_at=None)
    _nudge_on_commit()
    return failed + waiting


def with_file(documents: DocumentQuerySet) -> DocumentQuerySet:
    """Those of these documents that are ready and whose stored file is there, as far as known."""
    return documents.filter(state=State.READY).exclude(error_code__in=FILE_LOST)


def read_again(*, documents: DocumentQuerySet) -> int:
    """Read ready documents anew from their files, as after a language for OCR was installed.

    Until each is ready again no answer rests on it. Embeddings of passages that come out the same
    are kept. Others than `with_file` are left as they are. Returns how many.
    """
    count = with_file(documents).update(
        state=State.RECEIVED, state_since=timezone.now(), error_code="", nudged_at=None
    )
    _nudge_on_commit()
    return count


def request_deletion(*, documents: DocumentQuerySet, person: User | None = None) -> int:
    """Hide documents at once and for good; workers purge what they left. Returns how many.

    Earlier versions of a document go with it. Each gets a receipt, on which the workers note what
    they removed from where. It wins over a stage that is running: the worker's next write finds
    the row taken.

    Args:
        documents: those that the person may edit; the caller has checked that.
        person: who deletes, for the receipt.
    """
    with transaction.atomic():
        going = documents.with_versions()
        going = going.exclude(state=State.DELETING)
        pks = list(going.select_for_update().values_list("pk", flat=True))
        going = Document.objects.filter(pk__in=pks)
        receipts.open_for_documents(going, person=person)
        counts = Counter(going.values_list("corpus_id", flat=True))
        for corpus in Corpus.objects.filter(pk__in=counts):
            audit.record(
                Action.DOCUMENTS_DELETED, person=person, about=corpus, documents=counts[corpus.pk]
            )
        return _hide(going)


def _hide(documents: DocumentQuerySet) -> int:
    count = documents.exclude(state=State.DELETING).update(
        state=State.DELETING,
        state_since=timezone.now(),
        error_code="",
        error_detail="",
        retry_at=None,
        nudged_at=None,
    )
    _nudge_on_commit()
    return count


def delete_corpus(*, corpus: Corpus, person: User | None = None) -> None:
    """Hide a corpus and its documents at once and for good; workers purge what they left.

    The name is free again at once. There is one receipt for all of it.
    """
    now = timezone.now()
    with transaction.atomic():
        if not Corpus.objects.present().select_for_update().filter(pk=corpus.pk).exists():
            return
        receipts.open_for_corpus(corpus, person=person)
        audit.record(Action.CORPUS_DELETED, person=person, about=corpus)
        _hide(Document.objects.filter(corpus=corpus))
        Corpus.objects.present().filter(pk=corpus.pk).update(
            deleted_at=now, name=f"{corpus.name[:90]} (deleted {new_key()})"
        )
        transaction.on_commit(nudges.nudge_deleted_corpora, robust=True)


def blob_path(document: Document) -> Path:
    """Where the uploaded bytes of a document lie."""
    return blobs.blob_file(ingestion_settings().blobs_dir, document.blob_key)


def queue_state() -> dict[str, Any]:
    """How the work stands, from SQL alone.

    Keys: `waiting`, `working`, `blocked` (waiting for a service), `deleting`, `failed`:
    documents; `oldest_waiting_seconds`: float or None.
    """
    now = timezone.now()
    leased = Q(lease_until__gte=now)
    queued = Q(state__in=[s for s in Document.WORK_STATES if s != State.DELETING])
    queued &= Q(corpus__paused_at=None)
    counts = Document.objects.aggregate(
        waiting=Count("pk", filter=queued & ~leased & Q(error_code="")),
        blocked=Count("pk", filter=queued & ~leased & ~Q(error_code="")),
        working=Count("pk", filter=queued & leased),
        deleting=Count("pk", filter=Q(state=State.DELETING)),
        failed=Count("pk", filter=Q(state__in=(State.FAILED, State.QUARANTINED))),
        oldest=Min("state_since", filter=queued & ~leased),
    )
    oldest = counts.pop("oldest")
    age: timedelta | None = now - oldest if oldest else None
    return {**counts, "oldest_waiting_seconds": age.total_seconds() if age else None}


def _lacking_its_file(corpus: Corpus, sha256: str) -> Document | None:
    """A document of this corpus whose stored file, with this content, was lost or damaged."""
    lacking = Document.objects.filter(
        corpus=corpus, sha256=sha256, state=State.READY, error_code__in=FILE_LOST
    )
    return lacking.order_by("pk").first()


def _put_back(draft: blobs.Draft, document: Document) -> Document:
    """Give a document its file again, from an upload of the same bytes."""
    blobs.publish(draft, ingestion_settings().blobs_dir, document.blob_key)
    Document.objects.filter(pk=document.pk, error_code__in=FILE_LOST).update(error_code="")
    document.error_code = ""
    return document


def _begun_anew(draft: blobs.Draft, name: str, kind: Format, corpus: Corpus) -> Document | None:
    """The document that failed with these bytes, set to work again under the name it has now."""
    failed = Document.objects.filter(corpus=corpus, sha256=draft.sha256, state=State.FAILED)
    document = failed.newest().order_by("-version", "-pk").first()
    if document is None:
        return None
    blobs.publish(draft, ingestion_settings().blobs_dir, document.blob_key)
    mine = Document.objects.filter(pk=document.pk)
    with transaction.atomic():
        failed.filter(pk=document.pk).update(name=name, format=kind.value)
        retry(documents=mine)
    return mine.first()


def _refuse_duplicate(corpus: Corpus, sha256: str) -> None:
    held = Document.objects.filter(corpus=corpus, sha256=sha256).exclude(state__in=NOT_HELD)
    held = held.newest()
    pk = held.order_by("pk").values_list("pk", flat=True).first()
    if pk is not None:
        raise UploadRefused("same content", code="duplicate", document_id=pk)


def _nudge_on_commit() -> None:
    transaction.on_commit(nudges.nudge_waiting, robust=True)
