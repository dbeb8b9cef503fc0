"""Packages of Word, PowerPoint and Excel that are sound but unusual, put into the usual form.

Files of "Strict Open XML" use other namespaces, some programs write parts in another case or
with backslashes, and relations may lead to parts that are not there (`Target="NULL"`). Office
opens them all; the libraries do not.
Source: ISO/IEC 29500-1 and -4 (the namespaces), ISO/IEC 29500-2, 6.2.2 (names of parts).
"""

from __future__ import annotations

import posixpath
import re
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from lxml import etree

from ingestion.parsing import zips

_RELATION = "{http://schemas.openxmlformats.org/package/2006/relationships}Relationship"
_TYPES = "[Content_Types].xml"
_RELATIONS = re.compile(r"_rels/([^/]*)\.rels$", re.IGNORECASE)
_STRICT = b"http://purl.oclc.org/ooxml/"
_STRICT_NAME = re.compile(rb"http://purl\.oclc\.org/ooxml/(?P<name>[A-Za-z/]+)")
_BASE = b"http://schemas.openxmlformats.org/"


@contextmanager
def usual(path: Path) -> Iterator[Path]:
    """The package as it is, or a copy of it in the usual form.

    Args:
        path: the package, whose unpacked size is checked.

    Raises:
        ParseError: the ZIP itself is damaged.
    """
    with zips.opened(path) as archive:
        changed = _changed(archive)
        if not changed and not _is_unusual(archive.namelist()):
            yield path
            return
        with tempfile.NamedTemporaryFile(suffix=".ooxml") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as copy:
                for name in dict.fromkeys(archive.namelist()):
                    content = changed.get(name)
                    copy.writestr(_usual(name), archive.read(name) if content is None else content)
            file.flush()
            yield Path(file.name)


def _usual(name: str) -> str:
    plain = name.replace("\\", "/").lstrip("/")
    if plain.lower() == _TYPES.lower():
        return _TYPES
    return _RELATIONS.sub(r"_rels/\1.rels", plain)


def _is_unusual(names: list[str]) -> bool:
    return any(_usual(name) != name for name in names)


def _changed(archive: zipfile.ZipFile) -> dict[str, bytes]:
    """The entries that must be another, by name."""
    names = archive.namelist()
    is_strict = any(
        name.lower().endswith("_rels/.rels") and _STRICT in archive.read(name) for name in names
    )
    places = {_usual(name).lower(): _usual(name) for name in names}
    changed: dict[str, bytes] = {}
    for name in names:
        is_relations = name.lower().endswith(".rels")
        if not is_relations and not (is_strict and name.lower().endswith(".xml")):
            continue
        content = before = archive.read(name)
        if is_strict:
            content = _STRICT_NAME.sub(_transitional, content)
        if is_relations:
            content = _with_parts_found(content, _usual(name), places)
        if content != before:
            changed[name] = content
    return changed


def _transitional(match: re.Match[bytes]) -> bytes:
    """The namespace or kind of relation that stands for a strict one."""
    area, _, rest = match["name"].partition(b"/")
    return _BASE + area + b"/2006/" + rest


def _with_parts_found(content: bytes, name: str, places: dict[str, str]) -> bytes:
    """Relations by the names that the parts have; those that lead nowhere are left out."""
    try:
        root = etree.fromstring(content, etree.XMLParser(resolve_entities=False, no_network=True))
    except etree.XMLSyntaxError:
        return content
    folder = posixpath.dirname(posixpath.dirname(name))
    is_changed = False
    for relation in root.findall(_RELATION):
        target = relation.get("Target", "")
        if relation.get("TargetMode") == "External" or target.startswith("#"):
            continue
        place = posixpath.normpath(posixpath.join("/", folder, target)).lstrip("/")
        if place in places.values() or unquote(place) in places.values():
            continue
        is_changed = True
        if found := places.get(place.replace("\\", "/").lower()):
            relation.set("Target", f"/{found}")
        else:
            root.remove(relation)
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8") if is_changed else content
