"""Presentations, workbooks and documents of Microsoft's and of OpenDocument's kind."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from ingestion.errors import ParseError
from ingestion.parsing.sheets import ROWS_OF_AN_ELEMENT, cell_text
from ingestion.types import ElementKind, Notice
from tests.ingestion.parsing.made import (
    doc,
    open_document,
    ppt,
    pptx,
    read,
    sheets,
    slides,
    texts,
    xls,
    xlsx,
    zipped,
)

TABLE = ElementKind.TABLE


def refused(folder: Path, content: bytes, name: str) -> str:
    with pytest.raises(ParseError) as caught:
        read(folder, content, name)
    return caught.value.code


def test_slides_are_pages_with_their_tables_and_notes(tmp_path: Path) -> None:
    found = read(tmp_path, pptx(slides), "talk.pptx")

    assert found.title == "Lighthouses"
    assert found.pages == 2
    assert [(e.page, e.kind.value, e.text) for e in found.elements] == [
        (1, "heading", "Lighthouses"),
        (1, "list_item", "They warn ships."),
        (1, "list_item", "They guide ships."),
        (1, "paragraph", "Speak slowly."),
        (2, "heading", "Heights"),
        (2, "table", "Tower | Metres\nPharos | 103\nPharos | 41"),
    ]
    assert found.elements[-1].has_header


def test_hidden_slides_and_sheets_are_left_out_and_counted(tmp_path: Path) -> None:
    talk = read(tmp_path, pptx(slides), "talk.pptx")
    book = read(tmp_path, xlsx(sheets), "book.xlsx")

    assert list(talk.notices) == [Notice("hidden_slides", 1)]
    assert list(book.notices) == [Notice("hidden_sheets", 1)]
    assert "Not for the audience" not in texts(talk)
    assert "hidden words" not in texts(book)


def test_a_slide_show_with_macros_is_read_like_any_other(tmp_path: Path) -> None:
    from tests.ingestion.parsing.made import retyped

    show = retyped(pptx(slides), "presentationml.presentation", "presentationml.slideshow")
    assert "Pharos" in texts(read(tmp_path, show, "talk.ppsx"), TABLE)[0]


def test_a_workbook_gives_its_values_as_they_are_shown(tmp_path: Path) -> None:
    found = read(tmp_path, xlsx(sheets), "book.xlsx")

    assert found.pages == 2
    assert [(e.page, e.kind.value, e.text) for e in found.elements] == [
        (1, "heading", "Sales"),
        (1, "paragraph", "Sales of 2024"),
        (
            1,
            "table",
            "Region | Day | Share | Sum\n"
            "North | 2024-03-01 | 12.5% | 1200.5\n"
            "North | 2024-03-02 14:30:00 | 50% | 3",
        ),
        (1, "paragraph", "Checked by Ann."),
        (2, "heading", "Notes"),
        (2, "paragraph", "Ask Ben."),
    ]


def test_a_formula_gives_the_value_that_was_computed_last(tmp_path: Path) -> None:
    sheet = (
        '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
        '<row r="1"><c r="A1" t="inlineStr"><is><t>Sum</t></is></c>'
        '<c r="B1"><f>1+41</f><v>42</v></c></row></sheetData></worksheet>'
    )
    from tests.ingestion.parsing.made import with_part

    content = with_part(xlsx(lambda book: None), "xl/worksheets/sheet1.xml", sheet)
    assert texts(read(tmp_path, content, "a.xlsx"), TABLE) == ["Sum | 42"]


def test_a_cell_in_the_last_corner_costs_neither_memory_nor_time(tmp_path: Path) -> None:
    def far(book: Any) -> None:
        book.active["A1"] = "near"
        book.active["XFD1048576"] = "far"

    assert texts(read(tmp_path, xlsx(far), "a.xlsx"))[1:] == ["near", "far"]


def test_a_long_sheet_becomes_pieces_under_its_header(tmp_path: Path) -> None:
    rows: list[list[Any]] = [
        ["Name", "Number"],
        *([f"n{i}", i] for i in range(ROWS_OF_AN_ELEMENT + 10)),
    ]
    found = read(tmp_path, xls(rows), "a.xls")

    tables = [e for e in found.elements if e.kind is TABLE]
    assert len(tables) == 2
    assert all(e.has_header and e.text.startswith("Name | Number\n") for e in tables)
    body = [line for e in tables for line in e.text.split("\n")[1:]]
    assert body == [f"n{i} | {i}" for i in range(ROWS_OF_AN_ELEMENT + 10)]


def test_a_sheet_that_is_a_chart_is_passed_over(tmp_path: Path) -> None:
    def build(book: Any) -> None:
        book.active["A1"] = "Lamps"
        book.create_chartsheet("Nothing drawn")

    assert "Lamps" in texts(read(tmp_path, xlsx(build), "a.xlsx"))


def test_an_old_workbook_gives_dates_as_dates(tmp_path: Path) -> None:
    content = xls([["Name", "Day", "Share"], ["Ann", datetime.date(2024, 3, 1), 0.5]])
    found = read(tmp_path, content, "a.xls")

    assert texts(found) == ["Old sheet", "Name | Day | Share\nAnn | 2024-03-01 | 0.5"]
    assert found.pages == 1


@pytest.mark.parametrize(
    ("value", "number_format", "text"),
    [
        (0.1 + 0.2, "General", "0.3"),
        (3.0, "General", "3"),
        (0.0725, "0.00%", "7.25%"),
        (12, '0"%"', "12"),
        (True, "General", "TRUE"),
        (datetime.time(9, 5), "hh:mm", "09:05:00"),
        (datetime.timedelta(hours=26, minutes=3, seconds=4), "[h]:mm:ss", "26:03:04"),
        (datetime.timedelta(minutes=-90), "[h]:mm", "-1:30:00"),
        (float("inf"), "General", "inf"),
        (2**70, "General", str(2**70)),
    ],
)
def test_a_cell_reads_as_people_write_it(value: object, number_format: str, text: str) -> None:
    assert cell_text(value, number_format) == text


@pytest.mark.parametrize("content", [xlsx(lambda book: None), xls([[""]])], ids=["xlsx", "xls"])
def test_a_workbook_without_values_is_empty(tmp_path: Path, content: bytes) -> None:
    assert refused(tmp_path, content, "a.xlsx") == "empty"


def test_a_word_97_document_gives_paragraphs_fields_and_tables(tmp_path: Path) -> None:
    link = '\x13 HYPERLINK "http://x" \x14the \x13 REF y \x14site\x15\x15'
    text = f"First.\rSee {link} now.\rName\x07Age\x07\x07Ann\x07\x07\x07Ben\x079\x07\x07Last.\r"
    found = read(tmp_path, doc(text), "a.doc")

    assert texts(found) == [
        "First.",
        "See the site now.",
        "Name | Age\nAnn |\nBen | 9",
        "Last.",
    ]


def test_an_old_presentation_gives_what_was_saved_last(tmp_path: Path) -> None:
    found = read(tmp_path, ppt(), "a.ppt")
    assert [(e.kind, e.text, e.page) for e in found.elements] == [
        (ElementKind.HEADING, "Lighthouses", 1),
        (ElementKind.PARAGRAPH, "Grüße vom Turm", 1),
        (ElementKind.LIST_ITEM, "They warn.", 1),
        (ElementKind.LIST_ITEM, "They guide.", 1),
        (ElementKind.PARAGRAPH, "Speak slowly.", 1),
    ]
    assert found.notices == [Notice("hidden_slides", 1)]
    with pytest.raises(ParseError) as caught:
        read(tmp_path, ppt(token=0xF3D1C4DF), "a.ppt")
    assert caught.value.code == "password"


def test_a_word_97_document_with_a_password_says_so(tmp_path: Path) -> None:
    assert refused(tmp_path, doc("x", flags=0x100), "a.doc") == "password"


TEXT = """
<text:tracked-changes><text:p>deleted words</text:p></text:tracked-changes>
<text:h text:outline-level="2">Towers</text:h>
<text:p>One<text:s text:c="2"/>two<text:note><text:note-body><text:p>A note.</text:p>
</text:note-body></text:note>.<draw:frame><draw:text-box><text:p>In a box.</text:p>
</draw:text-box></draw:frame></text:p>
<text:list><text:list-item><text:p>An item</text:p></text:list-item></text:list>
<table:table><table:table-header-rows><table:table-row>
<table:table-cell><text:p>Name</text:p></table:table-cell>
<table:table-cell><text:p>Town</text:p></table:table-cell></table:table-row>
</table:table-header-rows><table:table-row>
<table:table-cell><text:p>Ann</text:p></table:table-cell>
<table:table-cell><text:p>Ulm</text:p></table:table-cell></table:table-row></table:table>
"""


def test_open_document_text_keeps_its_structure(tmp_path: Path) -> None:
    found = read(tmp_path, open_document("text", TEXT, title="On towers"), "a.odt")

    assert found.title == "On towers"
    assert [(e.kind.value, e.level, e.text) for e in found.elements] == [
        ("heading", 2, "Towers"),
        ("paragraph", 0, "One  two."),
        ("paragraph", 0, "In a box."),
        ("list_item", 0, "An item"),
        ("table", 0, "Name | Town\nAnn | Ulm"),
        ("paragraph", 0, "A note."),
    ]
    assert found.elements[4].has_header


SHEET = """
<table:table table:name="Years"><table:table-row>
<table:table-cell table:number-rows-spanned="2"><text:p>2024</text:p></table:table-cell>
<table:table-cell office:value="3"><text:p>3 €</text:p></table:table-cell></table:table-row>
<table:table-row><table:covered-table-cell/><table:table-cell office:date-value="2024-03-01"/>
</table:table-row><table:table-row table:number-rows-repeated="1048574">
<table:table-cell table:number-columns-repeated="16384"/></table:table-row></table:table>
<table:table table:name="Secret" table:style-name="off"><table:table-row><table:table-cell>
<text:p>hidden words</text:p></table:table-cell></table:table-row></table:table>
"""
OFF = '<style:style style:name="off"><style:table-properties table:display="false"/></style:style>'


def test_an_open_document_sheet_spreads_merged_cells_but_no_empty_ones(tmp_path: Path) -> None:
    found = read(tmp_path, open_document("spreadsheet", SHEET, styles=OFF), "a.ods")

    assert texts(found) == ["Years", "2024 | 3 €\n2024 | 2024-03-01"]
    assert found.pages == 1
    assert list(found.notices) == [Notice("hidden_sheets", 1)]


SLIDE = """
<draw:page><draw:frame><draw:text-box><text:list><text:list-item><text:p>A point</text:p>
</text:list-item></text:list></draw:text-box></draw:frame>
<draw:frame presentation:class="title"><draw:text-box><text:p>First</text:p></draw:text-box>
</draw:frame><presentation:notes><draw:frame><draw:text-box><text:p>Say this.</text:p>
</draw:text-box></draw:frame></presentation:notes></draw:page>
<draw:page><draw:frame><draw:text-box><text:p>Second page</text:p></draw:text-box></draw:frame>
</draw:page>
"""


def test_an_open_document_slide_begins_with_its_title(tmp_path: Path) -> None:
    found = read(tmp_path, open_document("presentation", SLIDE), "a.odp")

    assert [(e.page, e.text) for e in found.elements] == [
        (1, "First"),
        (1, "A point"),
        (1, "Say this."),
        (2, "Second page"),
    ]
    assert found.title == "First"


def test_what_is_locked_or_no_document_is_refused(tmp_path: Path) -> None:
    locked = open_document("text", TEXT, encrypted=True)
    broken = zipped({"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": "<a"})
    hollow = zipped({"[Content_Types].xml": "<Types/>", "ppt/presentation.xml": "<p/>"})

    assert refused(tmp_path, locked, "a.odt") == "password"
    assert refused(tmp_path, broken, "a.odt") == "corrupt"
    assert refused(tmp_path, hollow, "a.pptx") == "corrupt"
