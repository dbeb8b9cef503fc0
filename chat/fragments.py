"""The HTML of a turn: whole for the page, and piece by piece for the stream.

Both are made from the same templates, so that an answer that was watched and the same
answer read after a reload do not differ. What each event replaces stands in
`templates/chat/_turn.html` and `_body.html` beside the element that listens for it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from copy import copy
from typing import TYPE_CHECKING, Any

from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from chat import panel, suggesting, turns
from chat.models import Turn
from chat.panel import Standing
from chat.render import render_markdown
from chat.sse import Message
from chat.threads import in_thread
from chat.transcript import QUOTES_WITHHELD, readable_answer
from ingestion.models import Corpus, Document
from search import judging

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User


# What is left of a source that the reader may not see any more: its ranks and scores.
WITHHELD: Mapping[str, Any] = {
    **{"document": "Withheld passage", "title": "", "heading_path": "", "text": ""},
    **{"page_from": None, "page_to": None, "sent": None},
}


def turn_context(turn: Turn) -> dict[str, Any]:
    """What the templates of a turn need; reads nothing but the turn."""
    shown = panel.shown_count(turn.sources)
    notices = [panel.notice(d["code"], d["sentence"]) for d in turn.degraded]
    return {
        "turn": turn,
        "is_over": turn.has_ended,
        "answer": (
            render_markdown(turn.answer, sources=shown, weak=turn.weak) if turn.has_ended else ""
        ),
        "notices": [n for n in notices if not n.is_about_the_end],
        "closing_notices": [n for n in notices if n.is_about_the_end],
        "figures": panel.figures(turn.trace, degraded=turn.degraded, timings_ms=turn.timings_ms),
        "source_count": shown,
        "chosen": panel.chosen(turn.options),
        "searched_in": panel.searched_in(turn.trace, turn.sources),
        "follow_ups": (
            suggesting.follow_ups(turn.sources, question=turn.question)
            if turn.state == Turn.State.DONE and not turn.abstained
            else []
        ),
        "is_extractive": bool(
            turn.state == Turn.State.DONE and turn.answer and not turn.model and not turn.abstained
        ),
    }


def sources_context(
    turn: Turn,
    *,
    standing: Callable[[int], Standing] = lambda _: Standing.THERE,
    grades: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """What the panel's section of a turn needs; `grades` as for `chat.panel.groups`."""
    model = turn.model if turn.has_ended else None
    limit = panel.threshold(turn.trace)
    return {
        "turn": turn,
        "threshold": limit,
        "groups": panel.groups(
            turn.sources,
            standing=standing,
            model=model,
            grades=grades,
            threshold=limit,
            abstained=turn.abstained,
        ),
    }


def grades_of(turn: Turn, *, reader: User | AnonymousUser) -> dict[str, int]:
    """What this person said of passages for the question that was searched."""
    return judging.grades_of(reader, turn.standalone_question or turn.question)


def standing_of_documents(
    shown: Iterable[Turn], *, reader: User | AnonymousUser
) -> Callable[[int], Standing]:
    """Whether this person can still open the documents that these turns rest on: two queries."""
    wanted = {int(source["document_id"]) for turn in shown for source in turn.sources}
    kept = Document.objects.filter(pk__in=wanted).exclude(state=Document.State.DELETING)
    corpus_of = dict(kept.values_list("pk", "corpus_id"))
    readable = set(Corpus.objects.readable_by(reader).values_list("pk", flat=True))

    def standing(document_id: int) -> Standing:
        if document_id not in corpus_of:
            return Standing.DELETED
        return Standing.THERE if corpus_of[document_id] in readable else Standing.WITHDRAWN

    return standing


def for_reader(turn: Turn, *, standing: Callable[[int], Standing]) -> Turn:
    """The turn, in memory alone, without what its reader may not read any more.

    Of a corpus that was taken away and of a deleted document the passages go, and quotes of them;
    what a language model wrote stays.
    """
    shown = copy(turn)
    shown.answer = readable_answer(turn, standing=standing)
    shown.sources = _without_withheld(turn.sources, standing)
    return shown


def _without_withheld(
    sources: Iterable[Mapping[str, Any]], standing: Callable[[int], Standing]
) -> list[dict[str, Any]]:
    return [
        {**source, **({} if standing(int(source["document_id"])) is Standing.THERE else WITHHELD)}
        for source in sources
    ]


async def messages(
    turn: Turn, *, after: int, csrf_token: str, reader: User | AnonymousUser
) -> AsyncGenerator[Message]:
    """The turn's events after number `after`, as fragments that the page swaps in.

    A stream from the start opens with a `begin` message that empties the turn's body, so
    that a page which saw some of the events already shows none of them twice.

    Args:
        turn: the turn as it was when the stream was asked for.
        after: number of the last event the page has; 0 for all of them.
        csrf_token: for the forms among the fragments.
        reader: who sees what they may read now, and their own judgements.
    """

    def of_now(shown: Turn) -> tuple[Turn, Callable[[int], Standing]]:
        standing = standing_of_documents([shown], reader=reader)
        return for_reader(shown, standing=standing), standing

    # Whatever the turn is by now: what follows has to find who listens.
    begin = {"turn": turn, "is_over": False, "csrf_token": csrf_token}
    if after <= 0:
        yield Message("begin", _render("_body", begin))
    sources: list[dict[str, Any]] | None = None
    limit: float | None = None
    readable, _ = await in_thread(of_now, turn)
    is_withheld = readable.answer == QUOTES_WITHHELD
    instead = render_markdown(QUOTES_WITHHELD, sources=0) if is_withheld else None
    async with aclosing(turns.follow(turn.pk, after=max(0, after))) as events:
        async for event in events:
            data = event.data
            match event.name:
                case "restart":
                    yield Message("begin", _render("_body", begin), event.id)
                    continue
                case "stage":
                    html = _render("_stage", {"text": data["text"]})
                case "notice":
                    seen = panel.notice(data["code"], data["sentence"])
                    if seen.is_about_the_end:
                        continue  # stands under the answer when that has ended
                    html = _render("_notice", {"notice": seen})
                case "sources":
                    sources, limit = data["sources"], data["summary"].get("threshold")
                    found = Turn(pk=turn.pk, question=turn.question, sources=sources)
                    readable, standing = await in_thread(of_now, found)
                    html = _sources(
                        turn, readable.sources, csrf_token, threshold=limit, standing=standing
                    )
                case "citations":
                    saved = await Turn.objects.filter(pk=turn.pk).afirst() or turn
                    saved.sources = panel.with_cited(sources or saved.sources, data["cited"])
                    grades = await in_thread(grades_of, saved, reader=reader)
                    readable, standing = await in_thread(of_now, saved)
                    html = _sources(
                        saved,
                        readable.sources,
                        csrf_token,
                        threshold=limit,
                        standing=standing,
                        grades=grades,
                    )
                case "block" | "tail" | "answer":
                    html = data["html"] if instead is None else instead
                case "end":
                    ended = await Turn.objects.filter(pk=turn.pk).afirst() or turn
                    # Where the end could not be saved, or the turn is gone, the event knows more.
                    ended.state, ended.error = data["state"], data["error"]
                    readable, _ = await in_thread(of_now, ended)
                    context = {**turn_context(readable), "csrf_token": csrf_token, "is_live": True}
                    html = _render("_foot", context)
                case _:
                    continue
            yield Message(event.name, html, event.id)


def _sources(
    turn: Turn,
    sources: Sequence[Mapping[str, Any]],
    csrf_token: str,
    *,
    threshold: float | None,
    standing: Callable[[int], Standing],
    grades: Mapping[str, int] | None = None,
) -> SafeString:
    context = {
        "turn": turn,
        "csrf_token": csrf_token,
        "threshold": threshold,
        "groups": panel.groups(
            sources,
            standing=standing,
            model=turn.model if turn.has_ended else None,
            grades=grades,
            threshold=threshold,
            abstained=turn.abstained,
        ),
        "source_count": panel.shown_count(sources),
    }
    return _render("_sources_event", context)


def _render(name: str, context: dict[str, Any]) -> SafeString:
    return render_to_string(f"chat/{name}.html", context)
