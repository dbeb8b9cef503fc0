"""Markdown (CommonMark with tables): headings, paragraphs, list items, code, tables.

Front matter is dropped except for its title; raw HTML goes through the HTML parser, so
scripts and comments in it never become text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markdown_it.token import Token

from ingestion.errors import ParseError
from ingestion.parsing.cleaning import clean, one_line
from ingestion.parsing.decoding import decode
from ingestion.parsing.html import fragment_elements
from ingestion.parsing.tables import table_element
from ingestion.types import Element, ElementKind, ParsedDocument

_FRONT_MATTER = re.compile(r"\A(---|\+\+\+)[ \t]*\n(.*?)\n(?:\1|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_FRONT_TITLE = re.compile(r"^title\s*[:=]\s*[\"']?(.+?)[\"']?\s*$", re.MULTILINE | re.IGNORECASE)
# Characters that may begin or end something within a block. Each costs about 30 microseconds:
# 400,000 times "*_`[" took 49 s. A block of little else is nothing that anybody wrote.
_MARKUP = "*_`[]<!~&\\"
MUCH_MARKUP, MARKUP_SHARE = 500, 0.25
_SILENT_TAG = re.compile(r"<(/?)(script|style|template)\b", re.IGNORECASE)
_BREAK_TAG = re.compile(r"<br\b", re.IGNORECASE)


def parse(path: Path) -> ParsedDocument:
    """Read a Markdown file."""
    text = clean(decode(path.read_bytes()))
    title = ""
    if front := _FRONT_MATTER.match(text):
        text = text[front.end() :]
        if named := _FRONT_TITLE.search(front.group(2)):
            title = named.group(1)
    if not text.strip():
        raise ParseError("nothing but white space or front matter", code="empty")
    elements = markdown_elements(text)
    if not title:
        title = next((e.text for e in elements if e.kind is ElementKind.HEADING), "")
    return ParsedDocument(elements=elements, title=title)


def markdown_elements(text: str) -> list[Element]:
    """The elements of Markdown that is clean text, for formats that embed some."""
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    reader.core.ruler.at("inline", _parse_inline)
    return list(_elements(reader.parse(text)))


def _parse_inline(state: StateCore) -> None:
    """markdown-it's own rule, save that a block of little but markup is left as it is."""
    for token in state.tokens:
        if token.type != "inline":
            continue
        markup = sum(map(token.content.count, _MARKUP))
        if markup > max(MUCH_MARKUP, MARKUP_SHARE * len(token.content)):
            token.children = [Token("text", "", 0, content=token.content)]
        else:
            token.children = []
            state.md.inline.parse(token.content, state.md, state.env, token.children)


def _elements(tokens: list[Token]) -> Iterator[Element]:
    position, item_depth, first_of_item = 0, 0, False
    while position < len(tokens):
        token = tokens[position]
        match token.type:
            case "heading_open":
                text = _inline(tokens[position + 1])
                yield Element(ElementKind.HEADING, one_line(text), level=int(token.tag[1]))
                position += 2
            case "list_item_open":
                item_depth, first_of_item = item_depth + 1, True
            case "list_item_close":
                item_depth -= 1
            case "inline":
                is_item = item_depth > 0 and first_of_item
                kind = ElementKind.LIST_ITEM if is_item else ElementKind.PARAGRAPH
                first_of_item = False
                yield Element(kind, _inline(token))
            case "fence" | "code_block":
                yield Element(ElementKind.CODE, token.content.rstrip("\n"))
            case "html_block":
                yield from fragment_elements(token.content)
            case "table_open":
                end = next(i for i in range(position, len(tokens)) if _closes(tokens[i], token))
                if table := _table(tokens[position:end]):
                    yield table
                position = end
        position += 1


def _closes(token: Token, opening: Token) -> bool:
    return token.type == "table_close" and token.level == opening.level


def _table(tokens: list[Token]) -> Element | None:
    rows: list[list[str]] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            rows[-1].append(_inline(token))
    return table_element(rows, has_header=True)


def _inline(token: Token) -> str:
    """What a reader sees of a line: text, code, the descriptions of pictures."""
    parts: list[str] = []
    silent = ""
    for child in token.children or []:
        if child.type == "html_inline":
            if tag := _SILENT_TAG.match(child.content):
                silent = "" if tag.group(1) else tag.group(2).lower()
            elif _BREAK_TAG.match(child.content):
                parts.append("\n")
        elif silent:
            continue
        elif child.type in ("softbreak", "hardbreak"):
            parts.append(" " if child.type == "softbreak" else "\n")
        elif child.type in ("text", "code_inline", "image"):
            parts.append(child.content)
    return "".join(parts).strip()
