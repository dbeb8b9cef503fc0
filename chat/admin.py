"""Conversations in the admin panel: to be read and deleted, never rewritten.

Who reads one of somebody else's stands in the audit log.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.admin import ModelAdmin, StackedInline

from chat.models import Conversation, Turn
from ingestion import audit
from ingestion.audit import Action


class TurnInline(StackedInline):  # type: ignore[misc]  # django-unfold has no types
    """The turns of a conversation, without their traces."""

    model = Turn
    extra = 0
    fields = ("question", "answer", "state", "error", "model", "abstained", "rating", "created_at")
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

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The conversation, after a line in the audit log where it is somebody else's."""
        assert isinstance(request.user, User)  # the panel is for administrators
        held = self.get_object(request, object_id)
        if held is not None and held.owner_id != request.user.pk:
            audit.record(
                Action.CONVERSATION_READ,
                person=request.user,
                about=held,
                name=f"one of {held.owner}",
            )
        answer: HttpResponse = super().change_view(request, object_id, form_url, extra_context)
        return answer

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
