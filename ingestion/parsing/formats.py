"""The formats that can be read, and which module reads each.

A parser is a module with one function `parse(path)`; it alone imports its vendor. A new
format is one file here, one member of `Format`, one line of `PARSERS` and a rule in
`sniffing.py`.
"""

from __future__ import annotations

import importlib
from enum import StrEnum
from pathlib import Path
from typing import Protocol, cast

from ingestion.types import ParsedDocument

MAX_PAGES = 3_000
MAX_CHARACTERS = 20_000_000


class Format(StrEnum):
    """What a file is by its content. The value is stored with the document."""

    PDF = "pdf"
    DOCX = "docx"
    HTML = "html"
    MARKDOWN = "markdown"
    TEXT = "text"


class Parser(Protocol):
    """A module that reads one format."""

    def parse(self, path: Path) -> ParsedDocument:
        """Read the file into elements in reading order.

        Text need not be clean yet (`cleaning.py` runs over every result). A document
        without any text gives no elements.

        Raises:
            ParseError: the file cannot be read; any other exception means the same.
        """


PARSERS = {
    Format.PDF: "ingestion.parsing.pdf",
    Format.DOCX: "ingestion.parsing.docx",
    Format.HTML: "ingestion.parsing.html",
    Format.MARKDOWN: "ingestion.parsing.markdown",
    Format.TEXT: "ingestion.parsing.text",
}


def parser_for(format: Format) -> Parser:
    """Import the parser of this format, and with it its vendor."""
    return cast(Parser, importlib.import_module(PARSERS[format]))
