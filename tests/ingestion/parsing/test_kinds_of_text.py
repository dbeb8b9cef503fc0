"""Text with a structure of its own: CSV, JSON, notebooks, reStructuredText, RTF and EPUB."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingestion.errors import ParseError
from ingestion.types import ElementKind
from tests.ingestion.parsing.made import epub, notebook, read, texts

PEOPLE = "name | town\nZoë | Ulm\nAnn | Rom"


@pytest.mark.parametrize(
    "content",
    [
        "name,town\nZoë,Ulm\nAnn,Rom\n".encode(),
        "name;town\r\nZoë;Ulm\r\nAnn;Rom".encode("cp1252"),
        'name\ttown\n"Zoë"\tUlm\nAnn\tRom\n'.encode("utf-16"),
        "sep=|\nname|town\nZoë|Ulm\nAnn|Rom\n".encode(),
        "name, town\nZoë, Ulm\nAnn, Rom\n".encode("utf-8-sig"),
    ],
    ids=["comma", "semicolon in cp1252", "tab in UTF-16", "told", "blank after comma"],
)
def test_separated_values_are_one_table(tmp_path: Path, content: bytes) -> None:
    found = read(tmp_path, content, "people.csv")

    assert texts(found) == [PEOPLE]
    assert found.elements[0].has_header


def test_quoted_values_may_hold_lines_and_separators(tmp_path: Path) -> None:
    content = b'name,said\n"Ann","Hello,\nBen"\nBen,"a ""word"""\n'
    assert texts(read(tmp_path, content, "a.csv")) == [
        'name | said\nAnn | Hello, Ben\nBen | a "word"'
    ]


def test_lines_above_the_table_are_no_part_of_it(tmp_path: Path) -> None:
    content = b"Report of 2024\n\nname;sum\nAnn;1,50\n"
    assert texts(read(tmp_path, content, "a.csv")) == ["Report of 2024", "name | sum\nAnn | 1,50"]


def test_a_list_of_like_objects_is_a_table_and_numbers_stay_as_written(tmp_path: Path) -> None:
    content = b'{"title": "T", "rows": [{"n": 1.50, "ok": true}, {"n": 1e3, "ok": null}]}'
    found = read(tmp_path, content, "a.json")

    assert found.title == "T"
    assert texts(found) == ["title: T", "rows", "n | ok\n1.50 | true\n1e3 |"]


def test_deep_values_are_named_by_their_path(tmp_path: Path) -> None:
    content = b'{"a": {"b": {"c": "deep words", "d": [1, [2]]}, "e": 1}}'
    assert texts(read(tmp_path, content, "a.json")) == [
        "a",
        "e: 1",
        "b",
        "c: deep words",
        "d",
        "1",
        "2",
    ]


def test_one_value_a_line_is_a_table_too(tmp_path: Path) -> None:
    content = b'{"name": "Zo\xc3\xab", "town": "Ulm"}\n{"name": "Ann", "town": "Rom"}\n'
    assert texts(read(tmp_path, content, "a.jsonl")) == [PEOPLE]


@pytest.mark.parametrize("content", [b'{"a": 1, oops', b"{" * 100_000 + b'"a"'])
def test_what_is_no_sound_json_is_read_as_text(tmp_path: Path, content: bytes) -> None:
    assert "a" in "".join(texts(read(tmp_path, content, "a.json")))


def test_a_notebook_gives_its_text_code_and_output(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        notebook(
            [
                {"cell_type": "markdown", "source": ["# Towers\n", "\n", "They are high."]},
                {
                    "cell_type": "code",
                    "source": "print(41)",
                    "outputs": [
                        {"output_type": "stream", "text": ["41\n"]},
                        {
                            "data": {
                                "text/html": "<table><tr><th>a<th>b<tr><td>1<td>2</table>",
                                "image/png": "iVBORw0KGgo=",
                                "text/plain": "same again",
                            }
                        },
                        {"output_type": "error", "ename": "ValueError", "evalue": "bad"},
                    ],
                },
            ]
        ),
        "a.ipynb",
    )

    assert found.title == "Towers"
    assert [(e.kind.value, e.text) for e in found.elements] == [
        ("heading", "Towers"),
        ("paragraph", "They are high."),
        ("code", "print(41)"),
        ("code", "41"),
        ("table", "a | b\n1 | 2"),
        ("code", "ValueError: bad"),
    ]


RST = b"""
Towers
======

They are :ref:`high <heights>`, see :py:class:`~a.b.Tower` and ``code``.

.. include:: /etc/passwd

.. raw:: html

   <script>x</script>

.. versionadded:: 1.2
   Something new.

.. code-block:: python
   :linenos:

   print(41)

Heights
-------

* Pharos

  Long gone.
* Eiffel

====== ======
Name   Metres
====== ======
Pharos 103
====== ======

term
   what it is

.. image:: x.png
   :alt: A picture
"""


def test_restructured_text_keeps_its_structure_and_includes_nothing(tmp_path: Path) -> None:
    found = read(tmp_path, RST, "a.rst")

    assert found.title == "Towers"
    assert [(e.kind.value, e.level, e.text) for e in found.elements] == [
        ("heading", 1, "Towers"),
        ("paragraph", 0, "They are high, see Tower and code."),
        ("paragraph", 0, "1.2 Something new."),
        ("code", 0, "print(41)"),
        ("heading", 2, "Heights"),
        ("list_item", 0, "Pharos"),
        ("paragraph", 0, "Long gone."),
        ("list_item", 0, "Eiffel"),
        ("table", 0, "Name | Metres\nPharos | 103"),
        ("list_item", 0, "term: what it is"),
        ("paragraph", 0, "A picture"),
    ]


def test_rich_text_keeps_headings_tables_and_old_code_pages(tmp_path: Path) -> None:
    content = (
        rb"{\rtf1\ansi\ansicpg1251{\fonttbl{\f0\fcharset204 Arial;}}{\info{\title Towers}}"
        rb"{\stylesheet{\s1\outlinelevel0 heading 1;}}\f0"
        rb"{\pard\outlinelevel1 \'cf\'f0\'e8\'e2\'e5\'f2\par}"
        rb"{\pard Costs \u8364? 5, {\field{\*\fldinst HYPERLINK x}{\fldrslt shown}}.\par}"
        rb"{\pict\pngblip 89504e470d0a}"
        rb"{\trowd\cellx1\cellx2\pard\intbl Name\cell Age\cell\row"
        rb"\pard\intbl Ann\cell 7\cell\row}\pard After.\par}"
    )
    found = read(tmp_path, content, "a.rtf")

    assert found.title == "Towers"
    assert [(e.kind.value, e.level, e.text) for e in found.elements] == [
        ("heading", 2, "Привет"),
        ("paragraph", 0, "Costs € 5, shown."),
        ("table", 0, "Name | Age\nAnn | 7"),
        ("paragraph", 0, "After."),
    ]


def test_rich_text_with_raw_bytes_in_it_is_read_past_them(tmp_path: Path) -> None:
    content = rb"{\rtf1 Before.\par{\pict\bin5 }}}\x}After.\par}"
    assert texts(read(tmp_path, content, "a.rtf")) == ["Before.", "After."]


def test_marks_of_structure_leave_the_letters_of_rich_text_alone(tmp_path: Path) -> None:
    content = (
        rb"{\rtf1\ansi\uc1\trowd Tower\cell 103\cell\row\pard \u1055\'3f\u1088\'3f\par"
        rb"{\listtext\'b7\tab}\u8364?100\par}"
    )
    found = read(tmp_path, content, "a.rtf")
    assert [(e.kind, e.text) for e in found.elements[1:]] == [
        (ElementKind.PARAGRAPH, "Пр"),
        (ElementKind.LIST_ITEM, "· €100"),
    ]


def test_notes_of_rich_text_stand_behind_the_text(tmp_path: Path) -> None:
    content = (
        rb"{\rtf1\ansi\deff0{\fonttbl{\f0 Times;}}\pard The pump\chftn{\footnote\pard\plain\chftn "
        rb" See the \{manual\}, {\i chapter} 3.} is serviced.\par Here{\*\footnote\ftnalt An "
        rb"endnote, \'e9t\'e9.}.\par\trowd\cellx1\cellx2 a{\footnote In a table.}\cell b\cell\row"
        rb"\pard Last.\par}"
    )
    assert texts(read(tmp_path, content, "a.rtf")) == [
        *("The pump is serviced.", "Here.", "a | b", "Last."),
        *("See the {manual}, chapter 3.", "An endnote, été.", "In a table."),
    ]
    cut_off = rb"{\rtf1 Text.\par{\footnote A note that {\b never ends\par"
    assert texts(read(tmp_path, cut_off, "a.rtf"))[0] == "Text."


def test_chapters_come_in_the_order_of_the_spine_and_are_pages(tmp_path: Path) -> None:
    found = read(tmp_path, epub(["<h1>Two</h1><p>b</p>", "<h1>One</h1><p>a</p>"]), "a.epub")

    assert (found.title, found.pages) == ("A book", 2)
    assert [(e.page, e.text) for e in found.elements] == [
        (1, "One"),
        (1, "a"),
        (2, "Two"),
        (2, "b"),
    ]


def test_a_book_is_locked_by_rights_management_but_not_by_scrambled_fonts(tmp_path: Path) -> None:
    locked = epub(["<p>a"], encryption="http://www.w3.org/2001/04/xmlenc#aes128-cbc")
    scrambled = epub(["<p>a"], encryption="http://www.idpf.org/2008/embedding")

    with pytest.raises(ParseError) as caught:
        read(tmp_path, locked, "a.epub")
    assert caught.value.code == "password"
    assert texts(read(tmp_path, scrambled, "a.epub"), ElementKind.PARAGRAPH) == ["a"]


@pytest.mark.parametrize(
    ("text", "encoding", "name"),
    [
        ("name;size\nÅsa;1\nBo;2\n", "utf-16-le", "a.csv"),
        ("name\tsize\nÅsa\t1\nBo\t2\n", "utf-16", "export.xls"),
        ("名前,都市\n佐藤太郎,大阪\n", "cp932", "a.csv"),
        ("שלום עולם. זהו מסמך קצר בעברית, עם כמה משפטים לבדיקה.", "cp1255", "a.txt"),
        ("Привет, мир. Это короткий документ на русском языке.", "koi8-r", "a.txt"),
        ("你好，世界。這是一個用於測試編碼的簡短中文檔案。", "big5", "a.txt"),
        ("안녕하세요. 이것은 인코딩을 시험하기 위한 짧은 한국어 문서입니다.", "euc-kr", "a.log"),
        ("<p>これは文字コードの試験です。日本語の文章を読みます。</p>", "cp932", "a.html"),
        ('{"name": "Åsa"}', "utf-16", "a.json"),
    ],
)
def test_no_encoding_is_declared_and_every_letter_is_right(
    tmp_path: Path, text: str, encoding: str, name: str
) -> None:
    found = " ".join(texts(read(tmp_path, text.encode(encoding), name)))

    letters = [one for one in text if ord(one) > 0x7F and one.isalpha()]
    assert [one for one in found if ord(one) > 0x7F and one.isalpha()] == letters


def test_what_colours_a_terminal_is_no_text(tmp_path: Path) -> None:
    found = read(tmp_path, b"\x07It \x1b[1;31mfailed\x1b[0m at six.\n", "a.log")
    assert texts(found) == ["It failed at six."]
