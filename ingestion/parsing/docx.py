"""Word documents: paragraphs, headings, lists, tables, text boxes and notes, in document order.

python-docx opens the package (of documents, templates and those with macros alike); the body
is walked as XML, because content controls, text boxes and notes are not in its object model.
Headings are told by outline level, so styles of any language count. What page headers and
footers say comes once, before and after the text; comments come last.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from docx.opc.exceptions import PackageNotFoundError
from docx.opc.part import Part, XmlPart
from docx.oxml import parse_xml
from docx.package import Package
from lxml import etree

from ingestion.errors import ParseError
from ingestion.parsing import ooxml, zips
from ingestion.parsing.cleaning import one_line
from ingestion.parsing.formats import Format, parser_for
from ingestion.parsing.sniffing import sniff
from ingestion.parsing.tables import table_element
from ingestion.types import Element, ElementKind, Notice, ParsedDocument

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
# In the order in which they follow the text.
_NOTES = ("/footnotes", "/endnotes", "/comments")
# A file inside the document, as one in HTML, which Word shows in its place.
_CHUNK = "/aFChunk"
_CHUNKS_READ = frozenset({Format.HTML, Format.EML, Format.RTF, Format.DOCX, Format.TEXT})
# A page number is nothing to read.
_LETTERS = re.compile(r"[^\W\d_]{2}")
# python-docx's own title for a document that has no properties.
_NO_TITLES = frozenset({"", "Word Document"})
_HEADING_NAME = re.compile(r"heading ([1-9])", re.IGNORECASE)
_LIST_NAME = re.compile(r"list (bullet|number|paragraph)", re.IGNORECASE)
_TRANSPARENT = frozenset(
    {f"{_W}r", f"{_W}hyperlink", f"{_W}smartTag", f"{_W}sdt", f"{_W}sdtContent", f"{_W}ins"}
    | {f"{_W}moveTo", f"{_W}fldSimple", f"{_W}customXml", f"{_W}dir", f"{_W}bdo"}
    | {f"{_W}ruby", f"{_W}rubyBase"}
)
_BREAKS = {f"{_W}tab": "\t", f"{_W}ptab": "\t", f"{_W}br": "\n", f"{_W}cr": "\n"} | {
    f"{_W}noBreakHyphen": "-"
}


_SYMBOLS = str.maketrans(
    "ABGDEZHQIKLMNXOPRSTUFCYWabgdezhqiklmnxoprstufcyw\xa3\xb3\xb4\xb9\xbb\xa5\xae\xb7",
    "ΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩαβγδεζηθικλμνξοπρστυφχψω≤≥×≠≈∞→•",
)


@dataclass(frozen=True, slots=True)
class _Style:
    """What a paragraph style says about structure; `level` 0 = body text."""

    level: int
    is_list: bool


def parse(path: Path) -> ParsedDocument:
    """Read a .docx file."""
    zips.check_unpacked_size(path)
    with ooxml.usual(path) as usual:
        try:
            package = Package.open(str(usual))
            return _document(package)
        except (PackageNotFoundError, KeyError, ValueError, etree.XMLSyntaxError) as exc:
            raise ParseError(f"not a Word document: {exc}", code="corrupt") from exc


def _document(package: Package) -> ParsedDocument:
    main = package.main_document_part
    related = {key: r for key, r in main.rels.items() if not r.is_external}
    parts = {key: (r.reltype, r.target_part) for key, r in related.items()}
    roots = {
        ending: [_root(part) for kind, part in parts.values() if kind.endswith(ending)]
        for ending in ("/styles", "/header", "/footer", *_NOTES)
    }
    chunks = {key: part for key, (kind, part) in parts.items() if kind.endswith(_CHUNK)}
    styles = {name: style for root in roots["/styles"] for name, style in _styles(root).items()}
    walk = _Walk(styles, chunks)
    body = _root(main).find(f"{_W}body")
    text = [] if body is None else list(walk.blocks(body))
    notes = [e for kind in _NOTES for root in roots[kind] for n in root for e in walk.blocks(n)]
    edges = [_edge(walk, roots[kind], text) for kind in ("/header", "/footer")]
    title = package.core_properties.title or ""
    if title.strip() in _NO_TITLES:
        title = next((e.text for e in text if e.kind is ElementKind.HEADING), "")
    return ParsedDocument(
        elements=[*edges[0], *text, *edges[1], *notes],
        title=title,
        notices=[Notice("unread_attachments", walk.unread)] if walk.unread else [],
    )


def _edge(walk: _Walk, roots: list[etree._Element], text: list[Element]) -> list[Element]:
    """What stands at the upper or lower edge of the pages, each line once."""
    said = {one_line(element.text) for element in text}
    found: dict[str, Element] = {}
    for root in roots:
        for element in walk.blocks(root):
            line = one_line(element.text)
            if line not in said and _LETTERS.search(line):
                kind = element.kind if element.kind is ElementKind.TABLE else ElementKind.PARAGRAPH
                found.setdefault(line, replace(element, kind=kind, level=0))
    return list(found.values())


def _root(part: Part) -> etree._Element:
    root: etree._Element = part.element if isinstance(part, XmlPart) else parse_xml(part.blob)
    return root


def _styles(root: etree._Element) -> dict[str, _Style]:
    """Structure of each paragraph style, inherited along `basedOn`."""
    nodes = {node.get(f"{_W}styleId", ""): node for node in root.iter(f"{_W}style")}
    return {style_id: _style(style_id, nodes) for style_id in nodes}


def _style(style_id: str, nodes: dict[str, etree._Element]) -> _Style:
    level: int | None = None
    is_list, seen = False, set[str]()
    while style_id in nodes and style_id not in seen:
        seen.add(style_id)
        node = nodes[style_id]
        name = _value(node.find(f"{_W}name"))
        if level is None:
            level = _named_level(name)
        if level is None:
            level = _outline_level(node)
        is_list = is_list or bool(_LIST_NAME.match(name)) or _is_numbered(node)
        style_id = _value(node.find(f"{_W}basedOn"))
    return _Style(level=level or 0, is_list=is_list and not level)


def _named_level(name: str) -> int | None:
    if name.lower() == "title":
        return 1
    match = _HEADING_NAME.fullmatch(name)
    return min(int(match.group(1)), 6) if match else None


def _outline_level(node: etree._Element) -> int | None:
    """`outlineLvl` counts from 0; 9 means body text."""
    value = _value(node.find(f"{_W}pPr/{_W}outlineLvl"))
    if not value.isdecimal():
        return None
    return 0 if int(value) >= 9 else min(int(value) + 1, 6)


def _is_numbered(node: etree._Element) -> bool:
    number = node.find(f"{_W}pPr/{_W}numPr/{_W}numId")
    return number is not None and _value(number) != "0"


def _value(node: etree._Element | None) -> str:
    return "" if node is None else node.get(f"{_W}val", "")


class _Walk:
    """Reads blocks of one document; holds its styles and the files inside it.

    `unread` counts those of the files that could not be read.
    """

    def __init__(self, styles: Mapping[str, _Style], chunks: Mapping[str, Part]) -> None:
        self._styles, self._chunks = styles, chunks
        self.unread = 0

    def blocks(self, container: etree._Element) -> Iterator[Element]:
        """Elements of a body, cell, text box or content control."""
        for node in container:
            if node.tag == f"{_W}p":
                yield from self._paragraph(node)
            elif node.tag == f"{_W}tbl":
                yield from self._table(node)
            elif node.tag in _TRANSPARENT:
                yield from self.blocks(node)
            elif node.tag == f"{_MC}AlternateContent":
                yield from self.blocks(_preferred(node))
            elif node.tag == f"{_W}altChunk":
                yield from self._chunk(node.get(f"{_R}id", ""))

    def _chunk(self, key: str) -> list[Element]:
        """What a file inside the document says."""
        content = self._chunks[key].blob if key in self._chunks else b""
        with tempfile.NamedTemporaryFile(suffix=".chunk") as file:
            file.write(content)
            file.flush()
            path = Path(file.name)
            try:
                kind = sniff(path, str(self._chunks[key].partname) if content else "")
                if kind in _CHUNKS_READ:
                    return list(parser_for(kind).parse(path).elements)
            except ParseError as exc:
                if exc.code == "too_large":
                    raise
        self.unread += 1
        return []

    def _paragraph(self, node: etree._Element) -> Iterator[Element]:
        boxes: list[etree._Element] = []
        text = "".join(_texts(node, boxes)).strip()
        if text:
            yield self._element(node, text)
        for box in boxes:
            yield from self.blocks(box)

    def _element(self, node: etree._Element, text: str) -> Element:
        style = self._styles.get(_value(node.find(f"{_W}pPr/{_W}pStyle")), _Style(0, False))
        own_level = _outline_level(node)
        level = style.level if own_level is None else own_level
        if level:
            return Element(ElementKind.HEADING, one_line(text), level=level)
        if style.is_list or _is_numbered(node):
            return Element(ElementKind.LIST_ITEM, text)
        return Element(ElementKind.PARAGRAPH, text)

    def _table(self, node: etree._Element) -> Iterator[Element]:
        rows: list[list[str]] = []
        for row in node.iter(f"{_W}tr"):
            if _table_of(row) is node:
                rows.append(self._cells(row, above=rows[-1] if rows else []))
        if max((len(row) for row in rows), default=0) < 2:
            # One column lays text out; what is in it keeps its structure.
            for cell in node.iter(f"{_W}tc"):
                if _table_of(cell) is node:
                    yield from self.blocks(cell)
            return
        first = node.find(f"{_W}tr/{_W}trPr/{_W}tblHeader")
        table = table_element(rows, has_header=True if first is not None else None)
        if table:
            yield table

    def _cells(self, row: etree._Element, *, above: list[str]) -> list[str]:
        """Texts of a row; a cell merged with the one above repeats that one's text."""
        cells: list[str] = []
        for cell in row.iter(f"{_W}tc"):
            if _row_of(cell) is not row:
                continue
            merged = cell.find(f"{_W}tcPr/{_W}vMerge")
            if merged is not None and _value(merged) != "restart" and len(cells) < len(above):
                cells.append(above[len(cells)])
            else:
                cells.append(" ".join(element.text for element in self.blocks(cell)))
            across = _value(cell.find(f"{_W}tcPr/{_W}gridSpan"))
            if across.isdecimal():
                cells += [""] * (min(int(across), 100) - 1)
        return cells


def _ancestor(node: etree._Element, name: str) -> etree._Element | None:
    return next(node.iterancestors(f"{_W}{name}"), None)


def _table_of(node: etree._Element) -> etree._Element | None:
    return _ancestor(node, "tbl")


def _row_of(node: etree._Element) -> etree._Element | None:
    return _ancestor(node, "tr")


def _preferred(node: etree._Element) -> etree._Element:
    """Of a drawing kept in two versions, the one for current programs."""
    choice = node.find(f"{_MC}Choice")
    fallback = node.find(f"{_MC}Fallback")
    return choice if choice is not None else fallback if fallback is not None else node


def _texts(node: etree._Element, boxes: list[etree._Element]) -> Iterator[str]:
    """What a paragraph shows, deleted revisions left out; the text boxes in it go to `boxes`."""
    for child in node:
        if child.tag == f"{_W}t":
            yield child.text or ""
        elif child.tag in _BREAKS:
            yield _BREAKS[child.tag]
        elif child.tag == f"{_W}sym":
            yield _symbol(child)
        elif child.tag == f"{_MC}AlternateContent":
            yield from _texts(_preferred(child), boxes)
        elif child.tag in (f"{_W}drawing", f"{_W}pict", f"{_W}object"):
            outer = _box_of(child)
            boxes += [box for box in child.iter(f"{_W}txbxContent") if _box_of(box) is outer]
        elif child.tag in (f"{_M}oMath", f"{_M}oMathPara"):
            yield "".join(text.text or "" for text in child.iter(f"{_M}t"))
        elif child.tag in _TRANSPARENT and not _is_hidden(child):
            yield from _texts(child, boxes)


def _symbol(node: etree._Element) -> str:
    """A letter of the font Symbol, whose places are those of the Latin letters.

    Source: Unicode, VENDORS/ADOBE/symbol.txt.
    """
    try:
        code = int(node.get(f"{_W}char", ""), 16)
    except ValueError:
        return ""
    place = code & 0xFF if 0xF000 <= code <= 0xF0FF else code
    if node.get(f"{_W}font", "") == "Symbol":
        return chr(place).translate(_SYMBOLS)
    return chr(code)


def _is_hidden(run: etree._Element) -> bool:
    """Whether Word does not show it."""
    mark = run.find(f"{_W}rPr/{_W}vanish")
    return mark is not None and mark.get(f"{_W}val", "1") not in ("0", "false", "off")


def _box_of(node: etree._Element) -> etree._Element | None:
    return _ancestor(node, "txbxContent")
