"""Tables on a PDF page: runs of rows whose pieces stand in columns. Pure."""

from __future__ import annotations

import re
import statistics
from itertools import pairwise

from ingestion.parsing.cleaning import clean
from ingestion.parsing.pdf_rows import Row
from ingestion.parsing.tables import table_element
from ingestion.types import Element

_MARKER = re.compile(r"[•‣▪◦●○■□▸►➢–\-*·]|\(?[0-9a-z]{1,3}[.)]", re.IGNORECASE)
_WORDS_OF_PROSE = 9


def table_end(rows: list[Row], start: int) -> int:
    """Where a run of rows with several pieces ends; `start` if none begins here."""
    if len(rows[start].segments) < 2:
        return start
    end = last_multiple = start + 1
    while end < len(rows):
        gap = rows[end - 1].bottom - rows[end].bottom
        if gap < 0 or gap > 4.5 * rows[end].size:
            break
        if len(rows[end].segments) > 1:
            last_multiple = end + 1
        elif end - last_multiple >= 2 or _is_prose(rows[end], rows[start:last_multiple]):
            break
        end += 1
    return last_multiple


def _is_prose(row: Row, table: list[Row]) -> bool:
    """A single piece that is no cell: it crosses the columns above it."""
    piece = row.segments[0]
    return any(
        sum(1 for s in other.segments if s.left < piece.right and s.right > piece.left) > 1
        for other in table
    )


def table_of(rows: list[Row], page: int) -> Element | None:
    """The run as a table, if its pieces stand in at least two columns."""
    several = [row for row in rows if len(row.segments) > 1]
    if len(several) < 2 or sum(len(row.segments) for row in several) < 6:
        return None
    marked = sum(bool(_MARKER.fullmatch(row.segments[0].text)) for row in several)
    if marked * 2 > len(several) and max(len(row.segments) for row in rows) == 2:
        # A list whose numbers stand apart from its text.
        return None
    pieces = [segment for row in rows for segment in row.segments]
    words = statistics.mean(len(piece.text.split()) for piece in pieces)
    if words > _WORDS_OF_PROSE or any(piece.hyphenated for piece in pieces):
        return None
    columns = _columns(rows)
    widest = max(len(row.segments) for row in rows)
    if len(columns) < 2 or len(columns) < 0.6 * widest:
        return None
    cells = [["" for _ in columns] for _ in rows]
    for row, texts in zip(rows, cells, strict=True):
        for segment in row.segments:
            place = next(i for i, (a, b) in enumerate(columns) if a <= segment.left <= b)
            texts[place] = f"{texts[place]} {segment.text}".strip()
    cells = _with_wrapped_lines_joined(rows, cells)
    bold_head = rows[0].is_bold() and not all(row.is_bold() for row in rows)
    return table_element(
        [[clean(cell) for cell in row] for row in cells],
        page=page,
        has_header=True if bold_head else None,
    )


def _columns(rows: list[Row]) -> list[tuple[float, float]]:
    """Stretches of the x axis that are covered by pieces, left to right."""
    columns: list[tuple[float, float]] = []
    for left, right in sorted((s.left, s.right) for row in rows for s in row.segments):
        if columns and left <= columns[-1][1] + 1:
            columns[-1] = (columns[-1][0], max(columns[-1][1], right))
        else:
            columns.append((left, right))
    return columns


def _with_wrapped_lines_joined(rows: list[Row], cells: list[list[str]]) -> list[list[str]]:
    """Join a line to the row above if it stands nearer to it than rows do, first cell empty."""
    gaps = [a.bottom - b.bottom for a, b in pairwise(rows)]
    usual = statistics.median_high(gaps) if gaps else 0.0
    joined = [cells[0]]
    for gap, row in zip(gaps, cells[1:], strict=True):
        if not row[0] and gap < 0.8 * usual:
            joined[-1] = [f"{a} {b}".strip() for a, b in zip(joined[-1], row, strict=True)]
        else:
            joined.append(row)
    return joined
