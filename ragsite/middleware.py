"""What the site adds to the middleware of its vendors."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from inspect import iscoroutinefunction

from csp.middleware import CSPMiddleware, PolicyParts
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.urls import reverse
from django.utils.decorators import sync_and_async_middleware
from django.utils.deprecation import MiddlewareMixin
from django.utils.http import urlencode
from django_htmx.http import HttpResponseClientRedirect
from django_htmx.middleware import HtmxDetails

from telemetry import metrics, requests, tracing

# The admin theme evaluates expressions in attributes (Alpine) and styles elements in place.
ADMIN_POLICY = {
    "script-src": ["'unsafe-eval'"],
    "style-src": ["'unsafe-inline'"],
}


KNOWN_METHODS = {"GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"}


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


class PrivatePages(MiddlewareMixin):
    """No browser or proxy keeps a page that was made for somebody, for the next one to see."""

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        """Say so, where the view has not said anything of its own."""
        # Not of a session that nobody has looked at: that would make each answer vary by it.
        if "Cache-Control" not in response.headers and request.user.is_authenticated:
            response.headers["Cache-Control"] = "private, no-store"
        return response


Answer = Callable[[HttpRequest], HttpResponseBase]
AsyncAnswer = Callable[[HttpRequest], Awaitable[HttpResponseBase]]


@sync_and_async_middleware
def observed(get_response: Answer | AsyncAnswer) -> Answer | AsyncAnswer:
    """Give each request its id, and the metrics and traces their entry; refuse broken ones.

    Comes first.
    """
    if iscoroutinefunction(get_response):

        async def answer_async(request: HttpRequest) -> HttpResponseBase:
            with _observing(request) as done:
                return done(_malformed(request) or await get_response(request))

        return answer_async

    def answer(request: HttpRequest) -> HttpResponseBase:
        with _observing(request) as done:
            response = _malformed(request) or get_response(request)
            assert isinstance(response, HttpResponseBase)
            return done(response)

    return answer


def _malformed(request: HttpRequest) -> HttpResponse | None:
    """What to say where the address asks with a NUL, which PostgreSQL takes in no text."""
    if "%00" not in request.META.get("QUERY_STRING", ""):
        return None
    sentence = "This address holds a NUL character, which no text has. Go back and try again.\n"
    return HttpResponse(sentence, status=400, content_type="text/plain; charset=utf-8")


@contextmanager
def _observing(
    request: HttpRequest,
) -> Iterator[Callable[[HttpResponseBase], HttpResponseBase]]:
    began = time.perf_counter()
    method = request.method if request.method in KNOWN_METHODS else "other"

    def done(response: HttpResponseBase) -> HttpResponseBase:
        match = request.resolver_match
        route = (match.view_name if match else "") or "none"
        seconds = time.perf_counter() - began
        metrics.HTTP.labels(route, method, response.status_code).observe(seconds)
        if span is not None:
            span.update_name(f"{method} {route}")
            span.set_attribute("http.response.status_code", response.status_code)
        response.headers[requests.HEADER] = number
        return response

    carrier = request.headers
    with (
        requests.under(requests.of(carrier)) as number,
        tracing.span(str(method), carrier, request_id=number) as span,
    ):
        yield done
