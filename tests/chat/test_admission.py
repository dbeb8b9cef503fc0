"""The line in front of the language model: its order, its places, and what shakes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from chat import admission, waiting
from chat.admission import Line
from chat.errors import GeneratorBusy
from chat.models import Turn
from chat.types import GenerationSettings
from chat.waiting import Ticket
from ingestion.models import Corpus
from ragsite.processes import free_port
from search.types import DegradedCode
from tests.chat.engine import asked, engine, events_of, reread, run, until
from tests.ollama_server import OllamaServer


def ticket(name: str, person: str, since: float, **more: bool) -> Ticket:
    return Ticket(name, person, since, 1e12, **more)


def come(*names: str, after: Sequence[Ticket] = ()) -> list[Ticket]:
    """Tickets in the order of their coming, of the people their first letters name."""
    tickets = list(after)
    for name in names:
        number = waiting.next_round(tickets, name[0])
        tickets.append(replace(ticket(name, name[0], len(tickets)), round=number))
    return tickets


def order(tickets: Sequence[Ticket]) -> list[str]:
    return [one.id for one in waiting.line(tickets)]


def test_everybodys_first_question_comes_before_anybodys_second() -> None:
    tickets = come("a1", "a2", "a3", "b1", "c1", "b2")

    assert order(tickets) == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_what_is_being_served_counts_as_the_first() -> None:
    tickets = come("b1", "a2", after=waiting.serve(come("a1"), parallel=1))
    assert order(tickets) == ["b1", "a2"]
    assert order(come("a2", "b1", after=waiting.serve(come("a1"), parallel=1))) == ["b1", "a2"]


def test_nobody_waits_for_ever_behind_people_who_come_later() -> None:
    """Somebody new comes during every answer; the second question of `a` is served all the same."""
    tickets = waiting.serve(come("a1", "a2"), parallel=1)
    served = []
    for newcomer in "bcdefghijklmnopqrstuvwxyz":
        tickets = come(newcomer, after=tickets)
        served += [one.id for one in tickets if one.is_served]
        tickets = waiting.serve([one for one in tickets if not one.is_served], parallel=1)

    assert served[:4] == ["a1", "b", "c", "d"]
    assert 10 < served.index("a2") <= waiting.OVERTAKEN + 1


def test_rewriting_a_question_goes_before_answers() -> None:
    assert order([ticket("a", "a", 1), ticket("b", "b", 2, is_short=True)]) == ["b", "a"]


def test_no_more_are_served_than_there_is_room() -> None:
    tickets = [ticket(name, name, place) for place, name in enumerate("abcd")]

    served = waiting.serve(tickets, parallel=2)
    assert [one.id for one in served if one.is_served] == ["a", "b"]
    assert waiting.serve(served, parallel=2) == served
    assert waiting.loads(waiting.dumps(served)) == served
    assert waiting.loads("{") == waiting.loads(None) == waiting.loads('[{"id": 1}]') == []


def test_places_are_counted_in_words() -> None:
    assert [waiting.ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 102, 111)] == [
        *("1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "111th")
    ]


class Guests:
    """Requests that stay in a line until they are let go, and what they were told."""

    def __init__(self) -> None:
        self.served: list[str] = []
        self.told: list[tuple[str, int, bool]] = []
        self._gates: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def come(self, name: str, line: Line) -> None:
        """One of the person that its first letter names."""
        self._gates[name] = asyncio.Event()

        async def stay() -> None:
            def tell(place: int, is_alone: bool) -> None:
                self.told.append((name, place, is_alone))

            async with line.place(name[0], tell=tell):
                self.served.append(name)
                await self._gates[name].wait()

        self._tasks[name] = asyncio.create_task(stay())

    async def leave(self, name: str) -> None:
        """Done, or tired of waiting."""
        self._gates[name].set()
        if name not in self.served:
            self._tasks[name].cancel()
        await asyncio.gather(self._tasks.pop(name), return_exceptions=True)

    async def all_leave(self) -> None:
        for name in list(self._tasks):
            await self.leave(name)


async def until_true(what: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(seconds):
        while not what():  # noqa: ASYNC110 (what is asked has no event)
            await asyncio.sleep(0.01)


@pytest.fixture
def patient_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that does not take a busy machine for a Redis that is away."""
    monkeypatch.setattr(admission, "REDIS_SECONDS", 30.0)


@pytest.mark.services
@pytest.mark.usefixtures("patient_line")
def test_two_processes_share_one_line(redis_url: str) -> None:
    async def play() -> None:
        here, there = (
            Line(parallel=1, most_waiting=20, redis_url=redis_url, key="shared") for _ in "ab"
        )
        guests = Guests()
        for name, line in (("a1", here), ("a2", here), ("b1", there)):
            guests.come(name, line)
            await until_true(
                lambda name=name: name in [*guests.served, *(told[0] for told in guests.told)]  # type: ignore[misc]
            )
        await until_true(lambda: ("a2", 2, False) in guests.told)
        assert guests.served == ["a1"]
        assert ("b1", 1, False) in guests.told  # before the second one of a

        await guests.leave("a1")
        await until_true(lambda: len(guests.served) == 2)
        assert guests.served == ["a1", "b1"]
        await guests.leave("b1")
        await until_true(lambda: len(guests.served) == 3)
        await guests.all_leave()
        await here.settled()
        await there.settled()

    asyncio.run(play())


@pytest.mark.services
@pytest.mark.usefixtures("patient_line")
def test_the_place_of_a_killed_process_runs_out(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "LEASE_SECONDS", 3.0)

    async def play() -> None:
        here, killed = (
            Line(parallel=1, most_waiting=20, redis_url=redis_url, key="killed") for _ in "ab"
        )
        guests = Guests()
        guests.come("a", killed)
        await until_true(lambda: guests.served == ["a"])
        guests.come("b", here)
        await until_true(lambda: ("b", 1, False) in guests.told)
        await asyncio.sleep(4.0)
        assert guests.served == ["a"]  # who is alive keeps the place

        assert killed._keeper
        killed._keeper.cancel()
        await until_true(lambda: guests.served == ["a", "b"])
        await guests.all_leave()
        await here.settled()

    asyncio.run(play())


@pytest.mark.parametrize("redis_url", ["", "redis://127.0.0.1:1/0"])
def test_without_redis_each_process_counts_its_own_and_says_so(redis_url: str) -> None:
    async def play() -> None:
        line = Line(parallel=1, most_waiting=2, redis_url=redis_url)
        guests = Guests()
        for name in ("a", "b", "c"):
            guests.come(name, line)
            await asyncio.sleep(0.05)
        is_alone = bool(redis_url)
        assert guests.told == [("b", 1, is_alone), ("c", 2, is_alone)]
        with pytest.raises(GeneratorBusy):
            async with line.place("d"):
                pass

        await guests.leave("b")  # tired of waiting
        await until_true(lambda: ("c", 1, is_alone) in guests.told)
        await guests.leave("a")
        await until_true(lambda: guests.served == ["a", "c"])
        await guests.all_leave()

    asyncio.run(play())


@pytest.mark.django_db(transaction=True)
def test_a_turn_tells_its_place_with_its_sources_already_there(
    corpus: Corpus, ollama: OllamaServer, generation: GenerationSettings
) -> None:
    from chat import turns

    ollama.token_seconds = 0.02
    services = engine(generation, line=Line(parallel=1, most_waiting=20))
    questions = [asked(corpus, f"Question {number}") for number in range(3)]

    async def ask() -> list[list[tuple[str, str]]]:
        for turn in questions:
            turns.start(turn, services=services)
            await until(turn, "sources")
        found = [await events_of(turn) for turn in questions]
        return [[(e.name, e.data.get("text", "")) for e in events] for events in found]

    first, second, third = run(ask())
    assert not any("in line" in text for _, text in first)
    model = generation.model
    assert ("stage", f"1st in line for {model}…") in second
    places = [text for _, text in third if "in line" in text]
    assert places == [f"2nd in line for {model}…", f"1st in line for {model}…"]
    names = [name for name, _ in third]
    assert names.index("sources") < third.index(("stage", places[0]))
    assert Turn.objects.filter(state=Turn.State.DONE).count() == 3
    assert all(not chat.client_left.is_set() for chat in ollama.answers)
    assert "in_line" in Turn.objects.get(pk=questions[2].pk).timings_ms


@pytest.mark.django_db(transaction=True)
def test_who_stops_in_the_line_leaves_it_and_a_full_line_gives_quotes(
    corpus: Corpus, ollama: OllamaServer, generation: GenerationSettings
) -> None:
    from chat import turns

    ollama.token_seconds = 0.05
    services = engine(generation, line=Line(parallel=1, most_waiting=1))
    first, second, third, fourth = (asked(corpus, f"Question {n}") for n in range(4))

    async def ask() -> None:
        for turn in (first, second, third):
            turns.start(turn, services=services)
            await until(turn, "sources")
        await events_of(third)
        turns.stop(second.pk)
        await events_of(second)
        turns.start(fourth, services=services)
        await events_of(fourth)
        assert (await reread(first)).state == Turn.State.DONE

    run(ask())
    second.refresh_from_db()
    third.refresh_from_db()
    assert (second.state, second.answer) == (Turn.State.STOPPED, "")
    assert len(ollama.answers) == 2  # of the first and the fourth
    assert third.state == Turn.State.DONE
    assert [d["code"] for d in third.degraded] == [DegradedCode.GENERATOR_FAILED]
    assert "is busy" in third.degraded[0]["sentence"]
    assert "Reciprocal rank fusion" in third.answer


def test_a_free_port_is_no_redis() -> None:
    async def play() -> None:
        line = Line(parallel=1, most_waiting=2, redis_url=f"redis://127.0.0.1:{free_port()}/0")
        async with asyncio.timeout(2), line.place("a"):
            pass

    asyncio.run(play())
