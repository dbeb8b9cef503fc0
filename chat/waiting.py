"""Who is served next by a language model that has only so much room: fair between people.

After start-time fair queueing: a ticket's round is fixed when it comes, one after that of the
person's last one, and a little after the one that is being served. So everybody's first
question comes before anybody's second one, and nobody waits for ever: whoever comes later
overtakes a second question during `OVERTAKEN` answers at most.

Pure: from the tickets there are to the order of those that wait.

Source: Goyal, Vin, Cheng, SIGCOMM 1996, doi:10.1145/248156.248171
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

OVERTAKEN = 16


@dataclass(frozen=True, slots=True)
class Ticket:
    """One request to the model, waiting or being served.

    since, expires: seconds since 1970. A ticket whose holder is gone expires.
    round: as `next_round` gave it.
    is_short: takes moments, and goes before answers.
    """

    id: str
    person: str
    since: float
    expires: float
    round: float = 0.0
    is_short: bool = False
    is_served: bool = False


def line(tickets: Iterable[Ticket]) -> list[Ticket]:
    """The tickets that wait, in the order in which they will be served.

    By round, within it by who came first. Short ones go before all others.
    """
    waiting = (ticket for ticket in tickets if not ticket.is_served)
    return sorted(waiting, key=lambda t: (not t.is_short, t.round, t.since, t.id))


def next_round(tickets: Sequence[Ticket], person: str) -> float:
    """The round of a ticket with which this person comes now."""
    served = max((ticket.round for ticket in tickets if ticket.is_served), default=None)
    if served is None:
        now = min((ticket.round for ticket in tickets), default=0.0)
    else:
        now = served + 1 / OVERTAKEN
    last = max((ticket.round for ticket in tickets if ticket.person == person), default=None)
    return now if last is None else max(now, last + 1)


def serve(tickets: Sequence[Ticket], *, parallel: int) -> list[Ticket]:
    """The same tickets, with those served whose turn has come.

    Args:
        parallel: how many are served at a time, > 0.
    """
    free = parallel - sum(ticket.is_served for ticket in tickets)
    called = {ticket.id for ticket in line(tickets)[: max(0, free)]}
    return [replace(t, is_served=True) if t.id in called else t for t in tickets]


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 11th, 21st."""
    suffixes = {1: "st", 2: "nd", 3: "rd"}
    suffix = "th" if number % 100 in (11, 12, 13) else suffixes.get(number % 10, "th")
    return f"{number}{suffix}"


def dumps(tickets: Sequence[Ticket]) -> str:
    """As text, for other processes."""
    return json.dumps([asdict(ticket) for ticket in tickets])


def loads(text: str | bytes | None) -> list[Ticket]:
    """What `dumps` wrote; nothing where there is nothing, or something else."""
    try:
        return [Ticket(**one) for one in json.loads(text or "[]")]
    except (ValueError, TypeError):
        return []
