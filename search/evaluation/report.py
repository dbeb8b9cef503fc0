"""A finished evaluation as a table, as JSON and as a chart."""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape

from search.evaluation.metrics import Estimate
from search.evaluation.runner import Report

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


def _sweep_marks(report: Report) -> list[str]:
    top = max(point.ndcg for point in report.sweep)
    bottom = min(point.ndcg for point in report.sweep)
    spread = (top - bottom) or 0.01
    slowest = max(point.ms_p50 for point in report.sweep) or 1.0

    def place(ms: float, ndcg: float) -> tuple[float, float]:
        x = MARGIN + ms / slowest * (WIDTH - 2 * MARGIN)
        return x, HEIGHT - MARGIN - (ndcg - bottom) / spread * (HEIGHT - 2.4 * MARGIN)

    spots = [(point, *place(point.ms_p50, point.ndcg)) for point in report.sweep]
    path = " ".join(f"{x:.1f},{y:.1f}" for _, x, y in spots)
    marks = [f'<polyline points="{path}" fill="none" stroke="#3b6fd4" stroke-width="2"/>']
    for point, x, y in spots:
        is_knee = point.pool == report.knee
        label = f"{point.pool}{' (knee)' if is_knee else ''}: {100 * point.ndcg:.1f}"
        marks.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{7 if is_knee else 4}" fill="#3b6fd4"/>'
            f'<text x="{x:.1f}" y="{y - 12:.1f}" text-anchor="middle">{label}</text>'
        )
    marks.append(
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 14}" text-anchor="middle">'
        f"milliseconds per question (median), 0 to {slowest:.0f}; labels: pool, nDCG@10</text>"
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
