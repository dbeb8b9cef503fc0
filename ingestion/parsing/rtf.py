"""Rich Text: paragraphs, headings and tables, with the old code pages and Unicode escapes.

striprtf decodes the text. It knows no structure, so the control words that carry some are
first replaced by escapes of private characters, which come out of it as they went in.
Footnotes and endnotes, which it leaves out, are put behind the text.
"""

from __future__ import annotations

import re
from pathlib import Path

from striprtf.striprtf import rtf_to_text

from ingestion.errors import ParseError
from ingestion.parsing.cleaning import one_line
from ingestion.parsing.tables import table_element
from ingestion.types import Element, ElementKind, ParsedDocument

_CELL, _ROW, _PARAGRAPH, _ITEM, _LEVEL = "\ue000", "\ue001", "\ue002", "\ue003", "\ue010"
_LEVELS = "".join(chr(ord(_LEVEL) + level) for level in range(9))
_CONTROL = re.compile(
    r"\\(?:(?P<cell>(?:nest)?cell)|(?P<row>(?:nest)?row)|(?P<par>par|sect|page)"
    r"|outlinelevel(?P<level>[0-8])|(?P<item>pntext|listtext))(?![a-z0-9])[ ]?"
)
_BINARY = re.compile(rb"\\bin(\d{1,9}) ?")
_NOTE = re.compile(r"\{(?:\\\*)?\\footnote(?![a-z])(?:\\ftnalt(?![a-z]))? ?")
# Escaped characters first, so that an escaped brace is none.
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_TITLE = re.compile(r"\{\\title\s+([^{}]{1,500})\}")
_SURROGATES = re.compile("[\ud800-\udfff]+")


def parse(path: Path) -> ParsedDocument:
    """Read an .rtf file."""
    content = _without_binary(path.read_bytes())
    if not content.rstrip(b"\0 \r\n\t").endswith(b"}") and content.count(b"{") < 2:
        raise ParseError("cut off", code="corrupt")
    source = _CONTROL.sub(_escape, _with_notes_behind(content.decode("latin-1")))
    text = rtf_to_text(source, encoding="cp1252", errors="replace")
    text = _SURROGATES.sub(_paired, text)
    elements = _elements(text)
    named = _TITLE.search(source)
    title = rtf_to_text("{\\rtf1 " + named.group(1) + "}", errors="replace") if named else ""
    if not title.strip():
        title = next((e.text for e in elements if e.kind is ElementKind.HEADING), "")
    return ParsedDocument(elements=elements, title=title)


def _without_binary(content: bytes) -> bytes:
    """Without raw bytes, in which braces and backslashes mean nothing."""
    parts: list[bytes] = []
    position = 0
    while match := _BINARY.search(content, position):
        parts.append(content[position : match.start()])
        position = match.end() + int(match.group(1))
    parts.append(content[position:])
    return b"".join(parts)


def _with_notes_behind(source: str) -> str:
    """The same with each note as a paragraph at the end."""
    parts: list[str] = []
    notes: list[str] = []
    position = 0
    while match := _NOTE.search(source, position):
        end = _end_of_group(source, match.end())
        # An empty group, for the word before it to end there and not at the next space.
        parts += (source[position : match.start()], "{}")
        notes.append("\\par\\pard {" + source[match.end() : end - 1] + "}")
        position = end
    if not notes:
        return source
    whole = "".join([*parts, source[position:]]).rstrip("\0 \r\n\t")
    return whole.removesuffix("}") + "".join(notes) + "\\par}"


def _end_of_group(source: str, start: int) -> int:
    """The place behind the brace that closes what is open at `start`; the end where none does."""
    depth = 1
    for match in _BRACE.finditer(source, start):
        depth += {"{": 1, "}": -1}.get(match.group(), 0)
        if not depth:
            return match.end()
    return len(source) + 1


def _escape(match: re.Match[str]) -> str:
    if match["cell"]:
        mark = _CELL
    elif match["row"]:
        mark = _ROW
    elif match["par"]:
        mark = _PARAGRAPH
    elif match["item"]:
        return f"{_mark(_ITEM)}{match.group()}"
    else:
        mark = _LEVELS[int(match["level"])]
    return _mark(mark) if mark != _PARAGRAPH else "\\par "


def _mark(character: str) -> str:
    # In a group of its own: how many letters stand for an escape holds to the end of the group.
    return f"{{\\uc0\\u{ord(character) - 0x10000} }}"


def _paired(match: re.Match[str]) -> str:
    return match.group().encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _elements(text: str) -> list[Element]:
    elements: list[Element] = []
    rows: list[list[str]] = []
    for piece in re.split(f"(?<={_ROW})", text):
        *cells, last = piece.split(_CELL)
        if cells and last.endswith(_ROW):
            before, _, first = cells[0].rpartition("\n") if not rows else ("", "", cells[0])
            if before.strip():
                elements += _paragraphs(before)
            rows.append([_plain(cell) for cell in [first, *cells[1:]]])
            continue
        _close(rows, elements)
        elements += _paragraphs(" ".join([*cells, last]))
    _close(rows, elements)
    return elements


def _close(rows: list[list[str]], elements: list[Element]) -> None:
    if rows and (table := table_element(rows)):
        elements.append(table)
    rows.clear()


def _paragraphs(text: str) -> list[Element]:
    found: list[Element] = []
    for line in text.split("\n"):
        plain = _plain(line)
        if not plain:
            continue
        level = next((_LEVELS.index(mark) for mark in line if mark in _LEVELS), None)
        if level is not None and len(plain) <= 200:
            found.append(Element(ElementKind.HEADING, plain, level=min(level + 1, 6)))
        else:
            kind = ElementKind.LIST_ITEM if _ITEM in line else ElementKind.PARAGRAPH
            found.append(Element(kind, plain))
    return found


def _plain(text: str) -> str:
    return one_line(re.sub("[\ue000-\ue01f]", " ", text))
