"""EPUB books: the chapters in the order of the book's spine; a chapter is a page."""

from __future__ import annotations

import posixpath
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

from lxml import etree

from ingestion.errors import ParseError
from ingestion.parsing import zips
from ingestion.parsing.cleaning import one_line
from ingestion.parsing.html import chapter_elements
from ingestion.types import Element, ElementKind, ParsedDocument

_OPF = "{http://www.idpf.org/2007/opf}"
_DC_TITLE = "{http://purl.org/dc/elements/1.1/}title"
_CONTAINER = "{urn:oasis:names:tc:opendocument:xmlns:container}"
_PAGE_NAME = re.compile(r"\.x?html?$", re.IGNORECASE)
# Fonts are scrambled with these; the text stays readable.
_FONT_ALGORITHMS = (b"http://www.idpf.org/2008/embedding", b"http://ns.adobe.com/pdf/enc#RC")
_ALGORITHM = re.compile(rb"EncryptionMethod[^>]*Algorithm\s*=\s*[\"']([^\"']+)")


def parse(path: Path) -> ParsedDocument:
    """Read an .epub file."""
    locks = _ALGORITHM.findall(zips.part(path, "META-INF/encryption.xml"))
    if any(algorithm not in _FONT_ALGORITHMS for algorithm in locks):
        raise ParseError("protected by rights management", code="password")
    zips.check_unpacked_size(path)
    title, chapters = _spine(path)
    elements: list[Element] = []
    pages = 0
    for name in chapters:
        found = chapter_elements(zips.part(path, name))
        if found:
            pages += 1
            elements += [replace(element, page=pages) for element in found]
    if not title:
        title = next((e.text for e in elements if e.kind is ElementKind.HEADING), "")
    return ParsedDocument(elements=elements, pages=pages, title=title)


def _spine(path: Path) -> tuple[str, list[str]]:
    """The title, and the names of the chapters' entries in order."""
    names = zips.contents(path).names
    every = sorted(name for name in names if _PAGE_NAME.search(name))
    container = _tree(zips.part(path, "META-INF/container.xml"))
    place = (
        next((node.get("full-path", "") for node in container.iter(f"{_CONTAINER}rootfile")), "")
        if container is not None
        else ""
    )
    book = _tree(zips.part(path, place)) if place in names else None
    if book is None:
        if not every:
            raise ParseError("no package document and no pages", code="corrupt")
        return "", every
    title = next((one_line(node.text or "") for node in book.iter(_DC_TITLE)), "")
    folder = posixpath.dirname(place)
    items: dict[str, tuple[str, bool]] = {}
    for item in book.iter(f"{_OPF}item"):
        target = unquote(item.get("href", "").partition("#")[0])
        entry = posixpath.normpath(posixpath.join(folder, target))
        is_contents = "nav" in item.get("properties", "").split()
        items[item.get("id", "")] = (entry, is_contents)
    chapters: list[str] = []
    for reference in book.iter(f"{_OPF}itemref"):
        entry, is_contents = items.get(reference.get("idref", ""), ("", True))
        if entry in names and not is_contents and entry not in chapters:
            chapters.append(entry)
    return title, chapters or every


def _tree(content: bytes) -> etree._Element | None:
    if not content.strip():
        return None
    parser = etree.XMLParser(resolve_entities=False, no_network=True, recover=True)
    return etree.fromstring(content, parser)
