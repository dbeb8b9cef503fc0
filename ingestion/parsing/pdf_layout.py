"""From placed pieces of text to elements: paragraphs, headings, lists, tables, code.

Pure. `pdf_rows.py` gives the lines in reading order, `pdf_tables.py` finds the tables. Everything
is judged relative to the document itself: its body size, its usual distance of lines, the
width of its columns. All lengths are points, y grows upwards.
"""

from __future__ import annotations

import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from ingestion.parsing.cleaning import clean, one_line
from ingestion.parsing.pdf_rows import Page, Row, rows_of
from ingestion.parsing.pdf_tables import table_end, table_of
from ingestion.types import Element, ElementKind

_SENTENCE_END = re.compile(r"[.!?…。！？:;][\"'”’»)\]]*$")
_BULLET = re.compile(r"(?:[•‣▪◦●○■□▸►➢–\-*·]|\(?\d{1,2}[.)]|\(?[a-z][.)]|\([ivx]{1,4}\))\s+\S")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_HEADING_MAX_CHARACTERS = 200
_BOLD_HEADING_MAX_CHARACTERS = 120
_LARGER = 1.12


@dataclass(frozen=True, slots=True)
class OutlineEntry:
    """A bookmark: title, page and level, both from 1."""

    title: str
    page: int
    level: int


@dataclass(slots=True)
class _Block:
    """Lines of one page that belong together, or a table."""

    page: int
    lines: list[Row] = field(default_factory=list)
    table: Element | None = None


def elements_of(
    pages: Sequence[Page], *, outline: Sequence[OutlineEntry] = ()
) -> tuple[list[Element], str]:
    """Give the elements of all pages in reading order, and the likely title.

    Args:
        pages: the pages that could be read.
        outline: the file's bookmarks; a line that equals one is a heading.
    """
    rows = rows_of(pages)
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


# --- the document's own measures -----------------------------------------------
@dataclass(frozen=True, slots=True)
class _Style:
    """Body size, whether the body is bold, and the usual pitch of lines by size."""

    body_size: float
    body_bold: bool
    pitches: dict[float, float]

    @classmethod
    def of(cls, pages: Iterable[list[Row]]) -> _Style:
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
def _blocks(page: int, rows: list[Row], style: _Style) -> list[_Block]:
    blocks: list[_Block] = []
    position = 0
    while position < len(rows):
        end = table_end(rows, position)
        if end > position and (table := table_of(rows[position:end], page)):
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


def _continues(lines: list[Row], row: Row, style: _Style) -> bool:
    """Whether `row` is the next line of the same paragraph."""
    before = lines[-1]
    if before.segments[-1].hyphenated:
        return True
    if abs(before.size - row.size) > 0.08 * row.size or before.is_bold() != row.is_bold():
        return False
    if before.is_mono() != row.is_mono():
        return False
    ended = bool(_SENTENCE_END.search(before.text))
    gap = before.bottom - row.bottom
    if gap < -0.5 * row.size or gap > 4 * style.pitch(row.size):
        # The next column: a paragraph goes on there only in the middle of a sentence.
        return not ended and row.text[:1].islower() and row.size == style.body_size
    if gap > 1.25 * style.pitch(row.size) + 1:
        return False
    if row.is_mono():
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


def _was_broken_early(before: Row, row: Row) -> bool:
    """Whether the first word of `row` would still have fitted on the line before."""
    width = max(before.right - before.left, 1.0) / max(len(before.text), 1)
    first_word = row.text.split(" ", 1)[0]
    return before.right + (len(first_word) + 1) * width < before.edge - before.size


def _measure_columns(rows: Iterable[Row]) -> None:
    """Set the `edge` of rows from those that begin at the same place in the same size."""
    columns: defaultdict[tuple[int, float], list[Row]] = defaultdict(list)
    for row in rows:
        columns[round(row.left / max(0.5 * row.size, 1.0)), row.size].append(row)
    for column in columns.values():
        rights = sorted(row.right for row in column)
        # Not the last: one line across all columns begins where the first column does.
        edge = rights[int(0.85 * len(rights))]
        for row in column:
            row.edge = edge


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
            found[position] = (block.lines[0].size, block.lines[0].is_bold())
    ranks = sorted({size for size, _ in found.values()}, reverse=True)
    for position, (size, _) in found.items():
        levels[position] = min(ranks.index(size) + 1, 6)
    return levels


def _looks_like_heading(block: _Block, style: _Style) -> bool:
    text, first = _flat(block), block.lines[0]
    if len(block.lines) > 4 or len(text) > _HEADING_MAX_CHARACTERS:
        return False
    if sum(map(str.isalpha, text)) < 2 or first.is_mono() or not first.segments[0].upright:
        return False
    if first.size >= _LARGER * style.body_size:
        return not text.endswith((",", ";"))
    return (
        first.is_bold()
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
    if not level and first.is_mono():
        return Element(ElementKind.CODE, _code(block.lines), page=block.page)
    text = _prose(block.lines, known_words)
    if level:
        return Element(ElementKind.HEADING, one_line(text), page=block.page, level=level)
    is_item = bool(_BULLET.match(first.text))
    kind = ElementKind.LIST_ITEM if is_item else ElementKind.PARAGRAPH
    return Element(kind, text, page=block.page)


def _code(lines: list[Row]) -> str:
    """Lines as they stand, indentation counted in letters of 0.6 em."""
    left = min(row.left for row in lines)
    return clean(
        "\n".join(" " * round((row.left - left) / (0.6 * row.size)) + row.text for row in lines)
    )


def _prose(lines: list[Row], known_words: frozenset[str]) -> str:
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


def _vocabulary(pages: Iterable[list[Row]]) -> frozenset[str]:
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
