"""Jupyter notebooks: the text cells as Markdown, the code cells, and what they printed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ingestion.parsing.cleaning import clean
from ingestion.parsing.decoding import decode
from ingestion.parsing.html import fragment_elements
from ingestion.parsing.json import parse as parse_json
from ingestion.parsing.markdown import markdown_elements
from ingestion.types import Element, ElementKind, ParsedDocument

_MAX_OUTPUT_CHARACTERS = 20_000


def parse(path: Path) -> ParsedDocument:
    """Read a .ipynb file, of any version of the format; one without cells is read as JSON."""
    try:
        book = json.loads(clean(decode(path.read_bytes())))
    except (ValueError, RecursionError):
        return parse_json(path)
    cells = _cells(book)
    if cells is None:
        return parse_json(path)
    elements = [element for cell in cells for element in _cell(cell)]
    title = next((e.text for e in elements if e.kind is ElementKind.HEADING), "")
    return ParsedDocument(elements=elements, title=title)


def _cells(book: Any) -> list[dict[str, Any]] | None:
    if not isinstance(book, dict):
        return None
    if isinstance(book.get("worksheets"), list):  # version 3
        sheets = [sheet for sheet in book["worksheets"] if isinstance(sheet, dict)]
        found = [cell for sheet in sheets for cell in _list(sheet.get("cells"))]
    elif isinstance(book.get("cells"), list):
        found = book["cells"]
    else:
        return None
    return [cell for cell in found if isinstance(cell, dict)]


def _cell(cell: dict[str, Any]) -> Iterator[Element]:
    source = _joined(cell.get("source", cell.get("input", "")))
    match cell.get("cell_type"):
        case "markdown":
            yield from markdown_elements(source)
        case "heading":
            level = cell.get("level", 1)
            level = min(max(level, 1), 6) if isinstance(level, int) else 1
            yield Element(ElementKind.HEADING, source.strip(), level=level)
        case "code":
            yield Element(ElementKind.CODE, source)
            for output in _list(cell.get("outputs")):
                if isinstance(output, dict):
                    yield from _output(output)
        case _:
            yield Element(ElementKind.PARAGRAPH, source)


def _output(output: dict[str, Any]) -> Iterator[Element]:
    shown = output.get("data")
    data = shown if isinstance(shown, dict) else output
    text = _joined(data.get("text/plain", output.get("text", "")))[:_MAX_OUTPUT_CHARACTERS]
    page = _joined(data.get("text/html", data.get("html", "")))
    if "<table" in page.lower():
        yield from fragment_elements(page)
    elif markdown := _joined(data.get("text/markdown", "")):
        yield from markdown_elements(markdown)
    elif text.strip():
        yield Element(ElementKind.CODE, text)
    if output.get("output_type") in ("error", "pyerr"):
        said = f"{_joined(output.get('ename'))}: {_joined(output.get('evalue'))}"
        yield Element(ElementKind.CODE, said[:_MAX_OUTPUT_CHARACTERS])


def _joined(value: Any) -> str:
    """Text that is kept as one string or as a list of lines."""
    if isinstance(value, list):
        return "".join(part for part in value if isinstance(part, str))
    return value if isinstance(value, str) else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
