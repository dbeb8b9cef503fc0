"""Corpora, documents and chunks: the rows that are the truth.

Chroma and the lexical index hold copies that can be rebuilt from here alone: a chunk row
keeps its text and its embedding. The document row is also the outbox: its state says what
remains to be done, and a worker takes it with one conditional UPDATE (`claim`).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from django.conf import settings
from django.core.validators import MaxLengthValidator
from django.db import models
from django.db.models import Exists, F, OuterRef, Q, Window
from django.db.models.functions import Length, RowNumber
from django.utils import timezone

from ingestion.audit import AuditEntry as AuditEntry  # a model: Django finds it here
from ingestion.embeddings import STORED
from ingestion.errors import SENTENCES
from ingestion.imports import CorpusImport as CorpusImport  # likewise
from ingestion.types import ChunkOptions, DocumentFilter, Strategy

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User


# How long a generation that was live can be gone back to.
KEPT_FOR_ROLLBACK = timedelta(days=1)
MAX_INSTRUCTIONS = 2_000  # characters


def new_key() -> str:
    """A random name for what lies outside SQL: 16 hexadecimal digits."""
    return uuid.uuid4().hex[:16]


class ChunkStrategy(models.TextChoices):
    """`ingestion.types.Strategy` as people read it."""

    STRUCTURE = Strategy.STRUCTURE, "Structure"
    SENTENCE = Strategy.SENTENCE, "Sentences"
    FIXED = Strategy.FIXED, "Fixed size"
    SEMANTIC = Strategy.SEMANTIC, "Meaning"


class ShareQuerySet(models.QuerySet["Share"]):
    """Sets of shares."""

    def to(self, user: User) -> ShareQuerySet:
        """What was shared with this person, by name or through a group they are in."""
        return self.filter(Q(person=user) | Q(group__in=user.groups.order_by().values("pk")))


class Share(models.Model):
    """A corpus shared with one person or one group, as viewer, editor or owner.

    A viewer asks and reads; an editor also adds, changes and deletes documents and builds
    indexes; an owner also changes settings, shares, and deletes the corpus. The owner named on
    the corpus itself needs no share.
    """

    class Role(models.TextChoices):
        VIEWER = "viewer", "Viewer: asks and reads"
        EDITOR = "editor", "Editor: adds, changes and deletes documents as well"
        OWNER = "owner", "Owner: settings, sharing and deleting the corpus as well"

    corpus = models.ForeignKey("Corpus", on_delete=models.CASCADE, related_name="shares")
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="shares",
    )
    group = models.ForeignKey(
        "auth.Group", null=True, blank=True, on_delete=models.CASCADE, related_name="shares"
    )
    role = models.CharField(max_length=10, choices=Role, default=Role.VIEWER)
    granted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ShareQuerySet.as_manager()

    class Meta:
        ordering = ["group__name", "person__username", "pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(person=None) ^ Q(group=None), name="share_with_a_person_or_a_group"
            ),
            models.UniqueConstraint(fields=["corpus", "person"], name="one_share_per_person"),
            models.UniqueConstraint(fields=["corpus", "group"], name="one_share_per_group"),
        ]

    def __str__(self) -> str:
        return f"{self.corpus}: {self.holder} as {self.role}"

    @property
    def holder(self) -> str:
        """The name of the person or group."""
        return str(self.group or self.person)


class CorpusQuerySet(models.QuerySet["Corpus"]):
    """The one place that decides who may do what with which corpus."""

    def readable_by(self, user: User | AnonymousUser) -> CorpusQuerySet:
        """Corpora this person may search: their own, shared ones, and those open to everybody."""
        return self._of(user, tuple(Share.Role), Q(visibility=Corpus.Visibility.OPEN))

    def editable_by(self, user: User | AnonymousUser) -> CorpusQuerySet:
        """Corpora whose documents this person may add, retry and delete."""
        return self._of(user, (Share.Role.EDITOR, Share.Role.OWNER))

    def owned_by(self, user: User | AnonymousUser) -> CorpusQuerySet:
        """Corpora that this person may set, share and delete: their own, or shared as owner."""
        return self._of(user, (Share.Role.OWNER,))

    def _of(
        self, user: User | AnonymousUser, roles: Iterable[Share.Role], others: Q | None = None
    ) -> CorpusQuerySet:
        if not user.is_authenticated or not user.is_active:
            return self.none()
        shared = Share.objects.to(user).filter(role__in=list(roles)).order_by().values("corpus")
        wanted = Q(owner=user) | Q(pk__in=shared)
        return self.present().filter(wanted if others is None else wanted | others)

    def present(self) -> CorpusQuerySet:
        """Corpora that nobody has deleted; the others only wait until their stores are purged."""
        return self.filter(deleted_at=None)


class Corpus(models.Model):
    """A set of documents that is searched together: private, shared, or open to everybody."""

    class Visibility(models.TextChoices):
        PRIVATE = "private", "Only those it is shared with"
        OPEN = "open", "Everybody signed in"

    class Doubtful(models.TextChoices):
        ANSWER = "answer", "Answer all the same"
        WARN = "warn", "Answer with a warning"
        REFUSE = "refuse", "Do not answer; show the closest passages"

    class Context(models.TextChoices):
        NONE = "none", "The passage alone"
        NEIGHBOURS = "neighbours", "Its neighbours as well"
        SECTION = "section", "Its section as well"

    name = models.CharField(max_length=120)
    description = models.CharField(max_length=500, blank=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="corpora"
    )
    visibility = models.CharField(
        max_length=10, choices=Visibility, default=Visibility.PRIVATE, help_text="Who may ask it."
    )
    language = models.CharField(
        max_length=10, default="en", help_text="Language of the keyword analyser."
    )
    doubtful = models.CharField(
        "when no passage seems to answer",
        max_length=10,
        choices=Doubtful,
        default=Doubtful.WARN,
        help_text="Decided by the reranker's threshold; without a reranker every question is "
        "answered.",
    )
    instructions = models.TextField(
        "instructions for the language model",
        blank=True,
        validators=[MaxLengthValidator(MAX_INSTRUCTIONS)],
        help_text="Tone, terms, form: told to the language model with every question to this "
        "corpus, after the rules that hold for all.",
    )
    chunk_strategy = models.CharField(
        max_length=10, choices=ChunkStrategy, default=ChunkStrategy.STRUCTURE
    )
    chunk_max_tokens = models.PositiveIntegerField(
        null=True, blank=True, help_text="Empty: as the site is set."
    )
    chunk_overlap_tokens = models.PositiveIntegerField(
        null=True, blank=True, help_text="Empty: as the site is set."
    )
    context = models.CharField(
        max_length=10,
        choices=Context,
        default=Context.NONE,
        help_text="What the language model reads around a chosen passage.",
    )
    context_max_tokens = models.PositiveIntegerField(
        default=600, help_text="Most tokens of a passage with what stands around it."
    )
    retrieval = models.JSONField(
        default=dict,
        blank=True,
        editable=False,
        help_text="Knobs of the search that differ from the site's, by name.",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    paused_at = models.DateTimeField(
        null=True, blank=True, help_text="Set while its documents wait because a person said so."
    )
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)
    quota_mb = models.PositiveIntegerField(
        "most MB", null=True, blank=True, help_text="Of uploaded files. Empty: as the site is set."
    )
    quota_documents = models.PositiveIntegerField(
        "most documents", null=True, blank=True, help_text="Empty: as the site is set."
    )

    objects = CorpusQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "corpora"
        ordering = ["name", "pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "name"],
                name="one_corpus_of_a_name_per_owner",
                violation_error_message="You already have a corpus of this name.",
            )
        ]

    def __str__(self) -> str:
        return self.name

    def chunk_options(self, *, site: ChunkOptions) -> ChunkOptions:
        """How the next generation is to be cut; `site` fills in what is not set here."""
        overlap = self.chunk_overlap_tokens
        return ChunkOptions(
            strategy=Strategy(self.chunk_strategy),
            max_tokens=self.chunk_max_tokens or site.max_tokens,
            overlap_tokens=site.overlap_tokens if overlap is None else overlap,
        )


class PersonQuota(models.Model):
    """What the corpora of one person may hold together, in place of the site's limits."""

    person = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="quota"
    )
    mb = models.PositiveIntegerField(
        "most MB", null=True, blank=True, help_text="Of uploaded files. Empty: as the site is set."
    )
    documents = models.PositiveIntegerField(
        "most documents", null=True, blank=True, help_text="Empty: as the site is set."
    )

    class Meta:
        verbose_name = "limits of a person"
        verbose_name_plural = "limits of a person"

    def __str__(self) -> str:
        return f"limits of {self.person}"


class IndexGenerationQuerySet(models.QuerySet["IndexGeneration"]):
    """Sets of generations."""

    def due_for_purge(self) -> IndexGenerationQuerySet:
        """Those that nobody can use any more."""
        over = Q(
            state=IndexGeneration.State.OLD, retired_at__lte=timezone.now() - KEPT_FOR_ROLLBACK
        )
        return self.filter(Q(state=IndexGeneration.State.DISCARDED) | over)

    def in_use(self) -> IndexGenerationQuerySet:
        """Those that are asked, built or kept to go back to, of corpora that are there."""
        return self.exclude(state=IndexGeneration.State.DISCARDED).filter(corpus__deleted_at=None)

    def claim_copying(self, pk: int, *, lease_seconds: int) -> IndexGeneration | None:
        """Take a generation to fill its indexes anew; None while another worker is at it.

        `copied_until` is the token: it is renewed and given back by the value it has.
        """
        now = timezone.now()
        until = now + timedelta(seconds=lease_seconds)
        free = Q(copied_until=None) | Q(copied_until__lt=now)
        if not self.in_use().filter(free, pk=pk).update(copied_until=until):
            return None
        return self.select_related("corpus").filter(pk=pk, copied_until=until).first()


class IndexGeneration(models.Model):
    """One build of a corpus's indexes with one embedding model and one way of chunking.

    BUILDING -> LIVE -> OLD -> (purged), OLD -> LIVE (rolled back); BUILDING, OLD -> DISCARDED

    Questions go to the LIVE one. `key` names its Chroma collection and lexical folder. An OLD
    one may become live again until a day after `retired_at`; then, and once it is DISCARDED,
    it is purged.
    """

    class State(models.TextChoices):
        BUILDING = "building"
        LIVE = "live"
        OLD = "old"
        DISCARDED = "discarded"

    corpus = models.ForeignKey(Corpus, on_delete=models.CASCADE, related_name="generations")
    key = models.CharField(max_length=32, unique=True, default=new_key, editable=False)
    state = models.CharField(max_length=10, choices=State, default=State.LIVE)
    embedding_model = models.CharField(max_length=200)
    embedding_revision = models.CharField(max_length=80)
    dimension = models.PositiveIntegerField()
    pipeline_version = models.CharField(max_length=20)
    chunk_strategy = models.CharField(
        max_length=10, choices=ChunkStrategy, default=ChunkStrategy.STRUCTURE
    )
    chunk_max_tokens = models.PositiveIntegerField(default=256)
    chunk_overlap_tokens = models.PositiveIntegerField(default=32)
    created_at = models.DateTimeField(auto_now_add=True)
    retired_at = models.DateTimeField(null=True, blank=True)
    collection_revision = models.PositiveIntegerField(
        default=0, help_text="How often its vectors were copied into a new collection."
    )
    failed_probes = models.PositiveIntegerField(
        default=0, help_text="Queries in a row that its collection failed."
    )
    failing_since = models.DateTimeField(null=True, blank=True)
    copied_until = models.DateTimeField(
        null=True, blank=True, help_text="Lease of the worker that fills its indexes anew."
    )
    residue_at = models.DateTimeField(
        null=True, blank=True, help_text="Last deletion whose traces its files still hold."
    )

    objects = IndexGenerationQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["corpus"],
                condition=Q(state="live"),
                name="one_live_generation_per_corpus",
            ),
            models.UniqueConstraint(
                fields=["corpus"],
                condition=Q(state="building"),
                name="one_building_generation_per_corpus",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.corpus} {self.key} ({self.state})"

    @property
    def collection_name(self) -> str:
        """The Chroma collection of this generation."""
        return self.collection_of(self.collection_revision)

    def collection_of(self, revision: int) -> str:
        """The collection that it has after so many fresh copies."""
        return f"c-{self.key}-{revision}" if revision else f"c-{self.key}"

    @property
    def searchable_chunks(self) -> models.QuerySet[Chunk]:
        """The passages that both its indexes must hold: those of documents complete in it."""
        if self.state == self.State.LIVE:
            return self.chunks.filter(document__state=Document.State.READY)
        complete = DocumentBuild.objects.filter(
            generation=self, document=OuterRef("document"), state=Document.State.READY
        )
        return self.chunks.filter(Exists(complete)).exclude(document__state=Document.State.DELETING)

    def embedded(self, chunks: models.QuerySet[Chunk]) -> models.QuerySet[Chunk]:
        """Those of these passages whose embedding is there and whole."""
        size = self.dimension * STORED.itemsize
        return chunks.annotate(embedding_bytes=Length("embedding")).filter(embedding_bytes=size)

    @property
    def present_chunks(self) -> models.QuerySet[Chunk]:
        """The passages that its indexes may hold: those of documents that nobody has deleted."""
        return self.chunks.exclude(document__state=Document.State.DELETING).exclude(
            document__corpus__deleted_at__isnull=False
        )

    @property
    def chunk_options(self) -> ChunkOptions:
        """How its documents are cut."""
        return ChunkOptions(
            strategy=Strategy(self.chunk_strategy),
            max_tokens=self.chunk_max_tokens,
            overlap_tokens=self.chunk_overlap_tokens,
        )


class DocumentQuerySet(models.QuerySet["Document"]):
    """Sets of documents, and the atomic steps by which workers take them."""

    def readable_by(self, user: User | AnonymousUser) -> DocumentQuerySet:
        """Documents of corpora this person may search."""
        return self.filter(corpus__in=Corpus.objects.readable_by(user)).exclude(
            state=Document.State.DELETING
        )

    def editable_by(self, user: User | AnonymousUser) -> DocumentQuerySet:
        """Documents this person may retry and delete."""
        return self.filter(corpus__in=Corpus.objects.editable_by(user)).exclude(
            state=Document.State.DELETING
        )

    def searchable(self) -> DocumentQuerySet:
        """Documents whose passages may be shown in an answer.

        Of several versions the newest that is ready: the moment it is, by the one UPDATE that
        makes it ready, its passages take the place of the earlier version's.
        """
        return self.filter(state=Document.State.READY, enabled=True).filter(~self._replaced())

    def replaced(self) -> DocumentQuerySet:
        """Earlier versions of documents whose later version is ready."""
        return self.filter(self._replaced())

    def newest(self) -> DocumentQuerySet:
        """Documents without their replaced versions, as lists show them."""
        return self.filter(~self._replaced())

    @staticmethod
    def _replaced() -> Exists:
        later = Document.objects.filter(
            lineage=OuterRef("lineage"),
            version__gt=OuterRef("version"),
            state=Document.State.READY,
        )
        return Exists(later.exclude(lineage=""))

    def with_versions(self) -> DocumentQuerySet:
        """These documents and all earlier versions of each."""
        later = self.model.objects.filter(
            pk__in=self.order_by().values("pk"),
            lineage=OuterRef("lineage"),
            version__gt=OuterRef("version"),
        )
        return Document.objects.filter(
            Q(pk__in=self.order_by().values("pk")) | Q(Exists(later.exclude(lineage="")))
        )

    def passing(self, only: DocumentFilter) -> DocumentQuerySet:
        """Documents that such a filter lets through."""
        found = self.labelled(only.labels)
        if not only.documents:
            return found
        chosen = Document.objects.filter(pk__in=only.documents).exclude(lineage="")
        lineages = chosen.order_by().values("lineage")
        return found.filter(Q(pk__in=only.documents) | Q(lineage__in=lineages))

    def labelled(self, labels: Iterable[tuple[str, str]]) -> DocumentQuerySet:
        """Documents that carry, of each name among these labels, one of its values."""
        wanted: dict[str, set[str]] = {}
        for name, value in labels:
            wanted.setdefault(name, set()).add(value)
        found = self
        for name, values in wanted.items():
            fitting = DocumentLabel.objects.filter(
                document=OuterRef("pk"), name=name, value__in=values
            )
            found = found.filter(Exists(fitting))
        return found

    def unfinished(self) -> DocumentQuerySet:
        """Documents that still have work to be done on them."""
        return self.filter(state__in=Document.WORK_STATES)

    def unleased(self) -> DocumentQuerySet:
        """Documents that no worker holds now."""
        return self.filter(Q(lease_until=None) | Q(lease_until__lt=timezone.now()))

    def in_turn(self) -> DocumentQuerySet:
        """Documents that a worker could take now, in the order in which it should.

        Oldest first for each owner, owners in rotation: a thousand files of one person do
        not keep another's single file waiting. What waits before a retry is left out, and
        so are corpora being deleted, which go as a whole.
        """
        due = Q(retry_at=None) | Q(retry_at__lte=timezone.now())
        return self.unfinished().filter(due).unpaused()._fairly()

    def to_build(self) -> DocumentQuerySet:
        """Ready documents that a generation being built still lacks, in the same order."""
        return self._buildable()._fairly()

    def _buildable(self) -> DocumentQuerySet:
        due = DocumentBuild.objects.due().filter(document=OuterRef("pk"))
        return self.filter(Exists(due), state=Document.State.READY).unpaused()

    def unpaused(self) -> DocumentQuerySet:
        """Without those of paused corpora; a deletion goes on all the same."""
        paused = Corpus.objects.exclude(paused_at=None)
        return self.exclude(~Q(state=Document.State.DELETING), corpus__in=paused)

    def _fairly(self) -> DocumentQuerySet:
        place = Window(
            RowNumber(),
            partition_by=[F("corpus__owner")],
            order_by=[F("created_at").asc(), F("pk").asc()],
        )
        return (
            self.unleased()
            .filter(corpus__deleted_at=None)
            .annotate(place=place)
            .order_by("place", "created_at", "pk")
        )

    def claim(self, pk: int, *, lease_seconds: int) -> Document | None:
        """Take the document for one worker, or return None if it is not to be had.

        One conditional UPDATE decides the race. Free means unfinished and without a
        lease, or under one that ran out, and not of a paused corpus. `claims` is the fencing
        token of every later write (`advance`, `finish`).
        """
        return self.unfinished().unpaused()._take(pk, lease_seconds=lease_seconds)

    def claim_to_build(self, pk: int, *, lease_seconds: int) -> DocumentBuild | None:
        """Take a ready document for the generation being built, or return None.

        The same lease and the same fencing token as those of `claim`, so that nobody else
        has the document meanwhile, and a person's delete wins here, too.
        """
        document = self._buildable()._take(pk, lease_seconds=lease_seconds)
        if document is None:
            return None
        build = DocumentBuild.objects.due().filter(document=document)
        build.update(claims=document.claims)
        found = build.select_related("generation", "generation__corpus").first()
        if found is None:  # cancelled in this moment
            document.release()
            return None
        found.document = document
        return found

    def _take(self, pk: int, *, lease_seconds: int) -> Document | None:
        now = timezone.now()
        taken = (
            self.unleased()
            .filter(pk=pk)
            .update(
                lease_until=now + timedelta(seconds=lease_seconds),
                claims=F("claims") + 1,
                nudged_at=None,  # the message did its work: if the worker dies, nudge anew
            )
        )
        return Document.objects.select_related("corpus").get(pk=pk) if taken else None


class Document(models.Model):
    """One uploaded file on its way to being searchable.

    RECEIVED -> PARSING -> CHUNKING -> EMBEDDING -> INDEXING -> READY
                  any of these -> FAILED(error_code), QUARANTINED
                  FAILED, QUARANTINED -> RECEIVED (a person's retry)
                  any -> DELETING -> row gone

    The state names the stage to do; `lease_until` says whether somebody is at it.
    `claims` counts the times a worker took it and fences off the slower of two;
    `crashes` counts only the deaths of the document's own parser. A document in a working
    state with an `error_code` waits for a service until `retry_at`.
    """

    class State(models.TextChoices):
        RECEIVED = "received", "Waiting"
        PARSING = "parsing", "Reading"
        CHUNKING = "chunking", "Splitting into passages"
        EMBEDDING = "embedding", "Embedding"
        INDEXING = "indexing", "Indexing"
        READY = "ready", "Ready"
        FAILED = "failed", "Failed"
        QUARANTINED = "quarantined", "Set aside"
        DELETING = "deleting", "Deleting"

    WORK_STATES = (
        State.RECEIVED,
        State.PARSING,
        State.CHUNKING,
        State.EMBEDDING,
        State.INDEXING,
        State.DELETING,
    )

    corpus = models.ForeignKey(Corpus, on_delete=models.CASCADE, related_name="documents")
    uploaded_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    name = models.CharField(max_length=255)
    title = models.CharField(max_length=500, blank=True)
    format = models.CharField(max_length=20, blank=True)
    size_bytes = models.PositiveBigIntegerField()
    sha256 = models.CharField(max_length=64)
    blob_key = models.CharField(max_length=32, unique=True, default=new_key, editable=False)
    enabled = models.BooleanField(default=True)
    lineage = models.CharField(
        max_length=32,
        blank=True,
        db_index=True,
        editable=False,
        help_text="The same for all versions of one document; empty where there is but one.",
    )
    version = models.PositiveIntegerField(default=1, editable=False)

    state = models.CharField(max_length=12, choices=State, default=State.RECEIVED)
    state_since = models.DateTimeField(default=timezone.now)
    error_code = models.CharField(max_length=40, blank=True)
    error_detail = models.TextField(blank=True)
    notice = models.TextField(blank=True, help_text="What was left out of it, in sentences")
    progress_done = models.PositiveIntegerField(default=0)
    progress_total = models.PositiveIntegerField(default=0)
    claims = models.PositiveIntegerField(default=0)
    crashes = models.PositiveIntegerField(default=0)
    lease_until = models.DateTimeField(null=True, blank=True)
    nudged_at = models.DateTimeField(null=True, blank=True)
    retry_at = models.DateTimeField(null=True, blank=True)

    pages = models.PositiveIntegerField(default=0)
    chunk_count = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    ready_at = models.DateTimeField(null=True, blank=True)

    objects = DocumentQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-pk"]
        indexes = [models.Index(fields=["corpus", "state"]), models.Index(fields=["sha256"])]

    def __str__(self) -> str:
        return self.name

    @property
    def error_sentence(self) -> str:
        """What a person reads about a failure; empty when there is none."""
        if not self.error_code:
            return ""
        return SENTENCES.get(self.error_code, SENTENCES["internal_error"])

    @property
    def is_terminal(self) -> bool:
        """Whether nothing remains to be done."""
        return self.state not in self.WORK_STATES

    @property
    def is_failed(self) -> bool:
        """Whether a person may retry it."""
        return self.state in (self.State.FAILED, self.State.QUARANTINED)

    def _fenced(self) -> models.QuerySet[Document]:
        """This row while the claim of this object is the last one."""
        return Document.objects.filter(pk=self.pk, claims=self.claims, lease_until__isnull=False)

    def advance(self, *, lease_seconds: int, **changes: Any) -> bool:
        """Write `changes` and renew the lease. False if another worker took over."""
        now = timezone.now()
        if changes.get("state", self.state) != self.state:
            changes.setdefault("state_since", now)
        changes["lease_until"] = now + timedelta(seconds=lease_seconds)
        # A person's delete wins over a stage that is still running.
        mine = self._fenced()
        if self.state != self.State.DELETING:
            mine = mine.exclude(state=self.State.DELETING)
        if not mine.update(**changes):
            return False
        for name, value in changes.items():
            setattr(self, name, value)
        return True

    def renew(self, *, lease_seconds: int) -> bool:
        """Keep the lease and change nothing else. False if another worker took over."""
        until = timezone.now() + timedelta(seconds=lease_seconds)
        return bool(self._fenced().update(lease_until=until))

    def release(self, **changes: Any) -> bool:
        """Write `changes` and give the lease back. False if another worker took over."""
        now = timezone.now()
        if changes.get("state", self.state) != self.state:
            changes.setdefault("state_since", now)
        changes["lease_until"] = None
        mine = self._fenced()
        if self.state != self.State.DELETING:
            mine = mine.exclude(state=self.State.DELETING)
        if not mine.update(**changes):
            return False
        for name, value in changes.items():
            setattr(self, name, value)
        return True


class DocumentLabel(models.Model):
    """A tag (its name is TAG) or a field of a document's metadata, which questions filter by."""

    TAG = "tag"

    document = models.ForeignKey(Document, on_delete=models.CASCADE, related_name="labels")
    name = models.CharField(max_length=60)
    value = models.CharField(max_length=200)

    class Meta:
        ordering = ["name", "value"]
        constraints = [
            models.UniqueConstraint(
                fields=["document", "name", "value"], name="one_label_of_a_value"
            )
        ]
        indexes = [models.Index(fields=["name", "value"])]

    def __str__(self) -> str:
        return self.value if self.name == self.TAG else f"{self.name}: {self.value}"


class SourceFile(models.Model):
    """A file of a folder that is brought into a corpus again and again, as it was last time.

    `stamp` (time of change and size) saves reading what nobody touched, `sha256` tells whether
    the content changed. A file that was refused has the reason as `error_code`. Archives have no
    `document`: their files are documents.
    """

    corpus = models.ForeignKey(Corpus, on_delete=models.CASCADE, related_name="sources")
    path = models.CharField(max_length=1000)
    stamp = models.CharField(max_length=60)
    sha256 = models.CharField(max_length=64, blank=True)
    document = models.ForeignKey(
        Document, null=True, on_delete=models.SET_NULL, related_name="sources"
    )
    error_code = models.CharField(max_length=40, blank=True)
    is_watched = models.BooleanField(default=False)
    seen_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["path"]
        constraints = [
            models.UniqueConstraint(fields=["corpus", "path"], name="one_source_of_a_path")
        ]

    def __str__(self) -> str:
        return self.path

    @property
    def error_sentence(self) -> str:
        """Why the file was not taken; empty if it was."""
        if not self.error_code:
            return ""
        return SENTENCES.get(self.error_code, SENTENCES["internal_error"])


class DocumentBuildQuerySet(models.QuerySet["DocumentBuild"]):
    """Documents on their way into generations that are not live."""

    def unfinished(self) -> DocumentBuildQuerySet:
        """Those that still have work to be done on them."""
        return self.filter(state__in=Document.WORK_STATES)

    def due(self) -> DocumentBuildQuerySet:
        """Those of generations being built that could be worked on now."""
        return self.unfinished().filter(
            Q(retry_at=None) | Q(retry_at__lte=timezone.now()),
            generation__state=IndexGeneration.State.BUILDING,
        )

    def held(self) -> DocumentBuildQuerySet:
        """Those that a worker is at."""
        return self.filter(document__claims=F("claims"), document__lease_until__gte=timezone.now())


class DocumentBuild(models.Model):
    """How far one document is in a generation that is not live.

    The same states as the document's own, which are about the live generation. For a
    generation being built this row is the outbox; for an old one it says which documents
    were complete in it when it was retired. `claims` is the document's claim under which a
    worker last took it.
    """

    generation = models.ForeignKey(IndexGeneration, on_delete=models.CASCADE, related_name="builds")
    document = models.ForeignKey(Document, on_delete=models.CASCADE, related_name="builds")
    state = models.CharField(max_length=12, choices=Document.State, default=Document.State.RECEIVED)
    state_since = models.DateTimeField(default=timezone.now)
    error_code = models.CharField(max_length=40, blank=True)
    error_detail = models.TextField(blank=True)
    progress_done = models.PositiveIntegerField(default=0)
    progress_total = models.PositiveIntegerField(default=0)
    claims = models.PositiveIntegerField(default=0)
    crashes = models.PositiveIntegerField(default=0)
    retry_at = models.DateTimeField(null=True, blank=True)
    title = models.CharField(max_length=500, blank=True)
    notice = models.TextField(blank=True)
    pages = models.PositiveIntegerField(default=0)
    chunk_count = models.PositiveIntegerField(default=0)

    objects = DocumentBuildQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["generation", "document"], name="one_build_per_generation"
            )
        ]
        indexes = [models.Index(fields=["generation", "state"])]

    def __str__(self) -> str:
        return f"{self.document} in {self.generation}: {self.state}"

    @property
    def error_sentence(self) -> str:
        """What a person reads about a failure; empty when there is none."""
        if not self.error_code:
            return ""
        return SENTENCES.get(self.error_code, SENTENCES["internal_error"])


class DocumentPart(models.Model):
    """A stretch of a document's extracted text: one page, or about 20,000 characters.

    Of one generation, because its passages say where they stand in these very characters.
    """

    document = models.ForeignKey(Document, on_delete=models.CASCADE, related_name="parts")
    generation = models.ForeignKey(IndexGeneration, on_delete=models.CASCADE, related_name="parts")
    ordinal = models.PositiveIntegerField()
    page = models.PositiveIntegerField(null=True)
    text = models.TextField()

    class Meta:
        ordering = ["ordinal"]
        constraints = [
            models.UniqueConstraint(
                fields=["document", "generation", "ordinal"], name="one_part_per_ordinal"
            )
        ]

    def __str__(self) -> str:
        return f"{self.document} part {self.ordinal}"


class Chunk(models.Model):
    """A passage: the unit of retrieval.

    The id is a digest of document, generation, pipeline version, ordinal and text, so a
    repeated run makes the same ids. `embedding` is float16, little-endian, unit length,
    made by the generation's model.
    """

    id = models.CharField(primary_key=True, max_length=32, editable=False)
    document = models.ForeignKey(Document, on_delete=models.CASCADE, related_name="chunks")
    generation = models.ForeignKey(IndexGeneration, on_delete=models.CASCADE, related_name="chunks")
    ordinal = models.PositiveIntegerField()
    text = models.TextField()
    heading_path = models.TextField(blank=True)
    page_from = models.PositiveIntegerField(null=True)
    page_to = models.PositiveIntegerField(null=True)
    spans = models.JSONField(default=list, help_text="[[part, start, end], …]")
    tokens = models.PositiveIntegerField()
    embedding = models.BinaryField(null=True)

    class Meta:
        ordering = ["document_id", "ordinal"]
        constraints = [
            models.UniqueConstraint(
                fields=["document", "generation", "ordinal"], name="one_chunk_per_ordinal"
            )
        ]

    def __str__(self) -> str:
        return f"{self.document} #{self.ordinal}"


class DeletionQuerySet(models.QuerySet["Deletion"]):
    """Receipts, and who may read them."""

    def readable_by(self, user: User | AnonymousUser) -> DeletionQuerySet:
        """Receipts of what this person deleted, or of what lay in a corpus that is theirs."""
        if not user.is_authenticated or not user.is_active:
            return self.none()
        owned = Corpus.objects.owned_by(user).order_by().values("pk")
        return self.filter(Q(requested_by=user) | Q(corpus_owner=user) | Q(corpus_id__in=owned))


class Deletion(models.Model):
    """The receipt of a deletion: what was removed from where, and when it was proved.

    HIDDEN (no answer uses it) -> PURGED (out of every store, each read again)
    -> ERASED (its text and vectors out of the files, too)

    It outlives the document and holds nothing of its content: a name, a digest, counts.
    `removed` counts by store what was taken out; `kept` lists, in sentences, what this site
    cannot reach. Without a `document_id` it is about a whole corpus.
    """

    class State(models.TextChoices):
        HIDDEN = "hidden", "Hidden"
        PURGED = "purged", "Purged"
        ERASED = "erased", "Erased"

    STORES: ClassVar[dict[str, tuple[str, str]]] = {
        "files": ("file", "files"),
        "texts": ("text", "texts"),
        "passages": ("passage", "passages"),
        "vectors": ("vector", "vectors"),
        "words": ("keyword entry", "keyword entries"),
        "answers": ("quoting answer", "quoting answers"),
        "scores": ("remembered score", "remembered scores"),
    }

    document_id = models.BigIntegerField(null=True, blank=True)
    name = models.CharField(max_length=255)
    sha256 = models.CharField(max_length=64, blank=True)
    size_bytes = models.PositiveBigIntegerField(default=0)
    documents = models.PositiveIntegerField(default=1)
    corpus_id = models.BigIntegerField()
    corpus_name = models.CharField(max_length=120)
    corpus_owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    state = models.CharField(max_length=10, choices=State, default=State.HIDDEN)
    requested_at = models.DateTimeField(default=timezone.now)
    purged_at = models.DateTimeField(null=True, blank=True)
    erased_at = models.DateTimeField(null=True, blank=True)
    removed = models.JSONField(default=dict, blank=True)
    kept = models.JSONField(default=list, blank=True)

    objects = DeletionQuerySet.as_manager()

    class Meta:
        ordering = ["-requested_at", "-pk"]
        indexes = [models.Index(fields=["document_id"]), models.Index(fields=["state"])]

    def __str__(self) -> str:
        return f"{self.name}: {self.get_state_display()}"

    @property
    def counts(self) -> list[str]:
        """What was removed, one phrase for each store that had anything."""
        return [
            f"{count:,} {names[count != 1]}"
            for key, names in self.STORES.items()
            if (count := self.removed.get(key, 0))
        ]


class Verification(models.Model):
    """One run of the comparison of all stores, and what it found.

    `findings`: [{store, code, subject, count, repaired}], `examined`: counts by what was
    compared. `ended_at` is empty while it runs, and stays so if it was killed.
    """

    started_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)
    deep = models.BooleanField(default=False)
    repair = models.BooleanField(default=False)
    findings = models.JSONField(default=list, blank=True)
    examined = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["-started_at", "-pk"]

    def __str__(self) -> str:
        return f"{self.started_at:%Y-%m-%d %H:%M}: {len(self.findings)} findings"

    @property
    def unrepaired(self) -> int:
        """How many findings were left as they are."""
        return sum(1 for finding in self.findings if not finding["repaired"])
