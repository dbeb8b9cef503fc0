"""The slope chart: the best passages, and the place of each at every stage on the way.

Pure geometry; `templates/search/_slopes.svg` draws it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from search.types import Candidate, Outcome, Trace

SHOWN = 20
STAGES = (
    ("bm25_rank", "Keywords"),
    ("dense_rank", "Vectors"),
    ("rrf_rank", "Fused"),
    ("final", "Final"),
)
_LEFT, _RIGHT, _TOP, _ROW, _STEP = 40, 250, 40, 24, 150


@dataclass(frozen=True, slots=True)
class Point:
    """A passage at a stage. `label` is its rank there; empty where it was not found."""

    x: int
    y: int
    label: str

    @property
    def text_y(self) -> int:
        """The base line of the label."""
        return self.y + 4


@dataclass(frozen=True, slots=True)
class Slope:
    """One passage's way through the stages.

    is_sent: whether it goes on to the answer; drawn solid, the others dashed.
    words: the way in a sentence, for those who do not see the lines.
    """

    rank: int
    chunk_id: str
    name: str
    points: Sequence[Point]
    is_sent: bool
    words: str

    @property
    def path(self) -> str:
        """The line's points in SVG's form."""
        return " ".join(f"{point.x},{point.y}" for point in self.points)

    @property
    def end(self) -> Point:
        """Where the line ends and the name stands."""
        return self.points[-1]


@dataclass(frozen=True, slots=True)
class Chart:
    """All slopes. `beyond_y` is the line for places after the last one that is drawn."""

    width: int
    height: int
    beyond_y: int
    stages: Sequence[tuple[int, str]]
    slopes: Sequence[Slope]


def chart(trace: Trace) -> Chart | None:
    """The best candidates of a trace with their places at every stage; None without any.

    A place after the last drawn one stands on the lowest line with its number; what a stage
    did not find stands there with a dash.
    """
    shown = trace.candidates[:SHOWN]
    if not shown:
        return None
    rows = len(shown)
    beyond_y = _TOP + rows * _ROW + _ROW // 2
    return Chart(
        width=_LEFT + _STEP * (len(STAGES) - 1) + _RIGHT,
        height=beyond_y + 30,
        beyond_y=beyond_y,
        stages=[(_LEFT + n * _STEP, title) for n, (_, title) in enumerate(STAGES)],
        slopes=[
            _slope(trace, candidate, rank, rows=rows, beyond_y=beyond_y)
            for rank, candidate in enumerate(shown, 1)
        ],
    )


def _slope(trace: Trace, candidate: Candidate, rank: int, *, rows: int, beyond_y: int) -> Slope:
    places = [rank if name == "final" else getattr(candidate, name) for name, _ in STAGES]
    points = []
    for n, place in enumerate(places):
        is_drawn = place is not None and place <= rows
        y = _TOP + place * _ROW - _ROW // 2 if is_drawn else beyond_y
        points.append(Point(_LEFT + n * _STEP, y, "–" if place is None else str(place)))
    passage = trace.passages[candidate.chunk_id]
    page = f", p. {passage.page_from}" if passage.page_from else ""
    way = ", ".join(
        f"{title.lower()} {place if place is not None else 'not found'}"
        for (_, title), place in zip(STAGES, places, strict=True)
    )
    return Slope(
        rank=rank,
        chunk_id=candidate.chunk_id,
        name=f"{_short(passage.document)}{page}",
        points=points,
        is_sent=candidate.outcome in (Outcome.SELECTED, Outcome.NOT_SENT),
        words=f"{passage.document}{page}: {way}",
    )


def _short(name: str, most: int = 24) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
