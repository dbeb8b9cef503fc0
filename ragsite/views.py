"""Sign-in, account, status, and what other machines ask of the site."""

from __future__ import annotations

from typing import Any

import sesame.utils
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login, update_session_auth_hash
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm, SetPasswordForm
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_safe

from ragsite import health

READY_CACHE_SECONDS = 2


class SignInForm(AuthenticationForm):
    """User name and password."""

    error_messages = {
        "invalid_login": "That user name and password do not match. Both are case-sensitive.",
        "inactive": "This account is switched off. Ask the administrator.",
    }


class SignIn(LoginView):
    """The sign-in page; a person who is signed in already goes on."""

    form_class = SignInForm
    redirect_authenticated_user = True

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        """The page again, with its sentence."""
        return self.render_to_response(self.get_context_data(form=form), status=422)


@login_not_required
@require_GET
@never_cache
def sign_in_by_link(request: HttpRequest) -> HttpResponse:
    """Sign in by the token of a one-time link. A used or expired one is told how to renew."""
    if "token" not in request.GET:
        return redirect("login")
    person = sesame.utils.get_user(request, update_last_login=False)
    if person is None:
        if request.user.is_authenticated:  # the link was opened a second time
            return redirect(settings.LOGIN_REDIRECT_URL)
        return render(
            request,
            "registration/login.html",
            {"form": SignInForm(request), "link_failed": True},
            status=403,
        )
    login(request, person)
    return redirect(settings.LOGIN_REDIRECT_URL)


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
    return render(request, "ragsite/_checks.html", {"site": health.examine()})


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
    answer: dict[str, Any] | None = cache.get("readyz")
    if answer is None:
        site = health.examine()
        answer = {
            "ready": site.is_up,
            "checks": {check.name: "up" if check.up else check.reason for check in site.checks},
        }
        cache.set("readyz", answer, READY_CACHE_SECONDS)
    return JsonResponse(answer, status=200 if answer["ready"] else 503)
