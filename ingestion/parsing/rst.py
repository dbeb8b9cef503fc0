"""reStructuredText, read with docutils: sections, paragraphs, lists, tables, code.

Nothing is included from other files and no raw output is passed through. Directives and
roles of other programs (Sphinx) are kept as the text in them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.core import publish_doctree
from docutils.parsers.rst import Directive, directives, roles
from docutils.utils import SystemMessage

from ingestion.errors import ParseError
from ingestion.parsing.cleaning import clean, one_line
from ingestion.parsing.decoding import decode
from ingestion.parsing.tables import table_element
from ingestion.parsing.text import text_elements
from ingestion.types import Element, ElementKind, ParsedDocument

_SETTINGS = {
    "file_insertion_enabled": False,
    "raw_enabled": False,
    "report_level": 5,
    "halt_level": 5,
    "input_encoding": "unicode",
    "doctitle_xform": False,
    "sectsubtitle_xform": False,
    "smart_quotes": False,
    "line_length_limit": 1_000_000,
    "_disable_config": True,
}
_CODE = frozenset({"code", "code-block", "sourcecode", "highlight", "parsed-literal", "doctest"})
_SILENT = frozenset(
    {"toctree", "include", "literalinclude", "index", "only", "automodule", "autoclass"}
    | {"autofunction", "autodata", "autosummary", "currentmodule", "module", "raw", "contents"}
)
_DROPPED = (nodes.comment, nodes.substitution_definition, nodes.system_message, nodes.raw)
_MAX_DEPTH = 100
_find_directive, _find_role = directives.directive, roles.role


class _Kept(Directive):  # type: ignore[misc]  # docutils has no types
    """A directive that docutils does not know: its argument and its content."""

    optional_arguments = 1
    final_argument_whitespace = True
    has_content = True

    def run(self) -> list[nodes.Node]:
        """The nodes that stand for the directive."""
        if self.name in _SILENT:
            return []
        if self.name in _CODE:
            text = "\n".join(self.content)
            return [nodes.literal_block(text, text)]
        found: list[nodes.Node] = []
        if self.arguments:
            found.append(nodes.paragraph("", self.arguments[0]))
        holder = nodes.Element()
        # Options of unknown names stand at the head of the content, as fields.
        self.state.nested_parse(self.content, self.content_offset, holder)
        return found + [node for node in holder.children if not isinstance(node, nodes.field_list)]


def parse(path: Path) -> ParsedDocument:
    """Read a reStructuredText file."""
    text = clean(decode(path.read_bytes()))
    if not text.strip():
        raise ParseError("nothing but white space", code="empty")
    directives.directive, roles.role = _directive, _role
    try:
        tree = publish_doctree(text, settings_overrides=_SETTINGS)
    except (SystemMessage, RecursionError):
        return ParsedDocument(elements=text_elements(text))
    finally:
        directives.directive, roles.role = _find_directive, _find_role
    elements = list(_elements(tree))
    title = next((e.text for e in elements if e.kind is ElementKind.HEADING), "")
    return ParsedDocument(elements=elements, title=title)


def _directive(name: str, language: Any, document: Any) -> tuple[Any, list[Any]]:
    """What docutils calls for `.. name::`."""
    short = name.lower().rpartition(":")[2]
    if short in _SILENT or short in _CODE:
        return _Kept, []
    found, _ = _find_directive(name, language, document)
    return found or _Kept, []


def _role(name: str, language: Any, line: int, reporter: Any) -> tuple[Any, list[Any]]:
    """What docutils calls for `:name:`."""
    found, _ = _find_role(name, language, line, reporter)
    return found or _text_role, []


def _text_role(
    role: str, raw: str, text: str, line: int, inliner: Any, *_: Any, **__: Any
) -> tuple[list[nodes.Node], list[Any]]:
    """A reference as its readers see it: `title <target>` is the title, `~a.b.c` is c."""
    shown = nodes.unescape(text)
    if shown.endswith(">") and "<" in shown:
        shown = shown[: shown.rindex("<")].strip() or shown
    if shown.startswith("~"):
        shown = shown.rpartition(".")[2]
    return [nodes.inline(raw, shown.lstrip("!~"))], []


def _elements(node: nodes.Node, level: int = 0, depth: int = 0) -> Iterator[Element]:
    if depth > _MAX_DEPTH:
        raise ParseError("nested too deeply", code="corrupt")
    for child in node.children:
        if isinstance(child, _DROPPED):
            continue
        if isinstance(child, nodes.section):
            yield from _elements(child, level + 1, depth + 1)
        elif isinstance(child, nodes.title | nodes.rubric):
            text = one_line(child.astext())
            yield Element(ElementKind.HEADING, text, level=min(max(level, 1), 6))
        elif isinstance(child, nodes.literal_block | nodes.doctest_block | nodes.math_block):
            yield Element(ElementKind.CODE, child.astext())
        elif isinstance(child, nodes.line_block):
            yield Element(ElementKind.PARAGRAPH, _lines(child))
        elif isinstance(child, nodes.table):
            yield from _table(child)
        elif isinstance(child, nodes.list_item):
            yield from _item(child, level, depth)
        elif isinstance(child, nodes.definition_list_item | nodes.field | nodes.option_list_item):
            yield from _definition(child, level, depth)
        elif isinstance(child, nodes.TextElement):
            text = child.astext()
            joined = text if isinstance(child, nodes.FixedTextElement) else one_line(text)
            yield Element(ElementKind.PARAGRAPH, joined)
        elif isinstance(child, nodes.image):
            if described := child.get("alt"):
                yield Element(ElementKind.PARAGRAPH, described)
        else:
            yield from _elements(child, level, depth + 1)


def _lines(block: nodes.Node) -> str:
    parts = [
        _lines(child) if isinstance(child, nodes.line_block) else child.astext()
        for child in block.children
    ]
    return "\n".join(parts)


def _item(item: nodes.Node, level: int, depth: int) -> Iterator[Element]:
    """The first paragraph of a list item is the item, the others follow it."""
    for position, element in enumerate(_elements(item, level, depth + 1)):
        is_text = position == 0 and element.kind is ElementKind.PARAGRAPH
        yield Element(ElementKind.LIST_ITEM, element.text) if is_text else element


def _definition(item: nodes.Node, level: int, depth: int) -> Iterator[Element]:
    """A term, field or option with the first paragraph of what is said of it."""
    name = ": ".join(
        one_line(child.astext())
        for child in item.children
        if not isinstance(child, nodes.definition | nodes.field_body | nodes.description)
    )
    bodies = (nodes.definition, nodes.field_body, nodes.description)
    inside = [
        element
        for body in item.children
        if isinstance(body, bodies)
        for element in _elements(body, level, depth + 1)
    ]
    if inside and inside[0].kind is ElementKind.PARAGRAPH:
        yield Element(ElementKind.LIST_ITEM, f"{name}: {inside[0].text}")
        yield from inside[1:]
    else:
        yield Element(ElementKind.LIST_ITEM, name)
        yield from inside


def _table(table: nodes.Node) -> Iterator[Element]:
    """Cells that span rows repeat their text; those that span columns leave the others empty."""
    for title in table.findall(nodes.title):
        yield Element(ElementKind.PARAGRAPH, one_line(title.astext()))
    rows: list[list[str]] = []
    carried: dict[int, tuple[int, str]] = {}
    for row in table.findall(nodes.row):
        cells: list[str] = []
        for entry in row.children:
            _carry(cells, carried)
            text = one_line(entry.astext())
            if down := entry.get("morerows", 0):
                carried[len(cells)] = (down, text)
            cells += [text, *[""] * entry.get("morecols", 0)]
        _carry(cells, carried)
        rows.append(cells)
    has_header = next(table.findall(nodes.thead), None) is not None
    if found := table_element(rows, has_header=has_header or None):
        yield found


def _carry(cells: list[str], carried: dict[int, tuple[int, str]]) -> None:
    while (column := len(cells)) in carried:
        left, text = carried.pop(column)
        cells.append(text)
        if left > 1:
            carried[column] = (left - 1, text)
