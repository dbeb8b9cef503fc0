"""From elements to passages, cut on structure and sized in the embedder's own tokens.

The elements become one long text. A passage is one stretch of that text, so its place in
the document is exact; only the header row that a split table repeats is put in front. In
three steps: `_Layout` lays the text out, `_groups` joins small neighbouring sections,
`_Packer` cuts the groups that are too large. Pure and deterministic.

The strategies differ in where a passage may end. All keep the heading path, tables and code:

structure  at sections, then paragraphs, then sentences
semantic   likewise, and where the meaning turns from one sentence to the next
sentence   at the last sentence that fits, whatever section it is in
fixed      at the last word that fits
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ingestion.sentences import sentence_spans
from ingestion.topics import turns
from ingestion.types import (
    CELL_SEPARATOR,
    HEADING_SEPARATOR,
    ChunkDraft,
    Element,
    ElementKind,
    ParsedDocument,
    PartDraft,
    Span,
    Strategy,
    passage_text,
)

Embed: TypeAlias = Callable[[Sequence[str]], NDArray[np.float32]]

PART_CHARACTERS = 20_000
# A section below this share of a passage joins its neighbour.
_SMALL_SHARE = 4
# Headings may take this share of a passage, a repeated table header likewise.
_HEADING_SHARE = 4
# A passage may end early at the end of a paragraph once it is this full.
_FULL_ENOUGH = 0.6
_MIN_MAX_TOKENS = 16
# 250 pages or so. Embedding more sentences than these would not end within a worker's turn,
# so a longer document is cut on structure.
MAX_SENTENCES_COMPARED = 6_000


class Tokenizer(Protocol):
    """What chunking needs of `ingestion.tokenizer.PassageTokenizer`."""

    def count(self, text: str) -> int:
        """Tokens of the text as the model reads it, special tokens included."""

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Character ranges of the tokens, special tokens left out."""


def chunk(
    parsed: ParsedDocument,
    *,
    tokenizer: Tokenizer,
    max_tokens: int,
    overlap_tokens: int,
    strategy: Strategy = Strategy.STRUCTURE,
    embed: Embed | None = None,
) -> tuple[list[PartDraft], list[ChunkDraft]]:
    """Cut a document into parts to read and passages to retrieve.

    A passage never holds text of two sections unless they are small siblings, or a small
    child of its parent; then it bears the headings they share, and their own stand in its
    text. Sections too large for one passage are cut between paragraphs where that wastes
    little, else between sentences; tables between rows, with the header repeated, also where
    one goes on over the page; code
    between lines, and only if the block alone is too large. Passages without a letter or
    digit are left out.

    Args:
        parsed: elements in reading order.
        tokenizer: of the model that will embed the passages.
        max_tokens: upper bound of heading path, text and special tokens together, >= 16.
        overlap_tokens: up to so many tokens of whole sentences (of words, where the strategy
            is FIXED) at the end of a passage are repeated at the beginning of the next one.
        strategy: where passages may end. What is said above of sections and paragraphs
            holds for STRUCTURE and SEMANTIC; what is said of tables, code and headings for all.
        embed: from n texts to (n, d) unit vectors; SEMANTIC needs it. What it raises goes up.

    Returns:
        The parts (one per page, or about 20,000 characters each; the same whatever the
        other arguments) and the passages, both in document order. Joined, the spans of a
        passage are its text, apart from white space between parts and a repeated table header.

    Raises:
        ValueError: max_tokens is below 16, overlap_tokens negative, or `embed` missing.
    """
    if strategy is Strategy.SEMANTIC and embed is None:
        raise ValueError("cutting by meaning needs a model to embed with")
    if max_tokens < _MIN_MAX_TOKENS or overlap_tokens < 0:
        raise ValueError(f"cannot chunk to {max_tokens} tokens, overlap {overlap_tokens}")
    layout = _Layout(parsed, tokenizer, max_heading_tokens=max_tokens // _HEADING_SHARE)
    packer = _Packer(
        layout, tokenizer, max_tokens=max_tokens, overlap_tokens=overlap_tokens, strategy=strategy
    )
    if strategy in (Strategy.FIXED, Strategy.SENTENCE):
        drafts = list(packer.drafts_of_all())
    else:
        groups = _groups(layout, packer)
        if strategy is Strategy.SEMANTIC and embed is not None:
            packer.turn_at(_turns(layout, groups, embed))
        drafts = [draft for group in groups for draft in packer.drafts(group)]
    chunks = [replace(draft, ordinal=ordinal) for ordinal, draft in enumerate(drafts)]
    return layout.parts(), chunks


# --- the text ----------------------------------------------------------------
class _Layout:
    """All elements as one text, with where each begins, its tokens and its part."""

    def __init__(
        self, parsed: ParsedDocument, tokenizer: Tokenizer, *, max_heading_tokens: int
    ) -> None:
        elements = [e for e in parsed.elements if e.text.strip()]
        if parsed.pages:
            elements.sort(key=lambda element: element.page or 0)
        self.starts = array("q")
        self.ends = array("q")
        self._token_starts = array("q")
        self.elements: list[Element] = []
        pieces: list[str] = []
        position = 0
        before: Element | None = None
        for element in elements:
            offsets = tokenizer.offsets(element.text)
            separator = _separator(before, element) if before else ""
            before = element
            if element.kind is ElementKind.HEADING and len(offsets) + 2 > max_heading_tokens:
                # Nobody writes headings this long; as text nothing of it is lost.
                element = replace(element, kind=ElementKind.PARAGRAPH, level=0)
            pieces.append(separator)
            position += len(separator)
            self._token_starts.extend(position + start for start, _ in offsets)
            self.starts.append(position)
            position += len(element.text)
            self.ends.append(position)
            pieces.append(element.text)
            self.elements.append(element)
        self.text = "".join(pieces)
        self._bounds = list(self._paged(parsed.pages) if parsed.pages else self._unpaged())
        self._part_starts = [start for start, _, _ in self._bounds]

    def tokens(self, start: int, end: int) -> int:
        """Tokens that begin in the range."""
        return bisect_left(self._token_starts, end) - bisect_left(self._token_starts, start)

    def token_cut(self, start: int, end: int, count: int) -> int:
        """Where the token number `count` of the range begins; `end` if it has fewer."""
        index = bisect_left(self._token_starts, start) + count
        cut = self._token_starts[index] if index < len(self._token_starts) else end
        return min(cut, end)

    def token_back(self, position: int, count: int) -> int:
        """Where the token that stands `count` before the position begins; 0 if there is none."""
        index = bisect_left(self._token_starts, position) - count
        return self._token_starts[index] if index >= 0 else 0

    def paths(self) -> list[tuple[str, ...]]:
        """For each element the headings above it, itself left out."""
        paths: list[tuple[str, ...]] = []
        open_headings: list[Element] = []
        path: tuple[str, ...] = ()
        for element in self.elements:
            if element.kind is not ElementKind.HEADING:
                paths.append(path)
                continue
            while open_headings and open_headings[-1].level >= element.level:
                open_headings.pop()
            paths.append(tuple(heading.text for heading in open_headings))
            open_headings.append(element)
            path = tuple(heading.text for heading in open_headings)
        return paths

    def element_at(self, position: int) -> int:
        """Number of the element that holds the position."""
        return bisect_right(self.starts, position) - 1

    def page_at(self, position: int) -> int | None:
        """Page of the element that holds the position."""
        return self.elements[self.element_at(position)].page

    def spans(self, start: int, end: int) -> tuple[Span, ...]:
        """The range as ranges within parts; what lies between parts is left out."""
        spans: list[Span] = []
        part = max(bisect_right(self._part_starts, start) - 1, 0)
        while part < len(self._bounds) and self._bounds[part][0] < end:
            first, last, _ = self._bounds[part]
            a, b = max(start, first), min(end, last)
            if a < b:
                spans.append(Span(part=part, start=a - first, end=b - first))
            part += 1
        return tuple(spans)

    def parts(self) -> list[PartDraft]:
        """The text as the reader shows it."""
        return [
            PartDraft(ordinal=ordinal, page=page, text=self.text[start:end])
            for ordinal, (start, end, page) in enumerate(self._bounds)
        ]

    def _paged(self, pages: int) -> Iterator[tuple[int, int, int | None]]:
        """One part per page, also for pages without text."""
        numbers = [element.page or 1 for element in self.elements]
        position = 0
        for page in range(1, max(pages, *numbers, 1) + 1):
            first, last = bisect_left(numbers, page), bisect_right(numbers, page)
            if first < last:
                position = self.ends[last - 1]
                yield self.starts[first], position, page
            else:
                yield position, position, page

    def _unpaged(self) -> Iterator[tuple[int, int, int | None]]:
        """Parts that end with an element; only one longer than a part is cut itself."""
        start, end = 0, 0
        for first, last in zip(self.starts, self.ends, strict=True):
            if end > start and last - start > PART_CHARACTERS:
                yield start, end, None
                start = first
            end = last
            while end - start > PART_CHARACTERS:
                cut = self._cut_within(start, start + PART_CHARACTERS)
                yield start, cut, None
                start = cut
        if end > start:
            yield start, end, None

    def _cut_within(self, start: int, limit: int) -> int:
        for blank in ("\n", " "):
            cut = self.text.rfind(blank, start + PART_CHARACTERS // 2, limit)
            if cut > 0:
                return cut + 1
        return limit


def _separator(before: Element, after: Element) -> str:
    if before.kind is after.kind is ElementKind.LIST_ITEM:
        return "\n"
    turns_page = before.page != after.page and before.kind is after.kind is ElementKind.PARAGRAPH
    if turns_page and before.text[-1:].isalnum() and after.text[:1].islower():
        # A sentence that goes on over the page.
        return " "
    return "\n\n"


# --- sections ----------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Group:
    """Neighbouring elements `first <= number < end` under the same headings.

    `headings` are the numbers of the elements that the names in `path` stand in.
    """

    path: tuple[str, ...]
    headings: tuple[int, ...]
    first: int
    end: int


def _groups(layout: _Layout, packer: _Packer) -> list[_Group]:
    """Join sections that are too small to stand alone with the ones beside them.

    Forwards until a group is half a passage, so that it is about few things; what is still
    small then goes to the group before it.
    """
    groups: list[_Group] = []
    for section in _sections(layout):
        if groups and not packer.is_half_full(groups[-1]):
            _join_last(groups, section, packer)
        else:
            groups.append(section)
    joined: list[_Group] = []
    for group in groups:
        if joined and packer.is_small(group):
            _join_last(joined, group, packer)
        else:
            joined.append(group)
    return joined


def _join_last(groups: list[_Group], section: _Group, packer: _Packer) -> None:
    """Join the section to the last group if both may and should be one, else append it."""
    joined = _joined(groups[-1], section)
    one_is_small = packer.is_small(groups[-1]) or packer.is_small(section)
    if joined and one_is_small and packer.fits(joined):
        groups[-1] = joined
    else:
        groups.append(section)


def _sections(layout: _Layout) -> Iterator[_Group]:
    """What stands directly under each heading, where something does.

    A heading with nothing at all under it is itself a section of its parent.
    """
    open_headings: list[int] = []
    first = 0
    for number, element in enumerate(layout.elements):
        if element.kind is not ElementKind.HEADING:
            continue
        yield from _closed(layout, open_headings, first, number, next_level=element.level)
        while open_headings and layout.elements[open_headings[-1]].level >= element.level:
            open_headings.pop()
        open_headings.append(number)
        first = number + 1
    yield from _closed(layout, open_headings, first, len(layout.elements), next_level=0)


def _closed(
    layout: _Layout, open_headings: Sequence[int], first: int, end: int, *, next_level: int
) -> Iterator[_Group]:
    headings = tuple(open_headings)
    if first == end:
        if not headings or next_level > layout.elements[headings[-1]].level:
            return
        first, headings = headings[-1], headings[:-1]
    path = tuple(layout.elements[number].text for number in headings)
    yield _Group(path, headings, first, end)


def _joined(group: _Group, section: _Group) -> _Group | None:
    """Both under the headings they share, if they are siblings or parent and child."""
    shared = 0
    for mine, other in zip(group.path, section.path, strict=False):
        if mine != other:
            break
        shared += 1
    if shared < max(len(group.path), len(section.path)) - 1:
        return None
    # A heading that leaves the path returns as text.
    first = group.headings[shared] if shared < len(group.path) else group.first
    return _Group(group.path[:shared], group.headings[:shared], first, section.end)


def _turns(layout: _Layout, groups: Sequence[_Group], embed: Embed) -> set[int]:
    """Positions of the sentences with which the meaning turns; none in a very long document."""
    runs = [_sentences_of(layout, group) for group in groups]
    texts = [layout.text[start:end] for run in runs for start, end in run]
    if not 0 < len(texts) <= MAX_SENTENCES_COMPARED:
        return set()
    vectors = embed(texts)
    found: set[int] = set()
    first = 0
    for run in runs:
        found.update(run[turn][0] for turn in turns(vectors[first : first + len(run)]))
        first += len(run)
    return found


def _sentences_of(layout: _Layout, group: _Group) -> list[tuple[int, int]]:
    return [
        (layout.starts[number] + start, layout.starts[number] + end)
        for number in range(group.first, group.end)
        if layout.elements[number].kind in (ElementKind.PARAGRAPH, ElementKind.LIST_ITEM)
        for start, end in sentence_spans(layout.elements[number].text)
    ]


# --- passages ----------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Unit:
    """A stretch that is kept whole if it fits: a sentence, table, row, block or line of code."""

    start: int
    end: int
    begins_element: bool
    is_prose: bool
    header: str = ""
    """The table header to repeat if a passage begins with this row."""


class _Packer:
    """Cuts groups into passages of at most `max_tokens`."""

    def __init__(
        self,
        layout: _Layout,
        tokenizer: Tokenizer,
        *,
        max_tokens: int,
        overlap_tokens: int,
        strategy: Strategy,
    ) -> None:
        self._layout = layout
        self._strategy = strategy
        self._turns: Collection[int] = ()
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._overlap_tokens = min(overlap_tokens, max_tokens // 3)
        self._count = lru_cache(maxsize=1024)(tokenizer.count)

    def is_small(self, group: _Group) -> bool:
        """Whether it is too little for a passage of its own."""
        return self._tokens(group) * _SMALL_SHARE < self._max_tokens

    def is_half_full(self, group: _Group) -> bool:
        """Whether it fills half a passage."""
        return self._tokens(group) * 2 >= self._max_tokens

    def fits(self, group: _Group) -> bool:
        """Whether it is one passage."""
        return self._tokens(group) <= self._budget(self._path(group.path))

    def turn_at(self, positions: Collection[int]) -> None:
        """Let passages end before the sentences that begin here."""
        self._turns = positions

    def drafts(self, group: _Group) -> Iterator[ChunkDraft]:
        """The passages of one group, numbered 0."""
        path = self._path(group.path)
        budget = self._budget(path)
        units = [u for n in range(group.first, group.end) for u in self._units(n, budget)]
        return self._pack(units, lambda _: path)

    def drafts_of_all(self) -> Iterator[ChunkDraft]:
        """The passages of the whole text, each under the headings at its beginning."""
        paths = self._layout.paths()
        # Room for the longest path that `_path` leaves, and its line end.
        budget = self._max_tokens - self._max_tokens // _HEADING_SHARE - 1
        units = [u for n in range(len(self._layout.elements)) for u in self._units(n, budget)]
        return self._pack(units, lambda u: self._path(paths[self._layout.element_at(u.start)]))

    def _pack(
        self, units: list[_Unit], path_of: Callable[[_Unit], tuple[str, ...]]
    ) -> Iterator[ChunkDraft]:
        position = 0
        while position < len(units):
            path = path_of(units[position])
            budget = self._budget(path)
            start = units[position].start
            if position:
                start = self._overlap_start(units, position, budget)
            end = self._fill(units, position, start, budget)
            draft, end = self._draft(path, units, position, start, end)
            if draft is not None:
                yield draft
            position = end

    def _tokens(self, group: _Group) -> int:
        layout = self._layout
        return layout.tokens(layout.starts[group.first], layout.ends[group.end - 1])

    def _budget(self, path: tuple[str, ...]) -> int:
        """Tokens left for text under these headings."""
        return self._max_tokens - self._count(HEADING_SEPARATOR.join(path))

    def _path(self, path: tuple[str, ...]) -> tuple[str, ...]:
        """Without the outermost headings, if all together take too much of a passage."""
        allowed = self._max_tokens // _HEADING_SHARE
        while len(path) > 1 and self._count(HEADING_SEPARATOR.join(path)) > allowed:
            path = path[1:]
        return path

    # Units.
    def _units(self, number: int, budget: int) -> Iterator[_Unit]:
        element = self._layout.elements[number]
        start, end = self._layout.starts[number], self._layout.ends[number]
        is_prose = element.kind not in (ElementKind.TABLE, ElementKind.CODE)
        above = self._header_above(number, budget)
        room = budget - (self._count(above) if above else 0)
        if not is_prose and self._layout.tokens(start, end) <= room:
            yield _Unit(start, end, begins_element=True, is_prose=False, header=above)
            return
        spans = sentence_spans(element.text) if is_prose else _line_spans(element.text)
        header = above or self._header(element, budget)
        for position, (a, b) in enumerate(spans):
            limit = budget - (self._count(header) if header and (above or position) else 0)
            for piece, (c, d) in enumerate(self._short(start + a, start + b, limit)):
                yield _Unit(
                    c,
                    d,
                    begins_element=position == 0 and piece == 0,
                    is_prose=is_prose,
                    header=header if above or position else "",
                )

    def _header_above(self, number: int, budget: int) -> str:
        """The header of a table that goes on here from the page before, if it is not said again."""
        elements = self._layout.elements
        here = elements[number]
        while here.kind is ElementKind.TABLE and not here.has_header and number:
            number -= 1
            before = elements[number]
            is_next_page = (before.page or 0) + 1 == here.page
            if before.kind is not ElementKind.TABLE or not is_next_page:
                return ""
            if _columns(before) != _columns(here):
                return ""
            if before.has_header:
                return self._header(before, budget)
            here = before
        return ""

    def _header(self, element: Element, budget: int) -> str:
        """The first row of a table that names its columns, if repeating it leaves room."""
        if element.kind is not ElementKind.TABLE or not element.has_header:
            return ""
        header = element.text.split("\n", 1)[0]
        return header if self._count(header) * _HEADING_SHARE <= budget else ""

    def _short(self, start: int, end: int, limit: int) -> Iterator[tuple[int, int]]:
        """The range in pieces of at most `limit` tokens: at line ends, at blanks, or anywhere."""
        text = self._layout.text
        while self._layout.tokens(start, end) > limit:
            cut = self._layout.token_cut(start, end, limit)
            middle = self._layout.token_cut(start, end, limit // 2)
            for blank in ("\n", " "):
                if (found := text.rfind(blank, middle, cut)) > start:
                    cut = found + 1
                    break
            yield _trimmed(text, start, cut)
            start = cut
        if start < end:
            yield _trimmed(text, start, end)

    # Packing.
    def _overlap_start(self, units: Sequence[_Unit], position: int, budget: int) -> int:
        """Where a passage begins so that it repeats the last whole sentences before it."""
        if not units[position].is_prose:
            return units[position].start
        start = own = units[position].start
        tokens = self._layout.tokens
        room = min(self._overlap_tokens, budget - tokens(own, units[position].end))
        if self._strategy is Strategy.FIXED:
            return self._words_before(units, position, room)
        for before in range(position - 1, -1, -1):
            unit = units[before]
            if not unit.is_prose or self._is_heading(unit) or tokens(unit.start, own) > room:
                break
            start = unit.start
        return start

    def _words_before(self, units: Sequence[_Unit], position: int, room: int) -> int:
        """The beginning of the last `room` tokens before the unit, at a word's beginning."""
        own = start = units[position].start
        if room <= 0:
            return own
        wanted = self._layout.token_back(own, room)
        for before in range(position - 1, -1, -1):
            if not units[before].is_prose or self._is_heading(units[before]):
                break
            start = units[before].start
            if start <= wanted:
                break
        text = self._layout.text
        start = max(start, wanted)
        while start < own and start > 0 and not text[start - 1].isspace():
            start += 1
        return start

    def _is_heading(self, unit: _Unit) -> bool:
        element = self._layout.elements[self._layout.element_at(unit.start)]
        return element.kind is ElementKind.HEADING

    def _fill(self, units: list[_Unit], position: int, start: int, budget: int) -> int:
        """How far the passage that begins with `units[position]` goes; at least one unit."""
        if self._strategy in (Strategy.FIXED, Strategy.SENTENCE):
            return self._fill_up(units, position, start, budget)
        tokens = self._layout.tokens
        if header := units[position].header:
            budget -= self._count(header)
        end = position + 1
        while end < len(units) and tokens(start, units[end].end) <= budget:
            end += 1
        for turn in range(position + 1, min(end + 1, len(units))):
            is_small = tokens(start, units[turn - 1].end) * _SMALL_SHARE < budget
            if units[turn].start in self._turns and not is_small:
                return turn
        if end == len(units):
            return end
        rest = tokens(units[position].start, units[-1].end)
        target = budget * _FULL_ENOUGH
        if rest + self._overlap_tokens <= 2 * (budget - self._overlap_tokens):
            # Two passages are left: of about the same size, not a full one and a scrap.
            target = min(target, 0.4 * rest)
            while end > position + 1 and tokens(start, units[end - 1].end) > 0.6 * rest:
                end -= 1
        for candidate in range(end, position, -1):
            last = units[candidate - 1]
            if tokens(start, last.end) < target:
                break
            if units[candidate].begins_element and not self._is_heading(last):
                return candidate
        return end

    def _fill_up(self, units: list[_Unit], position: int, start: int, budget: int) -> int:
        """As far as there is room, to the last sentence or word, but no heading at the end."""
        tokens = self._layout.tokens
        if header := units[position].header:
            budget -= self._count(header)
        end = position + 1
        while end < len(units) and tokens(start, units[end].end) <= budget:
            end += 1
        if end < len(units) and self._strategy is Strategy.FIXED and units[end].is_prose:
            cut = self._layout.token_cut(start, units[end].end, budget)
            text = self._layout.text
            while cut > units[end].start and not text[cut - 1].isspace():
                cut -= 1
            if cut > units[end].start and not self._is_heading(units[end]):
                _cut(units, end, cut, text)
                return end + 1
        while position + 1 < end < len(units) and self._is_heading(units[end - 1]):
            end -= 1
        return end

    def _draft(
        self, path: tuple[str, ...], units: list[_Unit], position: int, start: int, end: int
    ) -> tuple[ChunkDraft | None, int]:
        """The passage `units[position:end]` from `start` on, made shorter if it must be.

        Token counts of stretches add up exactly where a stretch ends with a word. Where a
        word had to be cut they may not, so the whole is counted once more.
        """
        header = units[position].header
        while True:
            stop = units[end - 1].end
            while start < stop - 1 and self._layout.text[start] == "\n":
                start += 1  # a line end before the passage belongs to none, nor does its page
            text = self._layout.text[start:stop]
            if header:
                text = f"{header}\n{text}"
            joined = HEADING_SEPARATOR.join(path)
            count = self._tokenizer.count(passage_text(heading_path=joined, text=text))
            if count <= self._max_tokens:
                break
            if start < units[position].start:
                start = units[position].start
            elif end > position + 1:
                end -= 1
            elif stop - start > 1:
                _halve(units, position, self._layout)
            else:
                break
        if not any(map(str.isalnum, self._layout.text[start:stop])):
            return None, end
        draft = ChunkDraft(
            ordinal=0,
            text=text,
            heading_path=path,
            page_from=self._layout.page_at(start),
            page_to=self._layout.page_at(stop - 1),
            spans=self._layout.spans(start, stop),
            tokens=count,
        )
        return draft, end


def _columns(table: Element) -> int:
    return table.text.partition("\n")[0].count(CELL_SEPARATOR.rstrip())


def _halve(units: list[_Unit], position: int, layout: _Layout) -> None:
    """Replace a unit by its two halves."""
    unit = units[position]
    cut = layout.token_cut(unit.start, unit.end, layout.tokens(unit.start, unit.end) // 2)
    if not unit.start < cut < unit.end:
        cut = (unit.start + unit.end) // 2
    _cut(units, position, cut, layout.text)


def _cut(units: list[_Unit], position: int, cut: int, text: str) -> None:
    """Replace a unit by what is before the cut, white space at its end left out, and after."""
    unit = units[position]
    end = _trimmed(text, unit.start, cut)[1] if text[cut - 1].isspace() else cut
    first, second = replace(unit, end=end), replace(unit, start=cut, begins_element=False)
    units[position : position + 1] = [first, second]


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The range without white space at its end; at its beginning it may be indentation."""
    while end > start + 1 and text[end - 1].isspace():
        end -= 1
    return start, end


def _line_spans(text: str) -> list[tuple[int, int]]:
    """Ranges of the lines that are not blank, with their indentation, without line ends."""
    spans: list[tuple[int, int]] = []
    start = 0
    for line in text.split("\n"):
        if line.strip():
            spans.append((start, start + len(line)))
        start += len(line) + 1
    return spans
