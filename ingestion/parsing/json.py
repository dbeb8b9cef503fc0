"""JSON, whole or one value a line: a table where the values are alike, else paths and values.

Numbers stay as they are written. Text that is no sound JSON is read as plain text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ingestion.errors import ParseError
from ingestion.parsing.cleaning import clean
from ingestion.parsing.decoding import decode
from ingestion.parsing.sheets import sheet_elements
from ingestion.parsing.text import text_elements
from ingestion.types import Element, ElementKind, ParsedDocument

_MAX_COLUMNS = 60
_WORDS_OF_A_CELL = 60


def parse(path: Path) -> ParsedDocument:
    """Read a .json or .jsonl file."""
    text = clean(decode(path.read_bytes()))
    if not text.strip():
        raise ParseError("nothing but white space", code="empty")
    try:
        value = _value(text)
        return ParsedDocument(elements=list(_elements(value)), title=_title(value))
    except (ValueError, RecursionError):
        return ParsedDocument(elements=text_elements(text))


def _value(text: str) -> Any:
    """The value, or a list of them if there is one on each line."""
    try:
        return _loads(text)
    except ValueError:
        return [_loads(line) for line in text.splitlines() if line.strip()]


def _loads(text: str) -> Any:
    return json.loads(text, parse_int=str, parse_float=str, parse_constant=str)


def _title(value: Any) -> str:
    if isinstance(value, dict):
        for name in ("title", "name"):
            if isinstance(value.get(name), str):
                return str(value[name])
    return ""


def _elements(value: Any, level: int = 1) -> Iterator[Element]:
    """A heading for each container inside a container, down to six levels; then lines."""
    if isinstance(value, list) and (rows := _rows(value)):
        yield from sheet_elements(rows, has_header=True)
        return
    if isinstance(value, dict) and level <= 6:
        plain = {k: v for k, v in value.items() if not _is_large(v)}
        if lines := list(_lines(plain)):
            yield Element(ElementKind.PARAGRAPH, "\n".join(lines))
        for name in [name for name in value if name not in plain]:
            yield Element(ElementKind.HEADING, str(name), level=level)
            yield from _elements(value[name], level=level + 1)
        return
    for item in value if isinstance(value, list) else [value]:
        if lines := list(_lines(item)):
            yield Element(ElementKind.PARAGRAPH, "\n".join(lines))


def _is_large(value: Any) -> bool:
    """Whether a value of an object gets a heading of its own."""
    if isinstance(value, dict):
        return len(value) > 1 or any(_is_large(inner) for inner in value.values())
    return isinstance(value, list) and any(isinstance(item, dict | list) for item in value)


def _rows(values: list[Any]) -> list[list[str]]:
    """A header and a row for each, if the values are flat objects with much the same names."""
    if len(values) < 2 or not all(isinstance(value, dict) and value for value in values):
        return []
    names = list(dict.fromkeys(name for value in values[:1000] for name in value))
    filled = sum(len(value) for value in values)
    if not 2 <= len(names) <= _MAX_COLUMNS or filled * 2 < len(names) * len(values):
        return []
    rows = [[str(name) for name in names]]
    for value in values:
        if not value.keys() <= set(names):
            return []
        row = [_scalar(value.get(name, "")) for name in names]
        if None in row or any(cell and len(cell.split()) > _WORDS_OF_A_CELL for cell in row):
            return []
        rows.append([cell or "" for cell in row])
    return rows


def _scalar(value: Any) -> str | None:
    """The value as the text of a cell; None if it is a container of containers."""
    if isinstance(value, list):
        parts = [_scalar(item) for item in value if not isinstance(item, list | dict)]
        return "; ".join(p for p in parts if p) if len(parts) == len(value) else None
    if isinstance(value, dict):
        return None if value else ""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _lines(value: Any, path: str = "") -> Iterator[str]:
    """`path: value` for everything below."""
    if (text := _scalar(value)) is not None:
        if text:
            yield f"{path}: {text}" if path else text
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _lines(inner, f"{path}.{name}" if path else str(name))
    else:
        for number, inner in enumerate(value, start=1):
            yield from _lines(inner, f"{path}[{number}]")
