"""The JSON in which the child answers: a document, or an error code.

Never pickle: the child has read a hostile file and its answer is data to be checked.
"""

from __future__ import annotations

import json
from typing import Any

from ingestion.errors import NOTICES, SENTENCES, ParseError
from ingestion.parsing.cleaning import is_clean
from ingestion.types import Element, ElementKind, Notice, ParsedDocument


def encode_document(parsed: ParsedDocument) -> bytes:
    """The document as UTF-8 JSON."""
    elements = [[e.kind, e.text, e.page, e.level, e.has_header] for e in parsed.elements]
    answer = {
        "title": parsed.title,
        "pages": parsed.pages,
        "elements": elements,
        "notices": [[notice.code, notice.count] for notice in parsed.notices],
        "pictures": list(parsed.pictures),
    }
    return json.dumps(answer, ensure_ascii=False).encode()


def encode_error(code: str, message: str) -> bytes:
    """A refusal as UTF-8 JSON; the message is for the log."""
    return json.dumps({"error": code, "message": message[:2000]}).encode()


def decode_answer(answer: bytes) -> ParsedDocument:
    """The document that the child gave.

    Raises:
        ParseError: the child refused the file.
        ValueError: the answer is not one that `child.py` writes.
    """
    try:
        fields = json.loads(answer)
        if code := fields.get("error"):
            if code not in SENTENCES:
                raise ValueError(f"unknown error code {code!r:.40}")
            raise ParseError(_text(fields["message"]), code=code)
        return ParsedDocument(
            elements=[_element(*values) for values in fields["elements"]],
            pages=_number(fields["pages"]),
            title=_text(fields["title"]),
            notices=[_notice(*values) for values in fields["notices"]],
            pictures=[_number(page) for page in fields["pictures"]],
        )
    except (AttributeError, KeyError, TypeError, RecursionError) as exc:
        raise ValueError(f"malformed answer: {exc}") from exc


def _element(kind: Any, text: Any, page: Any, level: Any, has_header: Any) -> Element:
    return Element(
        kind=ElementKind(kind),
        text=_text(text),
        page=None if page is None else _number(page),
        level=_number(level),
        has_header=has_header is True,
    )


def _notice(code: Any, count: Any) -> Notice:
    if code not in NOTICES:
        raise ValueError(f"unknown notice {code!r:.40}")
    return Notice(code=code, count=_number(count))


def _text(value: Any) -> str:
    if not isinstance(value, str) or not is_clean(value):
        raise ValueError("not a clean string")
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
        raise ValueError("not a number in range")
    return value
