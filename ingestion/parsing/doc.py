"""Word documents of 97 to 2003, and the main text of older ones: paragraphs and tables.

The text is in pieces that the file lists in its table stream; the marks in it tell fields,
cells and paragraphs apart. Source: [MS-DOC], sections 2.4.1 (retrieving text) and 2.5 (FIB).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

from ingestion.errors import ParseError
from ingestion.parsing import ole
from ingestion.parsing.cleaning import one_line
from ingestion.parsing.tables import table_element
from ingestion.types import Element, ElementKind, ParsedDocument

_MAGIC = (0xA5EC, 0xA5DC)
_WORD_97 = 0xC1
_ENCRYPTED, _SECOND_TABLE = 0x0100, 0x0200
_COMPRESSED = 0x40000000
_CELL = "\x07"
_FIELD = re.compile("\x13[^\x13\x14\x15]*(?:\x14([^\x13\x14\x15]*))?\x15")
_MAX_NESTED_FIELDS = 10
_UNSEEN = re.compile("[\x01-\x05\x08\x13-\x15\x1f]")
_MAX_COLUMNS = 64


def parse(path: Path) -> ParsedDocument:
    """Read a .doc file."""
    with ole.opened(path) as container:
        main = container.stream("WordDocument")
        if len(main) < 0x200 or struct.unpack_from("<H", main)[0] not in _MAGIC:
            raise ParseError("no Word document in the container", code="unsupported")
        version, flags = struct.unpack_from("<H", main, 2)[0], struct.unpack_from("<H", main, 10)[0]
        if flags & _ENCRYPTED:
            raise ParseError("encrypted", code="password")
        table = container.stream("1Table" if flags & _SECOND_TABLE else "0Table")
    try:
        text = _text(main, table) if version >= _WORD_97 else _old_text(main)
    except (struct.error, IndexError) as exc:
        raise ParseError(f"damaged text: {exc}", code="corrupt") from exc
    return ParsedDocument(elements=list(_elements(_visible(text))))


def _text(main: bytes, table: bytes) -> str:
    """The document's own text, its footnotes, endnotes and boxes; page furniture left out."""
    body, footnotes, headers, _, comments, endnotes, boxes = struct.unpack_from("<7l", main, 0x4C)
    pieces = _pieces(main, table)
    starts = [0, body, body + footnotes + headers + comments]
    ends = [body, body + footnotes, starts[2] + endnotes + boxes]
    return "\r".join(pieces[start:end] for start, end in zip(starts, ends, strict=True))


def _pieces(main: bytes, table: bytes) -> str:
    place, length = struct.unpack_from("<LL", main, 0x01A2)
    listed = table[place : place + length]
    position = 0
    while listed[position] == 1:  # what the file says about formatting comes first
        position += 3 + struct.unpack_from("<H", listed, position + 1)[0]
    if listed[position] != 2:
        raise ParseError("no list of pieces", code="corrupt")
    size = struct.unpack_from("<L", listed, position + 1)[0]
    entries = listed[position + 5 : position + 5 + size]
    count = (len(entries) - 4) // 12
    bounds = struct.unpack_from(f"<{count + 1}L", entries)
    parts: list[str] = []
    for number in range(count):
        at = struct.unpack_from("<L", entries, 4 * (count + 1) + 8 * number + 2)[0]
        characters = bounds[number + 1] - bounds[number]
        if characters < 0:
            raise ParseError("pieces out of order", code="corrupt")
        if at & _COMPRESSED:
            start = (at & ~_COMPRESSED) // 2
            parts.append(main[start : start + characters].decode("cp1252", "replace"))
        else:
            parts.append(main[at : at + 2 * characters].decode("utf-16-le", "surrogatepass"))
    return "".join(parts)


def _old_text(main: bytes) -> str:
    """The text of Word 6 and 95, which stands in one stretch."""
    start, end = struct.unpack_from("<LL", main, 0x18)
    return main[start:end].decode("cp1252", "replace")


def _visible(text: str) -> str:
    """Fields as what they show, without the marks that stand for pictures and notes."""
    for _ in range(_MAX_NESTED_FIELDS):
        text, replaced = _FIELD.subn(lambda match: match.group(1) or "", text)
        if not replaced:
            break
    text = text.replace("\x1e", "-").replace("\x0b", "\n").replace("\x0c", "\r")
    return _UNSEEN.sub("", text)


def _elements(text: str) -> Iterator[Element]:
    """Paragraphs end with a carriage return, cells and rows with the mark of a cell."""
    *whole, rest = text.split(_CELL)
    cells: list[str] = []
    for cell in whole:
        paragraphs = cell.split("\r")
        if len(paragraphs) > 1 and _width(cells):
            # A row is complete, so that these paragraphs stand behind the table.
            yield from _table(cells)
            cells = []
        if not cells:
            yield from _paragraphs(paragraphs[:-1])
            paragraphs = paragraphs[-1:]
        cells.append(" ".join(paragraphs))
    yield from _table(cells)
    yield from _paragraphs(rest.split("\r"))


def _paragraphs(texts: list[str]) -> Iterator[Element]:
    for text in texts:
        if text.strip():
            yield Element(ElementKind.PARAGRAPH, text.strip())


def _width(cells: list[str]) -> int:
    """How many columns there are, if the cells end with the mark of a row; 0 if they do not.

    A row's own mark looks like an empty cell after its last one.
    """
    for width in range(1, min(_MAX_COLUMNS, len(cells) - 1) + 1):
        is_even = len(cells) % (width + 1) == 0
        if is_even and not any(cell.strip() for cell in cells[width :: width + 1]):
            return width
    return 0


def _table(cells: list[str]) -> Iterator[Element]:
    if not cells:
        return
    width = _width(cells)
    if not width:
        rows, row = [], []
        for cell in cells:
            if cell.strip():
                row.append(cell)
            elif row:
                rows.append(row)
                row = []
        rows.append(row)
    else:
        rows = [cells[i : i + width] for i in range(0, len(cells), width + 1)]
    if width == 1:
        yield from _paragraphs([one_line(row[0]) for row in rows])
    elif table := table_element(rows):
        yield table
