"""Plain text: paragraphs between blank lines, lists, laid-out blocks, headings if certain."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from ingestion.errors import ParseError
from ingestion.parsing.cleaning import clean
from ingestion.parsing.decoding import decode
from ingestion.types import Element, ElementKind, ParsedDocument

_BLANK_LINES = re.compile(r"\n(?:[ \t]*\n)+")
_INDENTED = re.compile(r" {2,}|\t")
_ALIGNED = re.compile(r"\S(?: {3,}|\t+)\S")
_UNDERLINE = re.compile(r"(=+|-+|~+|\^+)\s*$")
_UNDERLINE_LEVELS = {"=": 1, "-": 2, "~": 3, "^": 4}
_NUMBERED = re.compile(r"(\d{1,2}(?:\.\d{1,2}){0,4})\.?[ \t]+(\S.{1,78}[^\s.!?:;,])$")
_BULLET = re.compile(r"\s{0,8}(?:[-*+•‣▪◦–]|\(?\d{1,3}[.)]|\(?[a-z][.)])[ \t]+\S")


def parse(path: Path) -> ParsedDocument:
    """Read a plain text file."""
    text = clean(decode(path.read_bytes()))
    if not text.strip():
        raise ParseError("nothing but white space", code="empty")
    elements = text_elements(text)
    return ParsedDocument(elements=elements, title=_title(elements))


def text_elements(text: str) -> list[Element]:
    """The elements of text that is clean, for formats that embed some."""
    blocks = [block.strip("\n") for block in _BLANK_LINES.split(text) if block.strip()]
    numbered = _numbered_headings(blocks)
    elements: list[Element] = []
    for position, block in enumerate(blocks):
        if position in numbered:
            elements.append(Element(ElementKind.HEADING, block.strip(), level=numbered[position]))
        else:
            elements += _block(block)
    return elements


def _block(block: str) -> list[Element]:
    lines = block.split("\n")
    if heading := _underlined(lines):
        rest = "\n".join(lines[2:])
        return [heading, *_block(rest)] if rest.strip() else [heading]
    if (first := _first_item(lines)) is not None:
        before = "\n".join(lines[:first])
        return [*(_block(before) if before else []), *_list_items(lines[first:])]
    if _is_laid_out(lines):
        return [Element(ElementKind.CODE, block)]
    return [Element(ElementKind.PARAGRAPH, block)]


def _is_laid_out(lines: list[str]) -> bool:
    """Whether blanks place the words, as in columns or code, so that lines must stay lines."""
    if len(lines) < 2:
        return False
    own = textwrap.dedent("\n".join(lines)).split("\n")
    placed = sum(bool(_INDENTED.match(line) or _ALIGNED.search(line)) for line in own)
    return placed >= 2 and placed * 2 >= len(lines)


def _underlined(lines: list[str]) -> Element | None:
    """A title whose underline is about as long as it is (as in reStructuredText and Setext)."""
    if len(lines) < 2 or not (mark := _UNDERLINE.match(lines[1])):
        return None
    title, length = lines[0].strip(), len(mark.group(1))
    if length < 3 or not title or not any(map(str.isalnum, title)) or length * 2 < len(title):
        return None
    return Element(ElementKind.HEADING, title, level=_UNDERLINE_LEVELS[lines[1][0]])


def _first_item(lines: list[str]) -> int | None:
    """Where a list begins that goes on to the end of the block; after text, of two or more."""
    bullets = [position for position, line in enumerate(lines) if _BULLET.match(line)]
    if not bullets or (bullets[0] > 0 and len(bullets) < 2):
        return None
    rest = lines[bullets[0] :]
    belong = all(_BULLET.match(line) or line[:1].isspace() for line in rest)
    return bullets[0] if belong else None


def _list_items(lines: list[str]) -> list[Element]:
    items: list[str] = []
    for line in lines:
        if _BULLET.match(line):
            items.append(line.strip())
        else:
            items[-1] += " " + line.strip()
    return [Element(ElementKind.LIST_ITEM, item) for item in items]


def _numbered_headings(blocks: list[str]) -> dict[int, int]:
    """Positions of lone lines like "2.1 Method" with their levels.

    They are headings only if their numbers run through the document without a gap and
    text stands between some of them; a numbered list does not.
    """
    found: list[tuple[int, tuple[int, ...]]] = []
    for position, block in enumerate(blocks):
        if match := _NUMBERED.fullmatch(block.strip()):
            found.append((position, tuple(int(part) for part in match.group(1).split("."))))
    certain: dict[int, int] = {}
    last: tuple[int, ...] = ()
    for position, number in found:
        if _follows(last, number):
            certain[position] = min(len(number), 6)
            last = number
    positions = sorted(certain)
    with_text = sum(1 for position in positions if position + 1 not in certain)
    return certain if len(certain) >= 2 and with_text * 2 > len(certain) else {}


def _follows(last: tuple[int, ...], number: tuple[int, ...]) -> bool:
    """Whether `number` is the next heading number after `last`: 1 -> 1.1 -> 1.2 -> 2."""
    if not last:
        return number == (1,)
    if number == (*last, 1):
        return True
    depth = len(number)
    return depth <= len(last) and number == (*last[: depth - 1], last[depth - 1] + 1)


def _title(elements: list[Element]) -> str:
    first = elements[0] if elements else None
    return first.text if first and first.kind is ElementKind.HEADING else ""
