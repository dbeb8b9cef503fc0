"""Office files that Office opens and libraries do not, and what stands beside their text."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import docx as python_docx
import pytest

from ingestion.types import ElementKind
from tests.ingestion.parsing.made import (
    OPEN_DOCUMENT,
    open_document,
    pptx,
    read,
    sheets,
    slides,
    texts,
    with_part,
    xlsx,
    zipped,
)
from tests.ingestion.sample_files import W, docx, p

OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
STRICT = {
    W: "http://purl.oclc.org/ooxml/wordprocessingml/main",
    OFFICE: "http://purl.oclc.org/ooxml/officeDocument/relationships",
    "http://schemas.openxmlformats.org/presentationml/2006/main": (
        "http://purl.oclc.org/ooxml/presentationml/main"
    ),
    "http://schemas.openxmlformats.org/spreadsheetml/2006/main": (
        "http://purl.oclc.org/ooxml/spreadsheetml/main"
    ),
    "http://schemas.openxmlformats.org/drawingml/2006/main": (
        "http://purl.oclc.org/ooxml/drawingml/main"
    ),
}


def entries(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def strict(content: bytes) -> bytes:
    """The same as a program saves it that is told to keep strictly to the standard."""
    found = entries(content)
    for usual, other in STRICT.items():
        found = {n: c.replace(usual.encode(), other.encode()) for n, c in found.items()}
    return zipped(found)


def related(content: bytes, kind: str, target: str, part: bytes | None = None) -> bytes:
    """A Word document with one more relation, `rIdX`, and the part it leads to."""
    name = "word/_rels/document.xml.rels"
    relation = f'<Relationship Id="rIdX" Type="{OFFICE}/{kind}" Target="{target}"/>'
    found = entries(content)
    changed = found[name].decode().replace("</Relationships>", f"{relation}</Relationships>")
    content = with_part(content, name, changed)
    if part is None:
        return content
    ending = target.rpartition(".")[2]
    types = entries(content)["[Content_Types].xml"].decode()
    known = f'<Default Extension="{ending}" ContentType="application/octet-stream"/></Types>'
    content = with_part(content, "[Content_Types].xml", types.replace("</Types>", known))
    return with_part(content, f"word/{target}", part)


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("a.docx", docx(p("Lighthouse")), "Lighthouse"),
        ("a.pptx", pptx(slides), "Lighthouses"),
        ("a.xlsx", xlsx(sheets), "Sales of 2024"),
    ],
)
def test_the_strict_kind_of_a_format_is_read_like_the_usual_one(
    tmp_path: Path, name: str, content: bytes, word: str
) -> None:
    usual = read(tmp_path, content, name)
    assert read(tmp_path, strict(content), name) == usual
    assert any(word in text for text in texts(usual))


def test_names_of_parts_in_another_case_or_with_backslashes_are_found(tmp_path: Path) -> None:
    found = entries(docx(p("Lighthouse")))
    shouted = zipped({name.upper(): content for name, content in found.items()})
    slanted = zipped({name.replace("/", "\\"): content for name, content in found.items()})
    assert texts(read(tmp_path, shouted, "a.docx")) == ["Lighthouse"]
    assert texts(read(tmp_path, slanted, "a.docx")) == ["Lighthouse"]


def test_a_relation_that_leads_nowhere_costs_no_text(tmp_path: Path) -> None:
    content = related(docx(p("Lighthouse")), "image", "NULL")
    assert texts(read(tmp_path, content, "a.docx")) == ["Lighthouse"]


def test_headers_footers_and_comments_are_read_once(tmp_path: Path) -> None:
    document = python_docx.Document()
    for _ in range(2):
        section = document.add_section()
        section.header.is_linked_to_previous = section.footer.is_linked_to_previous = False
        section.header.paragraphs[0].text = "Quandt & Sons"
        section.footer.paragraphs[0].text = "7"
    run = document.add_paragraph("The lamp is lit.").runs[0]
    document.add_comment(run, text="By whom?", author="Ann", initials="A")
    out = io.BytesIO()
    document.save(out)
    found = texts(read(tmp_path, out.getvalue(), "a.docx"))
    assert found == ["Quandt & Sons", "The lamp is lit.", "By whom?"]


@pytest.mark.parametrize(
    ("target", "part"),
    [
        ("chunk.html", b"<html><body><h1>Lamps</h1><p>K&auml;se</p></body></html>"),
        (
            "chunk.mht",
            b"MIME-Version: 1.0\nContent-Type: text/html; charset=utf-8\n"
            b"Content-Transfer-Encoding: quoted-printable\n\n<h1>Lamps</h1><p>K=C3=A4se</p>",
        ),
        ("chunk.docx", docx(p("Lamps", properties='<w:outlineLvl w:val="0"/>') + p("Käse"))),
    ],
)
def test_a_file_inside_a_word_document_is_read_in_its_place(
    tmp_path: Path, target: str, part: bytes
) -> None:
    chunk = f'<w:altChunk xmlns:r="{OFFICE}" r:id="rIdX"/>'
    content = related(docx(p("Before") + chunk + p("After")), "aFChunk", target, part)
    found = read(tmp_path, content, "a.docx")
    assert texts(found) == ["Before", "Lamps", "Käse", "After"]
    assert texts(found, ElementKind.HEADING) == ["Lamps"]
    assert found.notices == []


def test_symbols_and_words_with_their_reading_are_letters(tmp_path: Path) -> None:
    ruby = (
        "<w:p><w:r><w:ruby><w:rt><w:r><w:t>とうだい</w:t></w:r></w:rt>"
        "<w:rubyBase><w:r><w:t>灯台</w:t></w:r></w:rubyBase></w:ruby></w:r><w:r><w:t>の光</w:t></w:r>"
        '<w:r><w:sym w:font="Symbol" w:char="F061"/></w:r></w:p>'
    )
    assert texts(read(tmp_path, docx(ruby), "a.docx")) == ["灯台の光α"]


def test_comments_and_footers_of_slides_are_read(tmp_path: Path) -> None:
    content = pptx(slides)
    layout = "ppt/slideLayouts/slideLayout2.xml"
    shape = (
        '<p:sp><p:nvSpPr><p:cNvPr id="99" name="Mark"/><p:cNvSpPr/><p:nvPr/></p:nvSpPr><p:spPr/>'
        "<p:txBody><a:bodyPr/><a:p><a:r><a:t>Harbour office</a:t></a:r></a:p></p:txBody></p:sp>"
    )
    drawn = entries(content)[layout].decode().replace("</p:spTree>", f"{shape}</p:spTree>")
    content = with_part(content, layout, drawn)
    relations = "ppt/slides/_rels/slide1.xml.rels"
    comment = f'<Relationship Id="rIdX" Type="{OFFICE}/comments" Target="../comments/c.xml"/>'
    linked = entries(content)[relations].decode()
    content = with_part(
        content, relations, linked.replace("</Relationships>", f"{comment}</Relationships>")
    )
    content = with_part(
        content,
        "ppt/comments/c.xml",
        '<p:cmLst xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main">'
        "<p:cm><p:text>Which ships?</p:text></p:cm></p:cmLst>",
    )
    found = read(tmp_path, content, "a.pptx")
    assert [e.page for e in found.elements if e.text == "Which ships?"] == [1]
    assert texts(found).count("Harbour office") == 1


def test_open_document_in_one_piece_of_xml_is_read_like_the_package(tmp_path: Path) -> None:
    body = (
        '<text:h text:outline-level="1">Lamps</text:h><text:p>Lit<office:annotation>'
        "<text:p>By whom?</text:p></office:annotation> at six.</text:p>"
    )
    package = open_document("text", body)
    content = entries(package)["content.xml"].decode()
    kind = f'office:mimetype="{OPEN_DOCUMENT}text"'
    flat = '<?xml version="1.0"?>' + (
        content.replace("office:document-content", f"office:document {kind}", 1).replace(
            "</office:document-content>", "</office:document>"
        )
    )
    found = read(tmp_path, flat.encode(), "a.fodt")
    assert found.elements == read(tmp_path, package, "a.odt").elements
    assert texts(found) == ["Lamps", "Lit at six.", "By whom?"]
