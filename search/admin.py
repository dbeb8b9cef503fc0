"""Judgements and evaluation runs in the admin panel."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from search.models import EvaluationRun, Judgement


@admin.register(Judgement)
class JudgementAdmin(ModelAdmin):  # type: ignore[misc]  # django-unfold has no types
    """What people said of passages; deleted where it was a mistake, never edited."""

    list_display = ("question", "grade", "corpus", "document", "person", "changed_at")
    list_filter = ("grade", "corpus")
    list_select_related = ("corpus", "document", "person")
    search_fields = ("question", "document__name", "person__username", "chunk_id")
    date_hierarchy = "changed_at"

    def has_add_permission(self, request: HttpRequest) -> bool:
        """They are made where passages are shown."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Judgement | None = None) -> bool:
        """Nobody speaks for another."""
        return False


@admin.register(EvaluationRun)
class EvaluationRunAdmin(ModelAdmin):  # type: ignore[misc]  # django-unfold has no types
    """What was measured; begun and read on the evaluation page."""

    list_display = ("collection", "state", "owner", "created_at", "ended_at", "error")
    list_filter = ("state", "corpus")
    list_select_related = ("owner",)
    search_fields = ("collection", "owner__username")
    date_hierarchy = "created_at"

    def has_add_permission(self, request: HttpRequest) -> bool:
        """They are begun on the evaluation page, or by `manage.py evaluate`."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: EvaluationRun | None = None) -> bool:
        """Figures are not edited."""
        return False
