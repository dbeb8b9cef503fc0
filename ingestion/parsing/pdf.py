"""PDF, read with pdfium: where each piece of text stands and how large it is.

What the pieces mean (lines, columns, headings, tables, page furniture) is decided in
`pdf_layout.py` and what it uses, which know nothing of pdfium. Encrypted files open if their
user password is empty. A page that cannot be loaded is left out; the others survive. A page
that shows something but holds no text is drawn for text recognition.
"""

from __future__ import annotations

import ctypes
import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple

import pypdfium2
import pypdfium2.raw as pdfium
from PIL import Image

from ingestion.errors import ParseError
from ingestion.parsing.formats import MAX_CHARACTERS, MAX_PAGES
from ingestion.parsing.pdf_layout import OutlineEntry, elements_of
from ingestion.parsing.pdf_rows import Page, Segment
from ingestion.types import Notice, ParsedDocument

_BOLD_NAME = re.compile(r"bold|black|heavy|demi|medi$|cmbx|cmssbx", re.IGNORECASE)
_MONO_NAME = re.compile(r"mono|courier|consol|menlo|cmtt|typewriter|code", re.IGNORECASE)
_JUNK_TITLE = re.compile(
    r"^(microsoft (word|powerpoint|excel) - )|\.(docx?|pdf|indd|tex|dvi|pptx?|xlsx?|rtf|odt|qxd)$"
    r"|^(untitled|\(?anonymous\)?|document\d*|powerpoint presentation|print|title)$",
    re.IGNORECASE,
)
_BOLD_WEIGHT = 600
# A gap this many times the letter height sets two pieces of a line apart, as between columns.
_GAP_OF_COLUMNS = 0.8
_GAPS_OF_A_STRETCHED_LINE = 3
_WIDEST_SPACE = 1.3
_LINE_ENDS = frozenset((0x0A, 0x0D))
# pdfium puts this character where it recognised a hyphen at the end of a line.
_HYPHENS = frozenset((0x02, 0xFFFE))
_BLANKS = frozenset((0x20, 0x09, 0xA0))
# Enough for letters of six points; a page larger than a poster is drawn coarser.
_DOTS_PER_INCH = 300
_LONGEST_PIXELS = 5_000
# For people: as wide as a page is shown on a sharp screen.
_SHOWN_PIXELS = 1_100
_MAX_SHOWN_CHARACTERS = 30_000
_FILLED_IN = (
    pdfium.FPDF_FORMFIELD_TEXTFIELD,
    pdfium.FPDF_FORMFIELD_COMBOBOX,
    pdfium.FPDF_FORMFIELD_LISTBOX,
)
_PASSWORD_FIELD = 1 << 13
_NOTES = (
    pdfium.FPDF_ANNOT_TEXT,
    pdfium.FPDF_ANNOT_HIGHLIGHT,
    pdfium.FPDF_ANNOT_UNDERLINE,
    pdfium.FPDF_ANNOT_SQUIGGLY,
    pdfium.FPDF_ANNOT_STRIKEOUT,
    pdfium.FPDF_ANNOT_STAMP,
    pdfium.FPDF_ANNOT_CARET,
)
_UNSEEN = pdfium.FPDF_ANNOT_FLAG_HIDDEN | pdfium.FPDF_ANNOT_FLAG_NOVIEW
_MAX_ANNOTATIONS = 2_000
_FIELD_SIZE = 11.0
_DRAWN = (pdfium.FPDF_PAGEOBJ_IMAGE, pdfium.FPDF_PAGEOBJ_PATH, pdfium.FPDF_PAGEOBJ_SHADING)


def parse(path: Path) -> ParsedDocument:
    """Read a PDF file."""
    document = _opened(path)
    count = len(document)
    if count == 0:
        raise ParseError("no pages", code="corrupt")
    if count > MAX_PAGES:
        raise ParseError(f"{count} pages", code="too_large")
    pages, pictures = _pages(document, count)
    elements, title = elements_of(pages, outline=_outline(document))
    damaged = count - len(pages)
    return ParsedDocument(
        elements=elements,
        pages=count,
        title=_title(document) or title,
        notices=[Notice("damaged_pages", damaged)] if damaged else [],
        pictures=pictures,
    )


def draw(path: Path, pages: Sequence[int], folder: Path, *, turn: int) -> None:
    """Write these pages, from 1, as `<page>.png` in shades of grey; blank ones are left out."""
    document = _opened(path)
    for number in pages:
        page = document[number - 1]
        longest = max(*page.get_size(), 1.0)
        scale = min(_DOTS_PER_INCH / 72, _LONGEST_PIXELS / longest)
        drawn = page.render(scale=scale, grayscale=True, rotation=-turn % 360).to_pil()
        darkest, lightest = drawn.getextrema()
        if darkest != lightest:
            dots = round(72 * scale)
            drawn.save(folder / f"{number}.png", compress_level=1, dpi=(dots, dots))
        page.close()


def show(path: Path, number: int, folder: Path) -> None:
    """Write a page, from 1, as `page.png`, and where its characters are as `page.json`."""
    document = _opened(path)
    if not 1 <= number <= len(document):
        raise ParseError(f"no page {number}", code="corrupt")
    page = document[number - 1]
    width, height = page.get_size()
    scale = min(_SHOWN_PIXELS / max(width, 1.0), 2 * _SHOWN_PIXELS / max(height, 1.0))
    drawn = page.render(scale=scale).to_pil()
    drawn.convert("P", palette=Image.Palette.ADAPTIVE).save(folder / "page.png")
    text = page.get_textpage()
    count = min(text.count_chars(), _MAX_SHOWN_CHARACTERS)
    letters, boxes = [], []
    for index in range(count):
        letter = text.get_text_range(index, 1)
        if len(letter) != 1 or not letter.isalnum():
            continue
        left, bottom, right, top = text.get_charbox(index)
        letters.append(letter)
        boxes.append(_pixels(page, drawn.size, (left, top), (right, bottom)))
    answer = {
        "width": drawn.width,
        "height": drawn.height,
        "text": "".join(letters),
        "boxes": boxes,
    }
    (folder / "page.json").write_text(json.dumps(answer))


def _pixels(
    page: pypdfium2.PdfPage, size: tuple[int, int], *corners: tuple[float, float]
) -> list[int]:
    """A box of the page, in points, as the picture has it: left, top, right, bottom."""
    xs, ys = [], []
    for x, y in corners:
        column, row = ctypes.c_int(), ctypes.c_int()
        pdfium.FPDF_PageToDevice(page, 0, 0, *size, 0, x, y, column, row)
        xs.append(column.value)
        ys.append(row.value)
    return [min(xs), min(ys), max(xs), max(ys)]


def _opened(path: Path) -> pypdfium2.PdfDocument:
    try:
        return pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as exc:
        password = getattr(exc, "err_code", None) == pdfium.FPDF_ERR_PASSWORD
        raise ParseError(str(exc), code="password" if password else "corrupt") from exc


def _pages(document: pypdfium2.PdfDocument, count: int) -> tuple[list[Page], list[int]]:
    """The pages that can be loaded, and the numbers of those that show no text but something."""
    pages: list[Page] = []
    pictures: list[int] = []
    characters = 0
    if document.get_formtype():
        document.init_forms()
    form = document.formenv
    for index in range(count):
        try:
            page = document[index]
            text = page.get_textpage()
        except pypdfium2.PdfiumError:
            continue
        width, height = page.get_size()
        segments = _visible(_PageText(page, text).segments(), width, height)
        has_text = any(any(map(str.isalnum, segment.text)) for segment in segments)
        segments += _annotations(page, form, segments)
        pages.append(Page(number=index + 1, width=width, height=height, segments=segments))
        if not has_text and any(page.get_objects(filter=_DRAWN, max_depth=5)):
            pictures.append(index + 1)
        text.close()
        page.close()
        characters += sum(len(segment.text) for segment in segments)
        if characters > MAX_CHARACTERS:
            raise ParseError("too many characters", code="too_large")
    if len(pages) * 2 <= count:
        raise ParseError(f"only {len(pages)} of {count} pages can be loaded", code="corrupt")
    return pages, pictures


def _visible(segments: Iterator[Segment], width: float, height: float) -> list[Segment]:
    """Without what is drawn outside the page, where nobody sees it."""
    return [
        s for s in segments if s.right > 0 and s.left < width and s.top > 0 and s.bottom < height
    ]


def _annotations(
    page: pypdfium2.PdfPage, form: pypdfium2.PdfFormEnv | None, printed: Sequence[Segment]
) -> list[Segment]:
    """What is filled in, where it stands, and notes, below the page; what is printed is left."""
    count = min(pdfium.FPDFPage_GetAnnotCount(page), _MAX_ANNOTATIONS)
    if count <= 0:
        return []
    there = {" ".join(segment.text.split()) for segment in printed}
    found: list[Segment] = []
    lowest = 0.0
    for index in range(count):
        annotation = pdfium.FPDFPage_GetAnnot(page, index)
        if not annotation:
            continue
        text, is_note = _said(annotation, form)
        box = _annotation_box(page, annotation)
        pdfium.FPDFPage_CloseAnnot(annotation)
        lines = [line for line in map(" ".join, map(str.split, text.splitlines())) if line]
        if is_note:
            lines = [line for line in lines if not any(line in one for one in there)]
        for number, line in enumerate(lines):
            if is_note:
                lowest -= 2 * _FIELD_SIZE
                box = _Box(36.0, lowest, 36.0 + 5 * len(line), lowest + _FIELD_SIZE)
            found.append(_written(line, box, number, len(lines)))
    return found


def _said(
    annotation: pdfium.FPDF_ANNOTATION, form: pypdfium2.PdfFormEnv | None
) -> tuple[str, bool]:
    """The text of an annotation that a reader sees, and whether it is a note beside the page."""
    if pdfium.FPDFAnnot_GetFlags(annotation) & _UNSEEN:
        return "", False
    kind = pdfium.FPDFAnnot_GetSubtype(annotation)
    if kind == pdfium.FPDF_ANNOT_WIDGET and form is not None:
        is_secret = pdfium.FPDFAnnot_GetFormFieldFlags(form, annotation) & _PASSWORD_FIELD
        if pdfium.FPDFAnnot_GetFormFieldType(form, annotation) in _FILLED_IN and not is_secret:
            read = pdfium.FPDFAnnot_GetFormFieldValue
            return _utf16(lambda buffer, size: read(form, annotation, buffer, size)), False
        return "", False
    if kind != pdfium.FPDF_ANNOT_FREETEXT and kind not in _NOTES:
        return "", False
    read = pdfium.FPDFAnnot_GetStringValue
    text = _utf16(lambda buffer, size: read(annotation, b"Contents", buffer, size))
    return text, kind in _NOTES


def _utf16(read: Callable[[object, int], int]) -> str:
    """A text of pdfium's, which tells first how long it is."""
    size = read(None, 0)
    if size <= 2:
        return ""
    buffer = (ctypes.c_ushort * (size // 2 + 1))()
    read(buffer, size)
    return bytes(buffer)[: size - 2].decode("utf-16-le", "replace").replace("\r", "\n")


def _annotation_box(page: pypdfium2.PdfPage, annotation: pdfium.FPDF_ANNOTATION) -> _Box:
    box = pdfium.FS_RECTF()
    pdfium.FPDFAnnot_GetRect(annotation, box)
    low, high = sorted((box.bottom, box.top))
    return _turned(_Box(box.left, low, box.right, high), page.get_cropbox(), page.get_rotation())


def _written(text: str, box: _Box, number: int, lines: int) -> Segment:
    """A line of a field, as if it were printed in its place."""
    share = (box.top - box.bottom) / lines
    middle = box.top - share * (number + 0.5)
    half = min(_FIELD_SIZE, max(share, 1.0)) / 2
    return Segment(
        text=text,
        left=box.left,
        right=max(box.left + 1.0, min(box.right, box.left + _FIELD_SIZE / 2 * len(text))),
        bottom=middle - half,
        top=middle + half,
        size=_FIELD_SIZE,
    )


class _PageText:
    """The text of one page, in the coordinates of the page as it is shown."""

    def __init__(self, page: pypdfium2.PdfPage, text: pypdfium2.PdfTextPage) -> None:
        self._handle = text.raw
        self._codes = _codes(text)
        self._crop = page.get_cropbox()
        self._rotation = page.get_rotation()

    def segments(self) -> Iterator[Segment]:
        """The pieces in pdfium's order, cut at line ends and at wide gaps within lines."""
        start = 0
        for index, code in enumerate(self._codes):
            if code in _LINE_ENDS:
                yield from self._line(start, index)
                start = index + 1
            elif code in _HYPHENS:
                yield from self._line(start, index, hyphenated=True)
                start = index + 1
        yield from self._line(start, len(self._codes))

    def _line(self, start: int, end: int, *, hyphenated: bool = False) -> Iterator[Segment]:
        """One line, cut where the gap between two words is a column's."""
        words = list(self._words(start, end))
        if not words:
            return
        if any(map(_is_leftward, self._codes[start:end])):
            words = self._in_reading_order(words)
            boxes = [(self._extent(*word),) * 2 for word in words]
        else:
            boxes = [(self._box(first), self._box(last - 1)) for first, last in words]
        gaps = [
            max(after.left - before.right, before.left - after.right)
            for (_, before), (after, _) in pairwise(boxes)
        ]
        figures = sum(any(chr(c).isdigit() for c in self._codes[a:b]) for a, b in words)
        height = max(boxes[0][0].top - boxes[0][0].bottom, 1.0)
        space = _stretched_space(gaps) if figures * 2 < len(words) else 0.0
        space = space if space < _WIDEST_SPACE * height else 0.0
        begin = 0
        for position, gap in enumerate(gaps, start=1):
            before = boxes[position - 1][1]
            if gap > max(_GAP_OF_COLUMNS * max(before.top - before.bottom, 1.0), 1.6 * space):
                yield self._segment(words[begin:position], boxes[begin:position])
                begin = position
        yield self._segment(words[begin:], boxes[begin:], hyphenated=hyphenated)

    def _in_reading_order(self, words: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """The words of a line that runs to the left; pdfium turns those in Latin letters about."""
        ordered: list[tuple[int, int]] = []
        for leftward, run in groupby(words, key=lambda word: self._is_leftward(*word)):
            several = list(run)
            lefts = [self._box(first).left for first, _ in several]
            is_named = any(chr(c).isalpha() for a, b in several for c in self._codes[a:b])
            if not leftward and is_named and lefts == sorted(lefts, reverse=True):
                several.reverse()
            ordered += several
        return ordered

    def _is_leftward(self, start: int, end: int) -> bool:
        return any(map(_is_leftward, self._codes[start:end]))

    def _extent(self, start: int, end: int) -> _Box:
        """The box around a word whose ends need not be its outermost letters."""
        boxes = [self._box(index) for index in range(start, end)]
        return _Box(
            min(box.left for box in boxes),
            min(box.bottom for box in boxes),
            max(box.right for box in boxes),
            max(box.top for box in boxes),
        )

    def _word(self, start: int, end: int) -> str:
        """The letters of a word; those that one sign stands for come in their own order."""
        letters = [_character(code) for code in self._codes[start:end]]
        if not self._is_leftward(start, end):
            return "".join(letters)
        signs = groupby(range(start, end), key=self._box)
        return "".join(letters[i - start] for _, sign in signs for i in reversed(list(sign)))

    def _words(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        first: int | None = None
        for index in range(start, end):
            if self._codes[index] in _BLANKS:
                if first is not None:
                    yield first, index
                    first = None
            elif first is None:
                first = index
        if first is not None:
            yield first, end

    def _segment(
        self,
        words: list[tuple[int, int]],
        boxes: list[tuple[_Box, _Box]],
        *,
        hyphenated: bool = False,
    ) -> Segment:
        edges = [box for pair in boxes for box in pair]
        # The middle stands for the whole: the ends may be a footnote mark or a bullet.
        longest = max(words, key=lambda word: word[1] - word[0])
        middle = (longest[0] + longest[1]) // 2
        first, last = self._font(words[0][0]), self._font(words[-1][1] - 1)
        return Segment(
            text=" ".join(self._word(a, b) for a, b in words),
            left=min(box.left for box in edges),
            right=max(box.right for box in edges),
            bottom=min(box.bottom for box in edges),
            top=max(box.top for box in edges),
            size=self._size(middle),
            bold=first[0] and last[0],
            mono=first[1] and last[1],
            hyphenated=hyphenated,
            upright=self._is_upright(middle),
        )

    def _box(self, index: int) -> _Box:
        """The character's box, turned with the page and measured from its corner."""
        box = pdfium.FS_RECTF()
        pdfium.FPDFText_GetLooseCharBox(self._handle, index, box)
        return _turned(_Box(box.left, box.bottom, box.right, box.top), self._crop, self._rotation)

    def _is_upright(self, index: int) -> bool:
        angle = math.degrees(pdfium.FPDFText_GetCharAngle(self._handle, index))
        # pdfium counts the angle clockwise in the page as it is stored.
        turned: float = (angle + self._rotation) % 360
        return min(turned, 360 - turned) < 15

    def _size(self, index: int) -> float:
        """Font size in points as drawn: many files set size 1 and scale by the matrix."""
        matrix = pdfium.FS_MATRIX()
        size: float = pdfium.FPDFText_GetFontSize(self._handle, index)
        if pdfium.FPDFText_GetMatrix(self._handle, index, matrix):
            size *= math.hypot(matrix.c, matrix.d)
        return round(size * 2) / 2

    def _font(self, index: int) -> tuple[bool, bool]:
        """Whether the character is bold, and whether all letters of its font are equally wide."""
        buffer = ctypes.create_string_buffer(128)
        pdfium.FPDFText_GetFontInfo(self._handle, index, buffer, len(buffer), ctypes.c_int())
        name = buffer.value.decode("utf-8", "replace")
        bold = pdfium.FPDFText_GetFontWeight(self._handle, index) >= _BOLD_WEIGHT
        return bold or bool(_BOLD_NAME.search(name)), bool(_MONO_NAME.search(name))


def _codes(text: pypdfium2.PdfTextPage) -> list[int]:
    """The page's characters, so that the index of each is the one that pdfium knows it by."""
    count = text.count_chars()
    # Read at once the text may lack characters; one call for each is ten times slower.
    buffer = (ctypes.c_ushort * (count + 1))()
    if pdfium.FPDFText_GetText(text.raw, 0, count, buffer) == count + 1:
        return list(buffer)[:count]
    return [pdfium.FPDFText_GetUnicode(text.raw, index) for index in range(count)]


class _Box(NamedTuple):
    left: float
    bottom: float
    right: float
    top: float


def _turned(box: _Box, crop: tuple[float, float, float, float], rotation: int) -> _Box:
    """A box of the page as it is stored, turned with the page and measured from its corner."""
    left, bottom, right, top = crop
    x1, y1, x2, y2 = box
    match rotation:
        case 90:
            return _Box(y1 - bottom, right - x2, y2 - bottom, right - x1)
        case 180:
            return _Box(right - x2, top - y2, right - x1, top - y1)
        case 270:
            return _Box(top - y2, x1 - left, top - y1, x2 - left)
    return _Box(x1 - left, y1 - bottom, x2 - left, y2 - bottom)


def _stretched_space(gaps: Sequence[float]) -> float:
    """How wide a space is where a line is stretched to its column's width; 0 if it is not.

    Then its narrowest gaps are equally wide, as those between cells of a table are not.
    """
    if len(gaps) < _GAPS_OF_A_STRETCHED_LINE:
        return 0.0
    narrowest = min(gaps)
    alike = sum(gap <= 1.2 * narrowest for gap in gaps)
    return narrowest if alike >= 2 and alike * 2 >= len(gaps) else 0.0


@lru_cache(maxsize=4096)
def _is_leftward(code: int) -> bool:
    return unicodedata.bidirectional(chr(code)) in ("R", "AL")


@lru_cache(maxsize=4096)
def _character(code: int) -> str:
    # Halves of surrogate pairs are put together by `clean`.
    return chr(code) if code <= 0x10FFFF else "\ufffd"


def _outline(document: pypdfium2.PdfDocument) -> list[OutlineEntry]:
    entries: list[OutlineEntry] = []
    for bookmark in document.get_toc(max_depth=6):
        destination = bookmark.get_dest()
        page = destination.get_index() if destination else None
        if page is not None:
            entries.append(OutlineEntry(bookmark.get_title(), page + 1, bookmark.level + 1))
        if len(entries) >= 10_000:
            break
    return entries


def _title(document: pypdfium2.PdfDocument) -> str:
    """The title in the metadata, unless it is one that a program made up."""
    title = str(document.get_metadata_value("Title")).strip()
    return "" if _JUNK_TITLE.search(title) or len(title) < 4 else title
