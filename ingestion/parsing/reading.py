"""One file from its path to its elements: the parser in its child, then the pictures' text."""

from __future__ import annotations

from pathlib import Path

from ingestion.errors import ParseError
from ingestion.parsing.cleaning import has_text
from ingestion.parsing.formats import Format
from ingestion.parsing.isolation import Limits, parsed_by_child, temporary_folder
from ingestion.parsing.recognition import OcrSettings, with_pictures_read
from ingestion.types import ParsedDocument


def parse_in_child(
    path: Path,
    *,
    format: Format,
    timeout_seconds: int,
    memory_bytes: int,
    workdir: Path,
    ocr: OcrSettings | None = None,
) -> ParsedDocument:
    """Read a file in a process of its own that cannot harm this one.

    The child has limited memory, CPU time, written bytes and no network, environment or
    forks; after `timeout_seconds` of wall-clock time its process group is killed. The text of
    pages that are pictures is recognised; what cannot be, is a notice beside the document.

    Args:
        path: the file.
        format: what `sniff` said.
        timeout_seconds: of wall-clock and of CPU time.
        memory_bytes: of the child's address space.
        workdir: an existing folder for the child's temporary folder, removed afterwards.
        ocr: languages and time of text recognition; None = the defaults.

    Raises:
        ParseError: the file cannot be read; also `too_slow` and `too_large` for the limits, and
            `no_text_without_ocr` or `no_text_without_language` for pictures only.
        ParserCrashed: the child died or answered nonsense.
    """
    limits = Limits(timeout_seconds, memory_bytes)
    with temporary_folder(workdir) as folder:
        parsed = parsed_by_child(path, format, limits, folder)
    if not parsed.pictures:
        return parsed
    read = with_pictures_read(
        parsed, path, format=format, limits=limits, workdir=workdir, ocr=ocr or OcrSettings()
    )
    if has_text(read):
        return read
    codes = [notice.code for notice in read.notices]
    if missing := next((code for code in codes if code.startswith("without_")), ""):
        raise ParseError("no text recognition", code=f"no_text_{missing}")
    raise ParseError(
        "no text in pictures", code="too_slow" if "ocr_too_slow" in codes else "no_text"
    )
