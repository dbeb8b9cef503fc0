"""Excel workbooks: the visible sheets with the values that Excel last computed.

Read row by row. Cells that are merged over several rows repeat their text in each; comments
and the text of boxes and shapes follow their sheet. Macros are not looked at.
"""

from __future__ import annotations

import posixpath
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lxml import etree
from openpyxl.reader.excel import ExcelReader
from openpyxl.utils.cell import range_boundaries
from openpyxl.utils.exceptions import InvalidFileException

from ingestion.errors import ParseError
from ingestion.parsing import ooxml, zips
from ingestion.parsing.sheets import cell_text, fill_down, sheet_elements
from ingestion.types import Element, ElementKind, Notice, ParsedDocument

_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_MERGED = re.compile(rb"<(?:\w+:)?mergeCell\s+ref=\"([A-Z]{1,3}\d{1,7}:[A-Z]{1,3}\d{1,7})\"")
_PIECE_BYTES = 1024 * 1024
_MAX_MERGED = 20_000


def parse(path: Path) -> ParsedDocument:
    """Read a .xlsx or .xlsm file."""
    zips.check_unpacked_size(path)
    try:
        # A name that ends otherwise is refused, so that a file is given and not its path.
        with ooxml.usual(path) as usual, usual.open("rb") as file:
            reader = _Reader(file, read_only=True, data_only=True, keep_links=False)
            reader.read()
            with zips.opened(usual) as archive:
                return _document(reader.wb, archive)
    except (InvalidFileException, KeyError, zipfile.BadZipFile) as exc:
        raise ParseError(f"not an Excel workbook: {exc}", code="corrupt") from exc


class _Reader(ExcelReader):  # type: ignore[misc]
    """openpyxl's, which trips over sheets that hold nothing but a chart, or nothing at all."""

    def read_chartsheet(self, sheet: object, rel: object) -> None:
        """Leave it out: it has no cells."""


def _document(book: Any, archive: zipfile.ZipFile) -> ParsedDocument:
    elements: list[Element] = []
    shown = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"]
    for page, sheet in enumerate(shown, start=1):
        place = str(sheet._worksheet_path)
        rows = _rows(sheet, _merged(archive, place))
        found = list(sheet_elements(rows, name=sheet.title, page=page))
        beside = _beside(archive, place, page)
        if beside and not found:
            found = [Element(ElementKind.HEADING, sheet.title, page=page, level=1)]
        elements += found + beside
    if not elements:
        raise ParseError("no cell has a value", code="empty")
    hidden = len(book.worksheets) - len(shown)
    return ParsedDocument(
        elements=elements,
        pages=len(shown),
        title=book.properties.title or "",
        notices=[Notice("hidden_sheets", hidden)] if hidden else [],
    )


def _rows(sheet: Any, merged: dict[int, list[int]]) -> Iterator[list[str]]:
    """Rows of text up to the last cell with a value; the declared size may be anything."""
    sheet.reset_dimensions()
    above: list[str] = []
    for number, cells in enumerate(sheet.iter_rows(), start=1):
        row: list[str] = []
        for column, cell in enumerate(cells):
            if cell.value is None:
                continue
            if text := cell_text(cell.value, str(cell.number_format)):
                row += [""] * (column - len(row))
                row.append(text)
        if number in merged:
            fill_down(row, above, merged[number])
        above = row
        yield row


def _merged(archive: zipfile.ZipFile, place: str) -> dict[int, list[int]]:
    """For each row the columns, from 0, whose cell is merged with the one above it."""
    found: dict[int, list[int]] = {}
    count, tail = 0, b""
    with archive.open(place) as sheet:
        while piece := sheet.read(_PIECE_BYTES):
            text = tail + piece
            last = 0
            for match in _MERGED.finditer(text):
                last = match.end()
                left, top, _, bottom = range_boundaries(match.group(1).decode())
                for row in range(top + 1, min(bottom, top + 1000) + 1):
                    found.setdefault(row, []).append(left - 1)
                    count += 1
                if count > _MAX_MERGED:
                    return found
            tail = text[max(last, len(text) - 80) :]
    return found


def _beside(archive: zipfile.ZipFile, place: str, page: int) -> list[Element]:
    """Comments, charts and text in shapes of a sheet, which stand in parts of their own."""
    texts: list[str] = []
    for kind, part in _related(archive, place):
        if kind == "comments" and (root := _tree(archive, part)) is not None:
            texts += [_text(c, f"{_MAIN}t") for c in root.iter(f"{_MAIN}comment")]
        elif kind == "drawing":
            texts += _drawn(archive, part)
            for inner, inside in _related(archive, part):
                if inner in ("chart", "diagramData"):
                    texts += _drawn(archive, inside)
    return [Element(ElementKind.PARAGRAPH, text, page=page) for text in texts if text.strip()]


def _related(archive: zipfile.ZipFile, place: str) -> Iterator[tuple[str, str]]:
    """The kind and the place of each part that a part leads to."""
    folder, name = posixpath.split(place)
    relations = _tree(archive, f"{folder}/_rels/{name}.rels")
    for relation in [] if relations is None else relations:
        target = posixpath.join("/", folder, relation.get("Target", ""))
        yield relation.get("Type", "").rpartition("/")[2], posixpath.normpath(target).lstrip("/")


def _drawn(archive: zipfile.ZipFile, place: str) -> list[str]:
    root = _tree(archive, place)
    return [] if root is None else [_text(p, f"{_A}t") for p in root.iter(f"{_A}p")]


def _text(node: etree._Element, tag: str) -> str:
    return "".join(child.text or "" for child in node.iter(tag))


def _tree(archive: zipfile.ZipFile, name: str) -> etree._Element | None:
    try:
        content = archive.read(name)
    except (KeyError, *zips.DAMAGED):
        return None
    parser = etree.XMLParser(resolve_entities=False, no_network=True, recover=True)
    return etree.fromstring(content, parser)
