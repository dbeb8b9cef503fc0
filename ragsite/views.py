"""Sign-in, account, status, and what other machines ask of the site."""

from __future__ import annotations

from typing import Any

import sesame.utils
from allauth.account.forms import LoginForm
from allauth.account.views import LoginView
from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login, update_session_auth_hash
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.forms import PasswordChangeForm, SetPasswordForm
from django.contrib.auth.models import Group, User
from django.contrib.auth.views import LogoutView
from django.core.cache import caches
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import (
    require_GET,
    require_http_methods,
    require_POST,
    require_safe,
)

from ingestion import audit
from ingestion.audit import Action
from ragsite import health
from ragsite import people as coming_in
from ragsite.models import Invitation

READY_CACHE_SECONDS = 2


class SignIn(LoginView):  # type: ignore[misc]  # django-allauth has no types
    """The sign-in page; a person who is signed in already goes on."""

    def form_invalid(self, form: LoginForm) -> HttpResponse:
        """The page again, with its sentence."""
        answer: HttpResponse = super().form_invalid(form)
        answer.status_code = 422
        return answer


class SignOut(LogoutView):
    """Signs this browser out; by POST alone, so that no link of elsewhere can."""


@login_not_required
@require_GET
@never_cache
def sign_in_by_link(request: HttpRequest) -> HttpResponse:
    """Sign in by the token of a one-time link. A used or expired one is told how to renew."""
    if "token" not in request.GET:
        return redirect("account_login")
    person = sesame.utils.get_user(request, update_last_login=False)
    if person is None:
        if request.user.is_authenticated:  # the link was opened a second time
            return redirect(settings.LOGIN_REDIRECT_URL)
        context = {"form": LoginForm(), "link_failed": True}
        return render(request, "account/login.html", context, status=403)
    login(request, person)
    return redirect(settings.LOGIN_REDIRECT_URL)


@login_not_required
@require_safe
@never_cache
def join(request: HttpRequest, key: str) -> HttpResponse:
    """Come in by an invitation: remember it in this browser, and go to sign up."""
    if request.user.is_authenticated:
        return redirect(settings.LOGIN_REDIRECT_URL)
    if not Invitation.objects.good().filter(key=key).exists():
        return render(request, "account/signup_closed.html", {"is_over": True}, status=410)
    request.session[coming_in.IN_SESSION] = key
    return redirect("account_signup")


class InviteForm(forms.Form):
    """Whom to invite, and what they will be in."""

    email = forms.EmailField(
        label="E-mail address",
        required=False,
        widget=forms.EmailInput(attrs={"class": "input", "autocomplete": "off"}),
    )
    groups = forms.ModelMultipleChoiceField(
        Group.objects.none(), required=False, widget=forms.CheckboxSelectMultiple
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        groups: Any = self.fields["groups"]
        groups.queryset = Group.objects.order_by("name")
        sends = "The link is sent there. Empty" if settings.EMAIL_URL else "A note for you; empty"
        self.fields["email"].help_text = f"{sends} for a link that you pass on yourself."


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
def people(request: HttpRequest) -> HttpResponse:
    """Who is here and who is invited; administrators invite."""
    person = _administrator(request)
    form = InviteForm(request.POST or None)
    link = ""
    if request.method == "POST" and form.is_valid():
        wanted = form.cleaned_data
        made = coming_in.invite(by=person, email=wanted["email"], groups=list(wanted["groups"]))
        link = request.build_absolute_uri(reverse("join", args=[made.key]))
        if coming_in.send_invitation(made, link=link):
            messages.success(request, f"The invitation is on its way to {made.email}.")
        form = InviteForm()
    context = {
        "form": form,
        "link": link,
        "invitations": Invitation.objects.select_related("invited_by", "accepted_by")[:50],
        "everybody": User.objects.prefetch_related("groups").order_by("-is_active", "username"),
        "days": settings.INVITATION_DAYS,
    }
    return render(request, "ragsite/people.html", context, status=422 if form.errors else 200)


@require_POST
def revoke_invitation(request: HttpRequest, invitation_id: int) -> HttpResponse:
    """Make the link of an invitation useless."""
    _administrator(request)
    found = get_object_or_404(Invitation, pk=invitation_id)
    if Invitation.objects.good().filter(pk=found.pk).update(revoked_at=timezone.now()):
        messages.success(request, f"The invitation of {found} is taken back.")
    else:
        messages.warning(request, "That invitation had ended already.")
    return redirect("people")


def _administrator(request: HttpRequest) -> User:
    """The person, who may invite others; for everybody else there is no such page."""
    person = request.user
    assert isinstance(person, User)  # everybody else was sent to sign in
    if not person.is_superuser:
        raise Http404
    return person


@require_http_methods(["GET", "HEAD", "POST"])
def account(request: HttpRequest) -> HttpResponse:
    """One's own account: a password, the theme, the way out."""
    person = request.user
    assert isinstance(person, User)  # everybody else was sent to sign in
    form_class = PasswordChangeForm if person.has_usable_password() else SetPasswordForm
    form = form_class(person, request.POST or None)
    for field in form.fields.values():
        field.widget.attrs.pop("autofocus", None)  # the page is more than this form
    if request.method == "POST" and form.is_valid():
        update_session_auth_hash(request, form.save())
        audit.record(Action.PASSWORD_CHANGED, person=person)
        messages.success(request, "Your password is set. It works from now on.")
        return redirect("account")
    context = {"form": form, "has_password": person.has_usable_password()}
    return render(request, "ragsite/account.html", context, status=422 if form.errors else 200)


@require_safe
def status(request: HttpRequest) -> HttpResponse:
    """The frame of the status page; the checks load into it, so that it always renders."""
    return render(request, "ragsite/status.html")


@require_safe
@never_cache
def status_checks(request: HttpRequest) -> HttpResponse:
    """Every process asked now, all at once, each within its own short time."""
    context = {"site": health.examine(), "findings": health.reranking()}
    return render(request, "ragsite/_checks.html", context)


@login_not_required
@require_safe
@never_cache
def healthz(request: HttpRequest) -> HttpResponse:
    """Whether this process is alive. Asks nobody else."""
    return HttpResponse("ok\n", content_type="text/plain; charset=utf-8")


@login_not_required
@require_safe
@never_cache
def readyz(request: HttpRequest) -> HttpResponse:
    """Whether everything the site needs is there; 503 and the names of what is not."""
    answer: dict[str, Any] | None = caches["here"].get("readyz")
    if answer is None:
        site = health.examine()
        answer = {
            "ready": site.is_up,
            "checks": {check.name: "up" if check.up else check.reason for check in site.checks},
        }
        caches["here"].set("readyz", answer, READY_CACHE_SECONDS)
    return JsonResponse(answer, status=200 if answer["ready"] else 503)
