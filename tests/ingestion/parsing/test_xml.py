"""XML of no vocabulary in particular: prose, records, feeds, drawings, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingestion.errors import ParseError
from ingestion.types import ElementKind
from tests.ingestion.parsing.made import read, texts


def xml(body: str, *, declaration: str = '<?xml version="1.0"?>') -> bytes:
    return (declaration + body).encode()


def test_records_are_lines_of_names_and_values(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        xml("<l><tower><name>Pharos</name><m>103</m></tower><tower name='Eddystone' m='41'/></l>"),
        "a.xml",
    )
    assert texts(found) == ["name: Pharos\nm: 103", "name: Eddystone\nm: 41"]


def test_prose_keeps_its_sentences_and_headings(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        xml(
            '<!DOCTYPE book [<!ENTITY w "Widget Pro">]><book><title>Guide</title><chapter>'
            "<title>Use</title><para>Use &w; with <em>care</em>.</para></chapter></book>"
        ),
        "a.xml",
    )
    assert [(e.text, e.level) for e in found.elements if e.kind is ElementKind.HEADING] == [
        ("Guide", 1),
        ("Use", 2),
    ]
    assert texts(found, ElementKind.PARAGRAPH) == ["Use Widget Pro with care."]


def test_a_feed_gives_the_text_of_its_pages(tmp_path: Path) -> None:
    item = "<item><title>News</title><description>&lt;p&gt;Lit &lt;b&gt;now&lt;/b&gt;</description>"
    found = read(tmp_path, xml(f"<rss><channel>{item}</item></channel></rss>"), "feed")
    assert texts(found) == ["News", "Lit now"]


def test_a_workbook_in_xml_is_a_table_also_under_the_name_of_excel(tmp_path: Path) -> None:
    rows = "".join(
        f"<Row><Cell><Data>{a}</Data></Cell><Cell><Data>{b}</Data></Cell></Row>"
        for a, b in (("Tower", "Metres"), ("Pharos", "103"))
    )
    book = '<Workbook xmlns="urn:schemas-microsoft-com:office:spreadsheet"><Worksheet><Table>'
    found = read(tmp_path, xml(f"{book}{rows}</Table></Worksheet></Workbook>"), "a.xls")
    assert texts(found, ElementKind.TABLE) == ["Tower | Metres\nPharos | 103"]


def test_the_declared_encoding_counts(tmp_path: Path) -> None:
    declaration = '<?xml version="1.0" encoding="%s"?><a><b>Grüße</b></a>'
    for encoding in ("ISO-8859-1", "UTF-16"):
        content = (declaration % encoding).encode(encoding)
        assert texts(read(tmp_path, content, "a.xml")) == ["b: Grüße"]


def test_the_words_of_a_drawing_are_read_and_its_scripts_are_not(tmp_path: Path) -> None:
    drawing = "<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script>"
    found = read(tmp_path, xml(f"{drawing}<text>A <tspan>lamp</tspan></text></svg>"), "a.svg")
    assert texts(found) == ["A lamp"]


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "lol" * 10}">' for n in range(10))


@pytest.mark.parametrize(
    "body",
    [
        f"<!DOCTYPE a [{LAUGHS}]><a>&l9;</a>",
        f'<!DOCTYPE a [<!ENTITY x "{"A" * 500_000}">]><a>{"&x;" * 2_000}</a>',
        "<a>" * 200_000,
        "<a><b>cut off",
        "<a>&unknown;</a>",
    ],
    ids=["entities of entities", "a long entity", "too deep", "cut off", "undeclared"],
)
def test_xml_that_grows_or_is_no_xml_is_refused(tmp_path: Path, body: str) -> None:
    with pytest.raises(ParseError) as caught:
        read(tmp_path, xml(body), "a.xml")
    assert caught.value.code == "corrupt"


def test_nothing_outside_the_file_is_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the secret")
    body = f'<!DOCTYPE a [<!ENTITY x SYSTEM "{secret.as_uri()}">]><a><b>before &x; after</b></a>'
    try:
        found = texts(read(tmp_path, xml(body), "a.xml"))
    except ParseError:
        found = []
    assert "secret" not in "".join(found)
