"""The formats that can be read, and which module reads each.

A parser is a module with one function `parse(path)`; it alone imports its vendor. A new
format is one file here, one member of `Format`, one line of `PARSERS`, its extensions in
`EXTENSIONS` and a rule in `sniffing.py`.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

from ingestion.types import ParsedDocument

MAX_PAGES = 3_000
MAX_CHARACTERS = 20_000_000


class Format(StrEnum):
    """What a file is by its content. The value is stored with the document."""

    PDF = "pdf"
    DOCX = "docx"
    DOC = "doc"
    PPTX = "pptx"
    PPT = "ppt"
    XLSX = "xlsx"
    XLS = "xls"
    ODT = "odt"
    ODS = "ods"
    ODP = "odp"
    RTF = "rtf"
    EPUB = "epub"
    HTML = "html"
    MARKDOWN = "markdown"
    RST = "rst"
    TEXT = "text"
    CSV = "csv"
    JSON = "json"
    XML = "xml"
    NOTEBOOK = "notebook"
    EML = "eml"
    MSG = "msg"
    IMAGE = "image"
    ZIP = "zip"


class Parser(Protocol):
    """A module that reads one format."""

    def parse(self, path: Path) -> ParsedDocument:
        """Read the file into elements in reading order.

        Text need not be clean yet (`cleaning.py` runs over every result). A document
        without any text gives no elements.

        Raises:
            ParseError: the file cannot be read; any other exception means the same.
        """


@runtime_checkable
class Drawer(Protocol):
    """A parser whose pages may be pictures, which it can draw for text recognition."""

    def draw(self, path: Path, pages: Sequence[int], folder: Path, *, turn: int) -> None:
        """Write each of these pages, from 1, as `<page>.png` in shades of grey.

        A page that shows nothing is left out. `turn` is by how many degrees the page is
        turned counter-clockwise, a multiple of 90.
        """


# The argument by which a child is told to show a page.
SHOW = "show"


@runtime_checkable
class Shower(Protocol):
    """A parser that can show a page as it looks."""

    def show(self, path: Path, number: int, folder: Path) -> None:
        """Write a page, from 1, as `page.png` in colour, and where its characters are.

        `page.json` holds `width`, `height` (pixels), `text`, and `boxes`: of each character of
        `text` its left, top, right and bottom in pixels.
        """


PARSERS = {
    Format.PDF: "ingestion.parsing.pdf",
    Format.DOCX: "ingestion.parsing.docx",
    Format.DOC: "ingestion.parsing.doc",
    Format.PPTX: "ingestion.parsing.pptx",
    Format.PPT: "ingestion.parsing.ppt",
    Format.XLSX: "ingestion.parsing.xlsx",
    Format.XLS: "ingestion.parsing.xls",
    Format.ODT: "ingestion.parsing.odf",
    Format.ODS: "ingestion.parsing.odf",
    Format.ODP: "ingestion.parsing.odf",
    Format.RTF: "ingestion.parsing.rtf",
    Format.EPUB: "ingestion.parsing.epub",
    Format.HTML: "ingestion.parsing.html",
    Format.MARKDOWN: "ingestion.parsing.markdown",
    Format.RST: "ingestion.parsing.rst",
    Format.TEXT: "ingestion.parsing.text",
    Format.CSV: "ingestion.parsing.csv",
    Format.JSON: "ingestion.parsing.json",
    Format.XML: "ingestion.parsing.xml",
    Format.NOTEBOOK: "ingestion.parsing.notebook",
    Format.EML: "ingestion.parsing.eml",
    Format.MSG: "ingestion.parsing.msg",
    Format.IMAGE: "ingestion.parsing.image",
}
# A ZIP has no parser: at upload its members become documents of their own.

# What the file chooser of the upload page offers; what a file is, its content tells.
EXTENSIONS: dict[Format, tuple[str, ...]] = {
    Format.PDF: (".pdf",),
    Format.DOCX: (".docx", ".docm", ".dotx", ".dotm"),
    Format.DOC: (".doc",),
    Format.PPTX: (".pptx", ".pptm", ".ppsx", ".ppsm", ".potx"),
    Format.PPT: (".ppt", ".pps"),
    Format.XLSX: (".xlsx", ".xlsm", ".xltx"),
    Format.XLS: (".xls",),
    Format.ODT: (".odt",),
    Format.ODS: (".ods",),
    Format.ODP: (".odp",),
    Format.RTF: (".rtf",),
    Format.EPUB: (".epub",),
    Format.HTML: (".html", ".htm", ".xhtml"),
    Format.MARKDOWN: (".md", ".markdown"),
    Format.RST: (".rst",),
    Format.TEXT: (".txt", ".text", ".log"),
    Format.CSV: (".csv", ".tsv"),
    Format.JSON: (".json", ".jsonl", ".ndjson"),
    # Those in one piece of OpenDocument are told from other XML by their content.
    Format.XML: (".xml", ".svg", ".fodt", ".fods", ".fodp"),
    Format.NOTEBOOK: (".ipynb",),
    Format.EML: (".eml", ".mht", ".mhtml"),
    Format.MSG: (".msg",),
    Format.IMAGE: (
        *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif", ".bmp", ".webp"),
        *(".avif", ".jp2", ".pbm", ".pgm", ".ppm"),
    ),
    Format.ZIP: (".zip",),
}


def parser_for(format: Format) -> Parser:
    """Import the parser of this format, and with it its vendor."""
    return cast(Parser, importlib.import_module(PARSERS[format]))
