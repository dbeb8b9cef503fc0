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
from ingestion.parsing.formats import EXTENSIONS, Format

_SAMPLE_BYTES = 64 * 1024
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08PK")
_IMAGES = (
    *(b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"BM"),
    *(b"\0\0\0\x0cjP  \r\n", b"\xff\x4f\xff\x51"),  # JPEG 2000
)
_AVIF = (b"ftypavif", b"ftypavis")
_PORTABLE = re.compile(rb"P[1-6]\s(?:\s*#[^\n]*\n)*\s*\d+\s+\d+\s")
# Streams of an OLE container that tell what it is.
_OLE_STREAMS = {
    "EncryptedPackage": None,
    "__properties_version1.0": Format.MSG,
    "WordDocument": Format.DOC,
    "PowerPoint Document": Format.PPT,
    "Workbook": Format.XLS,
    "Book": Format.XLS,
}
# Entries by which a ZIP that is one file can be told from an archive of files.
_PACKAGES = frozenset({"[content_types].xml", "mimetype", "meta-inf/manifest.mf"})
_OPEN_DOCUMENT = "application/vnd.oasis.opendocument."
_OPEN_DOCUMENT_KINDS = {
    "text": Format.ODT,
    "spreadsheet": Format.ODS,
    "presentation": Format.ODP,
    "graphics": Format.ODP,
}
_OFFICE_PARTS = (
    ("word/document", Format.DOCX),
    ("ppt/presentation.xml", Format.PPTX),
    ("xl/workbook.xml", Format.XLSX),
    ("word/", Format.DOCX),
)
_HTML = re.compile(
    r"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)
_MAIL_HEADER = re.compile(
    r"(from|to|subject|date|received|return-path|delivered-to|message-id|mime-version|cc|sender"
    r"|reply-to|content-type|content-transfer-encoding|dkim-signature|authentication-results"
    r"|arc-[a-z-]+|x-[a-z0-9-]+|thread-topic|user-agent|envelope-to|importance):",
    re.IGNORECASE,
)
_MARKDOWN_NAMES = frozenset({".md", ".markdown", ".mdown", ".mkd", ".mkdn"})
_RST_NAMES = frozenset({".rst", ".rest"})
_HTML_NAMES = frozenset({".html", ".htm", ".xhtml", ".shtml"})
_CSV_NAMES = frozenset({".csv", ".tsv", ".tab"})
_JSON_NAMES = frozenset({".json", ".jsonl", ".ndjson", ".geojson", ".ipynb"})
_MAIL_NAMES = frozenset({".eml", ".mht", ".mhtml", ".emlx"})
_TEXT_NAMES = frozenset({".txt", ".text", ".log"})
_PDF_NAMES = frozenset({".pdf"})
_BINARY_FORMATS = frozenset(
    {Format.PDF, Format.DOCX, Format.DOC, Format.PPTX, Format.PPT, Format.XLSX, Format.XLS}
    | {Format.ODT}
    | {Format.ODS, Format.ODP, Format.EPUB, Format.MSG, Format.IMAGE, Format.ZIP}
)
_BINARY_NAMES = frozenset(name for kind in _BINARY_FORMATS for name in EXTENSIONS[kind])
_OTHER_BINARY_NAMES = frozenset(
    {".gz", ".7z", ".rar", ".tar", ".mp3", ".mp4", ".exe", ".heic", ".psd", ".xlsb"}
)
# Programs write web pages and RTF under these names, and offices open them.
_LENIENT_NAMES = frozenset({".doc", ".xls"})
_XML_NAMES = frozenset({*EXTENSIONS[Format.XML], ".rss", ".atom", ".xsd", ".xsl", ".kml", ".gpx"})
_UNREAD_TEXT_NAMES = frozenset({".mbox"})
_FLAT = re.compile(r"office:mimetype\s*=\s*[\"']application/vnd\.oasis\.opendocument\.([a-z]+)")
_SPREADSHEET = "urn:schemas-microsoft-com:office:spreadsheet"


def sniff(path: Path, name: str) -> Format:
    """Say what a file is.

    Args:
        path: the file.
        name: what its owner calls it; only its extension counts, and only among texts.

    Raises:
        ParseError: `empty`, `unsupported`, `password`, `corrupt`, `too_large` (a zip with an
            absurd table of contents) or `type_mismatch` (text that is named as a binary
            format, or the reverse).
    """
    suffix = PurePosixPath(name.lower()).suffix
    with path.open("rb") as file:
        head = file.read(_SAMPLE_BYTES)
    if not head:
        raise ParseError("no bytes", code="empty")
    if _is_pdf(head, suffix):
        return Format.PDF
    if head.startswith(_ZIP):
        return _zip_format(path)
    if head.startswith(_OLE):
        return _ole_format(path, suffix)
    if _is_image(head):
        return Format.IMAGE
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{\\rtf"):
        return Format.RTF
    if not looks_like_text(head):
        raise ParseError("binary content", code=_binary_code(suffix))
    return _text_format(path, head, suffix)


def _is_pdf(head: bytes, suffix: str) -> bool:
    """PDF readers accept some bytes before the header; a text that mentions it is no PDF."""
    if head.lstrip(b"\xef\xbb\xbf \t\r\n\0").startswith(b"%PDF-"):
        return True
    found = b"%PDF-" in head[:1024]
    return found and (suffix in _PDF_NAMES or not looks_like_text(head))


def _is_image(head: bytes) -> bool:
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return True
    if head[4:12] in _AVIF or _PORTABLE.match(head):
        return True
    return head.startswith(_IMAGES) and not (head[:2] == b"BM" and looks_like_text(head))


def _zip_format(path: Path) -> Format:
    found = zips.contents(path)
    kind = _office_format(found.names) or _open_document_format(path, found.names)
    if kind is None:
        if not found.names:
            raise ParseError("a zip of nothing", code="empty")
        if not _PACKAGES.isdisjoint(name.lower() for name in found.names):
            # A drawing of Visio, a binary workbook, a program: their parts are no documents.
            raise ParseError("a package of another kind", code="unsupported")
        return Format.ZIP
    if found.is_encrypted:
        raise ParseError("encrypted entries", code="password")
    return kind


def _office_format(names: frozenset[str]) -> Format | None:
    # Case means nothing in such names, and some programs separate them with backslashes.
    plain = {name.lower().replace("\\", "/").lstrip("/") for name in names}
    if "[content_types].xml" not in plain:
        return None
    for beginning, kind in _OFFICE_PARTS:
        if any(name.startswith(beginning) for name in plain):
            return kind
    return None


def _open_document_format(path: Path, names: frozenset[str]) -> Format | None:
    """OpenDocument and EPUB name their type in an entry of their own."""
    declared = ""
    if "mimetype" in names:
        declared = zips.part(path, "mimetype", max_bytes=4096).decode("ascii", "replace").strip()
    if declared.startswith(_OPEN_DOCUMENT):
        kind = declared.removeprefix(_OPEN_DOCUMENT).partition("-")[0]
        if kind not in _OPEN_DOCUMENT_KINDS:
            raise ParseError(declared, code="unsupported")
        return _OPEN_DOCUMENT_KINDS[kind]
    if declared == "application/epub+zip" or "META-INF/container.xml" in names:
        return Format.EPUB
    is_open_document = {"content.xml", "META-INF/manifest.xml"} <= names
    return Format.ODT if is_open_document else None


def _ole_format(path: Path, suffix: str) -> Format:
    """By the stream that the container's directory names first: what is embedded comes later."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        names = {name.encode("utf-16-le") + b"\0\0": kind for name, kind in _OLE_STREAMS.items()}
        places = {content.find(name): kind for name, kind in names.items()}
        places.pop(-1, None)
        if not places:
            # Case means nothing in such names; to look for them so takes longer.
            found = {re.search(re.escape(n), content, re.IGNORECASE): k for n, k in names.items()}
            places = {match.start(): kind for match, kind in found.items() if match}
    if not places:
        raise ParseError("OLE container of another kind", code=_binary_code(suffix))
    kind = places[min(places)]
    if kind is None or (None in places.values() and Format.MSG not in places.values()):
        raise ParseError("encrypted Office file", code="password")
    return kind


def _binary_code(suffix: str) -> str:
    if suffix in _BINARY_NAMES:
        return "corrupt"
    texts = _TEXT_NAMES | _HTML_NAMES | _MARKDOWN_NAMES | _RST_NAMES | _CSV_NAMES | _JSON_NAMES
    if suffix in texts | _MAIL_NAMES | _XML_NAMES | _UNREAD_TEXT_NAMES | {".rtf"}:
        return "type_mismatch"
    return "unsupported"


def _text_format(path: Path, head: bytes, suffix: str) -> Format:
    beginning = _beginning(head)
    is_page = bool(_HTML.match(beginning))
    if suffix in _LENIENT_NAMES and is_page:
        return Format.HTML
    is_mail = _is_mail(beginning, is_named=suffix in _MAIL_NAMES)
    if suffix == ".msg" and is_mail:
        return Format.EML
    if suffix in (".xls", ".xlsx") and _SPREADSHEET in beginning:
        return Format.XML
    if suffix == ".xls" and b"\t" in head.partition(b"\n")[0]:
        return Format.CSV  # what many programs call an export to Excel
    if suffix in _BINARY_NAMES | _OTHER_BINARY_NAMES | {".rtf"}:
        raise ParseError(f"text in a file named {suffix}", code="type_mismatch")
    if is_page:
        return Format.HTML
    if is_mail:
        return Format.EML
    if beginning.startswith(("{", "[")) and (suffix in _JSON_NAMES or not suffix):
        is_notebook = suffix == ".ipynb" or _is_notebook(path, beginning)
        return Format.NOTEBOOK if is_notebook else Format.JSON
    is_xml = beginning.startswith("<?xml") and suffix not in _TEXT_NAMES | _MARKDOWN_NAMES
    if suffix in _XML_NAMES or is_xml:
        flat = _FLAT.search(beginning)
        return _OPEN_DOCUMENT_KINDS.get(flat.group(1), Format.XML) if flat else Format.XML
    if suffix in _UNREAD_TEXT_NAMES:
        raise ParseError(f"structured text {suffix}", code="unsupported")
    return _named_text_format(suffix)


def _named_text_format(suffix: str) -> Format:
    by_name = (
        (_HTML_NAMES, Format.HTML),
        (_MARKDOWN_NAMES, Format.MARKDOWN),
        (_RST_NAMES, Format.RST),
        (_CSV_NAMES, Format.CSV),
        (_JSON_NAMES, Format.JSON),
        (_MAIL_NAMES, Format.EML),
    )
    return next((kind for names, kind in by_name if suffix in names), Format.TEXT)


def _is_mail(beginning: str, *, is_named: bool) -> bool:
    """Whether the text begins with the headers of a message; more of them where no name says so."""
    if beginning.startswith("From "):
        beginning = beginning.partition("\n")[2]
    known: set[str] = set()
    for line in beginning.splitlines()[:60]:
        if not line.strip():
            break
        if line[0] in " \t":
            continue
        if match := _MAIL_HEADER.match(line):
            known.add(match.group(1).lower())
        elif not known or not re.match(r"[!-9;-~]+:", line):
            return False
    if is_named:
        return bool(known)
    told = {"message-id", "received", "return-path", "mime-version", "dkim-signature"} & known
    return len(known) >= 3 and "from" in known and bool(told)


def _is_notebook(path: Path, beginning: str) -> bool:
    """A notebook's version stands at its end, where the keys are sorted."""
    if '"cells"' not in beginning and '"worksheets"' not in beginning and '"nb' not in beginning:
        return False
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        return b'"nbformat"' in file.read() or '"nbformat"' in beginning


def _beginning(head: bytes) -> str:
    """The first characters, well enough decoded to recognise ASCII markup."""
    return head[:8192].replace(b"\0", b"").decode("utf-8", "ignore").lstrip("\ufeff\ufffe \t\r\n")
