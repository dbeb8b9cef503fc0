"""Corpora, documents and index generations in the admin panel.

States are read here, never edited: what changes them goes through `services`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.db.models import Count, Q, QuerySet, Sum
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.template.defaultfilters import filesizeformat
from unfold.admin import ModelAdmin
from unfold.decorators import display

from ingestion import services
from ingestion.admin_actions import confirmation
from ingestion.listing import FAILED
from ingestion.models import (
    AuditEntry,
    Corpus,
    Deletion,
    Document,
    DocumentQuerySet,
    IndexGeneration,
    Share,
    Verification,
)

if TYPE_CHECKING:
    from ingestion.models import CorpusQuerySet

State = Document.State
STATE_COLOURS = {
    State.READY.label: "success",
    State.FAILED.label: "danger",
    State.QUARANTINED.label: "danger",
    State.RECEIVED.label: "",
    **{
        state.label: "info"
        for state in (State.PARSING, State.CHUNKING, State.EMBEDDING, State.INDEXING)
    },
    State.DELETING.label: "warning",
}
Confirmation = tuple[list[str], dict[str, int], set[str], list[str]]


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # the panel is for administrators
    return request.user


def _counted(documents: DocumentQuerySet, *, named: Iterable[str]) -> Confirmation:
    """What a confirmation page lists: names, and counts instead of thousands of passages."""
    facts = documents.aggregate(
        documents=Count("pk"),
        pages=Coalesce(Sum("pages"), 0),
        passages=Coalesce(Sum("chunk_count"), 0),
    )
    return list(named), facts, set(), []


@admin.register(Corpus)
class CorpusAdmin(ModelAdmin):  # type: ignore[misc]  # django-unfold has no types
    """Corpora: whose, for whom, how full. Deleting one deletes its documents."""

    list_display = ("name", "owner", "visibility", "documents", "ready", "failed", "created_at")
    list_filter = ("visibility",)
    list_select_related = ("owner",)
    search_fields = ("name", "description", "owner__username")
    fields = (
        *("name", "description", "owner", "visibility", "language"),
        *("quota_mb", "quota_documents", "created_at"),
    )
    readonly_fields = ("created_at",)
    autocomplete_fields = ("owner",)

    def get_queryset(self, request: HttpRequest) -> CorpusQuerySet:
        """Corpora that are not being deleted, with counts."""
        shown = ~Q(documents__state=State.DELETING)
        return Corpus.objects.present().annotate(
            documents_count=Count("documents", filter=shown),
            ready_count=Count("documents", filter=Q(documents__state=State.READY)),
            failed_count=Count("documents", filter=Q(documents__state__in=FAILED)),
        )

    def get_readonly_fields(
        self, request: HttpRequest, obj: Corpus | None = None
    ) -> tuple[str, ...]:
        """The analyser's language is fixed once there may be an index."""
        return (*self.readonly_fields, "language") if obj else self.readonly_fields

    @admin.display(ordering="documents_count")
    def documents(self, corpus: Corpus) -> int:
        """Number of documents."""
        return int(corpus.documents_count)  # type: ignore[attr-defined]

    @admin.display(ordering="ready_count")
    def ready(self, corpus: Corpus) -> int:
        """Number of documents that are ready."""
        return int(corpus.ready_count)  # type: ignore[attr-defined]

    @admin.display(ordering="failed_count")
    def failed(self, corpus: Corpus) -> int:
        """Number of documents that failed."""
        return int(corpus.failed_count)  # type: ignore[attr-defined]

    def get_deleted_objects(self, objs: Iterable[Corpus], request: HttpRequest) -> Confirmation:
        """Names and counts for the confirmation."""
        corpora = list(objs)
        documents = Document.objects.filter(corpus__in=corpora).exclude(state=State.DELETING)
        names, facts, missing, protected = _counted(documents, named=[c.name for c in corpora])
        return names, {"corpora": len(corpora), **facts}, missing, protected

    def delete_model(self, request: HttpRequest, obj: Corpus) -> None:
        """Through the service, which purges every store."""
        services.delete_corpus(corpus=obj, person=_person(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Corpus]) -> None:
        """Through the service, one by one."""
        for corpus in queryset:
            services.delete_corpus(corpus=corpus, person=_person(request))


@admin.register(Document)
class DocumentAdmin(ModelAdmin):  # type: ignore[misc]  # django-unfold has no types
    """Documents of all corpora: how they fare, and what can be done about it."""

    list_display = ("name", "corpus", "shown_state", "size", "pages", "chunk_count", "created_at")
    list_filter = ("state", "enabled", "format")
    list_select_related = ("corpus",)
    search_fields = ("name", "title", "corpus__name", "sha256")
    date_hierarchy = "created_at"
    actions = ("retry",)
    fieldsets = (
        (None, {"fields": ("name", "title", "corpus", "enabled", "shown_state", "failure")}),
        ("File", {"fields": ("format", "size", "digest", "uploaded_by", "created_at")}),
        (
            "Work",
            {
                "fields": (
                    "state_since",
                    "progress",
                    "pages",
                    "chunk_count",
                    "claims",
                    "crashes",
                    "lease_until",
                    "ready_at",
                    "error_code",
                    "error_detail",
                )
            },
        ),
    )
    readonly_fields = (
        *("name", "title", "corpus", "shown_state", "failure", "format", "size", "digest"),
        *("uploaded_by", "created_at", "state_since", "progress", "pages", "chunk_count"),
        *("claims", "crashes", "lease_until", "ready_at", "error_code", "error_detail"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Document]:
        """Documents that are not being deleted."""
        documents: QuerySet[Document] = super().get_queryset(request)
        return documents.exclude(state=State.DELETING)

    def has_add_permission(self, request: HttpRequest, obj: Document | None = None) -> bool:
        """Documents come by upload."""
        return False

    @display(description="State", ordering="state", label=STATE_COLOURS)  # type: ignore[untyped-decorator]
    def shown_state(self, document: Document) -> str:
        """The state in words."""
        return str(document.get_state_display())

    @admin.display(description="Size", ordering="size_bytes")
    def size(self, document: Document) -> str:
        """The size of the file."""
        return filesizeformat(document.size_bytes)

    @admin.display(description="SHA-256")
    def digest(self, document: Document) -> str:
        """The beginning of the content's digest; enough to tell files apart."""
        return f"{document.sha256[:16]}…"

    @admin.display(description="Failure")
    def failure(self, document: Document) -> str:
        """What its owner reads about a failure."""
        return document.error_sentence or "–"

    @admin.display(description="Progress")
    def progress(self, document: Document) -> str:
        """How far the stage has come."""
        return f"{document.progress_done} of {document.progress_total}"

    @admin.action(description="Retry failed documents", permissions=["change"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Document]) -> HttpResponse | None:
        """Ask, then set the failed ones among the chosen to work again."""
        failed = Document.objects.filter(pk__in=queryset.values("pk"), state__in=FAILED)
        asked = confirmation(
            request,
            queryset,
            panel=self,
            question=f"Try {failed.count()} of the {queryset.count()} chosen documents again?",
            detail="Those that had not failed are left alone.",
        )
        if asked is not None:
            return asked
        count = services.retry(documents=failed)
        left = queryset.count() - count
        if count:
            messages.success(request, f"{count} will be tried again; {left} had not failed.")
        else:
            messages.warning(request, "None of the chosen documents had failed.")
        return None

    def get_deleted_objects(self, objs: Iterable[Document], request: HttpRequest) -> Confirmation:
        """Names and counts for the confirmation."""
        documents = list(objs)
        chosen = Document.objects.filter(pk__in=[document.pk for document in documents])
        return _counted(chosen, named=[document.name for document in documents])

    def delete_model(self, request: HttpRequest, obj: Document) -> None:
        """Through the service, which purges every store."""
        services.request_deletion(
            documents=Document.objects.filter(pk=obj.pk), person=_person(request)
        )

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Document]) -> None:
        """Through the service, all at once."""
        services.request_deletion(
            documents=Document.objects.filter(pk__in=queryset.values("pk")),
            person=_person(request),
        )


@admin.register(IndexGeneration)
class IndexGenerationAdmin(ModelAdmin):  # type: ignore[misc]  # django-unfold has no types
    """Which model built which index; to be read only."""

    list_display = ("corpus", "key", "state", "embedding_model", "dimension", "created_at")
    list_filter = ("state", "embedding_model")
    list_select_related = ("corpus",)
    search_fields = ("key", "corpus__name")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """The pipeline makes them."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """The pipeline changes them."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """The pipeline removes them."""
        return False


class Record(ModelAdmin):  # type: ignore[misc]  # django-unfold has no types
    """Rows that the site writes and nobody edits."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Never."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never."""
        return False


@admin.register(Deletion)
class DeletionAdmin(Record):
    """Receipts of all deletions."""

    list_display = ("name", "corpus_name", "state", "requested_at", "purged_at", "erased_at")
    list_filter = ("state",)
    list_select_related = ("requested_by",)
    search_fields = ("name", "corpus_name", "sha256", "requested_by__username")
    date_hierarchy = "requested_at"


@admin.register(Verification)
class VerificationAdmin(Record):
    """Runs of the comparison of all stores."""

    list_display = ("started_at", "ended_at", "deep", "repair", "found", "left")
    list_filter = ("deep", "repair")

    @admin.display
    def found(self, run: Verification) -> int:
        """Number of findings."""
        return len(run.findings)

    @admin.display
    def left(self, run: Verification) -> int:
        """Number of findings that were not repaired."""
        return run.unrepaired


@admin.register(Share)
class ShareAdmin(ModelAdmin):  # type: ignore[misc]  # django-unfold has no types
    """Who has which corpus beside its owner."""

    list_display = ("corpus", "person", "group", "role", "granted_by", "created_at")
    list_filter = ("role", "group")
    list_select_related = ("corpus", "person", "group", "granted_by")
    search_fields = ("corpus__name", "person__username", "group__name")
    autocomplete_fields = ("corpus", "person", "group")
    readonly_fields = ("granted_by",)


@admin.register(AuditEntry)
class AuditEntryAdmin(Record):
    """Who did what, and when."""

    list_display = ("at", "person_name", "action", "about", "about_name", "details")
    list_filter = ("action", "about")
    search_fields = ("person_name", "about_name", "about_id")
    date_hierarchy = "at"

    @admin.display(description="Detail")
    def details(self, entry: AuditEntry) -> str:
        """What a reader needs beside, in words."""
        return "; ".join(
            f"{name}: {', '.join(map(str, value)) if isinstance(value, list) else value}"
            for name, value in entry.detail.items()
        )
