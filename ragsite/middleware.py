"""What the site adds to the middleware of its vendors."""

from __future__ import annotations

from collections.abc import Callable

from csp.middleware import CSPMiddleware, PolicyParts
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.urls import reverse
from django.utils.http import urlencode
from django_htmx.http import HttpResponseClientRedirect
from django_htmx.middleware import HtmxDetails

# The admin theme evaluates expressions in attributes (Alpine) and styles elements in place.
ADMIN_POLICY = {
    "script-src": ["'unsafe-eval'"],
    "style-src": ["'unsafe-inline'"],
}


class SitePolicy(CSPMiddleware):  # type: ignore[misc]  # django-csp has no types
    """The strict policy everywhere; under the admin as much more as its theme needs."""

    def get_policy_parts(
        self, request: HttpRequest, response: HttpResponseBase, report_only: bool = False
    ) -> PolicyParts:
        """Add the admin's exceptions to answers of the admin alone."""
        parts = super().get_policy_parts(request, response, report_only)
        if request.path_info.startswith(reverse("admin:index")):
            parts.update = ADMIN_POLICY
        return parts


class SignInRequired(LoginRequiredMiddleware):
    """Sends people who are not signed in to the sign-in page, whoever asks.

    A fragment request would otherwise swap the sign-in page into the middle of a page, and
    an upload would take it for a success.
    """

    def handle_no_permission(  # type: ignore[override]  # the stubs know redirects only
        self, request: HttpRequest, view_func: Callable[..., HttpResponseBase]
    ) -> HttpResponse:
        """A redirect for pages, an instruction for htmx, a sentence for scripts."""
        htmx: HtmxDetails = request.htmx  # type: ignore[attr-defined]
        if htmx:
            query = urlencode({"next": htmx.current_url_abs_path or "/"})
            return HttpResponseClientRedirect(f"{reverse('account_login')}?{query}")
        if request.get_preferred_type(["text/html", "application/json"]) == "application/json":
            sentence = "You are signed out. Reload the page and sign in again."
            return JsonResponse({"error": sentence, "code": "signed_out"}, status=401)
        return super().handle_no_permission(request, view_func)
