"""Conversations in the admin panel: to be read and deleted, never rewritten."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin, StackedInline

from chat.models import Conversation, Turn


class TurnInline(StackedInline):  # type: ignore[misc]  # django-unfold has no types
    """The turns of a conversation, without their traces."""

    model = Turn
    extra = 0
    fields = ("question", "answer", "state", "error", "model", "abstained", "created_at")
    readonly_fields = fields
    per_page = 20

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Turns come by asking."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """What was answered stays as it was."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A conversation goes as a whole."""
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Turn]:
        """Turns without the large values that are not shown."""
        turns: QuerySet[Turn] = super().get_queryset(request)
        return turns.defer("trace", "sources")


@admin.register(Conversation)
class ConversationAdmin(ModelAdmin):  # type: ignore[misc]  # django-unfold has no types
    """Who asked what, when."""

    list_display = ("shown_title", "owner", "turns", "updated_at")
    list_select_related = ("owner",)
    list_filter = ("updated_at",)
    search_fields = ("title", "owner__username", "turns__question")
    fields = ("title", "owner", "model", "shown_corpora", "created_at", "updated_at")
    readonly_fields = fields
    inlines = (TurnInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Conversation]:
        """Conversations with the number of their turns."""
        conversations: QuerySet[Conversation] = super().get_queryset(request)
        return conversations.annotate(turns_count=Count("turns"))

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Conversations come by asking."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """What was said stays as it was."""
        return False

    @admin.display(description="Conversation", ordering="title")
    def shown_title(self, conversation: Conversation) -> str:
        """The title, or what stands for it."""
        return str(conversation)

    @admin.display(ordering="turns_count")
    def turns(self, conversation: Conversation) -> int:
        """Number of questions."""
        return int(conversation.turns_count)  # type: ignore[attr-defined]

    @admin.display(description="Corpora")
    def shown_corpora(self, conversation: Conversation) -> str:
        """The corpora it was put to."""
        return ", ".join(conversation.corpora.values_list("name", flat=True)) or "–"
