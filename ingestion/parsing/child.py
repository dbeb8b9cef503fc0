"""The throw-away process that reads one file: `python -m ingestion.parsing.child`.

Arguments: path, format, bytes of memory, seconds of CPU, id of the parent process. The
answer (`wire.py`) goes to what was standard output at the start; whatever a library prints
goes to standard error. No Django here, and no environment to leak.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ingestion.errors import ParseError
from ingestion.parsing import sandbox, wire
from ingestion.parsing.cleaning import clean_document
from ingestion.parsing.formats import MAX_CHARACTERS, MAX_PAGES, Format, parser_for
from ingestion.types import ParsedDocument


def main(arguments: list[str]) -> None:
    """Read the file and write the answer."""
    path, format_name, memory_bytes, cpu_seconds, parent = arguments
    answer_to = os.dup(1)
    os.dup2(2, 1)
    sandbox.enter(memory_bytes=int(memory_bytes), cpu_seconds=int(cpu_seconds), parent=int(parent))
    answer = _answer(Path(path), Format(format_name), int(memory_bytes))
    with os.fdopen(answer_to, "wb") as file:
        file.write(answer)
        file.flush()
    # Nothing of a vendor's clean-up may turn a good answer into a crash.
    os._exit(0)


def _answer(path: Path, format: Format, memory_bytes: int) -> bytes:
    try:
        return wire.encode_document(read(path, format))
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
    if not any(any(map(str.isalnum, element.text)) for element in parsed.elements):
        raise ParseError("no letters or digits", code="no_text")
    if parsed.pages > MAX_PAGES:
        raise ParseError(f"{parsed.pages} pages", code="too_large")
    if sum(len(element.text) for element in parsed.elements) > MAX_CHARACTERS:
        raise ParseError("too many characters", code="too_large")
    return parsed


if __name__ == "__main__":
    main(sys.argv[1:])
