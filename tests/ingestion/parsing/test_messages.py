"""Mail: whoever wrote it with whatever, its text is read once and its attachments with it."""

from __future__ import annotations

import struct
from email.message import EmailMessage
from pathlib import Path

import pytest

from ingestion.types import ElementKind, Notice
from tests.ingestion.parsing.made import image_file, mail, msg, picture, read, scanned, texts

HEADERS = (
    "From: Ann Müller <ann@example.org>\nTo: ben@example.org\nDate: Fri, 01 Mar 2024 10:00:00 +0100"
)
BINARY = bytes(range(256)) * 20


def test_a_message_gives_its_headers_and_what_is_attached(tmp_path: Path) -> None:
    def build(message: EmailMessage) -> None:
        message.set_content("Dear Ben,\n\nsee the list.\n")
        message.add_attachment(
            "name,town\nZoë,Ulm\n".encode(), maintype="text", subtype="csv", filename="Größen.csv"
        )

    found = read(tmp_path, mail(build), "a.eml")

    assert found.title == "Käse für Ben"
    assert texts(found) == [
        "Käse für Ben",
        HEADERS,
        "Dear Ben,",
        "see the list.",
        "Attachment: Größen.csv",
        "name | town\nZoë | Ulm",
    ]
    assert list(found.notices) == []


def test_of_two_versions_one_is_read_and_the_layout_pictures_are_none(tmp_path: Path) -> None:
    def build(message: EmailMessage) -> None:
        message.set_content("Roses are red.\n")
        message.add_alternative("<p>Roses are <b>red</b>.</p>", subtype="html")
        message.get_payload()[1].add_related(  # type: ignore[union-attr,index]
            image_file(picture("Logo"), "PNG"), "image", "png", cid="<logo>"
        )

    found = read(tmp_path, mail(build), "a.eml")

    assert texts(found)[2:] == ["Roses are red."]
    assert list(found.notices) == []


def test_html_that_only_says_it_cannot_be_shown_gives_way_to_the_text(tmp_path: Path) -> None:
    def build(message: EmailMessage) -> None:
        message.set_content("All the words of the message stand in this version of it.\n")
        message.add_alternative("<p>See text.</p>", subtype="html")

    assert texts(read(tmp_path, mail(build), "a.eml"))[2:] == [
        "All the words of the message stand in this version of it."
    ]


def test_a_message_that_is_only_html_keeps_its_tables(tmp_path: Path) -> None:
    content = (
        b"From: a@b\nSubject: x\nMIME-Version: 1.0\nContent-Type: text/html; charset=iso-8859-1\n"
        b"Content-Transfer-Encoding: quoted-printable\n\n<table><tr><th>Ort<th>Zahl<tr><td>K=F6ln="
        b"\n<td>7</table><p style=3D'display:none'>unseen</p>"
    )
    assert texts(read(tmp_path, content, "a.eml")) == ["x", "From: a@b", "Ort | Zahl\nKöln | 7"]


def test_japanese_of_the_nineties_is_read(tmp_path: Path) -> None:
    content = (
        b"From: a@b\nSubject: =?iso-2022-jp?B?GyRCRnxLXBsoQg==?=\n"
        b"Content-Type: text/plain; charset=iso-2022-jp\n\n"
    ) + "日本語の本文です。".encode("iso-2022-jp")
    found = read(tmp_path, content, "a.eml")

    assert found.title == "日本"
    assert texts(found)[-1] == "日本語の本文です。"


def test_what_cannot_be_read_is_counted_and_a_message_inside_is_read(tmp_path: Path) -> None:
    inner = EmailMessage()
    inner["Subject"] = "Inner subject"
    inner.set_content("Inner words.")

    def build(message: EmailMessage) -> None:
        message.set_content("Outer words.")
        message.add_attachment(inner)
        message.add_attachment(
            BINARY, maintype="application", subtype="octet-stream", filename="tool.exe"
        )

    found = read(tmp_path, mail(build), "a.eml")

    assert texts(found)[2:] == ["Outer words.", "Inner subject", "Inner words."]
    assert list(found.notices) == [Notice("unread_attachments", 1)]


def test_an_attached_scan_is_counted_beside_what_was_read(tmp_path: Path) -> None:
    def build(message: EmailMessage) -> None:
        message.set_content("Words.")
        for name, pages in (("a.pdf", ("Its text.", picture("Scan"))), ("b.pdf", ("More text.",))):
            message.add_attachment(
                scanned(*pages), maintype="application", subtype="pdf", filename=name
            )

    found = read(tmp_path, mail(build), "a.eml")

    assert texts(found)[3:] == ["Attachment: a.pdf", "Its text.", "Attachment: b.pdf", "More text."]
    assert list(found.notices) == [Notice("unread_attachments", 1)]


@pytest.mark.parametrize(
    "content",
    [
        b"From: a@b\nContent-Type: multipart/mixed; boundary=x\n\n--x\n\nCut off words",
        b"From: a@b\nContent-Type: text/plain; charset=no-such\n\nCut off words",
        b"From: a@b\nContent-Type: text/plain\nContent-Transfer-Encoding: base64\n\n"
        b"Q3V0IG9mZiB3b3Jkcy4gQ",
        b"From: =?utf-8?B?!!?= <a@b>\nSubject: =?x?Q?=FF?=\n\nCut off words",
        b"From Ann Fri Mar  1 10:00:00 2024\nFrom: a@b\nTo: c@d\n\nCut off words",
    ],
    ids=["no end", "unknown charset", "bad base64", "bad headers", "out of a mailbox"],
)
def test_a_damaged_message_still_gives_its_words(tmp_path: Path, content: bytes) -> None:
    assert texts(read(tmp_path, content, "a.eml"))[-1].startswith("Cut off words")


def utf16(text: str) -> bytes:
    return text.encode("utf-16-le")


def test_an_outlook_message_is_read_with_its_attachments(tmp_path: Path) -> None:
    csv = "name,town\nZoë,Ulm\n" + "Ann,Rom\n" * 600
    found = read(
        tmp_path,
        msg(
            {
                "0037001F": utf16("Käse"),
                "0C1A001F": utf16("Ann"),
                "0C1F001F": utf16("ann@example.org"),
                "0E04001F": utf16("Ben"),
                "1000001F": utf16("Dear Ben"),
            },
            [("list.csv", csv.encode()), ("tool.exe", BINARY)],
        ),
        "a.msg",
    )

    assert found.title == "Käse"
    assert texts(found)[:4] == [
        "Käse",
        "From: Ann <ann@example.org>\nTo: Ben",
        "Dear Ben",
        "Attachment: list.csv",
    ]
    assert texts(found, ElementKind.TABLE)[0].startswith("name | town\nZoë | Ulm\n")
    assert list(found.notices) == [Notice("unread_attachments", 1)]


def test_an_outlook_message_inside_another_is_read(tmp_path: Path) -> None:
    inside = {"0037001F": utf16("Lamps"), "1000001F": utf16("They are lit.")}
    content = msg({"0037001F": utf16("Fwd"), "1000001F": utf16("See below.")}, inside=inside)
    found = read(tmp_path, content, "a.msg")
    assert texts(found) == ["Fwd", "See below.", "Lamps", "They are lit."]
    assert list(found.notices) == []


def test_an_outlook_message_in_compressed_rtf_is_unpacked(tmp_path: Path) -> None:
    # The example of [MS-OXRTFCP], section 3.1.1: references into the window of common words.
    packed = bytes.fromhex(
        "2d0000002b0000004c5a4675f1c5c7a703000a00726370673132354232"
        "0af32068656c090020627705b06c647d0a800fa0"
    )
    from ingestion.parsing.msg import _unpacked

    assert struct.unpack_from("<L", packed, 4)[0] == 0x2B
    assert _unpacked(packed) == b"{\\rtf1\\ansi\\ansicpg1252\\pard hello world}\r\n"


def test_headers_in_raw_bytes_of_an_old_encoding_are_read(tmp_path: Path) -> None:
    content = "From: Jörg <j@example.org>\nSubject: Grüße aus Köln\n\nSchöne Grüße."
    found = read(tmp_path, content.encode("latin-1"), "a.eml")

    assert found.title == "Grüße aus Köln"
    assert texts(found) == ["Grüße aus Köln", "From: Jörg <j@example.org>", "Schöne Grüße."]


def test_a_message_in_utf_16_is_read(tmp_path: Path) -> None:
    content = "From: ann@example.org\nSubject: Käse\n\nViolets are blue".encode("utf-16")
    found = read(tmp_path, content, "a.eml")
    assert found.title == "Käse"
    assert texts(found)[-1] == "Violets are blue"
