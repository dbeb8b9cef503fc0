"""XML of any vocabulary: titles as headings, prose as paragraphs, records as `name: value` lines.

Entities that the file itself declares are replaced within the bounds of libxml2, which ends
those that grow without measure; nothing outside the file is read. Of a drawing in SVG its texts
are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from lxml import etree

from ingestion.errors import ParseError
from ingestion.parsing.cleaning import clean, one_line
from ingestion.parsing.decoding import decode
from ingestion.parsing.html import fragment_elements
from ingestion.parsing.tables import table_element
from ingestion.types import Element, ElementKind, ParsedDocument

_DECLARATION = re.compile(r"\s*<\?xml\b[^>]*\?>")
_DECLARED = re.compile(rb"<\?xml\b[^>]*\bencoding\s*=\s*[\"']([A-Za-z0-9._-]+)")
_MARKUP = re.compile(r"</?[a-z][a-z0-9]*\b[^<>]*>", re.IGNORECASE)
_TITLES = frozenset({"title", "head", "heading"})
_TABLES = frozenset({"table", "tgroup"})
_PROSE = frozenset({"p", "para", "paragraph", "text", "t", "line", "l", "tspan", "desc", "value"})
_DRAWN = ("text", "title", "desc")
_WORDS_OF_A_VALUE = 30
_MAX_LEVEL = 6


def parse(path: Path) -> ParsedDocument:
    """Read an .xml or .svg file."""
    content = path.read_bytes()
    declared = _DECLARED.search(content[:1024])
    text = clean(decode(content, declared=declared.group(1).decode() if declared else ""))
    if not text.strip():
        raise ParseError("nothing but white space", code="empty")
    # The text is decoded, so that what it says of its encoding no longer holds.
    root = _tree(_DECLARATION.sub("", text, count=1).strip().encode())
    elements = list(_drawing(root) if _name(root) == "svg" else _elements(root, 1))
    title = next((e.text for e in elements if e.kind is ElementKind.HEADING), "")
    return ParsedDocument(elements=elements, title=title)


def _tree(content: bytes) -> etree._Element:
    # Unless it is told otherwise, lxml replaces entities that the file itself declares, alone.
    parser = etree.XMLParser(
        encoding="utf-8",
        load_dtd=False,
        no_network=True,
        remove_comments=True,
        remove_pis=True,
        strip_cdata=True,
    )
    try:
        return etree.fromstring(content, parser)
    except etree.XMLSyntaxError as exc:
        raise ParseError(f"not well-formed XML: {exc}", code="corrupt") from exc


def _name(node: etree._Element) -> str:
    return etree.QName(node).localname.lower() if isinstance(node.tag, str) else ""


def _drawing(root: etree._Element) -> Iterator[Element]:
    for node in root.iter():
        if _name(node) in _DRAWN and (text := one_line("".join(map(str, node.itertext())))):
            yield Element(ElementKind.PARAGRAPH, text)


def _elements(node: etree._Element, level: int) -> Iterator[Element]:
    """What is below a node; the values that stand side by side make one paragraph."""
    lines = [f"{key}: {value}" for key, value in _attributes(node)]
    for child in node:
        if not _name(child):
            continue  # an entity that is not replaced
        text = one_line("".join(map(str, child.itertext())))
        if _name(child) in _TABLES and (table := _table(child)):
            yield from _paragraph(lines)
            lines = []
            yield table
        elif len(child) and not _is_mixed(child):
            yield from _paragraph(lines)
            lines = []
            inner = any(_name(grandchild) in _TITLES for grandchild in child)
            yield from _elements(child, min(level + inner, _MAX_LEVEL))
        elif _name(child) in _TITLES and text:
            yield from _paragraph(lines)
            lines = []
            yield Element(ElementKind.HEADING, text, level=level)
        elif _MARKUP.search(text):
            yield from _paragraph(lines)
            lines = []
            yield from fragment_elements(text)
        elif len(child) or _name(child) in _PROSE or len(text.split()) > _WORDS_OF_A_VALUE:
            yield from _paragraph(lines)
            lines = []
            if text:
                yield Element(ElementKind.PARAGRAPH, text)
        elif text:
            lines.append(f"{etree.QName(child).localname}: {text}")
        else:
            lines += [f"{key}: {value}" for key, value in _attributes(child)]
    if not len(node) and (text := one_line(node.text or "")):
        lines.append(text)
    yield from _paragraph(lines)


def _table(node: etree._Element) -> Element | None:
    """The rows below a node, by the names that DocBook, CALS and workbooks in XML share."""
    rows = [row for row in node.iter() if _name(row) in ("row", "tr")]
    return table_element([["".join(map(str, cell.itertext())) for cell in row] for row in rows])


def _attributes(node: etree._Element) -> Iterator[tuple[str, str]]:
    """What a node says without text, as records do; names that programs give are left out."""
    for key, value in node.attrib.items():
        name, said = str(key), one_line(str(value))
        if not name.startswith("{") and name.lower() not in ("id", "version") and said:
            yield name, said


def _is_mixed(node: etree._Element) -> bool:
    """Whether it holds text beside elements, as a sentence with marked words does."""
    return any(text and text.strip() for text in [node.text, *(child.tail for child in node)])


def _paragraph(lines: list[str]) -> Iterator[Element]:
    if lines:
        yield Element(ElementKind.PARAGRAPH, "\n".join(lines))
