"""Outlook messages: headers, text (plain, HTML or compressed RTF) and attachments.

The properties of a message are streams of an OLE container, named by number and type.
Source: [MS-OXMSG], sections 2.1 to 2.4; [MS-OXRTFCP], section 2.2 (compressed RTF).
"""

from __future__ import annotations

import datetime
import re
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ingestion.errors import ParseError
from ingestion.parsing import ole
from ingestion.parsing.attachments import MAX_DEPTH, attachment_elements
from ingestion.parsing.cleaning import clean, one_line
from ingestion.parsing.decoding import decode
from ingestion.parsing.eml import body_elements, header_elements
from ingestion.parsing.formats import Format, parser_for
from ingestion.parsing.rtf import parse as parse_rtf
from ingestion.types import Element, Notice, ParsedDocument

_SUBJECT, _BODY, _HTML, _RTF = 0x0037, 0x1000, 0x1013, 0x1009
_SENDER, _SENDER_ADDRESS, _SMTP_ADDRESS = 0x0C1A, 0x0C1F, 0x5D01
_TO, _CC = 0x0E04, 0x0E03
_SENT, _RECEIVED, _CODE_PAGE, _MESSAGE_CODE_PAGE = 0x0039, 0x0E06, 0x3FDE, 0x3FFD
_TABLE = "__properties_version1.0"
_DATA, _LONG_NAME, _SHORT_NAME, _DISPLAY_NAME = 0x3701, 0x3707, 0x3704, 0x3001
_CONTENT_ID = 0x3712
_PICTURE_NAME = re.compile(r"\.(png|jpe?g|gif|bmp|tiff?|webp|emf|wmf)$", re.IGNORECASE)
_RTF_START = (
    b"{\\rtf1\\ansi\\mac\\deff0\\deftab720{\\fonttbl;}{\\f0\\fnil \\froman \\fswiss \\fmodern "
    b"\\fscript \\fdecor MS Sans SerifSymbolArialTimes New RomanCourier{\\colortbl\\red0\\green0"
    b"\\blue0\r\n\\par \\pard\\plain\\f0\\fs20\\b\\i\\u\\tab\\tx"
)
_WINDOW = 4096
_EPOCH = datetime.datetime(1601, 1, 1, tzinfo=datetime.UTC)
_MAX_RTF_BYTES = 32 * 1024 * 1024
# Code pages that have another name than their number.
_PAGES = {65001: "utf-8", 20127: "ascii", 28591: "latin-1", 50220: "iso-2022-jp", 51949: "euc_kr"}


def parse(path: Path) -> ParsedDocument:
    """Read a .msg file."""
    with ole.opened(path) as container:
        subject, elements, unread = _message(container)
    notices = [Notice("unread_attachments", unread)] if unread else []
    return ParsedDocument(elements=elements, title=subject, notices=notices)


def _message(container: ole.Container, *folder: str) -> tuple[str, list[Element], int]:
    """The subject, what is in a message or in one inside it, and what of it could not be read."""
    # The properties of a message inside another begin after fewer bytes.
    message = _Properties(container, *folder, header_bytes=24 if folder else 32)
    subject = one_line(message.text(_SUBJECT))
    elements = list(header_elements(subject, _headers(message)))
    elements += _body(message)
    unread = 0
    for name in container.names(*folder):
        if name.startswith("__attach_version1.0_#"):
            found, unread_there = _attachment(container, *folder, name)
            elements += found
            unread += unread_there
    return subject, elements, unread


class _Properties:
    """The properties of a message or of an attachment."""

    def __init__(self, container: ole.Container, *folder: str, header_bytes: int) -> None:
        self._container, self._folder = container, folder
        self._fixed: dict[int, bytes] = {}
        table = container.stream(*folder, _TABLE)
        for at in range(header_bytes, len(table) - 15, 16):
            tag = struct.unpack_from("<L", table, at)[0]
            self._fixed[tag >> 16] = table[at + 8 : at + 16]

    def bytes(self, number: int, kind: int = 0x0102) -> bytes:
        """A property that has a stream of its own."""
        return self._container.stream(*self._folder, f"__substg1.0_{number:04X}{kind:04X}")

    def text(self, number: int) -> str:
        """A property of text, in Unicode or in the message's code page."""
        if unicode := self.bytes(number, 0x001F):
            return clean(unicode.decode("utf-16-le", "replace"))
        old = self.bytes(number, 0x001E)
        return clean(decode(old, declared=self.code_page())) if old else ""

    def code_page(self) -> str:
        """The code page of text that is not in Unicode; empty if the message does not say."""
        for number in (_MESSAGE_CODE_PAGE, _CODE_PAGE):
            if value := self._fixed.get(number):
                page = struct.unpack_from("<L", value)[0]
                if page:
                    return _PAGES.get(page, f"cp{page}")
        return ""

    def moment(self, number: int) -> str:
        """A time in UTC, counted in tenths of microseconds."""
        value = self._fixed.get(number)
        if not value:
            return ""
        ticks = struct.unpack("<Q", value)[0]
        try:
            moment = _EPOCH + datetime.timedelta(microseconds=ticks // 10)
        except OverflowError:
            return ""
        return moment.strftime("%Y-%m-%d %H:%M UTC") if ticks else ""


def _headers(message: _Properties) -> list[tuple[str, str]]:
    sender = message.text(_SENDER)
    address = message.text(_SMTP_ADDRESS) or message.text(_SENDER_ADDRESS)
    if "@" in address and address not in sender:
        sender = f"{sender} <{address}>" if sender else address
    return [
        ("From", one_line(sender)),
        ("To", one_line(message.text(_TO))),
        ("Cc", one_line(message.text(_CC))),
        ("Date", message.moment(_SENT) or message.moment(_RECEIVED)),
    ]


def _body(message: _Properties) -> Sequence[Element]:
    page = message.text(_HTML)
    if not page and (content := message.bytes(_HTML)):
        page = decode(content, declared=message.code_page())
    plain = message.text(_BODY)
    if page.strip() or plain.strip():
        return body_elements(plain=plain, page=page)
    compressed = message.bytes(_RTF)
    return _rtf_elements(compressed) if compressed else []


def _rtf_elements(compressed: bytes) -> Sequence[Element]:
    with tempfile.NamedTemporaryFile(suffix=".rtf") as file:
        file.write(_unpacked(compressed))
        file.flush()
        return parse_rtf(Path(file.name)).elements


def _unpacked(content: bytes) -> bytes:
    """Unpack RTF: runs of references into a window of 4,096 bytes that begins with common words."""
    if len(content) < 16:
        return b""
    kind = content[8:12]
    size = min(struct.unpack_from("<L", content, 4)[0], _MAX_RTF_BYTES)
    if kind == b"MELA":
        return content[16 : 16 + size]
    if kind != b"LZFu":
        raise ParseError("unknown compression of the text", code="corrupt")
    window = bytearray(_RTF_START.ljust(_WINDOW, b"\0"))
    at = len(_RTF_START)
    out = bytearray()
    position = 16
    while position < len(content) and len(out) < size:
        flags = content[position]
        position += 1
        for bit in range(8):
            if position >= len(content):
                break
            if not flags >> bit & 1:
                run = content[position : position + 1]
                position += 1
            else:
                reference = int.from_bytes(content[position : position + 2], "big")
                position += 2
                start, length = reference >> 4, (reference & 15) + 2
                if start == at:
                    return bytes(out[:size])
                run = b""
                for step in range(length):
                    # A run may read what it has just written.
                    byte = window[(start + step) % _WINDOW]
                    window[(at + step) % _WINDOW] = byte
                    run += bytes((byte,))
            for byte in run:
                window[at] = byte
                at = (at + 1) % _WINDOW
            out += run
    return bytes(out[:size])


def _attachment(container: ole.Container, *folder: str) -> tuple[list[Element], int]:
    """What is in an attachment, and how many things in it could not be read."""
    properties = _Properties(container, *folder, header_bytes=8)
    name = ""
    for number in (_LONG_NAME, _SHORT_NAME, _DISPLAY_NAME):
        name = name or one_line(properties.text(number))
    inside = f"__substg1.0_{_DATA:04X}000D"
    if inside in container.names(*folder):
        # A message, or a drawing, that is kept as folders of this container.
        if len(folder) >= 2 * MAX_DEPTH or not container.stream(*folder, inside, _TABLE):
            return [], 1
        _, elements, unread = _message(container, *folder, inside)
        return elements, unread
    content = properties.bytes(_DATA)
    is_inline = bool(properties.text(_CONTENT_ID)) and bool(_PICTURE_NAME.search(name))
    if is_inline or not content:
        return [], 0
    found, is_whole = attachment_elements(name or "without a name", content, read_message=_inner)
    return found, int(not is_whole)


def _inner(path: Path, kind: Format) -> Sequence[Element] | None:
    """A message inside a message is read without what is attached to it."""
    return parser_for(kind).parse(path).elements if kind is Format.EML else None
