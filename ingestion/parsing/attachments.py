"""Files inside a message, read by the parser of their format in the same child process."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ingestion.errors import ParseError
from ingestion.parsing.formats import Format, parser_for
from ingestion.parsing.sniffing import sniff
from ingestion.types import Element, ElementKind

MAX_DEPTH = 3
# Text recognition works on pages of the file itself.
_UNREAD = frozenset({Format.ZIP, Format.IMAGE})
_MESSAGES = frozenset({Format.EML, Format.MSG})


def attachment_elements(
    name: str,
    content: bytes,
    *,
    read_message: Callable[[Path, Format], Sequence[Element] | None],
) -> tuple[list[Element], bool]:
    """The attachment's name as a heading, then what is in it.

    Args:
        name: what the message calls the file.
        content: its bytes.
        read_message: reads an attachment that is a message itself; None if it would not.

    Returns:
        The elements, and whether they are all that is in it: false where it cannot be read,
        and where parts of it were left out, as pages that are pictures.
    """
    heading = Element(ElementKind.HEADING, f"Attachment: {name}", level=2)
    with tempfile.NamedTemporaryFile(suffix=".attachment") as file:
        file.write(content)
        file.flush()
        path = Path(file.name)
        try:
            kind = sniff(path, name)
            if kind in _UNREAD:
                return [], False
            if kind in _MESSAGES:
                found, is_whole = read_message(path, kind), True
            else:
                parsed = parser_for(kind).parse(path)
                found, is_whole = parsed.elements, not parsed.pictures and not parsed.notices
        except MemoryError:
            raise
        except Exception as exc:
            if isinstance(exc, ParseError) and exc.code == "too_large":
                raise
            return [], False
    if not found:
        return [], False
    # Its pages are not the message's, its headings stand below its name.
    return [heading, *(_below(element) for element in found)], is_whole


def _below(element: Element) -> Element:
    is_heading = element.kind is ElementKind.HEADING
    return replace(element, page=None, level=min(element.level + 2, 6) if is_heading else 0)
