"""HTML: what a reader sees of a page, with its headings, lists, tables and code.

Navigation, scripts, styles, forms and hidden parts are left out. Nothing is fetched and
no entity or DTD is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from lxml import etree

from ingestion.errors import ParseError
from ingestion.parsing.cleaning import clean, one_line
from ingestion.parsing.decoding import decode
from ingestion.parsing.tables import table_element
from ingestion.types import Element, ElementKind, ParsedDocument

_DECLARED = re.compile(
    rb"<meta[^>]+charset\s*=\s*[\"']?\s*([\w.:-]+)|<\?xml[^>]+encoding\s*=\s*[\"']([\w.:-]+)",
    re.IGNORECASE,
)
_DROPPED = frozenset(
    {"script", "style", "template", "noscript", "head", "nav", "dialog", "map"}
    | {"annotation", "annotation-xml", "iframe", "object", "embed", "canvas", "audio", "video"}
    | {"button", "select", "input", "textarea", "datalist", "rt", "rp"}
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = frozenset(
    {"html", "body", "main", "article", "aside", "section", "header", "footer", "address", "div"}
    | {"p", "blockquote", "center", "details", "summary", "figure", "figcaption", "hr", "pre"}
    | {"ul", "ol", "menu", "li", "dl", "dt", "dd", "form", "fieldset", "legend", "title"}
    | {"table", "caption", "thead", "tbody", "tfoot", "tr", "td", "th"}
    | set(_HEADINGS)
)
_HIDDEN_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_RUN = re.compile(r"\s+")
_AROUND_BREAK = re.compile(r" *\n *")
_BLANKS = re.compile(r" {2,}")
_MAX_SPAN = 100
_MAX_CELLS = 200_000
_WORDS_OF_A_LAYOUT_CELL = 120


def parse(path: Path) -> ParsedDocument:
    """Read an HTML page."""
    root = _page(path.read_bytes())
    if root is None:
        return ParsedDocument(elements=[])
    title = next((one_line(_text(node)) for node in root.iter("title")), "")
    elements = _Walk().elements(root)
    if not title:
        title = next((e.text for e in elements if e.kind is ElementKind.HEADING), "")
    elif not any(e.kind is ElementKind.HEADING and e.level == 1 for e in elements):
        # The title is the only name of a page that has no main heading.
        elements.insert(0, Element(ElementKind.HEADING, title, level=1))
    return ParsedDocument(elements=elements, title=title)


def chapter_elements(content: bytes) -> list[Element]:
    """The elements of a page that is part of a book, whose title is not its own."""
    root = _page(content)
    return [] if root is None else _Walk().elements(root)


def fragment_elements(markup: str) -> list[Element]:
    """The elements of a piece of HTML, for formats that embed some."""
    root = _tree(clean(markup))
    return [] if root is None else _Walk().elements(root)


def _page(content: bytes) -> etree._Element | None:
    declared = _DECLARED.search(content[:4096])
    charset = (declared.group(1) or declared.group(2)).decode("ascii") if declared else ""
    return _tree(clean(decode(content, declared=charset)))


def _tree(markup: str) -> etree._Element | None:
    # Bytes, because lxml refuses a decoded string that declares an encoding.
    parser = etree.HTMLParser(
        encoding="utf-8", no_network=True, remove_comments=True, remove_pis=True, huge_tree=True
    )
    content = markup.encode()
    root = etree.fromstring(content, parser) if content.strip() else None
    if any(entry.type_name == "ERR_RESOURCE_LIMIT" for entry in parser.error_log):
        # libxml2 drops what is nested deeper than 2,048 elements and goes on.
        raise ParseError("nested too deeply", code="corrupt")
    return root


class _Walk:
    """One pass over a tree: text gathers until a block begins or ends, then becomes an element."""

    def __init__(self) -> None:
        self._found: list[Element] = []
        self._gathered: list[str] = []
        self._kind = ElementKind.PARAGRAPH
        self._level = 0

    def elements(self, root: etree._Element) -> list[Element]:
        """All elements below `root`, in document order."""
        walk = etree.iterwalk(root, events=("start", "end"))
        for event, node in walk:
            if event == "start":
                if _is_dropped(node) or self._took_whole(node):
                    # `end` follows a skipped node too; its tail is gathered there.
                    walk.skip_subtree()
                else:
                    self._begin(node)
            else:
                self._end(node)
        self._close()
        return self._found

    def _took_whole(self, node: etree._Element) -> bool:
        """Tables, code and drawings are taken at once, not walked."""
        if node.tag == "svg":
            self._gathered.append(f" {_drawn(node)} ")
            return True
        if node.tag == "pre":
            self._close()
            if (text := _text(node).strip("\n")).strip():
                self._found.append(Element(ElementKind.CODE, text))
            return True
        if node.tag == "table" and _is_data_table(node):
            self._close()
            caption = next((one_line(_text(child)) for child in node.iter("caption")), "")
            if caption:
                self._found.append(Element(ElementKind.PARAGRAPH, caption))
            if table := _table(node):
                self._found.append(table)
            return True
        return False

    def _begin(self, node: etree._Element) -> None:
        if node.tag in _BLOCKS:
            self._close()
        if node.tag in _HEADINGS:
            self._kind, self._level = ElementKind.HEADING, _HEADINGS[str(node.tag)]
        elif node.tag == "li":
            self._kind = ElementKind.LIST_ITEM
        elif node.tag == "br":
            self._gathered.append("\n")
        elif node.tag == "img" and (described := node.get("alt")):
            self._gathered.append(f" {described} ")
        if node.text and node.tag != "title":
            self._gathered.append(_RUN.sub(" ", node.text))

    def _end(self, node: etree._Element) -> None:
        if node.tag in _BLOCKS:
            self._close()
        if node.tag == "li" or node.tag in _HEADINGS:
            self._kind, self._level = ElementKind.PARAGRAPH, 0
        if node.tail and node.getparent() is not None:
            self._gathered.append(_RUN.sub(" ", node.tail))

    def _close(self) -> None:
        text = _tidy("".join(self._gathered))
        self._gathered = []
        if text:
            if self._kind is ElementKind.HEADING:
                text = one_line(text)
            self._found.append(Element(self._kind, text, level=self._level))
            self._kind, self._level = ElementKind.PARAGRAPH, 0


def _tidy(text: str) -> str:
    return _BLANKS.sub(" ", _AROUND_BREAK.sub("\n", text)).strip()


def _is_dropped(node: etree._Element) -> bool:
    if node.tag in _DROPPED or not isinstance(node.tag, str):
        return True
    if "hidden" in node.attrib or _HIDDEN_STYLE.search(node.get("style", "")):
        return True
    return node.get("role") == "navigation"


def _text(node: etree._Element) -> str:
    """All text below a node, dropped parts excluded, line breaks kept."""
    parts: list[str] = []
    walk = etree.iterwalk(node, events=("start", "end"))
    for event, child in walk:
        if event == "start":
            if child is not node and _is_dropped(child):
                walk.skip_subtree()
                continue
            if child.tag == "svg":
                parts.append(f" {_drawn(child)} ")
                walk.skip_subtree()
                continue
            if child.tag == "br":
                parts.append("\n")
            elif child.tag in _BLOCKS and child is not node:
                parts.append(" ")
            parts.append(child.text or "")
        elif child is not node:
            parts.append(child.tail or "")
    return "".join(parts)


def _drawn(drawing: etree._Element) -> str:
    """The words in a drawing; what icons are called is not among them."""
    return " ".join(one_line("".join(map(str, text.itertext()))) for text in drawing.iter("text"))


def _is_data_table(table: etree._Element) -> bool:
    """Whether a table holds data; one that only lays out the page is walked like a div."""
    if table.get("role") in ("presentation", "none") or table.find(".//table") is not None:
        return False
    rows = list(_rows(table))
    if max((len(row) for row in rows), default=0) < 2:
        return False
    if any(cell.tag == "th" for row in rows for cell in row):
        return True
    longest = max(len(_text(cell).split()) for row in rows for cell in row)
    return longest <= _WORDS_OF_A_LAYOUT_CELL


def _rows(table: etree._Element) -> Iterator[list[etree._Element]]:
    for row in table.iter("tr"):
        yield [cell for cell in row if cell.tag in ("td", "th") and not _is_dropped(cell)]


def _table(table: etree._Element) -> Element | None:
    """Spread row spans over the rows they cover; a column span leaves its other columns empty."""
    rows: list[list[str]] = []
    carried: dict[int, tuple[int, str]] = {}
    count = 0
    for cells in _rows(table):
        row: list[str] = []
        for cell in cells:
            _carry(row, carried)
            text = one_line(_text(cell))
            down, across = _span(cell, "rowspan"), _span(cell, "colspan")
            if down > 1:
                carried |= {len(row) + i: (down - 1, text if i == 0 else "") for i in range(across)}
            row += [text, *[""] * (across - 1)]
        _carry(row, carried)
        count += len(row)
        if count > _MAX_CELLS:
            break
        rows.append(row)
    return table_element(rows, has_header=_has_header(table))


def _has_header(table: etree._Element) -> bool | None:
    """True if the page says so, None if it does not say."""
    if table.find("thead/tr") is not None:
        return True
    first = next(_rows(table), [])
    return (bool(first) and all(cell.tag == "th" for cell in first)) or None


def _carry(row: list[str], carried: dict[int, tuple[int, str]]) -> None:
    """Fill the next columns from cells of earlier rows that reach down to this one."""
    while (column := len(row)) in carried:
        left, text = carried.pop(column)
        row.append(text)
        if left > 1:
            carried[column] = (left - 1, text)


def _span(cell: etree._Element, name: str) -> int:
    value = cell.get(name, "1").strip()
    return min(max(int(value), 1), _MAX_SPAN) if value.isdecimal() else 1
