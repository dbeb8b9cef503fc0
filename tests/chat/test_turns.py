"""Turns: what each fault shows and stores, and that a turn lives without its followers."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.utils import timezone

from chat import answering, extractive, services, turns
from chat.models import Conversation, Turn
from chat.render import render_markdown
from chat.turns import Event
from chat.types import GenerationSettings
from ingestion.models import Corpus
from ragsite.asgi import application
from ragsite.processes import free_port
from search.errors import InvalidSettings
from search.types import DegradedCode, Outcome, Trace
from tests.chat.engine import (
    QUESTION,
    TEXTS,
    Search,
    answered,
    asked,
    degradation,
    engine,
    events_of,
    reread,
    run,
    trace,
    until,
)
from tests.ingestion.test_context import cut, section
from tests.ollama_server import MODEL, Mode, OllamaServer

if TYPE_CHECKING:
    from django.contrib.auth.models import User

pytestmark = pytest.mark.django_db(transaction=True)


def names(events: list[Event]) -> list[str]:
    """The events' names, repeats of blocks and tails taken together."""
    found: list[str] = []
    for event in events:
        name = "text" if event.name in ("block", "tail") else event.name
        if name != "text" or found[-1:] != ["text"]:
            found.append(name)
    return found


def one(events: list[Event], name: str) -> dict[str, object]:
    """The data of the only event of this name."""
    [found] = [event.data for event in events if event.name == name]
    return found


def check_order(events: list[Event]) -> None:
    """The promises that hold for every turn, whatever happens."""
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    order = [event.name for event in events]
    assert order[-1] == "end"
    assert order.count("end") == 1
    assert order.count("answer") == 1
    first_text = next((i for i, n in enumerate(order) if n in ("block", "tail")), len(order))
    assert "sources" not in order[first_text:]
    last_text = max((i for i, n in enumerate(order) if n in ("block", "tail")), default=-1)
    assert last_text < order.index("answer")
    if "citations" in order:
        assert order.index("answer") < order.index("citations")


def fresh(turn: Turn) -> Turn:
    """The turn as SQL has it."""
    return Turn.objects.get(pk=turn.pk)


def test_an_answer_comes_in_pieces_with_its_sources_first(
    corpus: Corpus, ollama: OllamaServer, generation: GenerationSettings
) -> None:
    ollama.token_seconds = 0.02
    turn = asked(corpus)
    events = answered(turn, engine(generation))

    check_order(events)
    order = [event.name for event in events]
    assert names([e for e in events if e.name != "stage"]) == [
        "sources", "text", "answer", "citations", "end",
    ]  # fmt: skip
    assert order.count("tail") > 3
    assert "block" in order
    stages = [event.data["text"] for event in events if event.name == "stage"]
    assert stages[:2] == ["Searching Papers…", "Reranking 12 passages…"]
    assert stages[-2:] == ["Writing the answer…", "Checking the citations…"]
    assert one(events, "end") == {"state": "done", "error": ""}

    turn = fresh(turn)
    assert turn.state == Turn.State.DONE
    assert turn.model == MODEL
    assert "by the places of each passage. [1]" in turn.answer
    assert turn.ended_at is not None
    assert one(events, "citations") == {"cited": [1, 2]}
    assert [s["rank"] for s in turn.sources if s["cited"]] == [1, 2]
    assert Trace.from_json(turn.trace or {}).question == QUESTION
    assert {"first_token", "generation", "whole_turn"} <= turn.timings_ms.keys()


def test_the_final_answer_is_the_rendering_of_the_stored_text(
    corpus: Corpus, ollama: OllamaServer, generation: GenerationSettings
) -> None:
    ollama.answer = (
        "# Fusion\n\nIt merges [1].\n\n```py\nrow[1]\n```\n\n| a | b |\n|---|---|\n| x [2] | y |\n"
    )
    turn = asked(corpus)
    events = answered(turn, engine(generation))

    html = render_markdown(fresh(turn).answer, sources=len(TEXTS))
    assert one(events, "answer") == {"html": html}
    blocks = "".join(e.data["html"] for e in events if e.name == "block")
    assert html.startswith(blocks)
    assert blocks.count("<") > 4


def test_the_sources_are_the_selected_ones_and_those_that_just_missed(
    corpus: Corpus, generation: GenerationSettings
) -> None:
    events = answered(asked(corpus), engine(generation))

    sources = one(events, "sources")["sources"]
    assert isinstance(sources, list)
    assert [s["rank"] for s in sources] == list(range(1, len(TEXTS) + 6))
    assert sources[0]["text"] == TEXTS[0]
    summary = one(events, "sources")["summary"]
    assert isinstance(summary, dict)
    assert (summary["candidates"], summary["selected"], summary["sent"]) == (12, 4, 4)


def test_passages_that_do_not_fit_are_marked_as_not_sent(
    corpus: Corpus, ollama: OllamaServer, generation: GenerationSettings
) -> None:
    search = Search(trace([f"{n} " + "long words here. " * 150 for n in range(1, 7)]))
    settings = replace(generation, max_context_tokens=4096, max_answer_tokens=512)
    turn = asked(corpus)
    answered(turn, engine(settings, search))

    outcomes = [s["outcome"] for s in fresh(turn).sources]
    sent = outcomes.count(Outcome.SELECTED)
    assert 0 < sent < 6
    assert outcomes[:6] == [Outcome.SELECTED] * sent + [Outcome.NOT_SENT] * (6 - sent)
    assert f'{{"n": {sent},' in ollama.answers[0].prompt
    assert f'{{"n": {sent + 1},' not in ollama.answers[0].prompt


def test_a_made_up_number_is_never_shown_and_not_stored(
    corpus: Corpus, ollama: OllamaServer, generation: GenerationSettings
) -> None:
    ollama.mode = Mode.INVENTED
    turn = asked(corpus)
    events = answered(turn, engine(generation))

    assert "This is made up." in fresh(turn).answer
    for event in events:
        assert "99" not in str(event.data.get("html", ""))
    assert one(events, "citations") == {"cited": [1, 2]}


@pytest.mark.parametrize(
    ("mode", "code", "says"),
    [
        (Mode.MISSING, "generator_model_missing", f"ollama pull {MODEL}"),
        (Mode.BUSY, "generator_failed", "busy"),
        (Mode.FAILING, "generator_failed", "reported an error"),
        (Mode.EMPTY, "generator_failed", "reported an error"),
        (Mode.SLOW, "generator_failed", "did not begin to answer in time"),
    ],
)
def test_a_model_that_cannot_begin_gives_quotes_and_a_notice(
    corpus: Corpus,
    ollama: OllamaServer,
    generation: GenerationSettings,
    mode: Mode,
    code: str,
    says: str,
) -> None:
    ollama.mode = mode
    turn = asked(corpus)
    events = answered(turn, engine(replace(generation, first_token_seconds=0.3)))

    check_order(events)
    notice = one(events, "notice")
    assert notice["code"] == code
    assert says in str(notice["sentence"])
    turn = fresh(turn)
    assert turn.state == Turn.State.DONE
    assert turn.model == ""
    assert turn.degraded == [notice]
    assert turn.answer.startswith(extractive.INTRODUCTION)
    assert "> “Reciprocal rank fusion merges two rankings" in turn.answer
    assert 1 in one(events, "citations")["cited"]  # type: ignore[operator]


def test_without_ollama_the_answer_is_quotes_and_says_what_to_do(
    corpus: Corpus, generation: GenerationSettings
) -> None:
    turn = asked(corpus)
    events = answered(turn, engine(replace(generation, host=f"127.0.0.1:{free_port()}")))

    check_order(events)
    assert one(events, "notice")["code"] == "generator_unreachable"
    assert "Start Ollama" in str(one(events, "notice")["sentence"])
    assert fresh(turn).answer.startswith(extractive.INTRODUCTION)


@pytest.mark.parametrize("mode", [Mode.CUT, Mode.SILENT, Mode.ERROR])
def test_an_answer_that_breaks_off_keeps_what_there_is(
    corpus: Corpus, ollama: OllamaServer, generation: GenerationSettings, mode: Mode
) -> None:
    ollama.mode = mode
    turn = asked(corpus)
    events = answered(turn, engine(replace(generation, silence_seconds=0.3)))

    check_order(events)
    assert one(events, "notice")["code"] == "generation_interrupted"
    turn = fresh(turn)
    assert turn.state == Turn.State.INTERRUPTED
    assert "broke off" in turn.error
    assert turn.answer.startswith("According to the documents")
    assert one(events, "end") == {"state": "interrupted", "error": turn.error}


def test_an_answer_cut_by_its_length_is_done_and_says_so(
    corpus: Corpus, ollama: OllamaServer, generation: GenerationSettings
) -> None:
    ollama.mode = Mode.LONG
    turn = asked(corpus)
    events = answered(turn, engine(generation))

    assert one(events, "notice")["code"] == "answer_cut"
    assert fresh(turn).state == Turn.State.DONE


def test_every_degradation_of_the_search_is_shown_and_stored(
    corpus: Corpus, generation: GenerationSettings
) -> None:
    degraded = [
        degradation(DegradedCode.NO_RERANKER),
        degradation(DegradedCode.LEXICAL_UNAVAILABLE),
    ]
    turn = asked(corpus)
    events = answered(turn, engine(generation, Search(trace(degraded=degraded))))

    check_order(events)
    shown = [event.data["code"] for event in events if event.name == "notice"]
    assert shown == ["no_reranker", "lexical_unavailable"]
    assert [d["code"] for d in fresh(turn).degraded] == shown


def doubtful(threshold: float | None) -> Search:
    """A search whose best passage has the relevance 0.89."""
    found = trace()
    return Search(replace(found, rerank=replace(found.rerank, threshold=threshold)))


@pytest.mark.parametrize(
    ("manner", "threshold", "notices"),
    [
        (Corpus.Doubtful.WARN, 0.95, ["low_relevance"]),
        (Corpus.Doubtful.WARN, 0.85, []),
        (Corpus.Doubtful.WARN, None, []),
        (Corpus.Doubtful.ANSWER, 0.95, []),
        (Corpus.Doubtful.REFUSE, 0.85, []),
    ],
)
def test_doubt_is_said_above_the_answer(
    corpus: Corpus,
    generation: GenerationSettings,
    manner: str,
    threshold: float | None,
    notices: list[str],
) -> None:
    Corpus.objects.filter(pk=corpus.pk).update(doubtful=manner)
    turn = asked(corpus)
    events = answered(turn, engine(generation, doubtful(threshold)))

    check_order(events)
    assert [e.data["code"] for e in events if e.name == "notice"] == notices
    turn = fresh(turn)
    assert not turn.abstained
    assert turn.answer.startswith("According to the documents")
    assert [d["code"] for d in turn.degraded] == notices


def test_a_corpus_may_refuse_what_the_reranker_doubts(
    corpus: Corpus, ollama: OllamaServer, generation: GenerationSettings
) -> None:
    Corpus.objects.filter(pk=corpus.pk).update(doubtful=Corpus.Doubtful.REFUSE)
    turn = asked(corpus)
    events = answered(turn, engine(generation, doubtful(0.95)))

    check_order(events)
    turn = fresh(turn)
    assert turn.answer == extractive.NOTHING_ANSWERS.format(best=0.89, threshold=0.95)
    assert "closest passage is 0.89, below the threshold of 0.95" in turn.answer
    assert turn.abstained
    assert ollama.chats == []
    assert one(events, "sources")["sources"]


def test_what_was_refused_is_answered_on_demand_with_a_warning(
    corpus: Corpus, generation: GenerationSettings
) -> None:
    Corpus.objects.filter(pk=corpus.pk).update(doubtful=Corpus.Doubtful.REFUSE)
    turn = services.ask(person=corpus.owner, question="What?", corpora=[corpus], despite_doubt=True)
    answered(turn, engine(generation, doubtful(0.95)))

    turn = fresh(turn)
    assert not turn.abstained
    assert turn.answer.startswith("According to the documents")
    assert [d["code"] for d in turn.degraded] == ["low_relevance"]


@pytest.mark.parametrize(
    ("code", "has_document", "sentence"),
    [
        (None, False, extractive.NO_DOCUMENTS),
        (None, True, extractive.NOTHING_FOUND),
        (DegradedCode.NO_RERANKER, True, extractive.NOTHING_FOUND),
        (DegradedCode.VECTORS_UNAVAILABLE, True, extractive.SEARCH_INCOMPLETE),
        (DegradedCode.EMBEDDER_UNREACHABLE, True, extractive.SEARCH_INCOMPLETE),
        (DegradedCode.LEXICAL_UNAVAILABLE, True, extractive.SEARCH_INCOMPLETE),
    ],
)
def test_nothing_found_is_said_only_if_everything_was_searched(
    corpus: Corpus,
    ollama: OllamaServer,
    generation: GenerationSettings,
    code: DegradedCode | None,
    has_document: bool,
    sentence: str,
) -> None:
    if has_document:
        corpus.documents.create(name="a.txt", size_bytes=1, sha256="a" * 64, state="ready")
    degraded = [degradation(code)] if code else []
    turn = asked(corpus)
    events = answered(turn, engine(generation, Search(trace([], degraded=degraded, below=0))))

    check_order(events)
    turn = fresh(turn)
    assert turn.answer == sentence
    assert turn.abstained
    assert turn.state == Turn.State.DONE
    assert ollama.chats == []


def test_a_follow_up_is_searched_in_a_form_that_stands_alone(
    corpus: Corpus, ollama: OllamaServer, generation: GenerationSettings
) -> None:
    search = Search()
    first = asked(corpus)
    answered(first, engine(generation, search))
    second = asked(corpus, "Why 60?", conversation=first.conversation)
    events = answered(second, engine(generation, search))

    expected = "Why 60, as to “How are two rankings fused”?"
    assert search.questions == [QUESTION, expected]
    assert fresh(second).standalone_question == expected
    stages = [event.data["text"] for event in events if event.name == "stage"]
    assert f"Searching for: {expected}" in stages
    messages = ollama.answers[-1].body["messages"]
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "user"]
    assert "[1]" not in messages[2]["content"]
    assert fresh(first).standalone_question == ""


def test_a_follow_up_is_searched_as_asked_where_no_model_is_there(
    corpus: Corpus, ollama: OllamaServer, generation: GenerationSettings
) -> None:
    search = Search()
    first = asked(corpus)
    answered(first, engine(generation, search))
    second = asked(corpus, "Why 60?", conversation=first.conversation)
    ollama.mode = Mode.MISSING
    answered(second, engine(generation, search))

    assert search.questions == [QUESTION, "Why 60?"]
    assert fresh(second).standalone_question == ""


def test_a_rewriting_that_takes_too_long_is_given_up(
    corpus: Corpus,
    ollama: OllamaServer,
    generation: GenerationSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answering, "REWRITE_SECONDS", 0.2)
    search = Search()
    first = asked(corpus)
    answered(first, engine(generation, search))
    ollama.token_seconds = 0.1
    second = asked(corpus, "Why 60?", conversation=first.conversation)

    async def answer() -> None:
        turns.start(second, services=engine(generation, search))
        await until(second, "sources")
        turns.stop(second.pk)

    run(answer())
    assert search.questions[-1] == "Why 60?"


def test_only_corpora_that_the_person_may_still_read_are_searched(
    corpus: Corpus, bob: User, generation: GenerationSettings
) -> None:
    search = Search()
    opened = Corpus.objects.create(name="Open", owner=bob, visibility=Corpus.Visibility.OPEN)
    turn = asked(corpus)
    turn.conversation.corpora.add(opened)
    opened.visibility = Corpus.Visibility.PRIVATE
    opened.save()
    answered(turn, engine(generation, search))

    assert search.corpora == [["Papers"]]


def test_a_conversation_without_any_readable_corpus_says_so(
    corpus: Corpus, generation: GenerationSettings
) -> None:
    turn = asked(corpus)
    turn.conversation.corpora.clear()
    events = answered(turn, engine(generation))

    check_order(events)
    assert one(events, "end") == {"state": "failed", "error": turns.NO_CORPUS}
    assert fresh(turn).error == turns.NO_CORPUS


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (RuntimeError("a bug"), turns.UNEXPECTED),
        (InvalidSettings("pool must lie between 1 and 2000, not at 0."), "pool must lie"),
    ],
)
def test_whatever_goes_wrong_the_turn_ends_with_a_sentence(
    corpus: Corpus, generation: GenerationSettings, error: Exception, sentence: str
) -> None:
    def fail() -> None:
        raise error

    turn = asked(corpus)
    events = answered(turn, engine(generation, Search(before=fail)))

    check_order(events)
    assert str(one(events, "end")["error"]).startswith(sentence)
    assert fresh(turn).state == Turn.State.FAILED
    assert fresh(turn).error.startswith(sentence)


def test_stop_keeps_the_text_and_frees_the_model_within_two_seconds(
    corpus: Corpus, ollama: OllamaServer, generation: GenerationSettings
) -> None:
    ollama.token_seconds = 0.05
    turn = asked(corpus)

    async def stop_early() -> list[Event]:
        turns.start(turn, services=engine(generation))
        seen = await until(turn, "tail")
        assert turns.stop(turn.pk) is True
        return [*seen, *await events_of(turn, after=seen[-1].id)]

    events = run(stop_early())
    assert ollama.answers[0].client_left.wait(2.0)
    check_order(events)
    turn = fresh(turn)
    assert turn.state == Turn.State.STOPPED
    assert turn.error == ""
    assert "According" in turn.answer
    assert len(turn.answer) < 80
    assert one(events, "end") == {"state": "stopped", "error": ""}


@pytest.mark.parametrize("mode", [Mode.SLOW, Mode.SILENT])
def test_stop_works_while_nothing_comes(
    corpus: Corpus, ollama: OllamaServer, generation: GenerationSettings, mode: Mode
) -> None:
    ollama.mode = mode
    turn = asked(corpus)

    async def stop_waiting() -> list[Event]:
        turns.start(turn, services=engine(replace(generation, silence_seconds=60)))
        await until(turn, "sources")
        await asyncio.sleep(0.3)
        turns.stop(turn.pk)
        return await events_of(turn)

    began = time.monotonic()
    check_order(run(stop_waiting()))
    assert ollama.answers[0].client_left.wait(2.0)
    assert time.monotonic() - began < 3.0
    assert fresh(turn).state == Turn.State.STOPPED


def test_stop_during_the_search_does_not_wait_for_it(
    corpus: Corpus, ollama: OllamaServer, generation: GenerationSettings
) -> None:
    release = threading.Event()
    turn = asked(corpus)

    def wait() -> None:
        release.wait(10)

    async def stop_searching() -> list[Event]:
        search = Search(before=wait)
        turns.start(turn, services=engine(generation, search))
        await until(turn, "stage")
        turns.stop(turn.pk)
        events = await events_of(turn)
        release.set()
        return events

    events = run(stop_searching())
    check_order(events)
    assert names(events) == ["stage", "answer", "citations", "end"]
    assert fresh(turn).state == Turn.State.STOPPED
    assert ollama.answers == []


def test_a_stop_of_another_process_reaches_the_producer(
    corpus: Corpus,
    ollama: OllamaServer,
    generation: GenerationSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "HEARTBEAT_SECONDS", 0.1)
    ollama.mode = Mode.SILENT
    turn = asked(corpus)

    async def stop_elsewhere() -> list[Event]:
        turns.start(turn, services=engine(replace(generation, silence_seconds=60)))
        await until(turn, "tail")
        await asyncio.to_thread(turns._stop_in_sql, turn.pk)
        return await events_of(turn)

    events = run(stop_elsewhere())
    assert ollama.answers[0].client_left.wait(2.0)
    assert one(events, "end")["state"] == "stopped"
    assert fresh(turn).state == Turn.State.STOPPED
    assert fresh(turn).answer.startswith("According")


def test_a_turn_that_is_deleted_while_it_runs_stops_too(
    corpus: Corpus,
    ollama: OllamaServer,
    generation: GenerationSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "HEARTBEAT_SECONDS", 0.1)
    ollama.mode = Mode.SILENT
    turn = asked(corpus)

    async def delete() -> list[Event]:
        turns.start(turn, services=engine(replace(generation, silence_seconds=60)))
        await until(turn, "tail")
        await Conversation.objects.all().adelete()
        return await events_of(turn)

    assert run(delete())[-1].name == "end"
    assert ollama.answers[0].client_left.wait(2.0)
    assert not Turn.objects.exists()


def test_a_turn_goes_on_without_followers(
    corpus: Corpus, ollama: OllamaServer, generation: GenerationSettings
) -> None:
    ollama.token_seconds = 0.02
    turn = asked(corpus)

    async def look_away() -> None:
        turns.start(turn, services=engine(generation))
        following = turns.follow(turn.pk)
        await anext(following)
        await following.aclose()
        assert not (await reread(turn)).has_ended

    run(look_away())
    assert fresh(turn).state == Turn.State.DONE


def test_two_followers_see_the_same_events(
    corpus: Corpus, ollama: OllamaServer, generation: GenerationSettings
) -> None:
    ollama.token_seconds = 0.02
    turn = asked(corpus)

    async def both() -> tuple[list[Event], list[Event]]:
        turns.start(turn, services=engine(generation))
        await until(turn, "tail")
        return await asyncio.gather(events_of(turn), events_of(turn))

    first, second = run(both())
    assert first == second
    check_order(first)


def test_a_follower_that_comes_back_gets_exactly_the_rest(
    corpus: Corpus, ollama: OllamaServer, generation: GenerationSettings
) -> None:
    ollama.token_seconds = 0.02
    turn = asked(corpus)

    async def leave_and_return() -> tuple[list[Event], list[Event]]:
        turns.start(turn, services=engine(generation))
        whole = asyncio.create_task(events_of(turn))
        seen = await until(turn, "tail")
        await asyncio.sleep(0.1)
        rest = await events_of(turn, after=seen[-1].id)
        return [*seen, *rest], await whole

    pieces, whole = run(leave_and_return())
    assert pieces == whole


def test_a_turn_that_has_ended_is_told_again_from_sql(
    corpus: Corpus, ollama: OllamaServer, generation: GenerationSettings
) -> None:
    ollama.mode = Mode.CUT
    turn = asked(corpus)
    live = answered(turn, engine(generation))
    stored = run(events_of(turn))

    assert names(stored) == ["sources", "notice", "answer", "citations", "end"]
    check_order(stored)
    for name in ("notice", "answer", "citations", "end"):
        assert one(stored, name) == one(live, name)
    sources = one(stored, "sources")["sources"]
    assert isinstance(sources, list)
    assert [s["text"] for s in sources[:4]] == list(TEXTS)


def test_a_follower_of_a_log_that_is_gone_is_told_to_begin_anew(
    corpus: Corpus, generation: GenerationSettings
) -> None:
    turn = asked(corpus)
    answered(turn, engine(generation))
    events = run(events_of(turn, after=40))

    assert names(events) == ["restart", "sources", "answer", "citations", "end"]
    assert [event.id for event in events] == [41, 42, 43, 44, 45]


def test_a_turn_of_another_process_is_followed_through_sql(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "POLL_SECONDS", 0.05)
    turn = asked(corpus)
    now = timezone.now()
    sources = trace().sources()[:3]
    Turn.objects.filter(pk=turn.pk).update(
        state=Turn.State.RUNNING, heartbeat_at=now, trace=trace().to_json(), sources=sources
    )

    async def other_process() -> None:
        await asyncio.sleep(0.2)
        await Turn.objects.filter(pk=turn.pk).aupdate(stage="2nd in line")
        for text in ("It merges", "It merges rankings [1]."):
            await asyncio.sleep(0.2)
            await Turn.objects.filter(pk=turn.pk).aupdate(answer=text)
        await asyncio.sleep(0.2)
        await Turn.objects.filter(pk=turn.pk).aupdate(state=Turn.State.DONE, ended_at=now)

    async def both() -> list[Event]:
        events, _ = await asyncio.gather(events_of(turn), other_process())
        return events

    events = run(both())
    check_order(events)
    assert [e.name for e in events] == [
        *("sources", "stage", "tail", "tail", "answer", "citations", "end")
    ]
    assert events[1].data == {"text": "2nd in line"}
    assert "It merges rankings" in events[3].data["html"]


@pytest.mark.parametrize("state", [Turn.State.PENDING, Turn.State.RUNNING])
def test_a_turn_whose_producer_was_killed_is_ended_with_what_it_had(
    corpus: Corpus, state: Turn.State
) -> None:
    turn = asked(corpus)
    long_ago = timezone.now() - timedelta(minutes=5)
    Turn.objects.filter(pk=turn.pk).update(
        state=state,
        created_at=long_ago,
        heartbeat_at=long_ago if state == Turn.State.RUNNING else None,
        answer="It merges rankings [2] and",
        sources=trace().sources()[:3],
    )
    events = run(events_of(turn))

    check_order(events)
    assert one(events, "end") == {"state": "interrupted", "error": turns.RESTARTED}
    assert one(events, "citations") == {"cited": [2]}
    turn = fresh(turn)
    assert turn.state == Turn.State.INTERRUPTED
    assert turn.answer == "It merges rankings [2] and"


def test_reaping_leaves_turns_with_a_heartbeat_and_ended_ones_alone(corpus: Corpus) -> None:
    long_ago = timezone.now() - timedelta(minutes=5)
    alive, done = asked(corpus), asked(corpus)
    Turn.objects.update(created_at=long_ago)
    Turn.objects.filter(pk=alive.pk).update(
        state=Turn.State.RUNNING, heartbeat_at=timezone.now() - timedelta(seconds=5)
    )
    Turn.objects.filter(pk=done.pk).update(state=Turn.State.DONE)

    assert turns.reap() == 0
    assert fresh(alive).state == Turn.State.RUNNING
    assert fresh(done).state == Turn.State.DONE


def test_text_and_heartbeat_are_saved_while_the_answer_is_written(
    corpus: Corpus,
    ollama: OllamaServer,
    generation: GenerationSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "HEARTBEAT_SECONDS", 0.1)
    ollama.mode = Mode.SILENT
    turn = asked(corpus)

    async def look() -> tuple[Turn, Turn]:
        turns.start(turn, services=engine(replace(generation, silence_seconds=60)))
        await until(turn, "tail")
        await asyncio.sleep(0.4)
        first = await reread(turn)
        await asyncio.sleep(0.4)
        second = await reread(turn)
        turns.stop(turn.pk)
        return first, second

    first, second = run(look())
    assert first.state == Turn.State.RUNNING
    assert first.answer.startswith("According")
    assert len(first.sources) == len(TEXTS) + 5
    assert first.heartbeat_at is not None
    assert second.heartbeat_at is not None
    assert second.heartbeat_at > first.heartbeat_at


def test_a_restart_of_the_site_ends_its_turns_as_interrupted(
    corpus: Corpus, ollama: OllamaServer, generation: GenerationSettings
) -> None:
    ollama.mode = Mode.SILENT
    turn = asked(corpus)

    async def until_shutdown() -> None:
        turns.start(turn, services=engine(replace(generation, silence_seconds=60)))
        await until(turn, "tail")

    asyncio.run(until_shutdown())  # closing the loop cancels what still runs
    turn = fresh(turn)
    assert turn.state == Turn.State.INTERRUPTED
    assert turn.error == turns.RESTARTED
    assert turn.answer.startswith("According")


def test_a_site_that_starts_ends_old_turns_and_one_that_stops_ends_its_own(
    corpus: Corpus, ollama: OllamaServer, generation: GenerationSettings
) -> None:
    ollama.mode = Mode.SILENT
    left, running = asked(corpus), asked(corpus)
    Turn.objects.filter(pk=left.pk).update(created_at=timezone.now() - timedelta(minutes=5))
    sent: list[str] = []

    async def site() -> None:
        messages: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        has_started = asyncio.Event()

        async def send(message: Mapping[str, str]) -> None:
            sent.append(message["type"])
            has_started.set()

        serving = asyncio.create_task(application({"type": "lifespan"}, messages.get, send))
        await messages.put({"type": "lifespan.startup"})
        await has_started.wait()
        assert (await reread(left)).state == Turn.State.INTERRUPTED
        turns.start(running, services=engine(replace(generation, silence_seconds=60)))
        await until(running, "tail")
        await messages.put({"type": "lifespan.shutdown"})
        await serving

    run(site())
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert fresh(running).state == Turn.State.INTERRUPTED
    assert fresh(running).answer.startswith("According")


def test_starting_a_turn_twice_answers_it_once(
    corpus: Corpus, ollama: OllamaServer, generation: GenerationSettings
) -> None:
    turn = asked(corpus)

    async def twice() -> list[Event]:
        turns.start(turn, services=engine(generation))
        turns.start(turn, services=engine(generation))
        await events_of(turn)
        turns.start(turn, services=engine(generation))
        return await events_of(turn)

    events = run(twice())
    assert len(ollama.answers) == 1
    assert events[-1].data == {"state": "done", "error": ""}


def test_following_what_does_not_exist_ends_at_once(db: None) -> None:
    async def nothing() -> list[Event]:
        return [event async for event in turns.follow(987654)]

    [end] = run(nothing())
    assert (end.name, end.data["error"]) == ("end", turns.DELETED)


def test_the_conversation_moves_to_the_top_when_its_answer_ends(
    corpus: Corpus, generation: GenerationSettings
) -> None:
    turn = asked(corpus)
    Conversation.objects.update(updated_at=timezone.now() - timedelta(days=1))
    answered(turn, engine(generation))

    updated = Conversation.objects.get(pk=turn.conversation_id).updated_at
    assert timezone.now() - updated < timedelta(minutes=1)


def test_what_stands_around_a_passage_is_sent_and_stored_as_it_was_sent(
    corpus: Corpus, ollama: OllamaServer, generation: GenerationSettings
) -> None:
    corpus.context, corpus.context_max_tokens = Corpus.Context.SECTION, 300
    corpus.save()
    passage = cut(corpus, section("North", 1))[2]
    found = trace(TEXTS[:1], below=0)
    candidate = replace(found.candidates[0], chunk_id=passage.chunk_id)
    found = replace(found, candidates=[candidate], passages={passage.chunk_id: passage})
    turn = asked(corpus)

    events = answered(turn, engine(generation, Search(found)))

    turn.refresh_from_db()
    (source,) = turn.sources
    assert source["text"] == passage.text
    assert passage.text in source["sent"]["text"]
    assert len(source["sent"]["text"]) > 2 * len(passage.text)
    assert json.dumps(source["sent"]["text"]) in ollama.answers[0].prompt
    assert turn.trace is not None
    assert Trace.from_json(turn.trace).sent[passage.chunk_id].text == source["sent"]["text"]
    told = json.dumps(one(events, "sources"), sort_keys=True)  # jsonb keeps no order
    assert json.dumps(source["sent"], sort_keys=True) in told
