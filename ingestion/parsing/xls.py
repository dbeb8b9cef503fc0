"""Excel workbooks of 2003 and before, whose container is OLE: the visible sheets' values."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xlrd
from xlrd.compdoc import CompDocError

from ingestion.errors import ParseError
from ingestion.parsing.sheets import cell_text, fill_down, sheet_elements
from ingestion.types import Element, Notice, ParsedDocument


def parse(path: Path) -> ParsedDocument:
    """Read a .xls file."""
    try:
        book = xlrd.open_workbook(
            str(path), logfile=sys.stderr, on_demand=True, formatting_info=True, ragged_rows=True
        )
    except xlrd.XLRDError as exc:
        is_locked = "encrypted" in str(exc) or "password" in str(exc).lower()
        raise ParseError(str(exc), code="password" if is_locked else "corrupt") from exc
    except CompDocError as exc:
        raise ParseError(str(exc), code="corrupt") from exc
    elements: list[Element] = []
    hidden = pages = 0
    for name in book.sheet_names():
        sheet = book.sheet_by_name(name)
        if sheet.visibility:
            hidden += 1
        else:
            pages += 1
            elements += sheet_elements(_rows(book, sheet), name=name, page=pages)
        book.unload_sheet(name)
    if not elements:
        raise ParseError("no cell has a value", code="empty")
    notices = [Notice("hidden_sheets", hidden)] if hidden else []
    return ParsedDocument(elements=elements, pages=pages, notices=notices)


def _rows(book: Any, sheet: Any) -> Iterator[list[str]]:
    merged: dict[int, list[int]] = {}
    for top, bottom, left, _ in sheet.merged_cells:
        for covered in range(top + 1, bottom):
            merged.setdefault(covered, []).append(left)
    above: list[str] = []
    for number in range(sheet.nrows):
        row = [_text(book, cell) for cell in sheet.row(number)]
        if number in merged:
            fill_down(row, above, merged[number])
        above = row
        yield row


def _text(book: Any, cell: Any) -> str:
    if cell.ctype == xlrd.XL_CELL_DATE:
        try:
            moment = xlrd.xldate_as_datetime(cell.value, book.datemode)
        except (ValueError, OverflowError, xlrd.xldate.XLDateError):
            return cell_text(cell.value)
        return cell_text(moment.time() if 0 <= cell.value < 1 else moment)
    if cell.ctype == xlrd.XL_CELL_BOOLEAN:
        return cell_text(bool(cell.value))
    if cell.ctype == xlrd.XL_CELL_ERROR:
        return str(xlrd.error_text_from_code.get(cell.value, ""))
    if cell.ctype == xlrd.XL_CELL_NUMBER:
        style = book.xf_list[cell.xf_index] if cell.xf_index is not None else None
        form = book.format_map.get(style.format_key) if style else None
        return cell_text(cell.value, form.format_str if form else "")
    return str(cell.value)
