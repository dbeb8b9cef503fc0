"""The chat page: ask, follow the answer, read old ones, tidy up.

Creating a turn and following it are two requests. The answer is written on the server
whether or not anybody follows; a page that is reloaded follows again from the start.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.contrib import messages
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.middleware.csrf import get_token
from django.shortcuts import aget_object_or_404, get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from chat import branches, fragments, pages, services, sse, suggesting, turns
from chat.branches import Place
from chat.conf import generation_settings
from chat.errors import PassageGone, QuestionRefused
from chat.forms import MAX_QUESTION_CHARACTERS, AgainForm, AskForm, RenameForm
from chat.models import Conversation, Turn
from chat.panel import Standing
from chat.threads import in_thread
from ingestion import labels
from ingestion.models import Corpus
from ingestion.types import DocumentFilter
from search.inspector import inspection_of_answer

TURNS_SHOWN = 30
MOST_READERS = 10_000
# When it was last asked whether an account and a session may follow streams, and the answer.
_readers: dict[tuple[Any, ...], tuple[float, bool]] = {}

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser
    from django_htmx.middleware import HtmxDetails

    class Request(HttpRequest):
        """A request after `HtmxMiddleware`."""

        htmx: HtmxDetails


@require_GET
@never_cache
def new(request: HttpRequest) -> HttpResponse:
    """The page on which a conversation begins.

    `?corpus=`, `?document=` and `?question=` fill it in.
    """
    corpus = _number(request.GET.get("corpus", ""))
    scope = {corpus} if corpus is not None else pages.last_scope(request.user)
    form = AskForm(initial={"question": request.GET.get("question", "")}, person=request.user)
    return render(request, "chat/conversation.html", _page(request, None, form=form, scope=scope))


@require_GET
@never_cache
def conversation(request: HttpRequest, conversation_id: int) -> HttpResponse:
    """One conversation with all its turns; one that still runs is followed by the page."""
    shown = get_object_or_404(Conversation.objects.of(request.user), pk=conversation_id)
    form = AskForm(person=request.user)
    return render(request, "chat/conversation.html", _page(request, shown, form=form))


@require_GET
@never_cache
def earlier(request: HttpRequest, conversation_id: int) -> HttpResponse:
    """The questions before turn `?before=` of the branch that is shown, with their answers."""
    held = get_object_or_404(Conversation.objects.of(request.user), pk=conversation_id)
    way = held.way()
    before = _number(request.GET.get("before", ""))
    end = next((n for n, place in enumerate(way) if place.turn_id == before), 0)
    first = max(0, end - TURNS_SHOWN)
    shown, _ = _shown(way[first:end], reader=request.user)
    context = {"conversation": held, "turns": shown, "earlier": first}
    return render(request, "chat/_earlier.html", context)


@require_GET
@never_cache
def conversations(request: HttpRequest) -> HttpResponse:
    """The list of conversations in the rail, `?q=` searches it."""
    search = request.GET.get("q", "").strip()[:200]
    days = pages.conversations_by_day(request.user, search=search)
    return render(request, "chat/_conversations.html", {"days": days, "search": search})


@require_GET
@never_cache
def documents(request: HttpRequest) -> HttpResponse:
    """Documents to choose from for a question: `?find=` in their names, without `?documents=`."""
    search = request.GET.get("find", "").strip()[:200]
    chosen = _numbers(request.GET.getlist("documents"))
    context = pages.found_documents(request.user, search=search, besides=chosen)
    return render(request, "chat/_documents.html", {"search": search, "found": context})


@require_POST
async def ask(request: Request) -> HttpResponse:
    """Take a question and begin to answer it.

    The page gets the new turn, which then connects to its stream; the first turn of a
    conversation moves to the conversation's own address.
    """
    person = await request.auser()
    accepted = await sync_to_async(_accept)(request, person)
    if isinstance(accepted, HttpResponse):
        return accepted
    turns.start(accepted)
    return await sync_to_async(_accepted)(request, accepted)


def _accept(request: Request, person: User | AnonymousUser) -> Turn | HttpResponse:
    """The new turn, or the form with what is wrong about it."""
    asked_in = request.POST.get("conversation", "")
    held = _conversation_of(person, asked_in) if asked_in else None
    form = AskForm(request.POST, person=person)
    if form.is_valid():
        try:
            return services.ask(
                person=person,
                question=form.cleaned_data["question"],
                corpora=form.cleaned_data["corpora"],
                conversation=held,
                only=form.only,
                follows=_number(request.POST.get("follows", "")),
                model=form.cleaned_data["model"] if "model" in request.POST else None,
                rewrites=_last_word(request, "rewrites"),
            )
        except QuestionRefused as exc:  # true a moment ago, no longer
            form.add_error("question", exc.sentence)
    scope = set(_numbers(request.POST.getlist("corpora")))
    if request.htmx:
        context = _composer(request, held, form=form, scope=scope)
        response = render(request, "chat/_composer.html", context, status=422)
        response["HX-Retarget"] = "#composer"
        response["HX-Reswap"] = "outerHTML"
        return response
    page = _page(request, held, form=form, scope=scope)
    return render(request, "chat/conversation.html", page, status=422)


def _accepted(request: Request, turn: Turn) -> HttpResponse:
    address = reverse("chat:conversation", args=[turn.conversation_id])
    if request.htmx and request.POST.get("conversation"):
        return render(request, "chat/_turn_added.html", fragments.turn_context(turn))
    if request.htmx:
        return HttpResponse(headers={"HX-Redirect": address})
    return _at(turn)


@require_GET
async def stream(request: HttpRequest, turn_id: int) -> StreamingHttpResponse:
    """The turn's events; resumes after `Last-Event-ID`, or after `?after=`.

    The browser's leaving ends this response and not the turn.
    """
    person = await request.auser()
    assert isinstance(person, User)  # everybody else was sent to sign in
    turn = await aget_object_or_404(Turn, pk=turn_id, conversation__owner=person)
    after = sse.last_event_id(
        request.headers.get("Last-Event-ID", ""), request.GET.get("after", "")
    )
    found = fragments.messages(turn, after=after, csrf_token=get_token(request), reader=person)
    return StreamingHttpResponse(
        sse.stream(found, allowed=still_signed_in(request, person)),
        content_type="text/event-stream",
        headers=sse.HEADERS,
    )


def still_signed_in(
    request: HttpRequest, person: User, **also: Any
) -> Callable[[], Awaitable[bool]]:
    """Whether the reader's account is switched on and this browser's session is there.

    also: what else must be true of the account.
    """

    key = request.session.session_key
    reader = (person.pk, key, *sorted(also.items()))

    def is_there() -> bool:
        active = User.objects.filter(pk=person.pk, is_active=True, **also)
        return key is not None and active.exists() and request.session.exists(key)

    async def known_or_asked() -> bool:
        # The many streams that one browser may have open ask once together.
        asked_at, answer = _readers.get(reader, (0.0, False))
        if time.monotonic() - asked_at < sse.ALLOWED_SECONDS / 2:
            return answer
        if len(_readers) >= MOST_READERS:
            _readers.clear()
        # Who comes meanwhile need not ask as well.
        _readers[reader] = (time.monotonic(), answer if asked_at else True)
        answer = await in_thread(is_there)
        _readers[reader] = (time.monotonic(), answer)
        return answer

    return known_or_asked


@require_POST
async def stop(request: Request, turn_id: int) -> HttpResponse:
    """End a turn now; its stream tells the page. What was written is kept."""
    person = await request.auser()
    turn = await aget_object_or_404(Turn, pk=turn_id, conversation__owner=person)
    turns.stop(turn.pk)
    if request.htmx:
        return HttpResponse(status=204)
    return redirect("chat:conversation", conversation_id=turn.conversation_id)


@require_GET
@never_cache
def sources(request: HttpRequest, turn_id: int) -> HttpResponse:
    """The source panel of one turn."""
    turn = get_object_or_404(Turn, pk=turn_id, conversation__owner=request.user)
    standing = fragments.standing_of_documents([turn], reader=request.user)
    grades = fragments.grades_of(turn, reader=request.user)
    shown = fragments.for_reader(turn, standing=standing)
    context = fragments.sources_context(shown, standing=standing, grades=grades)
    return render(request, "chat/_sources.html", context)


@require_POST
def judge(request: HttpRequest, turn_id: int, chunk_id: str) -> HttpResponse:
    """Keep whether a source answers the question; the same word again takes it back."""
    assert isinstance(request.user, User)  # everybody else was sent to sign in
    turn = get_object_or_404(Turn, pk=turn_id, conversation__owner=request.user)
    try:
        grade = services.judge(
            person=request.user,
            turn=turn,
            chunk_id=chunk_id,
            is_relevant=request.POST.get("grade") == "1",
        )
    except PassageGone as exc:
        raise Http404 from exc
    if request.htmx:  # type: ignore[attr-defined]
        return render(request, "search/_judge.html", {"address": request.path, "grade": grade})
    return redirect("chat:conversation", conversation_id=turn.conversation_id)


@require_POST
async def ask_again(request: Request, turn_id: int) -> HttpResponse:
    """Another version of a turn, in other words or with other settings; both are kept."""
    person = await request.auser()
    turn = await aget_object_or_404(
        Turn.objects.select_related("conversation"), pk=turn_id, conversation__owner=person
    )
    form = AgainForm(request.POST)
    try:
        if not form.is_valid():
            raise QuestionRefused(
                "Passages to send are a number from 1 to 50, passages to rerank one from 1 to 500."
            )
        question = form.cleaned_data["question"] or turn.question
        ask = sync_to_async(services.ask_again)
        accepted = await ask(turn, question=question, options=form.options())
    except QuestionRefused as exc:
        await sync_to_async(messages.error)(request, exc.sentence)
        return await sync_to_async(_at)(turn)
    if not turn.has_ended:
        turns.stop(turn.pk)
    turns.start(accepted)
    return await sync_to_async(_at)(accepted)


@require_POST
def show_branch(request: HttpRequest, turn_id: int) -> HttpResponse:
    """Show the branch of the conversation that goes through this turn."""
    turn = get_object_or_404(
        Turn.objects.select_related("conversation"),
        pk=turn_id,
        conversation__owner=request.user,
    )
    services.show_branch(turn)
    return _at(turn)


def _at(turn: Turn) -> HttpResponse:
    """To the conversation, at this turn."""
    address = reverse("chat:conversation", args=[turn.conversation_id])
    is_long = turn.conversation.turns.count() > TURNS_SHOWN
    at = f"?at={turn.pk}" if is_long else ""
    return redirect(f"{address}{at}#turn-{turn.pk}")


@require_POST
async def answer_anyway(request: Request, turn_id: int) -> HttpResponse:
    """Ask again what was not answered for doubt, to be answered with a warning this time."""
    person = await request.auser()
    turn = await aget_object_or_404(
        Turn.objects.select_related("conversation"),
        pk=turn_id,
        conversation__owner=person,
        abstained=True,
    )
    try:
        accepted = await sync_to_async(_ask_despite_doubt)(person, turn)
    except QuestionRefused as exc:
        if request.htmx:
            return HttpResponse(exc.sentence, status=409, content_type="text/plain")
        await sync_to_async(messages.error)(request, exc.sentence)
        return redirect("chat:conversation", conversation_id=turn.conversation_id)
    turns.start(accepted)
    if request.htmx:
        context = await sync_to_async(fragments.turn_context)(accepted)
        return await sync_to_async(render)(request, "chat/_turn_added.html", context)
    return await sync_to_async(_at)(accepted)


def _ask_despite_doubt(person: User | AnonymousUser, turn: Turn) -> Turn:
    return services.ask(
        person=person,
        question=turn.question,
        corpora=list(turn.conversation.corpora.all()),
        conversation=turn.conversation,
        despite_doubt=True,
    )


@require_GET
def inspect(request: HttpRequest, turn_id: int) -> HttpResponse:
    """To the inspector, with the trace that was stored with this answer."""
    assert isinstance(request.user, User)  # everybody else was sent to sign in
    turn = get_object_or_404(Turn, pk=turn_id, conversation__owner=request.user)
    if turn.trace is None:
        address = reverse("search:inspector")
        return redirect(f"{address}?{urlencode({'question': turn.question})}")
    kept = inspection_of_answer(
        person=request.user,
        turn_id=turn.pk,
        trace=turn.trace,
        corpora=list(turn.conversation.corpora.all()),
        timings_ms=turn.timings_ms,
    )
    address = reverse("search:inspection", args=[kept.pk])
    # The row of one of its passages, if one was chosen.
    row = f"#row-{chunk}" if (chunk := request.GET.get("passage", "")).isalnum() else ""
    return redirect(f"{address}{row}")


@require_POST
def rename(request: HttpRequest, conversation_id: int) -> HttpResponse:
    """Give a conversation another title."""
    held = get_object_or_404(Conversation.objects.of(request.user), pk=conversation_id)
    form = RenameForm(request.POST)
    if form.is_valid():
        Conversation.objects.filter(pk=held.pk).update(title=form.cleaned_data["title"])
    else:
        messages.error(request, "A title has between 1 and 200 characters; the old one was kept.")
    return redirect("chat:conversation", conversation_id=conversation_id)


@require_POST
async def delete(request: HttpRequest, conversation_id: int) -> HttpResponse:
    """Delete a conversation with its turns; an answer that is being written is stopped first."""
    person = await request.auser()
    held = await aget_object_or_404(Conversation, pk=conversation_id, owner=person)
    async for turn_id in held.turns.exclude(state__in=Turn.ENDED).values_list("pk", flat=True):
        turns.stop(turn_id)
    title = str(held)
    await held.adelete()
    await sync_to_async(messages.success)(request, f"“{title}” was deleted.")
    return redirect("chat:new")


def _conversation_of(person: User | AnonymousUser, pk: str) -> Conversation:
    number = _number(pk)
    if number is None:
        raise Http404
    return get_object_or_404(Conversation.objects.of(person), pk=number)


def _last_word(request: HttpRequest, name: str) -> bool | None:
    """What a checkbox with a hidden 0 before it says; None where it is not in the form."""
    words = request.POST.getlist(name)
    return words[-1] == "1" if words else None


def _number(text: str) -> int | None:
    return int(text[:18]) if text.isascii() and text.isdigit() else None


def _numbers(texts: Iterable[str]) -> list[int]:
    return [number for text in texts if (number := _number(text)) is not None]


def _only(request: HttpRequest, held: Conversation | None) -> DocumentFilter:
    """What the composer is to show as chosen: what was sent, or what the conversation has."""
    if request.method == "POST":
        return DocumentFilter(
            labels=labels.read_all(request.POST.getlist("labels")),
            documents=tuple(_numbers(request.POST.getlist("documents"))),
        )
    if held is not None:
        return held.only
    return DocumentFilter(documents=tuple(_numbers(request.GET.getlist("document"))))


def _composer(
    request: HttpRequest,
    held: Conversation | None,
    *,
    form: AskForm,
    scope: set[int] | None = None,
) -> dict[str, Any]:
    if scope is None and held is not None:
        scope = set(held.corpora.values_list("pk", flat=True))
    choices = pages.corpus_choices(request.user, chosen=scope)
    only = _only(request, held)
    readable = Corpus.objects.readable_by(request.user)
    return {
        "conversation": held,
        "form": form,
        "labels": labels.choices(readable, chosen=only.labels) if choices else [],
        "documents": pages.chosen_documents(request.user, only.documents),
        "corpora": sorted(choices, key=lambda choice: not choice.is_chosen),
        "can_ask": any(choice.ready for choice in choices),
        "max_characters": MAX_QUESTION_CHARACTERS,
        "follows": _number(request.POST.get("follows", "")),
        "model_name": (held and held.model) or generation_settings().model,
    }


def _shown(
    places: Sequence[Place], *, reader: User | AnonymousUser
) -> tuple[list[dict[str, Any]], Callable[[int], Standing]]:
    """What the templates need of the turns at these places of the branch that is shown.

    And whether the reader can still open the documents that they rest on.
    """
    found = Turn.objects.in_bulk([place.turn_id for place in places])
    standing = fragments.standing_of_documents(found.values(), reader=reader)
    shown = {pk: fragments.for_reader(turn, standing=standing) for pk, turn in found.items()}
    contexts = [
        {**fragments.turn_context(shown[place.turn_id]), "place": place}
        for place in places
        if place.turn_id in shown
    ]
    return contexts, standing


def _share_address(request: HttpRequest, held: Conversation | None) -> str:
    if held is None or not held.share_key:
        return ""
    return request.build_absolute_uri(reverse("chat:shared", args=[held.share_key]))


def _page(
    request: HttpRequest,
    held: Conversation | None,
    *,
    form: AskForm,
    scope: set[int] | None = None,
) -> dict[str, Any]:
    context = _composer(request, held, form=form, scope=scope)
    parents = held.parents() if held else {}
    way = branches.way(parents, held.leaf_id if held else None)
    first = max(0, len(way) - TURNS_SHOWN)
    places = [place.turn_id for place in way]
    if (wanted := _number(request.GET.get("at", ""))) in places:
        first = min(first, places.index(wanted))
    shown, standing = _shown(way[first:], reader=request.user)
    if shown:
        last = shown[-1]["turn"]
        grades = fragments.grades_of(last, reader=request.user)
        context["panel"] = fragments.sources_context(last, standing=standing, grades=grades)
    else:
        chosen = [choice.id for choice in context["corpora"] if choice.is_chosen]
        documents = [document.pk for document in context["documents"]]
        context["suggestions"] = suggesting.first_questions(chosen, documents=documents)
    return {
        **context,
        "turns": shown,
        "earlier": first,
        "question_count": len(parents),
        "share_address": _share_address(request, held),
        "follows": shown[-1]["turn"].pk if shown else None,
        "rewrites": held is None or held.rewrites,
        "is_running": any(not one["is_over"] for one in shown),
        "is_waiting": any(choice.waiting for choice in context["corpora"]),
    }
