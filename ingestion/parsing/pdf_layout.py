"""From placed pieces of text to elements: order, page furniture, tables, headings, paragraphs.

Pure. All lengths are points, y grows upwards as in PDF. Everything is judged relative to the
document itself: its body size, its usual distance of lines, the width of its blocks.
"""

from __future__ import annotations

import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from ingestion.parsing.cleaning import clean, one_line
from ingestion.parsing.tables import table_element
from ingestion.types import Element, ElementKind

_SENTENCE_END = re.compile(r"[.!?…。！？:;][\"'”’»)\]]*$")
_BULLET = re.compile(r"(?:[•‣▪◦●○■□▸►➢–\-*·]|\(?\d{1,2}[.)]|\(?[a-z][.)]|\([ivx]{1,4}\))\s+\S")
_MARKER = re.compile(r"[•‣▪◦●○■□▸►➢–\-*·]|\(?[0-9a-z]{1,3}[.)]", re.IGNORECASE)
_PAGE_NUMBER = re.compile(
    r"\W*(?:page|p\.|seite|página|pág\.)?\s*(\d{1,4})(?:\s*(?:of|/|von|de)\s*\d+)?\W*",
    re.IGNORECASE,
)
_ROMAN = re.compile(r"\W*[ivxlc]{1,7}\W*")
_DIGITS = re.compile(r"\d+")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_LEADERS = re.compile(r"(?:\s*\.){4,}\s*|(?:\s*…){2,}\s*")
_HEADING_MAX_CHARACTERS = 200
_BOLD_HEADING_MAX_CHARACTERS = 120
_LARGER = 1.12
_EDGE_ROWS = 3
_MAX_CUTS = 60
_WORDS_OF_PROSE = 9


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


@dataclass(frozen=True, slots=True)
class OutlineEntry:
    """A bookmark: title, page and level, both from 1."""

    title: str
    page: int
    level: int


class _Row:
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
        parts = [self.segments[0].text]
        for before, after in pairwise(self.segments):
            gap = max(after.left - before.right, before.left - after.right)
            parts.append(after.text if gap < 0.12 * after.size else f" {after.text}")
        return "".join(parts)


@dataclass(slots=True)
class _Block:
    """Lines of one page that belong together, or a table."""

    page: int
    lines: list[_Row] = field(default_factory=list)
    table: Element | None = None


def elements_of(
    pages: Sequence[Page], *, outline: Sequence[OutlineEntry] = ()
) -> tuple[list[Element], str]:
    """Give the elements of all pages in reading order, and the likely title.

    Args:
        pages: the pages that could be read.
        outline: the file's bookmarks; a line that equals one is a heading.
    """
    rows = {page.number: _rows(_ordered(page)) for page in pages}
    _drop_furniture(pages, rows)
    for page_rows in rows.values():
        _measure_columns(page_rows)
    style = _Style.of(rows.values())
    blocks = [block for page in pages for block in _blocks(page.number, rows[page.number], style)]
    known_words = _vocabulary(rows.values())
    headings = _headings(blocks, style, outline)
    elements: list[Element] = []
    for position, block in enumerate(blocks):
        if block.table is not None:
            elements.append(block.table)
        else:
            elements.append(_element(block, headings.get(position, 0), known_words))
    top = min((e.level for e in elements if e.kind is ElementKind.HEADING), default=0)
    title = next((e.text for e in elements if top and e.level == top and (e.page or 0) <= 2), "")
    return elements, title


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


def _rows(segments: Iterable[Segment]) -> list[_Row]:
    """Join what stands on one line and goes on in one direction."""
    rows: list[_Row] = []
    for segment in segments:
        last = rows[-1].segments[-1] if rows else None
        if last is not None and _same_line(last, segment) and not last.hyphenated:
            apart = max(segment.left - last.right, last.left - segment.right)
            if apart > -0.3 * segment.size:
                rows[-1].add(segment)
                continue
        rows.append(_Row(segment))
    return rows


# --- running headers, footers and page numbers ---------------------------------
def _drop_furniture(pages: Sequence[Page], rows: dict[int, list[_Row]]) -> None:
    """Remove what stands at the same edge of most pages, digits aside.

    A page with nothing else on it keeps its lines, for they may be its text.
    """
    seen: Counter[tuple[str, str]] = Counter()
    edges: dict[int, list[tuple[tuple[str, str], _Row]]] = {}
    for page in pages:
        edges[page.number] = _edges(page, rows[page.number])
        seen.update({key for key, _ in edges[page.number]})
    enough = max(3, round(0.4 * len(pages)))
    for page in pages:
        dropped = [
            row
            for key, row in edges[page.number]
            if seen[key] >= enough or (len(pages) > 1 and _is_number_of(row, page.number))
        ]
        kept = [row for row in rows[page.number] if not any(row is d for d in dropped)]
        if kept or all(_PAGE_NUMBER.fullmatch(row.text) for row in dropped):
            rows[page.number] = kept


def _edges(page: Page, rows: list[_Row]) -> list[tuple[tuple[str, str], _Row]]:
    """The outermost rows of a page, each with its edge and what it says."""
    ordered = sorted(rows, key=lambda row: -row.top)
    found: list[tuple[tuple[str, str], _Row]] = []
    for edge, candidates in (("top", ordered), ("bottom", ordered[::-1])):
        for position, row in enumerate(candidates[:_EDGE_ROWS]):
            distance = page.height - row.top if edge == "top" else row.bottom
            if distance > 0.25 * page.height:
                break
            following = candidates[position + 1] if position + 1 < len(candidates) else None
            if following is not None and _are_rows_of_a_table(row, following):
                # The repeated head of a table that runs over pages, not of the page.
                break
            text = one_line(_DIGITS.sub("#", row.text)).casefold()
            found.append(((edge, "#" if _ROMAN.fullmatch(text) else text), row))
    return found


def _are_rows_of_a_table(row: _Row, other: _Row) -> bool:
    gap = max(row.bottom - other.top, other.bottom - row.top)
    return len(row.segments) > 1 and len(other.segments) > 1 and gap < 0.8 * row.size


def _is_number_of(row: _Row, page: int) -> bool:
    match = _PAGE_NUMBER.fullmatch(row.text)
    return match is not None and int(match.group(1)) == page


# --- the document's own measures -----------------------------------------------
@dataclass(frozen=True, slots=True)
class _Style:
    """Body size, whether the body is bold, and the usual pitch of lines by size."""

    body_size: float
    body_bold: bool
    pitches: dict[float, float]

    @classmethod
    def of(cls, pages: Iterable[list[_Row]]) -> _Style:
        characters: Counter[float] = Counter()
        bold = total = 0
        gaps: defaultdict[float, list[float]] = defaultdict(list)
        for rows in pages:
            for row in rows:
                for segment in row.segments:
                    characters[segment.size] += len(segment.text)
                    total += len(segment.text)
                    bold += len(segment.text) * segment.bold
            for before, after in pairwise(rows):
                gap = before.bottom - after.bottom
                if before.size == after.size and 0.8 * after.size < gap < 2.6 * after.size:
                    gaps[after.size].append(gap)
        body = characters.most_common(1)[0][0] if characters else 10.0
        pitches = {size: statistics.median_low(found) for size, found in gaps.items()}
        return cls(body_size=body, body_bold=bold * 2 > total, pitches=pitches)

    def pitch(self, size: float) -> float:
        """Usual distance of two base lines at this size."""
        return self.pitches.get(size, 1.25 * size)


# --- blocks ------------------------------------------------------------------
def _blocks(page: int, rows: list[_Row], style: _Style) -> list[_Block]:
    blocks: list[_Block] = []
    position = 0
    while position < len(rows):
        end = _table_end(rows, position)
        if end > position and (table := _table(rows[position:end], page)):
            blocks.append(_Block(page, table=table))
            position = end
            continue
        row = rows[position]
        if blocks and blocks[-1].table is None and _continues(blocks[-1].lines, row, style):
            blocks[-1].lines.append(row)
        else:
            blocks.append(_Block(page, [row]))
        position += 1
    return blocks


def _continues(lines: list[_Row], row: _Row, style: _Style) -> bool:
    """Whether `row` is the next line of the same paragraph."""
    before = lines[-1]
    if before.segments[-1].hyphenated:
        return True
    if abs(before.size - row.size) > 0.08 * row.size or _is_bold(before) != _is_bold(row):
        return False
    if _is_mono(before) != _is_mono(row):
        return False
    ended = bool(_SENTENCE_END.search(before.text))
    gap = before.bottom - row.bottom
    if gap < -0.5 * row.size or gap > 4 * style.pitch(row.size):
        # The next column: a paragraph goes on there only in the middle of a sentence.
        return not ended and row.text[:1].islower() and row.size == style.body_size
    if gap > 1.25 * style.pitch(row.size) + 1:
        return False
    if _is_mono(row):
        return True
    if _BULLET.match(row.text):
        return False
    if not ended:
        return True
    if _BULLET.match(lines[0].text):
        return row.left > lines[0].left + 0.3 * row.size
    indent = row.left - before.left
    if len(lines) > 1 and abs(indent) > 0.8 * row.size:
        return False
    if len(lines) == 1 and indent > 0.8 * row.size:
        return False
    return not _was_broken_early(before, row)


def _was_broken_early(before: _Row, row: _Row) -> bool:
    """Whether the first word of `row` would still have fitted on the line before."""
    width = max(before.right - before.left, 1.0) / max(len(before.text), 1)
    first_word = row.text.split(" ", 1)[0]
    return before.right + (len(first_word) + 1) * width < before.edge - before.size


def _measure_columns(rows: Iterable[_Row]) -> None:
    """Set the `edge` of rows from those that begin at the same place in the same size."""
    columns: defaultdict[tuple[int, float], list[_Row]] = defaultdict(list)
    for row in rows:
        columns[round(row.left / max(0.5 * row.size, 1.0)), row.size].append(row)
    for column in columns.values():
        rights = sorted(row.right for row in column)
        # Not the last: one line across all columns begins where the first column does.
        edge = rights[int(0.85 * len(rights))]
        for row in column:
            row.edge = edge


def _is_bold(row: _Row) -> bool:
    return all(segment.bold for segment in row.segments)


def _is_mono(row: _Row) -> bool:
    return all(segment.mono for segment in row.segments)


# --- tables ------------------------------------------------------------------
def _table_end(rows: list[_Row], start: int) -> int:
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


def _is_prose(row: _Row, table: list[_Row]) -> bool:
    """A single piece that is no cell: it crosses the columns above it."""
    piece = row.segments[0]
    return any(
        sum(1 for s in other.segments if s.left < piece.right and s.right > piece.left) > 1
        for other in table
    )


def _table(rows: list[_Row], page: int) -> Element | None:
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
    bold_head = _is_bold(rows[0]) and not all(map(_is_bold, rows))
    return table_element(
        [[clean(cell) for cell in row] for row in cells],
        page=page,
        has_header=True if bold_head else None,
    )


def _columns(rows: list[_Row]) -> list[tuple[float, float]]:
    """Stretches of the x axis that are covered by pieces, left to right."""
    columns: list[tuple[float, float]] = []
    for left, right in sorted((s.left, s.right) for row in rows for s in row.segments):
        if columns and left <= columns[-1][1] + 1:
            columns[-1] = (columns[-1][0], max(columns[-1][1], right))
        else:
            columns.append((left, right))
    return columns


def _with_wrapped_lines_joined(rows: list[_Row], cells: list[list[str]]) -> list[list[str]]:
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


# --- headings ----------------------------------------------------------------
def _headings(
    blocks: Sequence[_Block], style: _Style, outline: Sequence[OutlineEntry]
) -> dict[int, int]:
    """Positions of the blocks that are headings, with their levels from 1.

    Larger than the body, or bold where the body is not; larger is higher. A block that
    equals a bookmark of its page is a heading of the bookmark's level.
    """
    bookmarks = {(entry.page, _key(entry.title)): entry.level for entry in outline}
    found: dict[int, tuple[float, bool]] = {}
    levels: dict[int, int] = {}
    for position, block in enumerate(blocks):
        if block.table is not None:
            continue
        if level := bookmarks.get((block.page, _key(_flat(block)))):
            levels[position] = min(level, 6)
        elif _looks_like_heading(block, style):
            found[position] = (block.lines[0].size, _is_bold(block.lines[0]))
    ranks = sorted({size for size, _ in found.values()}, reverse=True)
    for position, (size, _) in found.items():
        levels[position] = min(ranks.index(size) + 1, 6)
    return levels


def _looks_like_heading(block: _Block, style: _Style) -> bool:
    text, first = _flat(block), block.lines[0]
    if len(block.lines) > 4 or len(text) > _HEADING_MAX_CHARACTERS:
        return False
    if sum(map(str.isalpha, text)) < 2 or _is_mono(first) or not first.segments[0].upright:
        return False
    if first.size >= _LARGER * style.body_size:
        return not text.endswith((",", ";"))
    return (
        _is_bold(first)
        and not style.body_bold
        and first.size >= 0.95 * style.body_size
        and len(text) <= _BOLD_HEADING_MAX_CHARACTERS
        and not text.endswith((".", ",", ";"))
    )


def _flat(block: _Block) -> str:
    return one_line(" ".join(row.text for row in block.lines))


def _key(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))


# --- text --------------------------------------------------------------------
def _element(block: _Block, level: int, known_words: frozenset[str]) -> Element:
    first = block.lines[0]
    if not level and _is_mono(first):
        return Element(ElementKind.CODE, _code(block.lines), page=block.page)
    text = _prose(block.lines, known_words)
    if level:
        return Element(ElementKind.HEADING, one_line(text), page=block.page, level=level)
    is_item = bool(_BULLET.match(first.text))
    kind = ElementKind.LIST_ITEM if is_item else ElementKind.PARAGRAPH
    return Element(kind, text, page=block.page)


def _code(lines: list[_Row]) -> str:
    """Lines as they stand, indentation counted in letters of 0.6 em."""
    left = min(row.left for row in lines)
    return clean(
        "\n".join(" " * round((row.left - left) / (0.6 * row.size)) + row.text for row in lines)
    )


def _prose(lines: list[_Row], known_words: frozenset[str]) -> str:
    """Lines as one text; a break that the author made stays a line end."""
    text = clean(lines[0].text)
    for before, row in pairwise(lines):
        following = clean(row.text)
        if before.segments[-1].hyphenated or _ends_in_hyphen(text, following):
            text = _dehyphenated(text.removesuffix("-"), following, known_words)
        elif _was_broken_early(before, row):
            text += f"\n{following}"
        else:
            text += f" {following}"
    return text


def _ends_in_hyphen(text: str, following: str) -> bool:
    return text.endswith("-") and text[-2:-1].isalpha() and following[:1].islower()


def _dehyphenated(text: str, following: str, known_words: frozenset[str]) -> str:
    """Join a word broken at a line end; keep the hyphen where the document writes it so."""
    head = re.search(r"[^\W\d_]+$", text)
    tail = re.match(r"[^\W\d_]+", following)
    if head is None or tail is None or following[:1].isupper():
        return f"{text}-{following}"
    joined = (head.group() + tail.group()).casefold()
    hyphenated = f"{head.group()}-{tail.group()}".casefold()
    if hyphenated in known_words and joined not in known_words:
        return f"{text}-{following}"
    return text + following


def _vocabulary(pages: Iterable[list[_Row]]) -> frozenset[str]:
    """All words of the document, for deciding about hyphens."""
    if not any(s.hyphenated for rows in pages for row in rows for s in row.segments):
        return frozenset()
    return frozenset(
        word.casefold()
        for rows in pages
        for row in rows
        for segment in row.segments
        for word in _WORD.findall(segment.text)
    )
