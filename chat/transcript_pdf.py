"""A conversation as PDF, drawn with fpdf2: the one module that imports it.

The font is Liberation Sans (Latin, Greek, Cyrillic). `EXPORT_FONT` names another one for what it
lacks, such as Chinese or Arabic; what neither can draw is drawn as a box and named at the end.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fpdf import FPDF

from chat.transcript import Transcript, about, source_line
from chat.types import Fonts

_HEADING = re.compile(r"^#{1,6}\s+")
_FENCE = re.compile(r"^\s*(```|~~~)")
_BETWEEN_CELLS = re.compile(r"(?<!\\)\|")
_RULE = re.compile(r":?-+:?")
# A table with more of them, or with a longer cell, is written as it stands: no page holds it.
_COLUMNS, _CELL_CHARACTERS = 10, 300
_BOX = "□"
_NAMED = 40


class _Page(FPDF):
    """A4 with the page's number at its foot."""

    def footer(self) -> None:
        """The number, small, in the middle."""
        self.set_y(-12)
        self.set_font("text", size=8)
        self.cell(0, 6, f"{self.page_no()} / {{nb}}", align="C")


class _Pen:
    """Writes paragraphs, and remembers what it could not draw."""

    def __init__(self, pdf: FPDF, drawable: frozenset[int]) -> None:
        self.pdf = pdf
        self.drawable = drawable
        self.missing: Counter[str] = Counter()

    def write(self, text: str, *, size: float = 10, style: str = "", indent: float = 0) -> None:
        """One paragraph, its characters replaced by a box where no font has them."""
        shown = self._drawn(text)
        self.pdf.set_font("text", style=style, size=size)
        self.pdf.set_x(self.pdf.l_margin + indent)
        self.pdf.multi_cell(0, size * 0.5, shown, align="L", new_x="LMARGIN", new_y="NEXT")

    def _drawn(self, text: str) -> str:
        text = text.replace("\t", "    ")
        unknown = [c for c in text if ord(c) not in self.drawable and c.isprintable()]
        self.missing.update(unknown)
        boxed = set(unknown)
        return "".join(_BOX if c in boxed else c for c in text if c == "\n" or c.isprintable())

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """Rows of cells, the first one bold; shorter ones are filled up."""
        width = max(map(len, rows))
        self.pdf.set_font("text", size=8.5)
        with self.pdf.table(
            text_align="LEFT", line_height=4.5, padding=1, borders_layout="HORIZONTAL_LINES"
        ) as table:
            for row in rows:
                table.row([self._drawn(cell) for cell in [*row, *[""] * (width - len(row))]])
        self.pdf.ln(2)


def to_pdf(found: Transcript, *, fonts: Fonts) -> bytes:
    """The transcript on A4 pages.

    Args:
        found: what to draw.
        fonts: the files of the letters.

    Raises:
        OSError: a font's file is not there or is none.
    """
    pdf = _Page(format="A4")
    pdf.set_margins(18, 18)
    pdf.set_auto_page_break(auto=True, margin=18)
    try:
        pdf.add_font("text", fname=fonts.regular)
        pdf.add_font("text", style="B", fname=fonts.bold)
        if fonts.fallback:
            pdf.add_font("fallback", fname=fonts.fallback)
            pdf.set_fallback_fonts(["fallback"], exact_match=False)
    except Exception as exc:  # fontTools and fpdf2 have no common error for a broken font
        raise OSError(f"a font cannot be read: {exc}") from exc
    pen = _Pen(pdf, _drawable(pdf))
    pdf.set_title(found.title)
    pdf.add_page()
    pen.write(found.title, size=17, style="B")
    if found.corpora:
        pen.write(f"Asked of: {', '.join(found.corpora)}", size=9)
    for part in found.parts:
        pdf.ln(5)
        pen.write(part.question, size=12.5, style="B")
        pdf.ln(1)
        pen.write(about(part), size=8.5)
        if part.searched_for:
            pen.write(f"Searched for: {part.searched_for}", size=9)
        for notice in part.notices:
            pen.write(f"Note: {notice}", size=9)
        _answer(pen, part.answer or "(no answer)")
        if part.sources:
            pdf.ln(2)
            pen.write("Sources", size=9.5, style="B")
        for source in part.sources:
            pen.write(f"[{source['rank']}]  {source_line(source)}", size=8.5, indent=3)
    if pen.missing:
        pdf.ln(6)
        pen.write(_lacking(pen.missing), size=8.5)
    return bytes(pdf.output())


def _answer(pen: _Pen, answer: str) -> None:
    """Markdown as text: headings bold, code set in, tables drawn, all else as it is written."""
    is_code = False
    table: list[str] = []
    for line in [*answer.splitlines(), ""]:
        if not is_code and line.lstrip().startswith("|"):
            table.append(line)
            continue
        if table:
            _table(pen, table)
            table = []
        if _FENCE.match(line):
            is_code = not is_code
        elif is_code:
            pen.write(line or " ", size=9, indent=5)
        elif not line.strip():
            pen.pdf.ln(2)
        elif _HEADING.match(line):
            pen.write(_HEADING.sub("", line), size=11, style="B")
        else:
            pen.write(line.replace("**", ""), size=10)


def _table(pen: _Pen, lines: Sequence[str]) -> None:
    """Lines of a Markdown table as one, where it fits on a page."""
    split = (_BETWEEN_CELLS.split(line.strip().strip("|")) for line in lines)
    cells = [[cell.strip().replace("**", "").replace("\\|", "|") for cell in row] for row in split]
    rows = [row for row in cells if not all(map(_RULE.fullmatch, row))]
    longest = max((len(cell) for row in rows for cell in row), default=0)
    if rows and max(map(len, rows)) <= _COLUMNS and longest <= _CELL_CHARACTERS:
        pen.table(rows)
    else:
        for line in lines:
            pen.write(line)


def _drawable(pdf: FPDF) -> frozenset[int]:
    """Code points that one of the fonts has."""
    return frozenset(point for font in pdf.fonts.values() for point in getattr(font, "cmap", {}))


def _lacking(missing: Counter[str]) -> str:
    named = " ".join(f"U+{ord(c):04X}" for c, _ in missing.most_common(_NAMED))
    more = " and more" if len(missing) > _NAMED else ""
    return (
        f"{missing.total()} characters could not be drawn and stand as boxes, of these "
        f"kinds: {named}{more}. The Markdown and the JSON of this conversation have them."
    )


def fonts_in(folder: Path, *, fallback: str = "") -> Fonts:
    """Liberation Sans of this folder, with another font for what it lacks."""
    return Fonts(
        regular=str(folder / "LiberationSans-Regular.ttf"),
        bold=str(folder / "LiberationSans-Bold.ttf"),
        fallback=fallback,
    )
