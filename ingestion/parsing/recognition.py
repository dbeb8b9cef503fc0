"""The text of pages that are pictures: drawn by a child a few at a time, read by Tesseract.

Both work under the limits of a parse. A page that lies on its side or its head is turned.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ingestion.errors import ParseError, ParserCrashed
from ingestion.parsing import tesseract
from ingestion.parsing.formats import Format
from ingestion.parsing.isolation import Limits, output_of, parsed_by_child, temporary_folder
from ingestion.types import Element, Notice, ParsedDocument

logger = logging.getLogger(__name__)

_PAGES_AT_ONCE = 8
_PAGE_SECONDS = 60
# On its head, then on either side.
_TURNS = (180, 90, 270)


@dataclass(frozen=True, slots=True)
class OcrSettings:
    """How text is recognised.

    languages: as Tesseract names them, joined by "+".
    seconds: of wall-clock time for all pictures of one file.
    """

    languages: str = "eng"
    seconds: int = 600


def with_pictures_read(
    parsed: ParsedDocument,
    path: Path,
    *,
    format: Format,
    limits: Limits,
    workdir: Path,
    ocr: OcrSettings,
) -> ParsedDocument:
    """The document with the text of its pictures in their places, or a notice of what was missed.

    Args:
        parsed: what the parser gave; `pictures` says which pages to read.
        path: the file.
        format: of the file.
        limits: of each child.
        workdir: an existing folder for temporary ones.
        ocr: languages and time.
    """
    try:
        command = tesseract.command(ocr.languages)
    except tesseract.OcrMissing as exc:
        return replace(parsed, notices=[*parsed.notices, Notice(exc.code, len(parsed.pictures))])
    reader = _Reader(
        path, format, limits, workdir, command, deadline=time.monotonic() + ocr.seconds
    )
    found: list[Element] = []
    unread = {"ocr_failed": 0, "ocr_too_slow": 0}
    for start in range(0, len(parsed.pictures), _PAGES_AT_ONCE):
        pages = parsed.pictures[start : start + _PAGES_AT_ONCE]
        if reader.is_late():
            unread["ocr_too_slow"] += len(pages)
            continue
        with temporary_folder(workdir) as folder:
            if not reader.draw(pages, folder):
                unread["ocr_failed"] += len(pages)
                continue
            for page in pages:
                if reader.is_late():
                    unread["ocr_too_slow"] += 1
                elif (words := reader.words(page, folder)) is None:
                    unread["ocr_failed"] += 1
                else:
                    found += tesseract.elements_of(words, page=page)
    notices = [Notice(code, count) for code, count in unread.items() if count]
    elements = sorted([*parsed.elements, *found], key=lambda element: element.page or 0)
    return replace(parsed, elements=elements, notices=[*parsed.notices, *notices])


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads pages of one file until its time is over."""

    path: Path
    format: Format
    limits: Limits
    workdir: Path
    command: list[str]
    deadline: float

    def is_late(self) -> bool:
        return time.monotonic() > self.deadline

    def draw(self, pages: Sequence[int], folder: Path, *, turn: int = 0) -> bool:
        """Draw pages into a folder; False if that fails."""
        listed = ",".join(map(str, pages))
        try:
            parsed_by_child(self.path, self.format, self.limits, folder, listed, str(turn))
        except (ParseError, ParserCrashed) as exc:
            logger.info("pages %s cannot be drawn: %s", listed, exc)
            return False
        return True

    def words(self, page: int, folder: Path) -> list[tesseract.Word] | None:
        """The words of a page that is drawn; none on a blank one, None if that fails."""
        words = self._recognised(page, folder)
        if words is None or not tesseract.is_doubtful(words):
            return words
        for turn in _TURNS:
            if self.is_late():
                break
            with temporary_folder(self.workdir) as turned:
                # A blank page was not drawn, nor will it be turned.
                if not (folder / f"{page}.png").exists() or not self.draw(
                    [page], turned, turn=turn
                ):
                    break
                found = self._recognised(page, turned) or []
            words = max(words, found, key=tesseract.certainty)
            if not tesseract.is_doubtful(words):
                break
        return words

    def _recognised(self, page: int, folder: Path) -> list[tesseract.Word] | None:
        picture = folder / f"{page}.png"
        if not picture.exists():
            return []
        seconds = max(1, min(_PAGE_SECONDS, int(self.deadline - time.monotonic())))
        with picture.open("rb") as image:
            said = output_of(
                self.command,
                Limits(seconds, self.limits.memory_bytes),
                folder,
                source=image,
                environment=tesseract.environment(),
            )
        return None if said is None else tesseract.words_of(said.decode("utf-8", "replace"))
