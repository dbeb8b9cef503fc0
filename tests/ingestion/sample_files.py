"""Tiny documents made on the spot, sound and hostile, so that no test needs a file in the tree."""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FONTS = {"body": "Helvetica", "bold": "Helvetica-Bold", "mono": "Courier"}
_PAD = bytes.fromhex("28bf4e5e4e758a4164004e56fffa01082e2e00b6d0683e802f0ca9fe6453697a")


@dataclass(frozen=True)
class Line:
    """One line of text on a PDF page; y counts from the lower edge of a 612 x 792 page."""

    text: str
    x: float = 72
    y: float = 700
    size: float = 11
    font: str = "body"


def paragraph(*lines: str, top: float, x: float = 72, size: float = 11) -> list[Line]:
    """Lines of body text, one below the other."""
    return [Line(text, x=x, y=top - 13 * n, size=size) for n, text in enumerate(lines)]


def pdf(
    pages: Sequence[Sequence[Line]],
    *,
    title: str = "",
    rotate: int = 0,
    user_password: str | None = None,
    outline: Sequence[tuple[str, int]] = (),
) -> bytes:
    """A PDF of these pages. With a password (it may be empty) it is encrypted, RC4 of 40 bits.

    Source: PDF 1.7, sections 7.5 and 7.6.3 (algorithms 1 to 4).
    """
    numbers = {name: 3 + n for n, name in enumerate(FONTS)}
    objects: dict[int, bytes] = {
        number: b"<< /Type /Font /Subtype /Type1 /Encoding /WinAnsiEncoding /BaseFont /%s >>"
        % FONTS[name].encode()
        for name, number in numbers.items()
    }
    key = None
    file_id = hashlib.md5(b"id").digest()
    if user_password is not None:
        key, objects[20] = _encryption(user_password.encode(), file_id)
    kids = [100 + 2 * n for n in range(len(pages))]
    fonts = b" ".join(b"/%s %d 0 R" % (name.encode(), n) for name, n in numbers.items())
    for number, lines in zip(kids, pages, strict=True):
        content = b"".join(_drawn(line) for line in lines)
        if key is not None:
            content = _rc4(_object_key(key, number + 1), content)
        objects[number] = (
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Rotate %d /Contents %d 0 R "
            b"/Resources << /Font << %s >> >> >>" % (rotate, number + 1, fonts)
        )
        objects[number + 1] = b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content)
    refs = b" ".join(b"%d 0 R" % kid for kid in kids)
    objects[2] = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (refs, len(kids))
    objects[1] = b"<< /Type /Catalog /Pages 2 0 R %s >>" % (b"/Outlines 30 0 R" if outline else b"")
    if outline:
        objects[30] = b"<< /Type /Outlines /First 31 0 R /Last %d 0 R >>" % (30 + len(outline))
        for n, (name, page) in enumerate(outline, start=31):
            following = b"/Next %d 0 R" % (n + 1) if n < 30 + len(outline) else b""
            objects[n] = b"<< /Title (%s) /Parent 30 0 R /Dest [%d 0 R /Fit] %s >>" % (
                name.encode(),
                kids[page - 1],
                following,
            )
    objects[10] = b"<< /Title (%s) >>" % _escaped(title)
    return _assembled(objects, file_id, encrypted=key is not None)


def _drawn(line: Line) -> bytes:
    return b"BT /%s %g Tf %g %g Td (%s) Tj ET\n" % (
        line.font.encode(),
        line.size,
        line.x,
        line.y,
        _escaped(line.text),
    )


def _escaped(text: str) -> bytes:
    content = text.encode("cp1252")
    return content.replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")


def _assembled(objects: Mapping[int, bytes], file_id: bytes, *, encrypted: bool) -> bytes:
    out = io.BytesIO()
    out.write(b"%PDF-1.4\n")
    places = {}
    for number, content in sorted(objects.items()):
        places[number] = out.tell()
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, content))
    start = out.tell()
    out.write(b"xref\n0 1\n0000000000 65535 f \n")
    for number, place in sorted(places.items()):
        out.write(b"%d 1\n%010d 00000 n \n" % (number, place))
    encrypt = b"/Encrypt 20 0 R" if encrypted else b""
    name = file_id.hex().encode()
    out.write(
        b"trailer << /Size %d /Root 1 0 R /Info 10 0 R /ID [<%s> <%s>] %s >>\n"
        b"startxref\n%d\n%%%%EOF" % (max(places) + 1, name, name, encrypt, start)
    )
    return out.getvalue()


def _encryption(password: bytes, file_id: bytes) -> tuple[bytes, bytes]:
    padded = (password + _PAD)[:32]
    owner = _rc4(hashlib.md5((b"owner" + _PAD)[:32]).digest()[:5], padded)
    permissions = struct.pack("<i", -4)
    key = hashlib.md5(padded + owner + permissions + file_id).digest()[:5]
    user = _rc4(key, _PAD)
    return key, b"<< /Filter /Standard /V 1 /R 2 /O <%s> /U <%s> /P -4 >>" % (
        owner.hex().encode(),
        user.hex().encode(),
    )


def _object_key(key: bytes, number: int) -> bytes:
    return hashlib.md5(key + struct.pack("<I", number)[:3] + b"\0\0").digest()[: len(key) + 5]


def _rc4(key: bytes, content: bytes) -> bytes:
    state = list(range(256))
    j = 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    i = j = 0
    out = bytearray()
    for byte in content:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)


W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_WORDML = "application/vnd.openxmlformats-officedocument.wordprocessingml"


def docx(
    body: str,
    *,
    styles: str = "",
    footnotes: str = "",
    prologue: str = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>',
    extra: Mapping[str, bytes] | None = None,
) -> bytes:
    """A Word document with this XML between `<w:body>` and `</w:body>`."""
    spaces = (
        f'xmlns:w="{W}" xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
        ' xmlns:wps="urn:wps" xmlns:v="urn:v"'
    )
    parts = {
        "word/document.xml": f"{prologue}<w:document {spaces}><w:body>{body}</w:body></w:document>",
        "word/styles.xml": f"<w:styles {spaces}>{styles}</w:styles>",
        "word/footnotes.xml": f"<w:footnotes {spaces}>{footnotes}</w:footnotes>",
        "[Content_Types].xml": (
            '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
            '<Default Extension="rels" '
            'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            '<Default Extension="xml" ContentType="application/xml"/>'
            f'<Override PartName="/word/document.xml" ContentType="{_WORDML}.document.main+xml"/>'
            f'<Override PartName="/word/styles.xml" ContentType="{_WORDML}.styles+xml"/>'
            f'<Override PartName="/word/footnotes.xml" ContentType="{_WORDML}.footnotes+xml"/>'
            "</Types>"
        ),
        "_rels/.rels": _relations({"officeDocument": "word/document.xml"}),
        "word/_rels/document.xml.rels": _relations(
            {"styles": "styles.xml", "footnotes": "footnotes.xml"}
        ),
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (parts | dict(extra or {})).items():
            archive.writestr(name, content)
    return out.getvalue()


def _relations(targets: Mapping[str, str]) -> str:
    entries = "".join(
        f'<Relationship Id="rId{n}" Type="{_OFFICE}/{kind}" Target="{target}"/>'
        for n, (kind, target) in enumerate(targets.items())
    )
    space = "http://schemas.openxmlformats.org/package/2006/relationships"
    return f'<Relationships xmlns="{space}">{entries}</Relationships>'


def p(text: str, *, style: str = "", properties: str = "") -> str:
    """A Word paragraph."""
    named = f'<w:pStyle w:val="{style}"/>' if style else ""
    return f"<w:p><w:pPr>{named}{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


def zip_with_false_sizes(name: str, content: bytes, *, declared: int) -> bytes:
    """A zip whose one entry unpacks to more than its table of contents says."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    raw = bytearray(out.getvalue())
    local, central = raw.find(b"PK\x03\x04"), raw.find(b"PK\x01\x02")
    struct.pack_into("<L", raw, local + 22, declared)
    struct.pack_into("<L", raw, central + 24, declared)
    struct.pack_into("<L", raw, central + 16, zlib.crc32(content[:declared]))
    struct.pack_into("<L", raw, local + 14, zlib.crc32(content[:declared]))
    return bytes(raw)


def write(folder: Path, name: str, content: bytes | str) -> Path:
    """Write a file and return its path."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
