"""A finished evaluation as a table, as JSON and as a chart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

from search.evaluation.metrics import Estimate
from search.evaluation.runner import Report, SweepPoint

WIDTH, HEIGHT, MARGIN = 640, 360, 56


def as_json(report: Report) -> dict[str, Any]:
    """The JSON document that scripts rely on."""
    return {
        "collection": report.collection,
        "queries": report.queries,
        "documents": report.documents,
        "stages": {
            name: {
                "ndcg@10": stage.ndcg.mean,
                "ci95": [stage.ndcg.low, stage.ndcg.high],
                "recall@100": stage.recall.mean,
                "recall@100_ci95": [stage.recall.low, stage.recall.high],
                "mrr@10": stage.mrr.mean,
                "mrr@10_ci95": [stage.mrr.low, stage.mrr.high],
                "ms_p50": stage.ms_p50,
                "ms_p95": stage.ms_p95,
                "p_value": stage.p_value,
                "compared_with": stage.compared_with,
            }
            for name, stage in report.stages.items()
        },
        "sweep": [
            {"pool": point.pool, "ndcg@10": point.ndcg, "ms_p50": point.ms_p50}
            for point in report.sweep
        ],
        "knee": report.knee,
        "models": dict(report.models),
        "notes": list(report.notes),
    }


def as_table(report: Report) -> str:
    """The report for a terminal; metrics times 100."""
    lines = [
        f"{report.collection}: {report.queries} queries, {report.documents} documents",
        "",
        f"{'stage':<10}{'nDCG@10':>20}{'recall@100':>20}{'MRR@10':>20}{'ms p50':>9}{'p95':>8}  p",
    ]
    for name, stage in report.stages.items():
        p = "" if stage.p_value is None else f"{stage.p_value:.4f} vs {stage.compared_with}"
        lines.append(
            f"{name:<10}{_cell(stage.ndcg):>20}{_cell(stage.recall):>20}{_cell(stage.mrr):>20}"
            f"{stage.ms_p50:>9.1f}{stage.ms_p95:>8.1f}  {p}"
        )
    if report.sweep:
        lines += ["", f"{'pool':<10}{'nDCG@10':>10}{'ms p50':>10}"]
        lines += [
            f"{point.pool:<10}{100 * point.ndcg:>10.1f}{point.ms_p50:>10.1f}"
            + ("   knee" if point.pool == report.knee else "")
            for point in report.sweep
        ]
    if report.notes:
        lines += ["", *(f"Note: {note}." for note in report.notes)]
    return "\n".join(lines)


def _cell(value: Estimate) -> str:
    return f"{100 * value.mean:.1f} [{100 * value.low:.1f}, {100 * value.high:.1f}]"


def as_svg(report: Report) -> str:
    """The sweep as a chart: nDCG@10 over milliseconds, a labelled point per pool.

    Without a sweep: a bar per stage with its interval. Shapes and labels carry the
    meaning; colour repeats it.
    """
    body = _sweep_marks(report) if report.sweep else _stage_marks(report)
    title = escape(f"{report.collection}: nDCG@10 x 100, {report.queries} queries")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'font-family="sans-serif" font-size="13"><title>{title}</title>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
        f'<text x="{MARGIN}" y="24" font-weight="bold">{title}</text>{"".join(body)}</svg>'
    )


@dataclass(frozen=True, slots=True)
class Spot:
    """A pool of the sweep in the chart: where it stands and what is written at it.

    ndcg: times 100. ms: of a question, median.
    """

    pool: int
    ndcg: float
    ms: float
    x: float
    y: float
    is_knee: bool

    @property
    def label(self) -> str:
        """What is written above it."""
        return f"{self.ndcg:.1f}{' (knee)' if self.is_knee else ''}"

    @property
    def label_y(self) -> float:
        """The base line of the label."""
        return round(self.y - 14, 1)

    @property
    def radius(self) -> int:
        """Larger for the knee."""
        return 7 if self.is_knee else 4


@dataclass(frozen=True, slots=True)
class SweepChart:
    """nDCG@10 of each pool, evenly spaced; what each costs is written below it."""

    spots: Sequence[Spot]
    width: int = WIDTH
    height: int = HEIGHT

    @property
    def path(self) -> str:
        """The line through the points in SVG's form."""
        return " ".join(f"{spot.x},{spot.y}" for spot in self.spots)

    @property
    def words(self) -> str:
        """The chart in a sentence."""
        return "; ".join(f"{spot.pool}: {spot.label}, {spot.ms:.0f} ms" for spot in self.spots)


def sweep_chart(points: Sequence[SweepPoint], knee: int | None) -> SweepChart:
    """Lay out a sweep of at least one pool."""
    top, bottom = max(point.ndcg for point in points), min(point.ndcg for point in points)
    step = (WIDTH - 2 * MARGIN) / max(1, len(points) - 1)
    room = HEIGHT - 3.2 * MARGIN

    def spot(place: int, point: SweepPoint) -> Spot:
        # All alike: a line in the middle.
        height = (point.ndcg - bottom) / (top - bottom) if top > bottom else 0.5
        x, y = MARGIN + place * step, HEIGHT - 1.5 * MARGIN - height * room
        return Spot(
            point.pool,
            100 * point.ndcg,
            point.ms_p50,
            round(x, 1),
            round(y, 1),
            is_knee=point.pool == knee,
        )

    return SweepChart([spot(place, point) for place, point in enumerate(points)])


def _sweep_marks(report: Report) -> list[str]:
    chart = sweep_chart(report.sweep, report.knee)
    middle = 'text-anchor="middle"'
    marks = [f'<polyline points="{chart.path}" fill="none" stroke="#3b6fd4" stroke-width="2"/>']
    marks += [
        f'<circle cx="{spot.x}" cy="{spot.y}" r="{spot.radius}" fill="#3b6fd4"/>'
        f'<text x="{spot.x}" y="{spot.label_y}" {middle}>{spot.label}</text>'
        f'<text x="{spot.x}" y="{HEIGHT - 42}" {middle}>{spot.pool}</text>'
        f'<text x="{spot.x}" y="{HEIGHT - 24}" {middle} fill="#555">{spot.ms:.0f} ms</text>'
        for spot in chart.spots
    ]
    marks.append(
        f'<text x="{MARGIN}" y="{HEIGHT - 6}" fill="#555">passages reranked, and milliseconds '
        "per question (median)</text>"
    )
    return marks


def _stage_marks(report: Report) -> list[str]:
    marks = []
    step = (HEIGHT - 2 * MARGIN) / max(1, len(report.stages))
    scale = WIDTH - 3.2 * MARGIN
    for number, (name, stage) in enumerate(report.stages.items()):
        y = MARGIN + number * step
        left, middle = 2 * MARGIN, y + step / 3
        marks.append(
            f'<text x="{left - 10}" y="{middle + 5:.1f}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{left}" y="{y:.1f}" width="{stage.ndcg.mean * scale:.1f}" '
            f'height="{step * 0.66:.1f}" fill="#3b6fd4"/>'
            f'<line x1="{left + stage.ndcg.low * scale:.1f}" y1="{middle:.1f}" '
            f'x2="{left + stage.ndcg.high * scale:.1f}" y2="{middle:.1f}" stroke="#111" '
            f'stroke-width="2"/><text x="{left + stage.ndcg.high * scale + 8:.1f}" '
            f'y="{middle + 5:.1f}">{100 * stage.ndcg.mean:.1f}</text>'
        )
    return marks
