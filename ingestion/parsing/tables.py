"""Rows of cells as the text of one table element."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ingestion.parsing.cleaning import one_line
from ingestion.types import CELL_SEPARATOR, Element, ElementKind

_NUMBER = re.compile(r"[-+−–]?[\W_]*\d[\d.,:/\s%-]*[\W_]*")


def table_element(
    rows: Sequence[Sequence[str]], *, page: int | None = None, has_header: bool | None = None
) -> Element | None:
    """One row a line, cells joined by " | "; rows and columns without text are left out.

    Args:
        rows: cells as text; rows may differ in length.
        page: the page it stands on, from 1.
        has_header: whether the first row names the columns; None = judge by its content.

    Returns:
        The element, or None if no cell has text.
    """
    cells = [[one_line(cell) for cell in row] for row in rows]
    first_row_is_empty = bool(cells) and not any(cells[0])
    cells = [row for row in cells if any(row)]
    if not cells:
        return None
    width = max(len(row) for row in cells)
    cells = [row + [""] * (width - len(row)) for row in cells]
    used = [column for column in range(width) if any(row[column] for row in cells)]
    cells = [[row[column] for column in used] for row in cells]
    if has_header is None or first_row_is_empty:
        has_header = _looks_like_header(cells)
    return Element(
        kind=ElementKind.TABLE,
        text="\n".join(CELL_SEPARATOR.join(row).rstrip() for row in cells),
        page=page,
        has_header=has_header and len(cells) > 1,
    )


def _looks_like_header(cells: Sequence[Sequence[str]]) -> bool:
    """A first row of names above a row that holds a number."""
    first, rest = cells[0], cells[1:]
    if len(first) < 2 or sum(map(bool, first)) * 2 <= len(first):
        return False
    if any(_NUMBER.fullmatch(cell) for cell in first):
        return False
    return any(_NUMBER.fullmatch(cell) for row in rest for cell in row if cell)
