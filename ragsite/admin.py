"""People and groups in the admin panel."""

from typing import Any

from allauth.account.decorators import secure_admin_login
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from allauth.usersessions.models import UserSession
from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin as PlainGroupAdmin
from django.contrib.auth.admin import UserAdmin as PlainUserAdmin
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.admin import ModelAdmin, StackedInline
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from ingestion import audit
from ingestion.admin_actions import confirmation
from ingestion.audit import Action
from ingestion.models import PersonQuota

# One sign-in for all: throttled, and with two factors where a person set them.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]
admin.site.unregister(User)
admin.site.unregister(Group)
# What the site sets by its environment, and secrets, which nobody need see.
for model in (SocialAccount, SocialApp, SocialToken, Authenticator, UserSession, EmailAddress):
    admin.site.unregister(model)


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # the panel is for administrators
    return request.user


@admin.register(Authenticator)
class AuthenticatorAdmin(ModelAdmin):  # type: ignore[misc]  # django-unfold has no types
    """Second factors: deleted for who lost theirs, and never shown."""

    list_display = ("user", "type", "created_at", "last_used_at")
    list_filter = ("type",)
    list_select_related = ("user",)
    search_fields = ("user__username",)
    fields = readonly_fields = ("user", "type", "created_at", "last_used_at")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """People set them up themselves."""
        return False


class QuotaInline(StackedInline):  # type: ignore[misc]  # django-unfold has no types
    """What a person's corpora may hold."""

    model = PersonQuota


@admin.register(User)
class UserAdmin(PlainUserAdmin, ModelAdmin):  # type: ignore[misc,type-arg]  # django-unfold has no types
    """People. One without a password signs in by `manage.py sign_in_link`."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    inlines = (QuotaInline,)
    list_display = ("username", "email", "is_active", "is_staff", "is_superuser", "last_login")
    actions = ("switch_off", "switch_on")

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        """As ever, with a line in the audit log: which fields, never their values."""
        super().save_model(request, obj, form, change)
        fields = sorted(form.changed_data)
        audit.record(Action.PERSON_CHANGED, person=_person(request), about=obj, fields=fields)

    @admin.action(description="Switch people off", permissions=["change"])
    def switch_off(self, request: HttpRequest, queryset: QuerySet[User]) -> HttpResponse | None:
        """Out with their next request; never oneself."""
        people = queryset.filter(is_active=True).exclude(pk=_person(request).pk)
        detail = "They are signed out at once, open answers end, and what they have is kept."
        return self._switch(request, queryset, people, word="off", detail=detail)

    @admin.action(description="Switch people on again", permissions=["change"])
    def switch_on(self, request: HttpRequest, queryset: QuerySet[User]) -> HttpResponse | None:
        """They can sign in again."""
        people = queryset.filter(is_active=False)
        return self._switch(
            request, queryset, people, word="on", detail="They can sign in again as before."
        )

    def _switch(
        self,
        request: HttpRequest,
        chosen: QuerySet[User],
        people: QuerySet[User],
        *,
        word: str,
        detail: str,
    ) -> HttpResponse | None:
        question = f"Switch {people.count()} of the {chosen.count()} chosen people {word}?"
        asked = confirmation(request, chosen, panel=self, question=question, detail=detail)
        if asked is not None:
            return asked
        with transaction.atomic():
            switched = list(people.select_for_update())
            for one in switched:
                one.is_active = word == "on"
                one.save(update_fields=["is_active"])
                audit.record(
                    Action.PERSON_CHANGED, person=_person(request), about=one, switched=word
                )
        messages.success(request, f"{len(switched)} of {chosen.count()} were switched {word}.")
        return None


@admin.register(Group)
class GroupAdmin(PlainGroupAdmin, ModelAdmin):  # type: ignore[misc]  # django-unfold has no types
    """Groups of people."""
