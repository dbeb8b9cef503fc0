"""A page of a document as it looks, with a passage marked on it.

A child draws the page, under the limits of a parser, and says where its letters are; where the
passage stands among them is found here. What cannot be placed with certainty is not marked.
"""

from __future__ import annotations

import base64
import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ingestion.errors import ParserCrashed
from ingestion.parsing.formats import SHOW, Format
from ingestion.parsing.isolation import Limits, parsed_by_child, temporary_folder

MAX_PICTURE_BYTES = 8 * 1024 * 1024
SECONDS = 20
# Letters; a shorter stretch may stand anywhere on the page.
SHORTEST = 24
Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class PageImage:
    """A page as a picture. `marks` are (left, top, width, height) in its pixels, a line each."""

    width: int
    height: int
    png: bytes
    marks: Sequence[Box]

    @property
    def address(self) -> str:
        """The picture as a data: address."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


def page_image(
    path: Path, *, format: Format, number: int, passage: str, memory_bytes: int, workdir: Path
) -> PageImage:
    """Draw a page and find the passage on it.

    Args:
        path: the file.
        number: of the page, from 1.
        passage: what of it stands on this page; empty for no mark.
        memory_bytes: of the child's address space.
        workdir: an existing folder for what the child writes, removed afterwards.

    Raises:
        ParseError: there is no such page, or it cannot be drawn.
        ParserCrashed: the child died or answered nonsense.
    """
    limits = Limits(SECONDS, memory_bytes)
    with temporary_folder(workdir) as folder:
        parsed_by_child(path, format, limits, folder, SHOW, str(number))
        try:
            if (folder / "page.png").stat().st_size > MAX_PICTURE_BYTES:
                raise ValueError("picture over the limit")
            png = (folder / "page.png").read_bytes()
            about = json.loads((folder / "page.json").read_bytes())
            letters, boxes = str(about["text"]), [_box(*box) for box in about["boxes"]]
            width, height = int(about["width"]), int(about["height"])
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise ParserCrashed(f"no usable picture: {exc}") from exc
    if len(letters) != len(boxes):
        raise ParserCrashed("letters without boxes")
    return PageImage(width, height, png, marks(letters, boxes, passage))


def _box(left: int, top: int, right: int, bottom: int) -> Box:
    return int(left), int(top), int(right), int(bottom)


def marks(letters: str, boxes: Sequence[Box], passage: str) -> list[Box]:
    """Where the passage stands: one (left, top, width, height) for each line of it.

    Only letters and digits are compared, since blanks, hyphens and line ends may differ; what
    does not stand on the page once and whole is looked for in halves.

    Args:
        letters: those of the page, in its order.
        boxes: of each letter (left, top, right, bottom).
        passage: the text to be found.
    """
    page = "".join(_plain(letter)[:1] or " " for letter in letters)
    wanted = "".join(filter(str.isalnum, _plain(passage)))
    lines: list[Box] = []
    for start, end in _places(page, wanted):
        for left, top, right, bottom in boxes[start:end]:
            if lines and _same_line(lines[-1], (left, top, right, bottom)):
                last = lines[-1]
                lines[-1] = (
                    min(last[0], left),
                    min(last[1], top),
                    max(last[2], right),
                    max(last[3], bottom),
                )
            else:
                lines.append((left, top, right, bottom))
    return [(left, top, right - left, bottom - top) for left, top, right, bottom in lines]


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).lower()


def _places(page: str, wanted: str) -> list[tuple[int, int]]:
    if not wanted:
        return []
    at = page.find(wanted)
    if at >= 0 and page.find(wanted, at + 1) < 0:
        return [(at, at + len(wanted))]
    if len(wanted) < 2 * SHORTEST:
        return []
    middle = len(wanted) // 2
    return [*_places(page, wanted[:middle]), *_places(page, wanted[middle:])]


def _same_line(line: Box, box: Box) -> bool:
    middle = (box[1] + box[3]) / 2
    height = max(1, line[3] - line[1])
    return line[1] <= middle <= line[3] and -height < box[0] - line[2] < 3 * height
