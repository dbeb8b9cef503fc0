"""Language models on the pages: which there are to choose from, and fetching others.

Only what is asked for here waits for the language model's server; the chat page does not.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import aget_object_or_404, render
from django.template.loader import render_to_string
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from chat import generation, pulls, sse
from chat.conf import generation_settings
from chat.forms import PullForm
from chat.models import Conversation, ModelPull
from chat.sse import Message
from chat.types import GeneratorKind
from chat.views import still_signed_in

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser


@require_GET
@never_cache
async def models(request: HttpRequest) -> HttpResponse:
    """What the server has: to choose from in the composer, or as options (`?as=options`)."""
    person = await request.auser()
    status = await generation.available(generation_settings())
    context: dict[str, Any] = {"status": status, "default": status.model}
    if request.GET.get("as") == "options":
        return await sync_to_async(render)(request, "chat/_model_options.html", context)
    asked = request.GET.get("conversation", "")
    held = None
    if asked.isascii() and asked.isdigit():
        held = await Conversation.objects.of(person).filter(pk=int(asked[:18])).afirst()
    context["chosen"] = held.model if held else ""
    if may_pull(person):
        await sync_to_async(pulls.reap)()
        running = ModelPull.objects.filter(state=ModelPull.State.RUNNING)
        context |= {"may_pull": True, "pulls": [pull async for pull in running]}
    return await sync_to_async(render)(request, "chat/_models.html", context)


@require_POST
async def pull(request: HttpRequest) -> HttpResponse:
    """Have Ollama fetch a model; administrators alone may."""
    person = await _administrator(request)
    form = PullForm(request.POST)
    if not form.is_valid():
        errors = form.errors["pull"]
        return await sync_to_async(render)(
            request, "chat/_pull_refused.html", {"error": errors[0]}, status=422
        )
    ask = sync_to_async(pulls.request_pull)
    asked, is_new = await ask(form.cleaned_data["pull"], person=person)
    if is_new:
        pulls.start(asked)
    return await sync_to_async(render)(request, "chat/_pull.html", {"pull": asked})


@require_GET
async def pull_stream(request: HttpRequest, pull_id: int) -> StreamingHttpResponse:
    """How far a pull is, as it gets further."""
    person = await _administrator(request)
    await aget_object_or_404(ModelPull, pk=pull_id)
    return StreamingHttpResponse(
        sse.stream(_progress(pull_id), allowed=still_signed_in(request, person, is_staff=True)),
        content_type="text/event-stream",
        headers=sse.HEADERS,
    )


@require_POST
async def cancel_pull(request: HttpRequest, pull_id: int) -> HttpResponse:
    """End a pull; its stream tells the page."""
    await _administrator(request)
    await aget_object_or_404(ModelPull, pk=pull_id)
    await sync_to_async(pulls.cancel)(pull_id)
    return HttpResponse(status=204)


def may_pull(person: User | AnonymousUser) -> bool:
    """Whether this person may have models fetched: administrators, where Ollama is used."""
    return person.is_staff and generation_settings().kind == GeneratorKind.OLLAMA


async def _administrator(request: HttpRequest) -> User:
    person = await request.auser()
    if not isinstance(person, User) or not may_pull(person):
        raise Http404
    return person


async def _progress(pull_id: int) -> AsyncGenerator[Message]:
    async with aclosing(pulls.follow(pull_id)) as states:
        async for state in states:
            html = render_to_string("chat/_pull_state.html", {"pull": state})
            yield Message("progress", html)
    yield Message("end", "")
