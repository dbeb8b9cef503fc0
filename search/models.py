"""What people looked into, judged and measured. None of it keeps any text of a document."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models

from ingestion.models import Corpus, Document

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User


class InspectionQuerySet(models.QuerySet["Inspection"]):
    """Inspections are private to the person who made them."""

    def of(self, user: User | AnonymousUser) -> InspectionQuerySet:
        """The inspections of this person, newest first."""
        if not user.is_authenticated:
            return self.none()
        return self.filter(owner=user).order_by("-pk")


class Inspection(models.Model):
    """One retrieval in the inspector: a question that was asked there, or a stored answer.

    `trace` is `Trace.to_json()` without passages: their texts are read anew each time, as
    far as the person may read them then, so that what is deleted is not kept here.
    `turn_id` names the answer of which this is the frozen trace; None for a question.
    `timings_ms` holds what the answer took beside the retrieval.
    """

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="inspections"
    )
    corpora = models.ManyToManyField(Corpus, related_name="+", blank=True)
    question = models.TextField()
    trace = models.JSONField()
    timings_ms = models.JSONField(default=dict, blank=True)
    turn_id = models.BigIntegerField(null=True, blank=True)
    before = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = InspectionQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["owner", "turn_id"], name="one_inspection_per_answer")
        ]

    def __str__(self) -> str:
        return self.question[:80]


class JudgementQuerySet(models.QuerySet["Judgement"]):
    """Sets of judgements."""

    def readable_by(self, user: User | AnonymousUser) -> JudgementQuerySet:
        """One's own, and all about the corpora that one may edit."""
        if not user.is_authenticated:
            return self.none()
        own = models.Q(person=user, corpus__in=Corpus.objects.readable_by(user))
        return self.filter(own | models.Q(corpus__in=Corpus.objects.editable_by(user)))


class Judgement(models.Model):
    """A person's word on whether a passage answers a question.

    `grade` is that of evaluation sets: 0 is not relevant, more is more relevant. `trace` has
    the passage's journey when it was judged: {settings, rerank, candidate, turn_id}.
    """

    class Grade(models.IntegerChoices):
        NOT_RELEVANT = 0, "not relevant"
        RELEVANT = 1, "relevant"

    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="judgements"
    )
    corpus = models.ForeignKey(Corpus, on_delete=models.CASCADE, related_name="judgements")
    document = models.ForeignKey(Document, on_delete=models.CASCADE, related_name="judgements")
    chunk_id = models.CharField(max_length=32)
    question = models.TextField()
    question_sha256 = models.CharField(max_length=64, editable=False)
    grade = models.PositiveSmallIntegerField(choices=Grade)
    trace = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)
    changed_at = models.DateTimeField(auto_now=True)

    objects = JudgementQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["person", "question_sha256", "chunk_id"], name="one_judgement_per_person"
            )
        ]

    def __str__(self) -> str:
        return f"{self.question[:60]}: {self.chunk_id} {self.get_grade_display()}"


class EvaluationRunQuerySet(models.QuerySet["EvaluationRun"]):
    """Sets of evaluation runs."""

    def readable_by(self, user: User | AnonymousUser) -> EvaluationRunQuerySet:
        """Those of corpora that one may edit, and one's own of collections from outside.

        A run tells the judged questions of everybody, so those who may only ask a corpus do not
        see its runs.
        """
        if not user.is_authenticated:
            return self.none()
        own = models.Q(owner=user, corpus__isnull=True)
        return self.filter(own | models.Q(corpus__in=Corpus.objects.editable_by(user)))


class EvaluationRun(models.Model):
    """One measurement of every stage of retrieval on a judged set, and what came of it.

    corpus: whose judgements are the set; None for a collection in BEIR's layout, which
        `manage.py evaluate` measured. `plan`: {pools, settings}. `report` is `report.as_json`.
    queries: {key: {text, ndcg: {stage: nDCG@10}}}, for comparing two runs question by question.
    """

    class State(models.TextChoices):
        WAITING = "waiting", "waiting"
        RUNNING = "running", "running"
        STOPPING = "stopping", "stopping"
        DONE = "done", "done"
        STOPPED = "stopped", "stopped"
        FAILED = "failed", "failed"

    ENDED = (State.DONE, State.STOPPED, State.FAILED)

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="evaluation_runs"
    )
    corpus = models.ForeignKey(
        Corpus, null=True, blank=True, on_delete=models.CASCADE, related_name="evaluation_runs"
    )
    collection = models.CharField(max_length=255)
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    plan = models.JSONField(default=dict)
    report = models.JSONField(default=dict, blank=True)
    queries = models.JSONField(default=dict, blank=True)
    progress_done = models.PositiveIntegerField(default=0)
    progress_total = models.PositiveIntegerField(default=0)
    progress_what = models.CharField(max_length=60, blank=True)
    error = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = EvaluationRunQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        verbose_name = "evaluation run"

    def __str__(self) -> str:
        return f"{self.collection}, {self.created_at:%Y-%m-%d %H:%M}"

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in self.ENDED


def digest_of(question: str) -> str:
    """What a question is found by, whatever its white space: SHA-256 in hexadecimal."""
    return hashlib.sha256(" ".join(question.split()).encode(errors="replace")).hexdigest()
