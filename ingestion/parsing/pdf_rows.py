"""The lines of a PDF page in reading order, without what repeats at the edges of the pages.

Pure. All lengths are points, y grows upwards as in PDF.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from ingestion.parsing.cleaning import one_line

_PAGE_NUMBER = re.compile(
    r"\W*(?:page|p\.|seite|página|pág\.)?\s*(\d{1,4})(?:\s*(?:of|/|von|de)\s*\d+)?\W*",
    re.IGNORECASE,
)
_ROMAN = re.compile(r"\W*[ivxlc]{1,7}\W*")
_DIGITS = re.compile(r"\d+")
# More than the word for "page" and a number.
_LETTERS = re.compile(r"[^\W\d_]{2}.*[^\W\d_]{4}|[^\W\d_]{7}")
_LEADERS = re.compile(r"(?:\s*\.){4,}\s*|(?:\s*…){2,}\s*")
_EDGE_ROWS = 3
_MOST_NUMBERS = 6
_Key = tuple[str, str]
_MAX_CUTS = 60
_LINES_OF_A_CELL = 12


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of one line without a wide gap in it, measured from the page's lower left corner.

    `hyphenated` if its last word goes on in the next piece; not `upright` if it is drawn
    turned, like a stamp in the margin.
    """

    text: str
    left: float
    right: float
    bottom: float
    top: float
    size: float
    bold: bool = False
    mono: bool = False
    hyphenated: bool = False
    upright: bool = True


@dataclass(frozen=True, slots=True)
class Page:
    """One page's pieces in the order in which the file draws them."""

    number: int
    width: float
    height: float
    segments: Sequence[Segment]


class Row:
    """Segments that stand on one line, and the box around them.

    `edge` is how far to the right the lines of its column reach.
    """

    __slots__ = ("bottom", "edge", "left", "right", "segments", "size", "top")

    def __init__(self, segment: Segment) -> None:
        self.segments = [segment]
        self.left, self.right = segment.left, segment.right
        self.bottom, self.top = segment.bottom, segment.top
        self.size = segment.size
        self.edge = segment.right

    def add(self, segment: Segment) -> None:
        """Take in the next piece of the line."""
        self.segments.append(segment)
        self.left, self.right = min(self.left, segment.left), max(self.right, segment.right)
        self.bottom, self.top = min(self.bottom, segment.bottom), max(self.top, segment.top)
        self.size = max(self.segments, key=lambda piece: len(piece.text)).size

    @property
    def text(self) -> str:
        """What stands on the line."""
        parts = [self.segments[0].text]
        for before, after in pairwise(self.segments):
            gap = max(after.left - before.right, before.left - after.right)
            parts.append(after.text if gap < 0.12 * after.size else f" {after.text}")
        return "".join(parts)

    def is_bold(self) -> bool:
        """Whether all of it is bold."""
        return all(segment.bold for segment in self.segments)

    def is_mono(self) -> bool:
        """Whether all of it is set in letters of one width."""
        return all(segment.mono for segment in self.segments)


def rows_of(pages: Sequence[Page]) -> dict[int, list[Row]]:
    """The rows of each page by its number, in reading order, page furniture left out."""
    rows = {page.number: _rows(_ordered(page)) for page in pages}
    _drop_furniture(pages, rows)
    return rows


# --- order and rows ----------------------------------------------------------
def _ordered(page: Page) -> list[Segment]:
    """The drawing order, which nearly always is the reading order, unless it jumps about."""
    visible = [replace(s, text=_LEADERS.sub(" ", s.text).strip()) for s in page.segments]
    turned = [segment for segment in visible if segment.text and not segment.upright]
    segments = [segment for segment in visible if segment.text and segment.upright]
    # Going up is usual for the next column, to the right, and for a header drawn last.
    jumps = sum(
        after.bottom > before.top + 0.5 * after.size
        and after.left < before.right
        and after.top < 0.9 * page.height
        for before, after in pairwise(segments)
    )
    if jumps > 1 or _draws_across_columns(page, segments):
        segments = _cut(segments, page.width)
    return segments + turned


def _draws_across_columns(page: Page, segments: Sequence[Segment]) -> bool:
    """Whether the file draws two columns of prose line by line across both."""
    wide = 0
    for before, after in pairwise(segments):
        if _same_line(before, after) and after.left > before.right:
            widths = before.right - before.left, after.right - after.left
            wide += min(widths) > 0.28 * page.width
    return wide >= 8


def _cut(segments: list[Segment], page_width: float, depth: int = 0) -> list[Segment]:
    """Recursive XY-cut: columns where both sides are as wide as prose, else at the widest gap.

    Source: Nagy, Seth, Viswanathan, IEEE Computer 1992, doi:10.1109/2.144436
    """
    if len(segments) < 4 or depth > _MAX_CUTS:
        return _by_line(segments)
    wide = sum(segment.right - segment.left > 0.25 * page_width for segment in segments)
    if wide * 2 >= len(segments):
        columns = _split(segments, [(s.left, s.right) for s in segments], least=0.8)
        if len(columns) > 1:
            return [s for part in columns for s in _cut(part, page_width, depth + 1)]
        bands = _split(segments, [(-s.top, -s.bottom) for s in segments], least=0.3)
        if len(bands) > 1:
            return [s for part in bands for s in _cut(part, page_width, depth + 1)]
    return _by_line(segments)


def _split(
    segments: list[Segment], extents: list[tuple[float, float]], *, least: float
) -> list[list[Segment]]:
    """Two parts on both sides of the widest gap between the extents, or one part.

    The gap must be at least `least` times the size of the letters.
    """
    ordered = sorted(zip(extents, segments, strict=True), key=lambda pair: pair[0])
    widest, at = 0.0, 0
    reached = ordered[0][0][1]
    for position, ((near, far), segment) in enumerate(ordered):
        if near - reached > max(widest, least * segment.size):
            widest, at = near - reached, position
        reached = max(reached, far)
    parts = [segment for _, segment in ordered[:at]], [segment for _, segment in ordered[at:]]
    return [part for part in parts if part]


def _by_line(segments: list[Segment]) -> list[Segment]:
    lines: list[list[Segment]] = []
    for segment in sorted(segments, key=lambda s: -s.top):
        if lines and _same_line(lines[-1][0], segment):
            lines[-1].append(segment)
        else:
            lines.append([segment])
    return [segment for line in lines for segment in sorted(line, key=lambda s: s.left)]


def _same_line(one: Segment, other: Segment) -> bool:
    overlap = min(one.top, other.top) - max(one.bottom, other.bottom)
    return overlap > 0.5 * min(one.top - one.bottom, other.top - other.bottom)


def _rows(segments: Iterable[Segment]) -> list[Row]:
    """Join what stands on one line and goes on in one direction."""
    rows: list[Row] = []
    # The row to which the piece before was added, if that was not the last one.
    earlier: Row | None = None
    for segment in segments:
        last = rows[-1].segments[-1] if rows else None
        if last is not None and _same_line(last, segment) and not last.hyphenated:
            apart = max(segment.left - last.right, last.left - segment.right)
            if apart > -0.3 * segment.size:
                rows[-1].add(segment)
                continue
        earlier = _row_of_cells(rows, segment, earlier)
        if earlier is None:
            rows.append(Row(segment))
        else:
            earlier.add(segment)
    return rows


def _row_of_cells(rows: list[Row], segment: Segment, earlier: Row | None) -> Row | None:
    """The row above to which a piece belongs where a file draws a table cell by cell.

    A cell of several lines is drawn whole before the next one, which begins further up.
    """
    if rows and earlier is None and segment.bottom < rows[-1].bottom + 0.8 * segment.size:
        return None
    for row in reversed(rows[-_LINES_OF_A_CELL:-1]):
        if _same_line(row.segments[-1], segment) and segment.left > row.right + 0.5 * segment.size:
            return row if _has_cells(row) or earlier is not None else None
    return None


def _has_cells(row: Row) -> bool:
    return any(after.left - before.right > before.size for before, after in pairwise(row.segments))


# --- running headers, footers and page numbers ---------------------------------
def _drop_furniture(pages: Sequence[Page], rows: dict[int, list[Row]]) -> None:
    """Remove what stands at the same edge of most pages, page numbers aside.

    A page with nothing else on it keeps its lines, for they may be its text. What was removed
    is said once, behind the text, so that the letterhead of every page is not lost.
    """
    seen: Counter[_Key] = Counter()
    edges: dict[int, list[tuple[set[_Key], Row]]] = {}
    for page in pages:
        edges[page.number] = _edges(page, rows[page.number])
        seen.update(set().union(*(keys for keys, _ in edges[page.number])))
    enough = max(3, round(0.4 * len(pages)))
    repeated: dict[str, Row] = {}
    for page in pages:
        dropped = [
            row
            for keys, row in edges[page.number]
            if any(seen[key] >= enough for key in keys)
            or (len(pages) > 1 and _is_number_of(row, page.number))
        ]
        kept = [row for row in rows[page.number] if not any(row is d for d in dropped)]
        if kept or all(_PAGE_NUMBER.fullmatch(row.text) for row in dropped):
            rows[page.number] = kept
            repeated |= {_DIGITS.sub("#", row.text): row for row in dropped}
    if pages:
        rows[pages[-1].number] += [row for row in repeated.values() if _LETTERS.search(row.text)]


def _edges(page: Page, rows: list[Row]) -> list[tuple[set[_Key], Row]]:
    """The outermost rows of a page, each with its edge and what it says."""
    ordered = sorted(rows, key=lambda row: -row.top)
    found: list[tuple[set[_Key], Row]] = []
    for edge, candidates in (("top", ordered), ("bottom", ordered[::-1])):
        for position, row in enumerate(candidates[:_EDGE_ROWS]):
            distance = page.height - row.top if edge == "top" else row.bottom
            if distance > 0.25 * page.height:
                break
            following = candidates[position + 1] if position + 1 < len(candidates) else None
            if following is not None and _are_rows_of_a_table(row, following):
                # The repeated head of a table that runs over pages, not of the page.
                break
            # What belongs to the page stands at the same height on each.
            place = f"{edge} {distance:.0f}"
            found.append(({(place, said) for said in _said(row.text, page.number)}, row))
    return found


def _said(text: str, page: int) -> set[str]:
    """What a row says, and what it says if one of its numbers counts the pages.

    Other numbers are kept: rows of a table that differ in these alone are no furniture.
    """
    text = one_line(text).casefold()
    if _ROMAN.fullmatch(text):
        return {"#"}
    said = {text}
    for number in list(_DIGITS.finditer(text))[:_MOST_NUMBERS]:
        if len(number.group()) < 6:
            counted = f"#{int(number.group()) - page}"
            said.add(text[: number.start()] + counted + text[number.end() :])
    return said


def _are_rows_of_a_table(row: Row, other: Row) -> bool:
    gap = max(row.bottom - other.top, other.bottom - row.top)
    return len(row.segments) > 1 and len(other.segments) > 1 and gap < 0.8 * row.size


def _is_number_of(row: Row, page: int) -> bool:
    match = _PAGE_NUMBER.fullmatch(row.text)
    return match is not None and int(match.group(1)) == page
