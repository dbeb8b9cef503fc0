"""The format is told by content; the name only chooses among texts."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest

from ingestion.errors import ParseError
from ingestion.parsing import Format, sniff
from tests.ingestion.sample_files import Line, docx, p, pdf, write

PDF = pdf([[Line("Hello")]])
DOCX = docx(p("Hello"))
OLE = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(504)


def zipped(**entries: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return out.getvalue()


def newer_zip() -> bytes:
    """A zip that asks for a program of the future."""
    raw = bytearray(zipped(a=b"Hi"))
    struct.pack_into("<H", raw, raw.find(b"PK\x01\x02") + 6, 99)
    return bytes(raw)


OPEN_DOCUMENT = b"application/vnd.oasis.opendocument."
OFFICE_XML = {
    name: zipped(**{"[Content_Types].xml": b"", name: b""})
    for name in ("ppt/presentation.xml", "xl/workbook.xml")
}


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.pdf", PDF, Format.PDF),
        ("a.docx", PDF, Format.PDF),
        ("a.txt", PDF, Format.PDF),
        ("a.pdf", b"\n\xa0\xa4\x03" + PDF, Format.PDF),
        ("a.docx", DOCX, Format.DOCX),
        ("a.bin", DOCX, Format.DOCX),
        ("a.txt", b"<!DOCTYPE html><p>Hi", Format.HTML),
        ("a.md", b"\xef\xbb\xbf<html><p>Hi", Format.HTML),
        ("a.htm", b"<p>Hi", Format.HTML),
        ("a.html", "<html><p>Hi".encode("utf-16"), Format.HTML),
        ("README.MD", b"# Hi", Format.MARKDOWN),
        ("a.md", b"<h1 align=center>Hi</h1>", Format.MARKDOWN),
        ("a.txt", b"# Hi", Format.TEXT),
        ("notes", b"Hi", Format.TEXT),
        ("a.txt", b"BM25 is a ranking function.", Format.TEXT),
        ("a.txt", b"A PDF file begins with %PDF-1.7.", Format.TEXT),
        ("a.txt", "Grüße".encode("cp1252"), Format.TEXT),
        ("a.txt", "Hello, world".encode("utf-16-le"), Format.TEXT),
        ("a.txt", "Hello".encode("utf-32"), Format.TEXT),
        ("a.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", Format.IMAGE),
        ("a.txt", b"\xff\xd8\xff\xe0\0\x10JFIF\0", Format.IMAGE),
        ("a.txt", b"BMW builds motorcycles.", Format.TEXT),
        ("a.docx", OFFICE_XML["ppt/presentation.xml"], Format.PPTX),
        ("a", OFFICE_XML["xl/workbook.xml"], Format.XLSX),
        ("a.zip", zipped(mimetype=OPEN_DOCUMENT + b"spreadsheet"), Format.ODS),
        ("a.odt", zipped(mimetype=OPEN_DOCUMENT + b"text-template"), Format.ODT),
        ("a.odp", zipped(mimetype=OPEN_DOCUMENT + b"presentation"), Format.ODP),
        ("a.zip", zipped(mimetype=b"application/epub+zip"), Format.EPUB),
        ("a.zip", zipped(**{"a.txt": b"Hi"}), Format.ZIP),
        ("a.xls", OLE + "WordDocument\0".encode("utf-16-le"), Format.DOC),
        ("a.doc", OLE + "Workbook\0".encode("utf-16-le"), Format.XLS),
        ("a", OLE + "PowerPoint Document\0".encode("utf-16-le"), Format.PPT),
        ("a", OLE + "__properties_version1.0\0".encode("utf-16-le"), Format.MSG),
        ("a.doc", b"{\\rtf1 Hi}", Format.RTF),
        ("a.txt", b"{\\rtf1 Hi}", Format.RTF),
        ("a.xls", b"<html><table><tr><td>1</table>", Format.HTML),
        ("a.csv", b"a;b\n1;2", Format.CSV),
        ("a.TSV", b"a\tb\n1\t2", Format.CSV),
        ("a.rst", b"Title\n=====\n", Format.RST),
        ("a.json", b"{}", Format.JSON),
        ("export", b'[{"a": 1}]', Format.JSON),
        ("a.txt", b'{"a": 1}', Format.TEXT),
        ("book", b'{"cells": [], "nbformat": 4}', Format.NOTEBOOK),
        ("a.ipynb", b'{"metadata": {}, "cells": []}', Format.NOTEBOOK),
        ("a.txt", b"Received: by x\nFrom: a@b\nDate: now\nSubject: Hi\n\nHi", Format.EML),
        ("a.eml", b"Subject: Hi\n\nHi", Format.EML),
        ("feed", b"<?xml version='1.0'?><feed/>", Format.XML),
        ("a.svg", b"<svg/>", Format.XML),
        ("a.avif", b"\0\0\0\x20ftypavif\0\0\0\0", Format.IMAGE),
        ("a.pbm", b"P4\n# made by hand\n8 8\n" + bytes(8), Format.IMAGE),
        ("a.doc", OLE + "WORDDOCUMENT\0".encode("utf-16-le"), Format.DOC),
        ("a.txt", b"From: Ann\nTo: Ben\nSubject: a letter\n\nDear Ben", Format.TEXT),
    ],
)
def test_content_decides(tmp_path: Path, name: str, content: bytes, expected: Format) -> None:
    assert sniff(write(tmp_path, "blob", content), name) is expected


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("a.pdf", b"", "empty"),
        ("a.pdf", b"Not found", "type_mismatch"),
        ("a.docx", b"<html>Please log in</html>", "type_mismatch"),
        ("a.txt", b"\x7fELF\x02\x01\x01\0\0\0", "type_mismatch"),
        ("a.md", bytes(range(256)), "type_mismatch"),
        ("a.pdf", bytes(range(256)), "corrupt"),
        ("a.bin", b"\x1f\x8b\x08\0\0\0\0\0", "unsupported"),
        ("a.docx", DOCX[:300], "corrupt"),
        ("a.xlsb", zipped(**{"[Content_Types].xml": b"", "xl/workbook.bin": b""}), "unsupported"),
        (
            "a.vsdx",
            zipped(**{"[Content_Types].xml": b"", "visio/document.xml": b""}),
            "unsupported",
        ),
        ("a.hwpx", zipped(**{"mimetype": b"application/hwp+zip", "a.xml": b""}), "unsupported"),
        ("a.jar", zipped(**{"META-INF/MANIFEST.MF": b"", "a.class": b""}), "unsupported"),
        ("a.zip", zipped(), "empty"),
        ("a.docx", OLE + "EncryptedPackage\0".encode("utf-16-le"), "password"),
        ("a.pub", OLE + "Quill\0".encode("utf-16-le"), "unsupported"),
        ("a.doc", OLE, "corrupt"),
        ("a.bin", OLE, "unsupported"),
        ("a.zip", newer_zip(), "unsupported"),
        ("a.rtf", b"Hi", "type_mismatch"),
        ("a.jpg", b"<html>Not found</html>", "type_mismatch"),
        ("a.odg", zipped(mimetype=OPEN_DOCUMENT + b"formula"), "unsupported"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_reason(
    tmp_path: Path, name: str, content: bytes, code: str
) -> None:
    with pytest.raises(ParseError) as caught:
        sniff(write(tmp_path, "blob", content), name)
    assert caught.value.code == code


def test_an_encrypted_zip_entry_is_a_password(tmp_path: Path) -> None:
    raw = bytearray(DOCX)
    central = raw.find(b"PK\x01\x02")
    struct.pack_into("<H", raw, central + 8, 1)
    with pytest.raises(ParseError) as caught:
        sniff(write(tmp_path, "blob", bytes(raw)), "a.docx")
    assert caught.value.code == "password"


def test_a_table_of_contents_of_gigabytes_is_not_read_into_memory(tmp_path: Path) -> None:
    raw = bytearray(DOCX)
    struct.pack_into("<L", raw, raw.rfind(b"PK\x05\x06") + 12, 2**31)
    with pytest.raises(ParseError) as caught:
        sniff(write(tmp_path, "blob", bytes(raw)), "a.docx")
    assert caught.value.code == "too_large"


def test_more_entries_than_a_document_has_are_refused(tmp_path: Path) -> None:
    many = zipped(**{f"word/{n}": b"" for n in range(10_001)})
    with pytest.raises(ParseError) as caught:
        sniff(write(tmp_path, "blob", many), "a.docx")
    assert caught.value.code == "too_large"
