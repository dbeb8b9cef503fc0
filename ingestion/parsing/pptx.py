"""PowerPoint presentations: slide by slide its title, text, tables, diagrams, charts and notes.

A slide is a page. Shapes come in the order in which the file keeps them, which is the order
in which screen readers speak them, the title first.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lxml import etree
from pptx.enum.shapes import PP_PLACEHOLDER
from pptx.exc import PackageNotFoundError
from pptx.package import Package

from ingestion.errors import ParseError
from ingestion.parsing import ooxml, zips
from ingestion.parsing.cleaning import one_line
from ingestion.parsing.sheets import cell_text
from ingestion.parsing.tables import table_element
from ingestion.types import Element, ElementKind, Notice, ParsedDocument

_P = "{http://schemas.openxmlformats.org/presentationml/2006/main}"
_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_DIAGRAM = "{http://schemas.openxmlformats.org/drawingml/2006/diagram}"
_ALTERNATE = "{http://schemas.openxmlformats.org/markup-compatibility/2006}AlternateContent"
_CHOICE = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Choice"
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_TITLES = (PP_PLACEHOLDER.TITLE, PP_PLACEHOLDER.CENTER_TITLE, PP_PLACEHOLDER.VERTICAL_TITLE)
_BODIES = (PP_PLACEHOLDER.BODY, PP_PLACEHOLDER.OBJECT, PP_PLACEHOLDER.VERTICAL_BODY)
_FURNITURE = (PP_PLACEHOLDER.SLIDE_NUMBER, PP_PLACEHOLDER.FOOTER, PP_PLACEHOLDER.DATE)
# Furniture that says something.
_LINES = (PP_PLACEHOLDER.FOOTER, PP_PLACEHOLDER.HEADER)
_MAX_DEPTH = 20


def parse(path: Path) -> ParsedDocument:
    """Read a .pptx, .pptm or .ppsx file."""
    zips.check_unpacked_size(path)
    with ooxml.usual(path) as usual:
        try:
            package = Package.open(str(usual))
            slides = package.main_document_part.presentation.slides
        except (PackageNotFoundError, AttributeError, KeyError, etree.XMLSyntaxError) as exc:
            raise ParseError(f"not a presentation: {exc}", code="corrupt") from exc
        return _document(package, slides)


def _document(package: Any, slides: Any) -> ParsedDocument:
    elements: list[Element] = []
    hidden = pages = 0
    said: set[str] = set()
    for slide in slides:
        if slide._element.get("show") in ("0", "false"):
            hidden += 1
            continue
        pages += 1
        elements += _slide(slide, pages)
        elements += [e for e in _around(slide, pages) if e.text not in said]
        said |= {e.text for e in elements if e.page == pages}
    title = package.core_properties.title or ""
    if title.strip() in ("", "PowerPoint Presentation"):
        title = next((e.text for e in elements if e.kind is ElementKind.HEADING), "")
    notices = [Notice("hidden_slides", hidden)] if hidden else []
    return ParsedDocument(elements=elements, pages=pages, title=title, notices=notices)


def _slide(slide: Any, page: int) -> Iterator[Element]:
    shapes = list(slide.shapes)
    titles = [shape for shape in shapes if _placeholder(shape) in _TITLES]
    for shape in titles:
        if text := one_line(shape.text_frame.text):
            yield Element(ElementKind.HEADING, text, page=page, level=1)
    for shape in shapes:
        if shape not in titles:
            yield from _shape(shape, page)
    for node in slide.shapes._spTree.iter(_ALTERNATE):
        # Kept in two versions for old and new programs; python-pptx passes over both.
        choice = node.find(_CHOICE)
        yield from _paragraphs(choice if choice is not None else node, page)
    if slide.has_notes_slide and (frame := slide.notes_slide.notes_text_frame) is not None:
        for line in frame.text.splitlines():
            if line.strip():
                yield Element(ElementKind.PARAGRAPH, line, page=page)
    for relation in slide.part.rels.values():
        # Of either kind, that of old programs and that with answers.
        if not relation.is_external and relation.reltype.endswith("/comments"):
            yield from _comments(relation.target_part.blob, page)


def _comments(content: bytes, page: int) -> Iterator[Element]:
    root = etree.fromstring(content, etree.XMLParser(resolve_entities=False, no_network=True))
    for node in root.iter(f"{_P}text", f"{_A}p"):
        text = "".join(map(str, node.itertext())).strip()
        if text:
            yield Element(ElementKind.PARAGRAPH, text, page=page)


def _around(slide: Any, page: int) -> Iterator[Element]:
    """What a slide shows of its layout and its master, and in its footer."""
    shapes = [*slide.slide_layout.shapes, *slide.slide_layout.slide_master.shapes]
    for shape in [*slide.shapes, *shapes]:
        kind = _placeholder(shape)
        is_own = shape.part is slide.part
        if not shape.has_text_frame or (kind not in _LINES if is_own else kind is not None):
            continue
        if (text := one_line(shape.text_frame.text)) and any(map(str.isalpha, text)):
            yield Element(ElementKind.PARAGRAPH, text, page=page)


def _placeholder(shape: Any) -> Any:
    return shape.placeholder_format.type if shape.is_placeholder else None


def _shape(shape: Any, page: int, depth: int = 0) -> Iterator[Element]:
    kind = _placeholder(shape)
    if kind in _FURNITURE or depth > _MAX_DEPTH:
        return
    if hasattr(shape, "shapes"):
        for inner in shape.shapes:
            yield from _shape(inner, page, depth + 1)
    elif getattr(shape, "has_table", False):
        if table := _table(shape.table, page):
            yield table
    elif getattr(shape, "has_chart", False):
        yield from _chart(shape.chart, page)
    elif shape.has_text_frame:
        item = kind in _BODIES
        for paragraph in shape.text_frame.paragraphs:
            if paragraph.text.strip():
                is_item = item or paragraph.level > 0
                element = ElementKind.LIST_ITEM if is_item else ElementKind.PARAGRAPH
                yield Element(element, paragraph.text.strip(), page=page)
    else:
        yield from _diagram(shape, page)
        described = shape._element.xpath(".//p:cNvPr/@descr")
        if described and described[0].strip():
            yield Element(ElementKind.PARAGRAPH, described[0].strip(), page=page)


def _paragraphs(root: etree._Element, page: int) -> Iterator[Element]:
    for paragraph in root.iter(f"{_A}p"):
        text = "".join(node.text or "" for node in paragraph.iter(f"{_A}t"))
        if text.strip():
            yield Element(ElementKind.PARAGRAPH, text.strip(), page=page)


def _diagram(shape: Any, page: int) -> Iterator[Element]:
    """The points of a SmartArt diagram, which stand in a part of their own."""
    for node in shape._element.iter(f"{_DIAGRAM}relIds"):
        try:
            part = shape.part.related_part(node.get(f"{_RELATION}dm", ""))
        except KeyError:
            continue
        parser = etree.XMLParser(resolve_entities=False, no_network=True)
        for point in etree.fromstring(part.blob, parser).iter(f"{_DIAGRAM}pt"):
            text = " ".join(e.text for e in _paragraphs(point, page))
            if text:
                yield Element(ElementKind.LIST_ITEM, text, page=page)


def _table(table: Any, page: int) -> Element | None:
    rows: list[list[str]] = []
    for row in table.rows:
        cells: list[str] = []
        for cell in row.cells:
            # A cell merged with the one above repeats that one's text.
            if cell._tc.vMerge and rows and len(cells) < len(rows[-1]):
                cells.append(rows[-1][len(cells)])
            else:
                cells.append("" if cell._tc.hMerge else cell.text)
        rows.append(cells)
    return table_element(rows, page=page, has_header=bool(table.first_row) or None)


def _chart(chart: Any, page: int) -> Iterator[Element]:
    """The title and the numbers of a chart, as a table with a column for each series."""
    if chart.has_title and chart.chart_title.has_text_frame:
        title = one_line(chart.chart_title.text_frame.text)
        if title:
            yield Element(ElementKind.PARAGRAPH, title, page=page)
    for plot in chart.plots:
        series = list(plot.series)
        rows = [["", *(str(one.name) for one in series)]]
        columns = [list(one.values) for one in series]
        for number, label in enumerate(plot.categories):
            values = [cell_text(c[number]) if number < len(c) else "" for c in columns]
            rows.append([str(label), *values])
        if table := table_element(rows, page=page, has_header=True):
            yield table
