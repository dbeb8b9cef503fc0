"""Build the PDF and DOCX samples from the Markdown files in `sources/`.

Run `python samples/build.py` after a change to a source; the results lie beside this file.
The same sources give the same bytes: dates are fixed and nothing depends on the machine.
Needs fpdf2 2.8.9, python-docx 1.2.0 and markdown-it-py 4.3.0.
"""

# fpdf2 is needed here only, so it is not installed where the site is checked.
# mypy: disable-error-code="import-untyped,import-not-found,misc"

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from docx import Document
from docx.document import Document as WordDocument
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.shared import Cm, Pt, RGBColor
from docx.table import _Row as WordRow
from docx.text.paragraph import Paragraph
from fpdf import FPDF
from fpdf.enums import TableBordersLayout
from fpdf.fonts import FontFace
from markdown_it import MarkdownIt
from markdown_it.token import Token

HERE = Path(__file__).parent
PDFS = ("evaluation", "hybrid-retrieval", "reranking")
DOCXS = ("ingestion-reliability", "vector-search")
AUTHOR = "ragsite"
MADE_AT = datetime(2026, 11, 1, 9, 0, tzinfo=UTC)
INK, BLUE, GREY, PALE, LINE = (32, 36, 44), (24, 70, 132), (110, 118, 130), (238, 242, 248), 5.4
HEADING_SIZES = {1: 23.0, 2: 15.5, 3: 12.5}


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of text in one style: "" plain, "B" bold, "I" italic, "C" code."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a source.

    kind: heading, paragraph, bullet, number, code or table. level: of a heading, from 1;
    of a numbered item, its number. rows: of a table, the header first, cells as plain text.
    """

    kind: str
    runs: Sequence[Run] = ()
    level: int = 0
    rows: Sequence[Sequence[str]] = ()

    @property
    def text(self) -> str:
        """The block without its styles."""
        return "".join(run.text for run in self.runs)


def read(source: Path) -> list[Block]:
    """Parse one Markdown source into its blocks."""
    tokens = MarkdownIt("commonmark").enable("table").parse(source.read_text("utf-8"))
    return list(_blocks(tokens))


def _blocks(tokens: Sequence[Token]) -> Iterator[Block]:
    kind, level, rows = "paragraph", 0, list[list[str]]()
    for token in tokens:
        match token.type:
            case "heading_open":
                kind, level = "heading", int(token.tag[1])
            case "list_item_open":
                kind, level = ("number", int(token.info)) if token.info else ("bullet", 0)
            case "tr_open":
                kind = "cell"
                rows.append([])
            case "heading_close" | "list_item_close" | "table_close":
                if rows:
                    yield Block("table", rows=rows)
                kind, level, rows = "paragraph", 0, []
            case "inline" if kind == "cell":
                rows[-1].append("".join(run.text for run in _runs(token)))
            case "inline":
                yield Block(kind, runs=list(_runs(token)), level=level)
            case "fence":
                yield Block("code", runs=[Run(token.content.rstrip("\n"), "C")])


def _runs(inline: Token) -> Iterator[Run]:
    style = ""
    for child in inline.children or []:
        match child.type:
            case "strong_open":
                style = "B"
            case "em_open":
                style = "I"
            case "strong_close" | "em_close":
                style = ""
            case "code_inline":
                yield Run(child.content, "C")
            case "softbreak":
                yield Run(" ", style)
            case "text":
                yield Run(child.content, style)


# --- PDF -----------------------------------------------------------------------------------
class Page(FPDF):
    """A4 pages with the document's title and the page number at the foot."""

    def __init__(self, title: str) -> None:
        super().__init__(format="A4")
        self.set_title(title)
        self.set_author(AUTHOR)
        self.set_lang("en")
        self.set_creation_date(MADE_AT)
        self.set_margins(left=24, top=22, right=24)
        self.set_auto_page_break(auto=True, margin=24)
        self.title_line = title
        # The core fonts hold the characters of this code page, bullets included.
        self.core_fonts_encoding = "windows-1252"
        self.c_margin = 0
        self.add_page()

    def footer(self) -> None:
        """Called by fpdf2 at the end of each page."""
        self.set_y(-16)
        self.set_font("Helvetica", size=8.5)
        self.set_text_color(GREY)
        self.cell(self.epw / 2, 5, self.title_line)
        self.cell(self.epw / 2, 5, f"Page {self.page_no()}", align="R")

    def face(self, style: str, *, size: float = 10.5) -> None:
        """Choose the font of a run."""
        if style == "C":
            self.set_font("Courier", size=size - 0.5)
        else:
            self.set_font("Helvetica", style=style, size=size)

    def keep(self, height: float) -> None:
        """Begin a new page unless `height` millimetres are left on this one."""
        if self.will_page_break(height):
            self.add_page()


def write_pdf(blocks: Sequence[Block], target: Path) -> None:
    """Set the blocks as a PDF with bookmarks."""
    page = Page(blocks[0].text)
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        page.set_text_color(INK)
        match block.kind:
            case "heading":
                _pdf_heading(page, block)
            case "table":
                _pdf_table(page, block)
            case "code":
                _pdf_code(page, block)
            case _:
                _pdf_text(page, block, is_last=following is None or following.kind != block.kind)
    page.output(str(target))


def _pdf_heading(page: Page, block: Block) -> None:
    size = HEADING_SIZES[block.level]
    page.keep(44 if block.level == 2 else 30)
    if block.level > 1 and page.get_y() > page.t_margin + 1:
        page.ln(9 - 2 * block.level)
    page.start_section(block.text, level=block.level - 1)
    page.set_font("Helvetica", style="B", size=size)
    page.set_text_color(BLUE if block.level < 3 else INK)
    page.multi_cell(page.epw, size * 0.46, block.text, align="L", new_x="LMARGIN", new_y="NEXT")
    if block.level == 1:
        page.set_draw_color(BLUE)
        page.set_line_width(0.5)
        page.line(page.l_margin, page.get_y() + 2.5, page.w - page.r_margin, page.get_y() + 2.5)
        page.ln(7)
    else:
        page.ln(2)


def _pdf_text(page: Page, block: Block, *, is_last: bool) -> None:
    indent = 0 if block.kind == "paragraph" else 8
    lines = list(_pdf_lines(page, block, width=page.epw - indent))
    page.keep(LINE * len(lines))
    if indent:
        page.face("B")
        page.set_x(page.l_margin + 2)
        page.cell(6, LINE, "\u2022" if block.kind == "bullet" else f"{block.level}.")
    for line in lines:
        page.set_x(page.l_margin + indent)
        for style, runs in groupby(line, key=lambda run: run.style):
            text = "".join(run.text for run in runs)
            page.face(style)
            page.cell(page.get_string_width(text), LINE, text)
        page.ln(LINE)
    page.ln(2.6 if is_last or not indent else 1)


def _pdf_lines(page: Page, block: Block, *, width: float) -> Iterator[list[Run]]:
    """Break the block into lines between words, whatever styles a word is made of."""
    line: list[Run] = []
    used = 0.0
    for word in _words(block.runs):
        length = 0.0
        for run in word:
            page.face(run.style)
            length += page.get_string_width(run.text)
        if line and used + length > width:
            yield line
            line, used = [], 0.0
        line += word
        page.face("")
        line.append(Run(" "))
        used += length + page.get_string_width(" ")
    yield line


def _words(runs: Sequence[Run]) -> Iterator[list[Run]]:
    """The pieces between blanks; one word may change its style, as in `code`, with a comma."""
    word: list[Run] = []
    for run in runs:
        for part in re.split(r"( +)", run.text):
            if part.isspace():
                yield word
                word = []
            elif part:
                word.append(Run(part, run.style))
    yield word


def _pdf_code(page: Page, block: Block) -> None:
    lines = block.text.split("\n")
    page.keep(LINE * len(lines) + 6)
    page.face("C", size=9.5)
    page.set_fill_color(PALE)
    height = 4.8 * len(lines) + 5
    page.rect(page.l_margin, page.get_y(), page.epw, height, style="F")
    top = page.get_y()
    page.set_y(top + 2.5)
    for line in lines:
        page.set_x(page.l_margin + 4)
        page.cell(page.epw - 8, 4.8, line, new_x="LMARGIN", new_y="NEXT")
    page.set_y(top + height + 3.6)


def _pdf_table(page: Page, block: Block) -> None:
    page.set_font("Helvetica", size=9.5)
    page.set_draw_color(190, 198, 210)
    page.set_line_width(0.2)
    page.set_fill_color(255)
    page.keep(8 * len(block.rows))
    with page.table(
        block.rows,
        col_widths=_widths(block.rows),
        line_height=4.9,
        padding=(1.5, 3, 1.5, 2),
        text_align="LEFT",
        v_align="TOP",
        borders_layout=TableBordersLayout.HORIZONTAL_LINES,
        headings_style=FontFace(emphasis="BOLD", color=BLUE, fill_color=PALE),
    ):
        pass
    page.ln(5)


def _widths(rows: Sequence[Sequence[str]]) -> tuple[int, ...]:
    """Column widths in proportion to the longest cell, so that short columns stay narrow."""
    return tuple(
        min(max(max(len(cell) for cell in column), 9), 44) for column in zip(*rows, strict=True)
    )


# --- DOCX ----------------------------------------------------------------------------------
def write_docx(blocks: Sequence[Block], target: Path) -> None:
    """Set the blocks as a Word document with real heading, list and table styles."""
    document = Document()
    _word_setup(document, title=blocks[0].text)
    for block in blocks:
        match block.kind:
            case "heading":
                document.add_heading(block.text, level=block.level)
            case "table":
                _word_table(document, block.rows)
            case "code":
                _word_runs(document.add_paragraph(style="No Spacing"), block.runs)
                document.paragraphs[-1].paragraph_format.space_after = Pt(8)
            case "bullet" | "number":
                style = "List Bullet" if block.kind == "bullet" else "List Number"
                _word_runs(document.add_paragraph(style=style), block.runs)
            case _:
                _word_runs(document.add_paragraph(), block.runs)
    packed = io.BytesIO()
    document.save(packed)
    _repack(packed, target)


def _word_setup(document: WordDocument, *, title: str) -> None:
    properties = document.core_properties
    properties.title, properties.author, properties.comments = title, AUTHOR, ""
    properties.created = properties.modified = MADE_AT.replace(tzinfo=None)
    properties.last_modified_by = AUTHOR
    normal = document.styles["Normal"]
    normal.font.name, normal.font.size = "Calibri", Pt(11)
    normal.paragraph_format.space_after = Pt(6)
    for level in (1, 2, 3):
        font = document.styles[f"Heading {level}"].font
        font.size, font.color.rgb = Pt(HEADING_SIZES[level]), RGBColor(*BLUE)
    section = document.sections[0]
    section.page_width, section.page_height = Cm(21), Cm(29.7)
    section.left_margin = section.right_margin = Cm(2.4)
    footer = section.footer.paragraphs[0]
    footer.add_run(f"{title}, page ")
    field = OxmlElement("w:fldSimple")
    field.set(qn("w:instr"), "PAGE")
    footer._p.append(field)


def _word_runs(paragraph: Paragraph, runs: Sequence[Run]) -> None:
    for run in runs:
        added = paragraph.add_run(run.text)
        added.bold, added.italic = run.style == "B" or None, run.style == "I" or None
        if run.style == "C":
            added.font.name, added.font.size = "Consolas", Pt(10)


def _word_table(document: WordDocument, rows: Sequence[Sequence[str]]) -> None:
    table = document.add_table(rows=0, cols=len(rows[0]), style="Light Grid Accent 1")
    for texts in rows:
        row = table.add_row()
        for cell, text in zip(row.cells, texts, strict=True):
            cell.text = text
            cell.paragraphs[0].paragraph_format.space_after = Pt(2)
    _mark_header(table.rows[0])
    document.add_paragraph().paragraph_format.space_after = Pt(2)


def _mark_header(row: WordRow) -> None:
    """Say that the row is the table's header, repeated on every page."""
    row._tr.get_or_add_trPr().append(OxmlElement("w:tblHeader"))


def _repack(packed: io.BytesIO, target: Path) -> None:
    """Write the package again with one fixed date on every member."""
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(target, "w") as new:
        for name in sorted(old.namelist(), key=lambda n: (n != "[Content_Types].xml", n)):
            member = zipfile.ZipInfo(name, date_time=MADE_AT.timetuple()[:6])
            member.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(member, old.read(name))


def main() -> None:
    """Build everything and say what was written."""
    for names, suffix, write in ((PDFS, ".pdf", write_pdf), (DOCXS, ".docx", write_docx)):
        for name in names:
            target = HERE / f"{name}{suffix}"
            write(read(HERE / "sources" / f"{name}.md"), target)
            print(f"{target.name}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
