"""A document as it is read: one part at a time, with a passage marked in its text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from ingestion.models import Chunk, Document, IndexGeneration
from ingestion.types import HEADING_SEPARATOR, Span

_CELLS = " | "  # as `ingestion.types.Element` joins the cells of a row
_DEEPEST = 6

# What the pages of a format are called where they are not pages.
_PAGES = {
    **dict.fromkeys(("pptx", "odp"), "Slide"),
    **dict.fromkeys(("xlsx", "xls", "ods"), "Sheet"),
    "epub": "Chapter",
}


@dataclass(frozen=True, slots=True)
class Stretch:
    """A run of text that is marked or not. `is_first` holds for the first marked one."""

    text: str
    marked: bool
    is_first: bool = False


def stretches(text: str, spans: Iterable[tuple[int, int]]) -> list[Stretch]:
    """Cut `text` at the bounds of `spans`; joined again, the stretches are `text`.

    Args:
        text: the text of one part.
        spans: half-open ranges of characters; what lies outside the text is ignored,
            ranges that overlap or touch become one.
    """
    result: list[Stretch] = []
    position = 0
    for start, end in _merged(spans, length=len(text)):
        if start > position:
            result.append(Stretch(text[position:start], marked=False))
        is_first = not any(stretch.marked for stretch in result)
        result.append(Stretch(text[start:end], marked=True, is_first=is_first))
        position = end
    if position < len(text):
        result.append(Stretch(text[position:], marked=False))
    return result


def _merged(spans: Iterable[tuple[int, int]], *, length: int) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted((max(0, start), min(length, end)) for start, end in spans):
        if end <= start:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a part as it is set: a table if it has `rows`, a heading if it has a `level`.

    level: of the heading, from 3, as the page has two levels of its own; 0 for running text.
    rows: of the table, each with its cells.
    """

    text: Sequence[Stretch] = ()
    level: int = 0
    rows: Sequence[Sequence[Sequence[Stretch]]] = ()


def blocks(
    text: str, spans: Iterable[tuple[int, int]], *, levels: Mapping[str, int]
) -> list[Block]:
    """Tell headings and tables from running text, and mark `spans` in all of them.

    A line is a heading if the document's outline names it, and lines with cells that follow each
    other are a table. Left out are the ends of these lines, what joins cells, and blank
    lines around blocks.

    Args:
        text: the text of one part.
        spans: as for `stretches`.
        levels: the headings of the outline with their depth, from 1.
    """
    marks = _merged(spans, length=len(text))
    told = False

    def cut(start: int, end: int) -> list[Stretch]:
        nonlocal told
        found = stretches(text[start:end], [(a - start, b - start) for a, b in marks])
        shown = [Stretch(s.text, s.marked, s.is_first and not told) for s in found]
        told = told or any(stretch.marked for stretch in found)
        return shown

    lines: list[tuple[str, int, int]] = []
    position = 0
    for line in text.splitlines(keepends=True):
        words = line.strip()
        kind = "heading" if words in levels else "table" if _CELLS in words else "text"
        lines.append((kind, position, position + len(line)))
        position += len(line)
    result: list[Block] = []
    for kind, group in groupby(lines, key=lambda line: line[0]):
        run = list(group)
        if kind == "heading":
            for _, start, end in run:
                level = min(levels[text[start:end].strip()] + 2, _DEEPEST)
                result.append(Block(cut(*_stripped(text, start, end)), level=level))
        elif kind == "table" and len(run) > 1:
            rows = [[cut(*cell) for cell in _cells(text, start, end)] for _, start, end in run]
            result.append(Block(rows=rows))
        else:
            start, end = _stripped(text, run[0][1], run[-1][2])
            if start < end:
                result.append(Block(cut(start, end)))
    return result


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    inner = piece.strip()
    start += piece.find(inner)
    return start, start + len(inner)


def _cells(text: str, start: int, end: int) -> list[tuple[int, int]]:
    cells = []
    for cell in text[start:end].split(_CELLS):
        cells.append(_stripped(text, start, start + len(cell)))
        start += len(cell) + len(_CELLS)
    return cells


@dataclass(frozen=True, slots=True)
class View:
    """One part of a document as the page shows it.

    parts: (number, label) of every part, for the picker; a number is the page's own where
        the format has pages, the part's place otherwise.
    index: this part's place in `parts`, from 0.
    blocks: the text as it is set; `text` is the same as it was read.
    is_marked: whether the chunk asked for has text on this part.
    """

    parts: Sequence[tuple[int, str]]
    index: int
    text: Sequence[Stretch]
    blocks: Sequence[Block]
    is_marked: bool

    @property
    def number(self) -> int:
        """What the address calls this part."""
        return self.parts[self.index][0]

    @property
    def label(self) -> str:
        """What people call this part."""
        return self.parts[self.index][1]

    @property
    def previous(self) -> int | None:
        """The number of the part before."""
        return self.parts[self.index - 1][0] if self.index else None

    @property
    def next(self) -> int | None:
        """The number of the part after."""
        return self.parts[self.index + 1][0] if self.index + 1 < len(self.parts) else None


def open_part(document: Document, *, number: int | None, chunk: Chunk | None) -> View | None:
    """The part asked for, with the chunk marked. None while there is no text.

    Args:
        document: whose text.
        number: a page of the document, or the place of a part where the format has no
            pages, the nearest if there is no such one; None for where the chunk begins,
            or the beginning.
        chunk: the passage to mark.
    """
    # A passage stands in the text of its own generation, which need not be the live one now.
    mine = document.parts.filter(
        **{"generation": chunk.generation_id}
        if chunk
        else {"generation__state": IndexGeneration.State.LIVE}
    )
    rows = list(mine.values_list("ordinal", "page"))
    if not rows:
        return None
    parts = _numbered([page for _, page in rows], _PAGES.get(document.format, "Page"))
    spans = [Span(*span) for span in chunk.spans] if chunk else []
    if number is None:
        wanted = spans[0].part if spans else None
        index = next((i for i, (ordinal, _) in enumerate(rows) if ordinal == wanted), 0)
    else:
        index = min(range(len(parts)), key=lambda i: abs(parts[i][0] - number))
    ordinal = rows[index][0]
    part = mine.get(ordinal=ordinal)
    here = [(span.start, span.end) for span in spans if span.part == ordinal]
    return View(
        parts=parts,
        index=index,
        text=stretches(part.text, here),
        blocks=blocks(part.text, here, levels=_outline(document, part.generation_id)),
        is_marked=bool(here),
    )


def _outline(document: Document, generation_id: int) -> dict[str, int]:
    """The headings of a document as its passages name them, with their depth."""
    found = Chunk.objects.filter(document=document, generation=generation_id)
    levels: dict[str, int] = {}
    for path in found.exclude(heading_path="").values_list("heading_path", flat=True).distinct():
        for depth, heading in enumerate(path.split(HEADING_SEPARATOR), 1):
            levels.setdefault(heading, depth)
    return levels


def pages_of(chunk: Chunk) -> list[tuple[int, str]]:
    """What of a passage stands on which page, in order: (page, text); nothing without pages.

    As the pages were read, so that it can be found on them again: a table's header that the
    passage repeats is not there.
    """
    spans = [Span(*span) for span in chunk.spans]
    parts = chunk.document.parts.filter(
        generation=chunk.generation_id, ordinal__in={span.part for span in spans}
    ).exclude(page=None)
    texts = {part.ordinal: (part.page, part.text) for part in parts}
    pages: dict[int, list[str]] = {}
    for span in sorted(spans, key=lambda span: (span.part, span.start)):
        page, text = texts.get(span.part, (None, ""))
        if page is not None and (piece := text[span.start : span.end].strip()):
            pages.setdefault(page, []).append(piece)
    return [(page, "\n".join(pieces)) for page, pieces in sorted(pages.items())]


def _numbered(pages: Sequence[int | None], word: str) -> list[tuple[int, str]]:
    known = [page for page in pages if page is not None]
    if len(set(known)) == len(pages):
        return [(page, f"{word} {page}") for page in known]
    return [(place, f"Part {place}") for place in range(1, len(pages) + 1)]
