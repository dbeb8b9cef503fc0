"""Rows of a spreadsheet as elements: its name, the lines above a table, and tables.

Pure. Rows come one by one, so that a sheet of a million cells is never held as a whole; a
long table becomes several elements, each under the header.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Iterator, Sequence

from ingestion.errors import ParseError
from ingestion.parsing.formats import MAX_CHARACTERS
from ingestion.parsing.tables import table_element
from ingestion.types import Element, ElementKind

ROWS_OF_AN_ELEMENT = 2_000


def sheet_elements(
    rows: Iterable[Sequence[str]],
    *,
    name: str = "",
    page: int | None = None,
    has_header: bool | None = None,
) -> Iterator[Element]:
    """The elements of one sheet; none if no cell has text.

    Args:
        rows: cells as text; rows may differ in length.
        name: the sheet's, which becomes a heading above what is in it.
        page: the sheet's place in the file, from 1.
        has_header: whether the first row of a table names its columns; None = judge each.

    Raises:
        ParseError: `too_large`.
    """
    characters = 0
    is_named = not name.strip()
    for block in _blocks(rows, has_header):
        for element in _block(block, page, has_header):
            if not is_named:
                yield Element(ElementKind.HEADING, name.strip(), page=page, level=1)
                is_named = True
            characters += len(element.text)
            if characters > MAX_CHARACTERS:
                raise ParseError("too many characters", code="too_large")
            yield element


def cell_text(value: object, number_format: str = "") -> str:
    """A cell's value as text: dates in ISO 8601, durations in hours, numbers without noise.

    Per cent are written as they are shown.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, datetime.datetime):
        is_day = value.time() == datetime.time()
        return value.date().isoformat() if is_day else value.isoformat(" ", "seconds")
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, datetime.time):
        return value.isoformat("seconds")
    if isinstance(value, datetime.timedelta):
        return _duration(value)
    if isinstance(value, (int, float)):
        return _number(value, number_format)
    return str(value)


def _duration(value: datetime.timedelta) -> str:
    """Hours, minutes and seconds, as a spreadsheet shows [h]:mm:ss."""
    seconds = round(abs(value).total_seconds())
    sign = "-" if value < datetime.timedelta() else ""
    return f"{sign}{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def fill_down(row: list[str], above: Sequence[str], columns: Iterable[int]) -> None:
    """Repeat in these columns what stands in the row above: cells merged over several rows."""
    for column in columns:
        if column < len(above) and above[column]:
            row += [""] * (column + 1 - len(row))
            row[column] = row[column] or above[column]


def _number(value: float, number_format: str) -> str:
    if not math.isfinite(value):
        return str(value)
    # A quoted or escaped sign is text beside the number.
    is_share = "%" in number_format.replace('"%"', "").replace("\\%", "")
    if is_share:
        return f"{format(value * 100, '.10g')}%"
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e15):
        return str(int(value))
    return format(value, ".12g")


def _blocks(
    rows: Iterable[Sequence[str]], has_header: bool | None
) -> Iterator[list[Sequence[str]]]:
    """Rows up to the next empty one; of a long run, pieces with the first row repeated."""
    block: list[Sequence[str]] = []
    header: Sequence[str] | None = None
    for row in rows:
        if any(cell and not cell.isspace() for cell in row):
            block.append(row)
        elif block:
            yield block
            block, header = [], None
        if len(block) >= ROWS_OF_AN_ELEMENT:
            header = header or _header(block, has_header)
            yield block
            block = [header] if header else []
    if block and block != [header]:
        yield block


def _header(block: Sequence[Sequence[str]], has_header: bool | None) -> Sequence[str] | None:
    """The row that names the columns, for the pieces after the first."""
    _, table = _parts(block)
    found = table_element(table, has_header=has_header)
    return table[0] if found and found.has_header else None


def _parts(
    block: Sequence[Sequence[str]],
) -> tuple[Sequence[Sequence[str]], Sequence[Sequence[str]]]:
    """The lines of a single cell at the top, and the rest."""
    for position, row in enumerate(block):
        if sum(1 for cell in row if cell.strip()) > 1:
            return block[:position], block[position:]
    return block, []


def _block(
    block: Sequence[Sequence[str]], page: int | None, has_header: bool | None
) -> Iterator[Element]:
    lines, table = _parts(block)
    for row in lines:
        text = next(cell for cell in row if cell.strip())
        yield Element(ElementKind.PARAGRAPH, text, page=page)
    if table and (found := table_element(table, page=page, has_header=has_header)):
        yield found
