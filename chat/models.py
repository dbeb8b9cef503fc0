"""Conversations and their turns. A turn keeps its question, its answer and its whole trace.

The turns of a conversation are a tree: one that is asked in other words, or with other
settings, is a sibling of the first. `Conversation.leaf` ends the branch that is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.utils import timezone

from chat import branches
from chat.branches import Place
from ingestion.models import Corpus
from ingestion.types import DocumentFilter

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User


class ConversationQuerySet(models.QuerySet["Conversation"]):
    """Conversations are private to the person who holds them."""

    def of(self, user: User | AnonymousUser) -> ConversationQuerySet:
        """The conversations of this person, newest activity first."""
        if not user.is_authenticated:
            return self.none()
        return self.filter(owner=user).order_by("-updated_at", "-pk")

    def shared_at(self, key: str, *, reader: User | AnonymousUser) -> ConversationQuerySet:
        """The conversation that this link leads a signed-in person to."""
        if not reader.is_authenticated or not key:
            return self.none()
        return self.filter(share_key=key, owner__is_active=True)


class Conversation(models.Model):
    """A series of questions to one scope of corpora."""

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="conversations"
    )
    title = models.CharField(max_length=200, blank=True)
    corpora = models.ManyToManyField(Corpus, related_name="conversations", blank=True)
    labels = models.JSONField(
        default=list, blank=True, help_text="[[name, value], …] that documents must carry."
    )
    documents = models.JSONField(
        default=list,
        blank=True,
        help_text="Ids of those that are searched; empty: all of the corpora. One that is deleted "
        "stays in here, or the scope would widen by itself.",
    )
    model = models.CharField(
        max_length=200, blank=True, help_text="Language model of its answers; empty: the site's."
    )
    rewrites = models.BooleanField(
        default=True, help_text="Whether follow-up questions are rewritten to stand alone."
    )
    leaf = models.ForeignKey(
        "Turn",
        on_delete=models.SET_NULL,
        related_name="+",
        null=True,
        blank=True,
        help_text="The last turn of the branch that is shown.",
    )
    pinned_at = models.DateTimeField(
        null=True, blank=True, help_text="Set while it stands above the days in the list."
    )
    share_key = models.CharField(
        max_length=43,
        unique=True,
        null=True,
        blank=True,
        editable=False,
        help_text="Of the link at which everybody signed in may read it; empty: nobody else may.",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(default=timezone.now)

    objects = ConversationQuerySet.as_manager()

    class Meta:
        ordering = ["-updated_at", "-pk"]

    def __str__(self) -> str:
        return self.title or "New conversation"

    @property
    def only(self) -> DocumentFilter:
        """Which documents of its corpora are searched."""
        labels = tuple((name, value) for name, value in self.labels)
        return DocumentFilter(labels=labels, documents=tuple(self.documents))

    def parents(self) -> dict[int, int | None]:
        """Of every turn, the turn that it follows: what `chat.branches` works with."""
        return dict(self.turns.values_list("pk", "parent_id"))

    def way(self) -> list[Place]:
        """The places of the branch that is shown, from the first question on."""
        return branches.way(self.parents(), self.leaf_id)

    def shown_turns(self) -> list[Turn]:
        """The turns of that branch."""
        places = [place.turn_id for place in self.way()]
        found = Turn.objects.in_bulk(places)
        return [found[turn_id] for turn_id in places if turn_id in found]


class ModelPull(models.Model):
    """The download of a language model into Ollama.

    RUNNING -> DONE | FAILED(error) | CANCELLED
    """

    class State(models.TextChoices):
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"
        CANCELLED = "cancelled"

    model = models.CharField(max_length=200)
    started_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, related_name="+", null=True
    )
    state = models.CharField(max_length=10, choices=State, default=State.RUNNING)
    status = models.CharField(max_length=200, blank=True, help_text="What Ollama says it does.")
    completed_bytes = models.BigIntegerField(default=0)
    total_bytes = models.BigIntegerField(default=0)
    error = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    heartbeat_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return self.model

    @property
    def percent(self) -> int:
        """How much of the part that is being fetched has come, 0 to 100."""
        return min(100, 100 * self.completed_bytes // self.total_bytes) if self.total_bytes else 0

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come."""
        return self.state != self.State.RUNNING


class Turn(models.Model):
    """One question and its answer.

    PENDING -> RUNNING -> DONE | STOPPED | INTERRUPTED | FAILED(error)

    `trace` is `search.types.Trace.to_json()`, frozen with the answer, so that a later
    change of the corpus does not change what an old answer rests on. `sources` is the
    list shown beside the answer; `cited` flags are final when the turn has ended.
    `degraded` holds [{code, sentence}] of retrieval and generation together.
    `model` is empty for an extractive answer. `checks` has the relevance of the cited passage
    to its sentence for each citation in order, null where that was not checked; `weak_below`
    is what it is compared with. `options` is `chat.types.TurnOptions.to_json()`: what was to
    be done otherwise than the conversation and its corpora say. `stage` is what a turn that
    runs is doing.
    """

    class State(models.TextChoices):
        PENDING = "pending"
        RUNNING = "running"
        DONE = "done"
        STOPPED = "stopped"
        INTERRUPTED = "interrupted"
        FAILED = "failed"

    class Rating(models.TextChoices):
        GOOD = "good"
        BAD = "bad"

    ENDED = (State.DONE, State.STOPPED, State.INTERRUPTED, State.FAILED)

    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, related_name="turns")
    parent = models.ForeignKey(
        "self", on_delete=models.CASCADE, related_name="replies", null=True, blank=True
    )
    question = models.TextField()
    standalone_question = models.TextField(blank=True)
    answer = models.TextField(blank=True)
    state = models.CharField(max_length=12, choices=State, default=State.PENDING)
    stage = models.CharField(max_length=600, blank=True)
    error = models.TextField(blank=True)
    model = models.CharField(max_length=200, blank=True)
    abstained = models.BooleanField(default=False)
    despite_doubt = models.BooleanField(
        default=False, help_text="Answered on demand though nothing seemed to answer it."
    )
    options = models.JSONField(default=dict, blank=True)
    instructions = models.TextField(
        blank=True, help_text="Of its corpora, as they were told to the language model."
    )
    trace = models.JSONField(null=True, blank=True)
    sources = models.JSONField(default=list, blank=True)
    degraded = models.JSONField(default=list, blank=True)
    checks = models.JSONField(default=list, blank=True)
    weak_below = models.FloatField(null=True, blank=True)
    rating = models.CharField(
        max_length=4, choices=Rating, blank=True, help_text="What the asker thinks of the answer."
    )
    timings_ms = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["pk"]
        indexes = [models.Index(fields=["created_at"])]

    def __str__(self) -> str:
        return self.question[:80]

    @property
    def weak(self) -> list[int]:
        """The places, from 0, of citations whose passage says little of their sentence."""
        limit = self.weak_below
        if limit is None:
            return []
        return [n for n, found in enumerate(self.checks) if found is not None and found < limit]

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come."""
        return self.state in self.ENDED
