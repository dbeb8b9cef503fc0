"""Files of every format, made on the spot with the libraries that read them or by hand."""

from __future__ import annotations

import datetime
import io
import json
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import openpyxl
import pypdfium2
import xlwt
from openpyxl.comments import Comment
from PIL import Image, ImageDraw, ImageFont
from pptx import Presentation
from pptx.util import Inches

from ingestion.parsing import child, sniff
from ingestion.types import ElementKind, ParsedDocument
from tests.ingestion.sample_files import Line, pdf, write

OPEN_DOCUMENT = "application/vnd.oasis.opendocument."
_SPACES = " ".join(
    f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
    for name in ("office", "text", "table", "presentation", "style")
) + (
    ' xmlns:draw="urn:oasis:names:tc:opendocument:xmlns:drawing:1.0"'
    ' xmlns:dc="http://purl.org/dc/elements/1.1/"'
)


def read(folder: Path, content: bytes, name: str) -> ParsedDocument:
    """What the child would answer, without starting one."""
    path = write(folder, "blob", content)
    return child.read(path, sniff(path, name))


def texts(parsed: ParsedDocument, kind: ElementKind | None = None) -> list[str]:
    """The texts of the elements, of one kind or of all."""
    return [e.text for e in parsed.elements if kind is None or e.kind is kind]


def zipped(entries: Mapping[str, bytes | str], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A ZIP of these entries."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return out.getvalue()


# --- Office ----------------------------------------------------------------------
def pptx(build: Callable[[Any], None]) -> bytes:
    """A presentation that `build` fills."""
    presentation = Presentation()
    build(presentation)
    out = io.BytesIO()
    presentation.save(out)
    return out.getvalue()


def slides(presentation: Any) -> None:
    """Two slides, the second with a table, and one that is hidden."""
    first = presentation.slides.add_slide(presentation.slide_layouts[1])
    first.shapes.title.text = "Lighthouses"
    first.placeholders[1].text = "They warn ships.\nThey guide ships."
    first.notes_slide.notes_text_frame.text = "Speak slowly."
    second = presentation.slides.add_slide(presentation.slide_layouts[5])
    second.shapes.title.text = "Heights"
    table = second.shapes.add_table(3, 2, Inches(1), Inches(2), Inches(5), Inches(2)).table
    for row, cells in enumerate((("Tower", "Metres"), ("Pharos", "103"), ("", "41"))):
        for column, text in enumerate(cells):
            table.cell(row, column).text = text
    table.cell(1, 0).merge(table.cell(2, 0))
    hidden = presentation.slides.add_slide(presentation.slide_layouts[5])
    hidden.shapes.title.text = "Not for the audience"
    hidden._element.set("show", "0")


def xlsx(build: Callable[[Any], None]) -> bytes:
    """A workbook that `build` fills; its first sheet is there already."""
    book = openpyxl.Workbook()
    build(book)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def sheets(book: Any) -> None:
    """A sheet with a title above a table, a merged cell, a date and shares; one is hidden."""
    sheet = book.active
    sheet.title = "Sales"
    rows: list[list[Any]] = [
        ["Sales of 2024"],
        [],
        ["Region", "Day", "Share", "Sum"],
        ["North", datetime.date(2024, 3, 1), 0.125, 1200.5],
        [None, datetime.datetime(2024, 3, 2, 14, 30), 0.5, 3],
    ]
    for row in rows:
        sheet.append(row)
    sheet.merge_cells("A4:A5")
    sheet["C4"].number_format = sheet["C5"].number_format = "0.0%"
    sheet["D4"].comment = Comment("Checked by Ann.", "Ann")
    secret = book.create_sheet("Secret")
    secret["A1"] = "hidden words"
    secret.sheet_state = "hidden"
    book.create_sheet("Notes")["B2"] = "Ask Ben."


def xls(rows: Sequence[Sequence[Any]], *, name: str = "Old sheet") -> bytes:
    """A workbook of Excel 97; dates are shown as dates."""
    book = xlwt.Workbook()
    sheet = book.add_sheet(name)
    day = xlwt.XFStyle()
    day.num_format_str = "YYYY-MM-DD"
    for number, row in enumerate(rows):
        for column, value in enumerate(row):
            style = (day,) if isinstance(value, datetime.date) else ()
            sheet.write(number, column, value, *style)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def open_document(
    kind: str, body: str, *, styles: str = "", title: str = "", encrypted: bool = False
) -> bytes:
    """An OpenDocument file of this kind (text, spreadsheet, presentation)."""
    lock = "<manifest:encryption-data/>" if encrypted else ""
    content = (
        f"<office:document-content {_SPACES}><office:automatic-styles>{styles}"
        f"</office:automatic-styles><office:body><office:{kind}>{body}</office:{kind}>"
        "</office:body></office:document-content>"
    )
    return zipped(
        {
            "mimetype": OPEN_DOCUMENT + kind,
            "content.xml": content,
            "meta.xml": f"<office:document-meta {_SPACES}><office:meta><dc:title>{title}"
            "</dc:title></office:meta></office:document-meta>",
            "META-INF/manifest.xml": f'<manifest:manifest xmlns:manifest="m">{lock}'
            "</manifest:manifest>",
        }
    )


def doc(text: str, *, flags: int = 0) -> bytes:
    """A Word 97 document with this text, its marks included, in one piece of UTF-16."""
    header = bytearray(0x400)
    struct.pack_into("<HHHHHH", header, 0, 0xA5EC, 0xC1, 0, 0, 0, flags)
    struct.pack_into("<7l", header, 0x4C, len(text), 0, 0, 0, 0, 0, 0)
    pieces = struct.pack("<LL", 0, len(text)) + struct.pack("<HLH", 0, len(header), 0)
    listed = b"\x02" + struct.pack("<L", len(pieces)) + pieces
    struct.pack_into("<LL", header, 0x01A2, 0, len(listed))
    return ole({"WordDocument": bytes(header) + text.encode("utf-16-le"), "0Table": listed})


def _record(kind: int, content: bytes, *, instance: int = 0, is_container: bool = False) -> bytes:
    version = instance << 4 | (0xF if is_container else 0)
    return struct.pack("<HHL", version, kind, len(content)) + content


def _said(kind: int, text: str) -> bytes:
    return _record(0x0F9F, struct.pack("<L", kind)) + _record(0x0FA0, text.encode("utf-16-le"))


def ppt(*, token: int = 0xE391C05F) -> bytes:
    """A presentation of PowerPoint 97: two slides, of which one is hidden, and notes.

    The title stands in the list of the document, the rest in the slides; the first save of the
    first slide is kept beside the last one.
    """
    boxes = _record(0x0FA8, b"Gr\xfc\xdfe vom Turm"), _said(1, "They warn.\rThey guide.")
    hide = _record(0x03F9, bytes(10) + struct.pack("<HL", 4, 0))
    slides = [
        _record(0x03EE, _record(0x040C, b"".join(boxes), is_container=True), is_container=True),
        _record(0x03EE, hide + _said(4, "Not for the audience"), is_container=True),
    ]
    former = _record(0x03EE, _said(4, "Former words"), is_container=True)
    notes = _record(
        0x03F0,
        _record(0x03F1, struct.pack("<LL", 256, 0)) + _said(2, "Speak slowly."),
        is_container=True,
    )
    listed = b"".join(
        _record(0x03F3, struct.pack("<5L", 2 + n, 0, 0, 256 + n, 0))
        + (_said(0, "Lighthouses") if not n else b"")
        for n in range(2)
    )
    document = _record(
        0x03E8,
        _record(0x0FF0, listed, is_container=True)
        + _record(
            0x0FF0,
            _record(0x03F3, struct.pack("<5L", 4, 0, 0, 300, 0)),
            instance=2,
            is_container=True,
        ),
        is_container=True,
    )
    content = b""
    places: list[int] = []
    for part in (document, former, slides[1], notes, slides[0]):
        places.append(len(content))
        content += part
    edits: list[int] = []
    # After the first save four objects from number 1 on, after the last one number 2 anew.
    for first, saved in ((1, places[:4]), (2, places[4:])):
        directory = len(content)
        entry = struct.pack("<L", first | len(saved) << 20)
        content += _record(0x1772, entry + struct.pack(f"<{len(saved)}L", *saved))
        before = edits[-1] if edits else 0
        edits.append(len(content))
        content += _record(0x0FF5, struct.pack("<6L", 0, 0, before, directory, 1, 5))
    user = _record(0x0FF6, struct.pack("<LLL", 20, token, edits[-1]))
    return ole({"PowerPoint Document": content, "Current User": user})


# --- OLE containers ----------------------------------------------------------------
def ole(streams: Mapping[str, bytes]) -> bytes:
    """An OLE container; a name "folder/name" puts a stream into a folder, and so on.

    Streams shorter than 4,096 bytes are filled up with zeros, as only longer ones stand in
    sectors of their own. Source: [MS-CFB], sections 2.2 to 2.6.
    """
    paths = list(
        dict.fromkeys(
            "/".join(n.split("/")[:i]) for n in streams for i in range(1, n.count("/") + 2)
        )
    )

    def below(folder: str) -> list[str]:
        return [path for path in paths if path.rpartition("/")[0] == folder]

    entries: list[tuple[str, int, bytes, list[str]]] = [("Root Entry", 5, b"", below(""))]
    entries += [
        (path, 2 if path in streams else 1, streams.get(path, b""), below(path)) for path in paths
    ]
    index = {name: number for number, (name, *_) in enumerate(entries)}
    sectors = bytearray()
    fat: list[int] = []
    starts: dict[str, tuple[int, int]] = {}

    def store(content: bytes) -> int:
        start = len(fat)
        count = -(-len(content) // 512)
        fat.extend([*range(start + 1, start + count), 0xFFFFFFFE])
        sectors.extend(content.ljust(count * 512, b"\0"))
        return start

    for name, kind, content, _ in entries:
        if kind == 2:
            padded = content.ljust(4096, b"\0")
            starts[name] = (store(padded), len(padded))
    directory = b"".join(_entry(entry, entries, index, starts) for entry in entries)
    directory_start = store(directory.ljust(-(-len(directory) // 512) * 512, b"\0"))
    fat_start = len(fat)
    count = -(-(len(fat) + 2) // 128)
    fat.extend([0xFFFFFFFD] * count)
    table = struct.pack(f"<{len(fat)}L", *fat).ljust(count * 512, b"\xff")
    header = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(16)
    header += struct.pack("<HHHHH6x", 0x3E, 3, 0xFFFE, 9, 6)
    header += struct.pack(
        "<LLLLLLLLL", 0, count, directory_start, 0, 4096, 0xFFFFFFFE, 0, 0xFFFFFFFE, 0
    )
    header += struct.pack(f"<{count}L", *range(fat_start, fat_start + count))
    return header.ljust(512, b"\xff") + bytes(sectors) + table


def _entry(
    entry: tuple[str, int, bytes, list[str]],
    entries: Sequence[tuple[str, int, bytes, list[str]]],
    index: Mapping[str, int],
    starts: Mapping[str, tuple[int, int]],
) -> bytes:
    name, kind, _, below = entry
    siblings = next((list(e[3]) for e in entries if name in e[3]), [])
    after = siblings[siblings.index(name) + 1 :] if name in siblings else []
    label = name.rpartition("/")[2].encode("utf-16-le")
    start, size = starts.get(name, (0xFFFFFFFE if kind != 1 else 0, 0))
    return (
        label.ljust(64, b"\0")
        + struct.pack("<HBB", len(label) + 2, kind, 1)
        + struct.pack(
            "<LLL",
            0xFFFFFFFF,
            index[after[0]] if after else 0xFFFFFFFF,
            index[below[0]] if below else 0xFFFFFFFF,
        )
        + bytes(36)
        + struct.pack("<LQ", start, size)
    )


def msg(
    properties: Mapping[str, bytes],
    attachments: Sequence[tuple[str, bytes]] = (),
    *,
    inside: Mapping[str, bytes] | None = None,
) -> bytes:
    """An Outlook message; properties by number and type in hexadecimal ("0037001F").

    `inside` are the properties of a message that is attached.
    """
    streams = {f"__substg1.0_{tag}": content for tag, content in properties.items()}
    streams["__properties_version1.0"] = bytes(32)
    for number, (name, content) in enumerate(attachments):
        folder = f"__attach_version1.0_#{number:08X}"
        streams[f"{folder}/__properties_version1.0"] = bytes(8)
        streams[f"{folder}/__substg1.0_3707001F"] = name.encode("utf-16-le")
        streams[f"{folder}/__substg1.0_37010102"] = content
    if inside is not None:
        folder = "__attach_version1.0_#000000FF"
        streams[f"{folder}/__properties_version1.0"] = bytes(8)
        folder += "/__substg1.0_3701000D"
        streams[f"{folder}/__properties_version1.0"] = bytes(24)
        streams |= {f"{folder}/__substg1.0_{tag}": content for tag, content in inside.items()}
    return ole(streams)


# --- books, mail, notebooks ----------------------------------------------------------
def epub(chapters: Sequence[str], *, title: str = "A book", encryption: str = "") -> bytes:
    """A book of these chapters, each the inside of a `<body>`."""
    items = "".join(
        f'<item id="c{n}" href="text/c%20{n}.xhtml" media-type="application/xhtml+xml"/>'
        for n in range(len(chapters))
    )
    refs = "".join(f'<itemref idref="c{n}"/>' for n in reversed(range(len(chapters))))
    entries: dict[str, bytes | str] = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:'
        'container"><rootfiles><rootfile full-path="OPS/book.opf"/></rootfiles></container>',
        "OPS/book.opf": '<package xmlns="http://www.idpf.org/2007/opf"><metadata '
        f'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{title}</dc:title></metadata>'
        f"<manifest>{items}</manifest><spine>{refs}</spine></package>",
    }
    for number, body in enumerate(chapters):
        entries[f"OPS/text/c {number}.xhtml"] = f"<html><body>{body}</body></html>"
    if encryption:
        entries["META-INF/encryption.xml"] = f'<EncryptionMethod Algorithm="{encryption}"/>'
    return zipped(entries)


def mail(build: Callable[[EmailMessage], None]) -> bytes:
    """A message with the usual headers that `build` fills."""
    message = EmailMessage()
    message["From"] = "Ann Müller <ann@example.org>"
    message["To"] = "ben@example.org"
    message["Date"] = "Fri, 01 Mar 2024 10:00:00 +0100"
    message["Subject"] = "Käse für Ben"
    build(message)
    return message.as_bytes()


def notebook(cells: Sequence[Mapping[str, Any]]) -> bytes:
    """A notebook of version 4."""
    return json.dumps({"cells": list(cells), "metadata": {}, "nbformat": 4}).encode()


# --- pictures ------------------------------------------------------------------------
def picture(*lines: str, size: tuple[int, int] = (1400, 500), mode: str = "RGB") -> Image.Image:
    """Black letters on white; on nothing where the mode has an alpha channel."""
    paper = (255, 255, 255, 0) if mode == "RGBA" else (255, 255, 255)
    image = Image.new(mode if mode in ("RGB", "RGBA") else "RGB", size, paper)
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(56)
    for number, line in enumerate(lines):
        pen.text((60, 60 + 90 * number), line, fill=(0, 0, 0), font=font)
    return image if image.mode == mode else image.convert(mode)


def image_file(image: Image.Image, format: str, **options: Any) -> bytes:
    """The picture as a file."""
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def with_part(content: bytes, name: str, part: bytes | str) -> bytes:
    """A ZIP with another content of one entry."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries: dict[str, bytes | str] = {n: archive.read(n) for n in archive.namelist()}
    return zipped(entries | {name: part})


def retyped(content: bytes, before: str, after: str) -> bytes:
    """An Office file with another content type."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        types = archive.read("[Content_Types].xml").decode()
    assert before in types
    return with_part(content, "[Content_Types].xml", types.replace(before, after))


def scanned(*pages: Image.Image | str) -> bytes:
    """A PDF whose pages are pictures, or text where a string is given."""
    document = pypdfium2.PdfDocument.new()
    for page in pages:
        if isinstance(page, str):
            document.import_pages(pypdfium2.PdfDocument(pdf([[Line(page)]])))
            continue
        width, height = page.size[0] * 72 / 200, page.size[1] * 72 / 200
        target = document.new_page(width, height)
        image = pypdfium2.PdfImage.new(document)
        image.set_bitmap(pypdfium2.PdfBitmap.from_pil(page))
        image.set_matrix(pypdfium2.PdfMatrix().scale(width, height))
        target.insert_obj(image)
        target.gen_content()
    stream = io.BytesIO()
    document.save(stream)
    return stream.getvalue()
