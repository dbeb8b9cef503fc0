"""Which format a file is, told by its content.

The name only chooses among kinds of text, which look alike. Runs in the web process at
upload, so it reads a bounded part of the file and imports no parser.
"""

from __future__ import annotations

import mmap
import re
from pathlib import Path, PurePosixPath

from ingestion.errors import ParseError
from ingestion.parsing import zips
from ingestion.parsing.decoding import looks_like_text
from ingestion.parsing.formats import Format

_SAMPLE_BYTES = 64 * 1024
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED_OFFICE = "EncryptedPackage".encode("utf-16-le")
_IMAGES = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"BM")
_HTML = re.compile(
    r"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)
_HTML_NAMES = frozenset({".html", ".htm", ".xhtml", ".shtml"})
_MARKDOWN_NAMES = frozenset({".md", ".markdown", ".mdown", ".mkd", ".mkdn"})
_TEXT_NAMES = frozenset({".txt", ".text", ".log"})
_PDF_NAMES = frozenset({".pdf"})
_ZIP_NAMES = frozenset({".docx", ".pptx", ".xlsx", ".odt", ".ods", ".odp", ".epub", ".zip"})
_OTHER_BINARY_NAMES = frozenset(
    {".doc", ".xls", ".ppt", ".msg", ".png", ".jpg", ".jpeg", ".gif", ".tif", ".tiff", ".webp"}
    | {".gz", ".7z", ".rar", ".mp3", ".mp4", ".exe"}
)
# Kinds of text whose structure a reader of plain text would lose.
_STRUCTURED_TEXT_NAMES = frozenset(
    {".csv", ".tsv", ".json", ".jsonl", ".ipynb", ".xml", ".svg", ".eml", ".mbox", ".rtf"}
)


def sniff(path: Path, name: str) -> Format:
    """Say what a file is.

    Args:
        path: the file.
        name: what its owner calls it; only its extension counts, and only among texts.

    Raises:
        ParseError: `empty`, `unsupported`, `password`, `corrupt`, `too_large` (a zip with an
            absurd table of contents), `no_text` (a picture) or `type_mismatch` (text that is
            named as a binary format, or the reverse).
    """
    suffix = PurePosixPath(name.lower()).suffix
    with path.open("rb") as file:
        head = file.read(_SAMPLE_BYTES)
    if not head:
        raise ParseError("no bytes", code="empty")
    if _is_pdf(head, suffix):
        return Format.PDF
    if head.startswith(b"PK\x03\x04"):
        return _zip_format(path)
    if head.startswith(_OLE):
        raise ParseError("OLE container", code=_ole_code(path))
    if not looks_like_text(head):
        if head.startswith(_IMAGES) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
            raise ParseError("a picture", code="no_text")
        raise ParseError("binary content", code=_binary_code(suffix))
    return _text_format(head, suffix)


def _is_pdf(head: bytes, suffix: str) -> bool:
    """PDF readers accept some bytes before the header; a text that mentions it is no PDF."""
    if head.lstrip(b"\xef\xbb\xbf \t\r\n\0").startswith(b"%PDF-"):
        return True
    found = b"%PDF-" in head[:1024]
    return found and (suffix in _PDF_NAMES or not looks_like_text(head))


def _zip_format(path: Path) -> Format:
    entries = zips.names(path)
    if "[Content_Types].xml" in entries and any(name.startswith("word/") for name in entries):
        return Format.DOCX
    raise ParseError("a zip of another kind", code="unsupported")


def _ole_code(path: Path) -> str:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return "password" if content.find(_ENCRYPTED_OFFICE) >= 0 else "unsupported"


def _binary_code(suffix: str) -> str:
    if suffix in _PDF_NAMES | _ZIP_NAMES:
        return "corrupt"
    if suffix in _TEXT_NAMES | _HTML_NAMES | _MARKDOWN_NAMES | _STRUCTURED_TEXT_NAMES:
        return "type_mismatch"
    return "unsupported"


def _text_format(head: bytes, suffix: str) -> Format:
    if suffix in _PDF_NAMES | _ZIP_NAMES | _OTHER_BINARY_NAMES:
        raise ParseError(f"text in a file named {suffix}", code="type_mismatch")
    beginning = _beginning(head)
    if _HTML.match(beginning):
        return Format.HTML
    if suffix in _STRUCTURED_TEXT_NAMES or beginning.startswith("{\\rtf"):
        raise ParseError(f"structured text {suffix}", code="unsupported")
    if beginning.startswith("<?xml") and suffix not in _TEXT_NAMES | _MARKDOWN_NAMES:
        raise ParseError("XML", code="unsupported")
    if suffix in _HTML_NAMES:
        return Format.HTML
    return Format.MARKDOWN if suffix in _MARKDOWN_NAMES else Format.TEXT


def _beginning(head: bytes) -> str:
    """The first characters, well enough decoded to recognise ASCII markup."""
    return head[:4096].replace(b"\0", b"").decode("utf-8", "ignore").lstrip("\ufeff\ufffe \t\r\n")
