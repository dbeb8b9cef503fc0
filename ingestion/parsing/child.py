"""The throw-away process that reads one file, forked from `zygote.py`.

Arguments: path, format, bytes of memory, seconds of CPU, and for drawing the numbers of the
pages, joined by commas, whose pictures go to the temporary folder, and by how many degrees they
are turned; or `show` and the number of one page. The answer (`wire.py`) goes to what was
standard output at the start; whatever a library prints goes to standard error. No Django here,
and no environment to leak.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from ingestion.errors import ParseError
from ingestion.parsing import sandbox, wire
from ingestion.parsing.cleaning import clean_document, has_text
from ingestion.parsing.formats import (
    MAX_CHARACTERS,
    MAX_PAGES,
    SHOW,
    Drawer,
    Format,
    Shower,
    parser_for,
)
from ingestion.types import ParsedDocument


def prepare(arguments: list[str]) -> None:
    """Import the parser that `main` will want; what fails here fails there and is reported."""
    with contextlib.suppress(ImportError):
        parser_for(Format(arguments[1]))


def main(arguments: list[str], *, parent: int) -> None:
    """Read the file and write the answer; `parent` is the process to die with."""
    name, format_name, memory_bytes, cpu_seconds, *drawing = arguments
    path, format = Path(name), Format(format_name)
    answer_to = os.dup(1)
    os.dup2(2, 1)
    sandbox.enter(memory_bytes=int(memory_bytes), cpu_seconds=int(cpu_seconds), parent=parent)
    if drawing and drawing[0] == SHOW:
        answer = _answer(lambda: show(path, format, int(drawing[1])), int(memory_bytes))
    elif drawing:
        pages, turn = [int(number) for number in drawing[0].split(",")], int(drawing[1])
        answer = _answer(lambda: draw(path, format, pages, turn=turn), int(memory_bytes))
    else:
        answer = _answer(lambda: read(path, format), int(memory_bytes))
    with os.fdopen(answer_to, "wb") as file:
        file.write(answer)
        file.flush()
    # Nothing of a vendor's clean-up may turn a good answer into a crash.
    os._exit(0)


def _answer(work: Callable[[], ParsedDocument], memory_bytes: int) -> bytes:
    try:
        return wire.encode_document(work())
    except MemoryError:
        return wire.encode_error("too_large", "out of memory")
    except Exception as exc:  # noqa: BLE001 (whatever a parser raises, it could not read the file)
        code = exc.code if isinstance(exc, ParseError) else "corrupt"
        # Vendors in C report in words of their own that memory ran out.
        if code == "corrupt" and sandbox.is_exhausted(sandbox.peak_bytes(), memory_bytes):
            code = "too_large"
        return wire.encode_error(code, ascii(exc))


def read(path: Path, format: Format) -> ParsedDocument:
    """Parse, clean, and check the size of what came out.

    Raises:
        ParseError: also `no_text` and `too_large`.
    """
    parsed = clean_document(parser_for(format).parse(path))
    if not has_text(parsed) and not parsed.pictures:
        raise ParseError("no letters or digits", code="no_text")
    if parsed.pages > MAX_PAGES:
        raise ParseError(f"{parsed.pages} pages", code="too_large")
    if sum(len(element.text) for element in parsed.elements) > MAX_CHARACTERS:
        raise ParseError("too many characters", code="too_large")
    return parsed


def draw(path: Path, format: Format, pages: list[int], *, turn: int) -> ParsedDocument:
    """Draw pages that are pictures into the temporary folder; the answer is an empty document.

    Raises:
        ParseError: the format has no pages to draw, or they cannot be drawn.
    """
    parser = parser_for(format)
    if not isinstance(parser, Drawer):
        raise ParseError(f"{format} has no pictures of pages", code="unsupported")
    parser.draw(path, pages, Path(tempfile.gettempdir()), turn=turn)
    return ParsedDocument(elements=[])


def show(path: Path, format: Format, number: int) -> ParsedDocument:
    """Draw a page for people, with where its characters are; the answer is an empty document.

    Raises:
        ParseError: the format has no pages to show, or there is no such page.
    """
    parser = parser_for(format)
    if not isinstance(parser, Shower):
        raise ParseError(f"{format} has no pages to show", code="unsupported")
    parser.show(path, number, Path(tempfile.gettempdir()))
    return ParsedDocument(elements=[])
