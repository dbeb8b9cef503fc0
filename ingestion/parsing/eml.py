"""Mail as it travels (RFC 5322 and MIME, also web archives in MHTML): headers, text, attachments.

Of a text that is sent both plain and as HTML one is read: HTML, unless it says much less.
"""

from __future__ import annotations

import base64
import codecs
import email
import email.header
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path

from ingestion.errors import ParseError
from ingestion.parsing.attachments import MAX_DEPTH, attachment_elements
from ingestion.parsing.cleaning import clean, one_line
from ingestion.parsing.decoding import decode
from ingestion.parsing.formats import Format, parser_for
from ingestion.parsing.html import fragment_elements
from ingestion.parsing.text import text_elements
from ingestion.types import Element, ElementKind, Notice, ParsedDocument

_SHOWN_HEADERS = ("From", "To", "Cc", "Date")
_MAX_PARTS = 1_000
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]")
# HTML that says less than this share of the plain text is a mere notice.
_HTML_SHARE = 0.6


@dataclass(slots=True)
class _Found:
    """What is gathered while the parts of a message are walked."""

    elements: list[Element] = field(default_factory=list)
    unread: int = 0
    parts: int = 0


def parse(path: Path) -> ParsedDocument:
    """Read an .eml or .mht file."""
    found = _Found()
    title = _read(path.read_bytes(), found, depth=0)
    notices = [Notice("unread_attachments", found.unread)] if found.unread else []
    return ParsedDocument(elements=found.elements, title=title, notices=notices)


def header_elements(subject: str, lines: Sequence[tuple[str, str]]) -> Iterator[Element]:
    """The subject as a heading and who wrote to whom and when, for every kind of message."""
    if subject:
        yield Element(ElementKind.HEADING, subject, level=1)
    shown = "\n".join(f"{name}: {value}" for name, value in lines if value)
    if shown:
        yield Element(ElementKind.PARAGRAPH, shown)


def body_elements(*, plain: str, page: str) -> list[Element]:
    """The elements of a text that may be there plain, as HTML, or both."""
    from_page = fragment_elements(page) if page.strip() else []
    from_plain = text_elements(clean(plain)) if plain.strip() else []
    is_whole = _letters(from_page) >= _HTML_SHARE * _letters(from_plain)
    return from_page if from_page and is_whole else from_plain


def _letters(elements: Sequence[Element]) -> int:
    return sum(sum(map(str.isalnum, element.text)) for element in elements)


def _read(content: bytes, found: _Found, *, depth: int) -> str:
    """Gather from one message. Returns its subject."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content[:64]:
        content = decode(content).encode()
    # "From " and a date in front of the headers is how mailboxes keep messages apart.
    content = content.lstrip(b"\xef\xbb\xbf\r\n")
    if content.startswith(b"From "):
        content = content.partition(b"\n")[2]
    message = email.message_from_bytes(content)
    if not message.keys():
        raise ParseError("no headers", code="corrupt")
    return _gather(message, found, depth)


def _gather(message: Message, found: _Found, depth: int) -> str:
    subject = _header(message, "Subject")
    lines = [(name, _header(message, name)) for name in _SHOWN_HEADERS]
    found.elements += header_elements(subject, lines)
    plain: list[str] = []
    pages: list[str] = []
    attached: list[Message] = []
    _walk(message, plain, pages, attached, found)
    found.elements += body_elements(plain="\n\n".join(plain), page="\n".join(pages))
    for part in attached:
        _attachment(part, found, depth)
    return subject


def _walk(
    part: Message, plain: list[str], pages: list[str], attached: list[Message], found: _Found
) -> None:
    """Sort the parts of one message; a message inside it is an attachment."""
    found.parts += 1
    if found.parts > _MAX_PARTS:
        raise ParseError("too many parts", code="too_large")
    kind = part.get_content_type()
    if kind == "message/rfc822":
        attached.append(part)
        return
    payload = part.get_payload()
    if part.is_multipart() and isinstance(payload, list):
        for inner in payload:
            if isinstance(inner, Message):
                _walk(inner, plain, pages, attached, found)
        return
    is_attached = part.get_content_disposition() == "attachment" or bool(_name(part))
    if kind in ("text/plain", "text/html") and not is_attached:
        (pages if kind == "text/html" else plain).append(_text(part))
    elif kind in ("text/enriched", "message/delivery-status", "text/rfc822-headers"):
        plain.append(_text(part))
    elif is_attached or not _is_inline(part, kind):
        attached.append(part)


def _is_inline(part: Message, kind: str) -> bool:
    """Whether a part belongs to how the message looks: pictures and styles of its HTML."""
    return bool(part.get("Content-ID") or part.get("Content-Location")) or kind == "text/css"


def _text(part: Message) -> str:
    content = _payload(part)
    charset = part.get_param("charset")
    try:
        return decode(content, declared=charset if isinstance(charset, str) else "")
    except ParseError:
        return content.decode("cp1252", "replace")


def _payload(part: Message) -> bytes:
    content = part.get_payload(decode=True)
    if not isinstance(content, bytes):
        return b""
    if str(part.get("Content-Transfer-Encoding", "")).strip().lower() == "base64":
        letters = _NOT_BASE64.sub(b"", content)
        if len(letters) % 4 == 1 and len(letters) > len(content) * 0.9:
            # Cut off inside a group of four: what stands before it is sound.
            return base64.b64decode(letters[:-1] + b"=" * (-(len(letters) - 1) % 4))
    return content


def _header(message: Message, name: str) -> str:
    """A header in readable letters, whatever is wrong with its encoding."""
    # Not `get`, which puts question marks in place of bytes that are not ASCII.
    same = (str(value) for key, value in message.raw_items() if key.lower() == name.lower())
    raw = next(same, "")
    parts: list[str] = []
    try:
        decoded = email.header.decode_header(raw) if "=?" in raw else [(raw, None)]
    except (ValueError, email.errors.MessageError):
        decoded = [(raw, None)]
    for part, charset in decoded:
        if isinstance(part, str):
            part = part.encode("utf-8", "surrogateescape")
        try:
            parts.append(decode(part, declared=charset or ""))
        except ParseError:
            parts.append(part.decode("cp1252", "replace"))
    return one_line("".join(parts))


def _name(part: Message) -> str:
    try:
        name = part.get_filename("")
    except (ValueError, LookupError, TypeError):
        return ""
    if "=?" in name:
        holder = Message()
        holder["Name"] = name
        name = _header(holder, "Name")
    return one_line(clean(name))


def _attachment(part: Message, found: _Found, depth: int) -> None:
    if part.get_content_type() == "message/rfc822":
        inner = part.get_payload()
        if depth >= MAX_DEPTH or not isinstance(inner, list) or not isinstance(inner[0], Message):
            found.unread += 1
            return
        _gather(inner[0], found, depth + 1)
        return
    name = _name(part) or "without a name"
    content = _payload(part)
    kind = part.get_content_type()
    if kind.startswith("image/") and _is_inline(part, kind):
        return
    if not content.strip():
        return
    elements, is_whole = attachment_elements(
        name, content, read_message=lambda path, kind: _inner(path, kind, depth)
    )
    found.elements += elements
    found.unread += not is_whole


def _inner(path: Path, kind: Format, depth: int) -> Sequence[Element] | None:
    if depth >= MAX_DEPTH:
        return None
    if kind is Format.MSG:
        return parser_for(kind).parse(path).elements
    inside = _Found()
    _read(path.read_bytes(), inside, depth=depth + 1)
    return inside.elements
