"""OpenDocument: text, spreadsheets, presentations and drawings, which share one vocabulary.

Read as XML: a spreadsheet's empty stretches are one element with a count, which no object
model may spread out. Sheets and slides are pages; comments come last. Tracked deletions and
tables of contents are left out.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

from lxml import etree

from ingestion.errors import ParseError
from ingestion.parsing import zips
from ingestion.parsing.cleaning import one_line
from ingestion.parsing.sheets import sheet_elements
from ingestion.parsing.tables import table_element
from ingestion.types import Element, ElementKind, Notice, ParsedDocument

_BASE = "urn:oasis:names:tc:opendocument:xmlns:"
_OFFICE = f"{{{_BASE}office:1.0}}"
_TEXT = f"{{{_BASE}text:1.0}}"
_TABLE = f"{{{_BASE}table:1.0}}"
_DRAW = f"{{{_BASE}drawing:1.0}}"
_STYLE = f"{{{_BASE}style:1.0}}"
_SVG = f"{{{_BASE}svg-compatible:1.0}}"
_PRESENTATION = f"{{{_BASE}presentation:1.0}}"
_DC_TITLE = "{http://purl.org/dc/elements/1.1/}title"
_DROPPED = frozenset(
    {f"{_TEXT}tracked-changes", f"{_OFFICE}annotation", f"{_TEXT}table-of-content"}
    | {f"{_OFFICE}forms", f"{_TEXT}sequence-decls", f"{_TEXT}note", f"{_TEXT}alphabetical-index"}
    | {
        f"{_TEXT}page-number",
        f"{_TEXT}ruby-text",
        f"{_OFFICE}event-listeners",
        f"{_DRAW}glue-point",
    }
)
_TITLE_CLASSES = frozenset({"title"})
# A count may be anything; what it repeats is worth keeping a few times.
_MAX_REPEATED = 100
_MAX_REPEATED_CELLS = 1_000
_MAX_DEPTH = 200


def parse(path: Path) -> ParsedDocument:
    """Read an .odt, .ods or .odp file, or a template or drawing; also as one piece of XML."""
    if not zipfile.is_zipfile(path):
        return _document(path.read_bytes(), None)
    if b"encryption-data" in zips.part(path, "META-INF/manifest.xml"):
        raise ParseError("encrypted parts", code="password")
    zips.check_unpacked_size(path)
    return _document(zips.part(path, "content.xml"), zips.part(path, "meta.xml"))


def _document(content: bytes, properties: bytes | None) -> ParsedDocument:
    try:
        root = _tree(content)
    except etree.XMLSyntaxError as exc:
        raise ParseError(f"not an OpenDocument file: {exc}", code="corrupt") from exc
    body = root.find(f"{_OFFICE}body")
    if body is None or not len(body):
        raise ParseError("no body", code="corrupt")
    kind = body[-1] if len(body) == 1 else max(body, key=len)
    hidden = _hidden_styles(root)
    match kind.tag:
        case name if name == f"{_OFFICE}spreadsheet":
            parsed = _spreadsheet(kind, hidden)
        case name if name in (f"{_OFFICE}presentation", f"{_OFFICE}drawing"):
            parsed = _presentation(kind, hidden)
        case _:
            parsed = ParsedDocument(elements=[*_blocks(kind), *_notes(kind), *_comments(kind)])
    title = _title(root if properties is None else properties) or next(
        (e.text for e in parsed.elements if e.kind is ElementKind.HEADING), ""
    )
    return ParsedDocument(
        elements=parsed.elements, pages=parsed.pages, title=title, notices=parsed.notices
    )


def _tree(content: bytes) -> etree._Element:
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, huge_tree=True, remove_comments=True
    )
    return etree.fromstring(content, parser)


def _title(properties: etree._Element | bytes) -> str:
    try:
        root = _tree(properties) if isinstance(properties, bytes) else properties
    except etree.XMLSyntaxError:
        return ""
    node = next(root.iter(_DC_TITLE), None)
    return "" if node is None else one_line(node.text or "")


def _hidden_styles(root: etree._Element) -> frozenset[str]:
    """Names of the styles whose sheets or slides are not shown."""
    return frozenset(
        style.get(f"{_STYLE}name", "")
        for style in root.iter(f"{_STYLE}style")
        for properties in style
        if properties.get(f"{_TABLE}display") == "false"
        or properties.get(f"{_PRESENTATION}visibility") == "hidden"
    )


# --- text ----------------------------------------------------------------------
def _blocks(
    parent: etree._Element, *, page: int | None = None, in_list: bool = False, depth: int = 0
) -> Iterator[Element]:
    """Headings, paragraphs, list items and tables below a node, in order."""
    if depth > _MAX_DEPTH:
        raise ParseError("nested too deeply", code="corrupt")
    for node in parent:
        if not isinstance(node.tag, str) or node.tag in _DROPPED:
            continue
        if node.tag == f"{_TEXT}h":
            yield from _paragraph(node, ElementKind.HEADING, page, depth)
        elif node.tag == f"{_TEXT}p":
            kind = ElementKind.LIST_ITEM if in_list else ElementKind.PARAGRAPH
            yield from _paragraph(node, kind, page, depth)
        elif node.tag == f"{_TABLE}table":
            yield from _text_table(node, page, depth)
        else:
            inside = in_list or node.tag == f"{_TEXT}list"
            yield from _blocks(node, page=page, in_list=inside, depth=depth + 1)


def _paragraph(
    node: etree._Element, kind: ElementKind, page: int | None, depth: int
) -> Iterator[Element]:
    boxes: list[etree._Element] = []
    text = "".join(_inline(node, boxes)).strip()
    if text:
        is_heading = kind is ElementKind.HEADING
        level = node.get(f"{_TEXT}outline-level", "1")
        yield Element(
            kind,
            one_line(text) if is_heading else text,
            page=page,
            level=min(max(int(level) if level.isdecimal() else 1, 1), 6) if is_heading else 0,
        )
    for box in boxes:
        yield from _blocks(box, page=page, depth=depth + 1)


def _inline(node: etree._Element, boxes: list[etree._Element]) -> Iterator[str]:
    """What a paragraph says; the frames in it go to `boxes`."""
    yield node.text or ""
    for child in node:
        if child.tag == f"{_TEXT}s":
            count = child.get(f"{_TEXT}c", "1")
            yield " " * min(int(count) if count.isdecimal() else 1, 80)
        elif child.tag == f"{_TEXT}tab":
            yield "\t"
        elif child.tag == f"{_TEXT}line-break":
            yield "\n"
        elif child.tag in (f"{_SVG}title", f"{_SVG}desc"):
            pass
        elif (
            isinstance(child.tag, str)
            and child.tag.startswith(_DRAW)
            and child.tag != (f"{_DRAW}a")
        ):
            boxes.append(child)
        elif isinstance(child.tag, str) and child.tag not in _DROPPED:
            yield from _inline(child, boxes)
        yield child.tail or ""


def _notes(body: etree._Element) -> Iterator[Element]:
    """Footnotes and endnotes, after the text."""
    for note in body.iter(f"{_TEXT}note-body"):
        yield from _blocks(note)


def _comments(body: etree._Element) -> Iterator[Element]:
    """What readers noted, without their names."""
    for comment in body.iter(f"{_OFFICE}annotation"):
        yield from _blocks(comment)


def _text_table(node: etree._Element, page: int | None, depth: int) -> Iterator[Element]:
    rows = list(_rows(node))
    if max((len(row) for row in rows), default=0) < 2:
        # One column lays text out; what is in it keeps its structure.
        for cell in node.iter(f"{_TABLE}table-cell"):
            if next(cell.iterancestors(f"{_TABLE}table")) is node:
                yield from _blocks(cell, page=page, depth=depth + 1)
        return
    has_header = node.find(f"{_TABLE}table-header-rows") is not None
    if table := table_element(rows, page=page, has_header=has_header or None):
        yield table


# --- sheets --------------------------------------------------------------------
def _spreadsheet(body: etree._Element, hidden: frozenset[str]) -> ParsedDocument:
    elements: list[Element] = []
    left_out = pages = 0
    for table in body.iter(f"{_TABLE}table"):
        if table.getparent() is not body:
            continue
        if table.get(f"{_TABLE}style-name") in hidden:
            left_out += 1
            continue
        pages += 1
        name = table.get(f"{_TABLE}name", "")
        elements += sheet_elements(_rows(table), name=name, page=pages)
        for shapes in table.iter(f"{_TABLE}shapes"):
            elements += _blocks(shapes, page=pages)
    if not elements:
        raise ParseError("no cell has a value", code="empty")
    notices = [Notice("hidden_sheets", left_out)] if left_out else []
    return ParsedDocument(elements=elements, pages=pages, notices=notices)


def _rows(table: etree._Element) -> Iterator[list[str]]:
    """Rows of a table; a cell merged over several rows repeats its text in each."""
    carried: dict[int, tuple[int, str]] = {}
    for node in table.iter(f"{_TABLE}table-row"):
        if next(node.iterancestors(f"{_TABLE}table")) is not table:
            continue
        row: list[str] = []
        column = 0
        for cell in node:
            repeated = _count(cell, f"{_TABLE}number-columns-repeated")
            if cell.tag == f"{_TABLE}table-cell":
                text = _cell(cell)
                if (down := _count(cell, f"{_TABLE}number-rows-spanned")) > 1:
                    carried[column] = (down - 1, text)
            elif cell.tag == f"{_TABLE}covered-table-cell":
                left, text = carried.pop(column, (0, ""))
                if left > 1:
                    carried[column] = (left - 1, text)
            else:
                continue
            if text:
                row += [""] * (column - len(row))
                row += [text] * min(repeated, _MAX_REPEATED)
            column += repeated
        times = _count(node, f"{_TABLE}number-rows-repeated")
        for _ in range(min(times, max(1, _MAX_REPEATED_CELLS // len(row))) if row else 1):
            yield row


def _count(node: etree._Element, name: str) -> int:
    value = node.get(name, "1")
    return max(int(value), 1) if value.isdecimal() and len(value) < 8 else 1


def _cell(cell: etree._Element) -> str:
    """What the cell shows; where no text is kept, its value."""
    shown = " ".join(element.text for element in _blocks(cell))
    if shown:
        return shown
    for name in ("date-value", "time-value", "string-value", "value", "boolean-value"):
        if value := cell.get(f"{_OFFICE}{name}"):
            return value
    return ""


# --- slides --------------------------------------------------------------------
def _presentation(body: etree._Element, hidden: frozenset[str]) -> ParsedDocument:
    elements: list[Element] = []
    left_out = pages = 0
    for slide in body.iter(f"{_DRAW}page"):
        if slide.get(f"{_DRAW}style-name") in hidden:
            left_out += 1
            continue
        pages += 1
        elements += _slide(slide, pages)
    notices = [Notice("hidden_slides", left_out)] if left_out else []
    return ParsedDocument(elements=elements, pages=pages, notices=notices)


def _slide(slide: etree._Element, page: int) -> Iterator[Element]:
    titles = [f for f in slide if f.get(f"{_PRESENTATION}class") in _TITLE_CLASSES]
    for frame in titles:
        if text := one_line(" ".join(e.text for e in _blocks(frame))):
            yield Element(ElementKind.HEADING, text, page=page, level=1)
    for frame in slide:
        # The notes come with their paragraphs; what the slide shows comes first.
        if frame not in titles and frame.tag != f"{_PRESENTATION}notes":
            yield from _blocks_of_frame(frame, page)
    for notes in slide.iter(f"{_PRESENTATION}notes"):
        yield from _blocks(notes, page=page)


def _blocks_of_frame(frame: etree._Element, page: int) -> Iterator[Element]:
    if frame.tag == f"{_TABLE}table":
        yield from _text_table(frame, page, 0)
    elif isinstance(frame.tag, str) and frame.tag not in _DROPPED:
        yield from _blocks(frame, page=page)
