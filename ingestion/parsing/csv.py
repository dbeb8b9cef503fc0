"""Tables as text: values separated by commas, semicolons, tabs or bars, in any encoding."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

from ingestion.errors import ParseError
from ingestion.parsing.cleaning import clean
from ingestion.parsing.decoding import decode
from ingestion.parsing.formats import MAX_CHARACTERS
from ingestion.parsing.sheets import sheet_elements
from ingestion.parsing.text import text_elements
from ingestion.types import ParsedDocument

_SEPARATORS = (",", ";", "\t", "|")
_SAMPLE_CHARACTERS = 64 * 1024
_SAMPLE_ROWS = 100
_HAS_DIGIT = re.compile(r"\d")


def parse(path: Path) -> ParsedDocument:
    """Read a file of separated values; one without separators is read as text."""
    text = clean(decode(path.read_bytes()))
    if not text.strip():
        raise ParseError("nothing but white space", code="empty")
    first, _, rest = text.partition("\n")
    if first.strip().strip('"').lower().startswith("sep=") and len(first.strip().strip('"')) == 5:
        separator, text = first.strip().strip('"')[4], rest  # how Excel is told the separator
    else:
        separator = _separator(text)
    if not separator:
        return ParsedDocument(elements=text_elements(text))
    has_header = _names_columns(next(_rows(text, separator), [])) or None
    rows = sheet_elements(_rows(text, separator), has_header=has_header)
    return ParsedDocument(elements=list(rows))


def _names_columns(row: list[str]) -> bool:
    """Whether a first row is one of names, each its own: exports begin with it."""
    is_full = len(row) > 1 and all(cell.strip() for cell in row)
    return is_full and len(set(row)) == len(row) and not any(map(_HAS_DIGIT.search, row))


def _rows(text: str, separator: str) -> Iterator[list[str]]:
    csv.field_size_limit(MAX_CHARACTERS)
    return csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)


def _separator(text: str) -> str:
    """The separator that cuts most rows into the same number of values; none if no row is cut."""
    sample = text[:_SAMPLE_CHARACTERS]
    best = (0.0, 0, "")
    for separator in _SEPARATORS:
        widths: Counter[int] = Counter()
        try:
            for row in islice(_rows(sample, separator), _SAMPLE_ROWS):
                if any(chain.from_iterable(row)):
                    widths[len(row)] += 1
        except csv.Error:
            continue
        if not widths:
            continue
        width, count = max(widths.items(), key=lambda item: (item[1], item[0]))
        if width == 1:
            wider = [found for found in widths if found > 1]
            width, count = (max(wider), sum(widths[n] for n in wider)) if wider else (1, 0)
        agreed = round(count / widths.total(), 1)
        if width > 1 and (agreed, width) > best[:2]:
            best = (agreed, width, separator)
    return best[2]
