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
        ("a.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "no_text"),
        ("a.docx", DOCX[:300], "corrupt"),
        ("a.xlsx", zipped(**{"[Content_Types].xml": b"", "xl/workbook.xml": b""}), "unsupported"),
        ("a.zip", zipped(**{"a.txt": b"Hi"}), "unsupported"),
        ("a.docx", OLE + "EncryptedPackage".encode("utf-16-le"), "password"),
        ("a.doc", OLE + "WordDocument".encode("utf-16-le"), "unsupported"),
        ("a.csv", b"a;b\n1;2", "unsupported"),
        ("a.json", b"{}", "unsupported"),
        ("a.rtf", b"{\\rtf1 Hi}", "unsupported"),
        ("a.txt", b"{\\rtf1 Hi}", "unsupported"),
        ("feed", b"<?xml version='1.0'?><feed/>", "unsupported"),
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
