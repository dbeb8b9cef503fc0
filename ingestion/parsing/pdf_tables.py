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
# A soft hyphen, where a word goes on in the next line of its cell.
_BROKEN = "\u00ad"
_LINES_OF_A_CELL = 12
_ROWS_THAT_TELL = 4


def table_end(rows: list[Row], start: int) -> int:
    """Where a run of rows with several pieces ends; `start` if none begins here."""
    if len(rows[start].segments) < 2:
        return start
    end = last = last_multiple = start + 1
    widest = 0.0
    while end < len(rows):
        gap = rows[end - 1].bottom - rows[end].bottom
        is_apart = end - start > _ROWS_THAT_TELL and gap > 2 * widest and gap > 2.5 * rows[end].size
        if gap < 0 or gap > 4.5 * rows[end].size or is_apart:
            break
        if len(rows[end].segments) > 1:
            last = last_multiple = end + 1
        else:
            table = rows[start:last_multiple]
            goes_on = _goes_on(rows[end], table)
            most = _LINES_OF_A_CELL if goes_on else 2
            if end - last_multiple >= most or _is_prose(rows[end], table):
                break
            if goes_on and last == end and gap < 1.6 * rows[end].size:
                last = end + 1
        widest = max(widest, gap)
        end += 1
    return last


def _is_prose(row: Row, table: list[Row]) -> bool:
    """A single piece that is no cell: it crosses the columns above it."""
    piece = row.segments[0]
    return any(
        sum(1 for s in other.segments if s.left < piece.right and s.right > piece.left) > 1
        for other in table
    )


def _goes_on(row: Row, table: list[Row]) -> bool:
    """Whether a single piece begins where a cell does that is not its row's first."""
    starts = [
        after.left
        for other in table
        for before, after in pairwise(other.segments)
        if not _MARKER.fullmatch(before.text)
    ]
    return any(abs(row.left - start) < 2 for start in starts)


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
    # Lines that go on in a cell say nothing of how many words cells have.
    words = statistics.mean(len(s.text.split()) for row in several for s in row.segments)
    widest = max(len(row.segments) for row in rows)
    is_broken = any(piece.hyphenated for piece in pieces)
    if words > _WORDS_OF_PROSE or (is_broken and widest < 3):
        return None
    columns = _columns(rows)
    if len(columns) < 2 or len(columns) < 0.6 * widest:
        return None
    cells = [["" for _ in columns] for _ in rows]
    for row, texts in zip(rows, cells, strict=True):
        for segment in row.segments:
            place = next(i for i, (a, b) in enumerate(columns) if a <= segment.left <= b)
            text = f"{segment.text}{_BROKEN}" if segment.hyphenated else segment.text
            texts[place] = _joined(texts[place], text)
    cells = _with_wrapped_lines_joined(rows, cells)
    bold_head = rows[0].is_bold() and not all(row.is_bold() for row in rows)
    return table_element(
        [[clean(cell) for cell in row] for row in cells],
        page=page,
        has_header=True if bold_head else None,
    )


def _joined(before: str, after: str) -> str:
    if before.endswith(_BROKEN):
        return before + after
    return f"{before} {after}".strip()


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
    """Join a line to the row above if it stands nearer to it than rows do, first cell empty.

    A line with a single piece is joined also if it stands as near as lines do.
    """
    gaps = [a.bottom - b.bottom for a, b in pairwise(rows)]
    usual = statistics.median_high(gaps) if gaps else 0.0
    nearest = min(gaps, default=0.0)
    joined = [cells[0]]
    for gap, line, row in zip(gaps, rows[1:], cells[1:], strict=True):
        is_line = len(line.segments) == 1 and gap < 1.15 * nearest
        if not row[0] and (is_line or gap < 0.8 * usual):
            joined[-1] = list(map(_joined, joined[-1], row))
        else:
            joined.append(row)
    return joined
