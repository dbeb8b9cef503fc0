"""PowerPoint presentations of 97 to 2003: slide by slide its title, text and notes.

A slide is a page. What the placeholders of a slide say stands in a list of the document, what
its other boxes say in the slide itself; where each of them is kept, the last save tells.
Source: [MS-PPT], sections 2.1.2 (reading the file), 2.4.14.3 (slide list) and 2.9 (text).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from ingestion.errors import ParseError
from ingestion.parsing import ole
from ingestion.parsing.cleaning import one_line
from ingestion.types import Element, ElementKind, Notice, ParsedDocument

_ENCRYPTED = 0xF3D1C4DF
_DOCUMENT, _NOTES_ATOM = 0x03E8, 0x03F1
_PERSIST, _SHOW_INFO, _LIST, _EDIT, _DIRECTORY = 0x03F3, 0x03F9, 0x0FF0, 0x0FF5, 0x1772
_KIND, _CHARACTERS, _BYTES = 0x0F9F, 0x0FA0, 0x0FA8
_TITLES, _BODIES = frozenset({0, 6}), frozenset({1, 5, 7, 8})
_HIDDEN = 0x0004
_MAX_EDITS = 1_000
_MAX_DEPTH = 40
# Of the lists of a document by their number.
_SLIDES, _OF_NOTES = 0, 2


@dataclass(frozen=True, slots=True)
class _Record:
    """One record: its type, its number among its like, and where its content stands."""

    type: int
    instance: int
    start: int
    end: int
    is_container: bool


@dataclass(slots=True)
class _Listed:
    """A slide, or a page of notes, as the document lists it, and the texts that stand there."""

    place: int
    slide_id: int
    texts: list[tuple[int, str]] = field(default_factory=list)


def parse(path: Path) -> ParsedDocument:
    """Read a .ppt file."""
    with ole.opened(path) as container:
        content = container.stream("PowerPoint Document")
        user = container.stream("Current User")
    if len(user) >= 16 and struct.unpack_from("<L", user, 12)[0] == _ENCRYPTED:
        raise ParseError("encrypted", code="password")
    try:
        return _document(content, struct.unpack_from("<L", user, 16)[0])
    except struct.error as exc:
        raise ParseError(f"damaged presentation: {exc}", code="corrupt") from exc


def _document(content: bytes, last_edit: int) -> ParsedDocument:
    places, document = _saved(content, last_edit)
    top = _record(content, places.get(document, -1))
    if top.type != _DOCUMENT:
        raise ParseError("no document in the presentation", code="corrupt")
    lists: dict[int, list[_Listed]] = {}
    for record in _records(content, top):
        if record.type == _LIST:
            lists[record.instance] = list(_listed(content, record))
    notes = {}
    for listed in lists.get(_OF_NOTES, []):
        page = _record(content, places.get(listed.place, -1))
        notes[_slide_of(content, page)] = [*listed.texts, *_texts(content, page)]
    elements: list[Element] = []
    hidden = pages = 0
    for listed in lists.get(_SLIDES, []):
        slide = _record(content, places.get(listed.place, -1))
        if _is_hidden(content, slide):
            hidden += 1
            continue
        pages += 1
        said = [*listed.texts, *_texts(content, slide)]
        said.sort(key=lambda text: text[0] not in _TITLES)
        elements += _elements(said, pages)
        elements += _elements([(-1, text) for _, text in notes.get(listed.slide_id, [])], pages)
    title = next((e.text for e in elements if e.kind is ElementKind.HEADING), "")
    notices = [Notice("hidden_slides", hidden)] if hidden else []
    return ParsedDocument(elements=elements, pages=pages, title=title, notices=notices)


def _saved(content: bytes, last_edit: int) -> tuple[dict[int, int], int]:
    """Where each object stands by its number, after the last save, and the document's number."""
    places: dict[int, int] = {}
    document = 0
    at = last_edit
    for _ in range(_MAX_EDITS):
        edit = _record(content, at)
        if edit.type != _EDIT:
            break
        before, directory, number = struct.unpack_from("<3L", content, edit.start + 8)
        document = document or number
        # What was saved later counts.
        places = _directory(content, directory) | places
        if not before:
            break
        at = before
    return places, document


def _directory(content: bytes, at: int) -> dict[int, int]:
    record = _record(content, at)
    if record.type != _DIRECTORY:
        return {}
    count = (record.end - record.start) // 4
    values = struct.unpack_from(f"<{count}L", content, record.start)
    found: dict[int, int] = {}
    position = 0
    while position < count:
        first, length = values[position] & 0xFFFFF, values[position] >> 20
        found |= dict(enumerate(values[position + 1 : position + 1 + length], start=first))
        position += 1 + length
    return found


def _record(content: bytes, at: int) -> _Record:
    if at < 0:
        raise ParseError("an object of the presentation is missing", code="corrupt")
    version, kind, length = struct.unpack_from("<HHL", content, at)
    end = min(at + 8 + length, len(content))
    return _Record(kind, version >> 4, at + 8, end, is_container=version & 0xF == 0xF)


def _records(content: bytes, parent: _Record) -> Iterator[_Record]:
    """The records directly in a container."""
    at = parent.start
    while at + 8 <= parent.end:
        record = _record(content, at)
        # No record reaches beyond its container, whatever it says of its length.
        yield replace(record, end=min(record.end, parent.end))
        at = record.end


def _inside(content: bytes, parent: _Record, depth: int = 0) -> Iterator[_Record]:
    """All records in a container, in order."""
    for record in _records(content, parent):
        yield record
        if record.is_container and depth < _MAX_DEPTH:
            yield from _inside(content, record, depth + 1)


def _listed(content: bytes, parent: _Record) -> Iterator[_Listed]:
    current: _Listed | None = None
    kind = -1
    for record in _records(content, parent):
        if record.type == _PERSIST:
            if current:
                yield current
            place, _, _, slide_id = struct.unpack_from("<4L", content, record.start)
            current = _Listed(place, slide_id)
        elif record.type == _KIND:
            kind = struct.unpack_from("<L", content, record.start)[0]
        elif current and (text := _text(content, record)):
            current.texts.append((kind, text))
    if current:
        yield current


def _texts(content: bytes, parent: _Record) -> list[tuple[int, str]]:
    """What the boxes of a slide say, each with the kind of its text."""
    found: list[tuple[int, str]] = []
    kind = -1
    for record in _inside(content, parent):
        if record.type == _KIND:
            kind = struct.unpack_from("<L", content, record.start)[0]
        elif text := _text(content, record):
            found.append((kind, text))
    return found


def _text(content: bytes, record: _Record) -> str:
    said = content[record.start : record.end]
    if record.type == _CHARACTERS:
        return said.decode("utf-16-le", "replace")
    return said.decode("latin-1") if record.type == _BYTES else ""


def _slide_of(content: bytes, page: _Record) -> int:
    """The number of the slide that notes belong to; 0 for none."""
    for record in _records(content, page):
        if record.type == _NOTES_ATOM:
            return int(struct.unpack_from("<L", content, record.start)[0])
    return 0


def _is_hidden(content: bytes, slide: _Record) -> bool:
    for record in _records(content, slide):
        if record.type == _SHOW_INFO:
            return bool(struct.unpack_from("<H", content, record.start + 10)[0] & _HIDDEN)
    return False


def _elements(texts: list[tuple[int, str]], page: int) -> Iterator[Element]:
    for kind, text in texts:
        if kind in _TITLES:
            if title := one_line(text.replace("\x0b", " ")):
                yield Element(ElementKind.HEADING, title, page=page, level=1)
            continue
        item = ElementKind.LIST_ITEM if kind in _BODIES else ElementKind.PARAGRAPH
        for paragraph in text.split("\r"):
            # A star stands where the number of the slide or the date is put in.
            if paragraph.strip(" *"):
                yield Element(item, paragraph.replace("\x0b", "\n").strip(), page=page)
