"""Passages: on structure, within the window, exact in their places, nothing lost."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ingestion.chunking import PART_CHARACTERS, chunk
from ingestion.tokenizer import PassageTokenizer, load_tokenizer
from ingestion.types import (
    HEADING_SEPARATOR,
    ChunkDraft,
    Element,
    ElementKind,
    ParsedDocument,
    PartDraft,
    Strategy,
    passage_text,
)

HEADING, PARAGRAPH, ITEM, TABLE, CODE = (
    ElementKind.HEADING,
    ElementKind.PARAGRAPH,
    ElementKind.LIST_ITEM,
    ElementKind.TABLE,
    ElementKind.CODE,
)
TOKENIZER: PassageTokenizer = load_tokenizer("all-MiniLM-L6-v2")


def h(text: str, level: int, page: int | None = None) -> Element:
    return Element(HEADING, text, level=level, page=page)


def prose(sentences: int, about: str = "valve", page: int | None = None) -> Element:
    """A paragraph of numbered sentences of 12 tokens each."""
    text = " ".join(
        f"Sentence {n} says that the {about} is closed at night." for n in range(sentences)
    )
    return Element(PARAGRAPH, text, page=page)


def bag_of_words(texts: Sequence[str]) -> NDArray[np.float32]:
    """A model that tells sentences apart by their words."""
    vectors = np.full((len(texts), 64), 1e-3, dtype=np.float32)
    for row, text in zip(vectors, texts, strict=True):
        for word in re.findall(r"\w+", text.lower()):
            row[zlib.crc32(word.encode()) % 64] += 1
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def chunked(
    elements: list[Element],
    *,
    pages: int = 0,
    max_tokens: int = 256,
    overlap: int = 32,
    strategy: Strategy = Strategy.STRUCTURE,
) -> tuple[list[PartDraft], list[ChunkDraft]]:
    return chunk(
        ParsedDocument(elements=elements, pages=pages),
        tokenizer=TOKENIZER,
        max_tokens=max_tokens,
        overlap_tokens=overlap,
        strategy=strategy,
        embed=bag_of_words,
    )


def without_space(text: str) -> str:
    return re.sub(r"\s", "", text)


def spanned(parts: list[PartDraft], draft: ChunkDraft) -> str:
    return "".join(parts[s.part].text[s.start : s.end] for s in draft.spans)


# --- sections ------------------------------------------------------------------
def test_a_section_is_a_passage_under_its_headings() -> None:
    elements = [h("Guide", 1), prose(8), h("Rail", 2), prose(9, "train"), h("Air", 2), prose(9)]
    _, chunks = chunked(elements)

    assert [c.heading_path for c in chunks] == [("Guide",), ("Guide", "Rail"), ("Guide", "Air")]
    assert [c.text for c in chunks] == [elements[1].text, elements[3].text, elements[5].text]
    assert [c.ordinal for c in chunks] == [0, 1, 2]


def test_small_neighbours_join_under_what_they_share_with_their_headings_as_text() -> None:
    elements = [
        h("FAQ", 1),
        h("Cost?", 2),
        prose(1),
        h("Size?", 2),
        prose(1),
        h("Other", 1),
        prose(21),
    ]
    _, chunks = chunked(elements)

    assert chunks[0].heading_path == ("FAQ",)
    assert chunks[0].text == f"Cost?\n\n{elements[2].text}\n\nSize?\n\n{elements[4].text}"
    assert chunks[1].heading_path == ("Other",)


def test_headings_that_leave_the_path_return_as_text() -> None:
    elements = [
        h("FAQ", 1),
        h("Cost?", 2),
        prose(1),
        h("Size?", 2),
        prose(1),
        h("Rest", 1),
        prose(2),
    ]
    _, (only,) = chunked(elements)
    assert only.heading_path == ()
    assert only.text == "\n\n".join(e.text for e in elements)


def test_sections_join_until_a_passage_is_half_full_and_a_small_last_one_goes_back() -> None:
    elements = [e for n in range(7) for e in (h(f"Term {n}", 2), prose(4))]
    _, chunks = chunked([h("Glossary", 1), *elements])
    terms = [re.findall(r"Term (\d)", c.text) for c in chunks]
    assert terms == [["0", "1", "2"], ["3", "4", "5", "6"]]


def test_sections_of_different_parents_never_join() -> None:
    elements = [h("A", 1), h("A1", 2), prose(1), h("B", 1), h("B1", 2), prose(1)]
    _, chunks = chunked(elements)
    assert [c.heading_path for c in chunks] == [("A", "A1"), ("B", "B1")]


def test_sections_large_enough_stay_apart() -> None:
    elements = [h("T", 1), h("A", 2), prose(6), h("B", 2), prose(6)]
    _, chunks = chunked(elements)
    assert [c.heading_path for c in chunks] == [("T", "A"), ("T", "B")]


def test_a_heading_with_nothing_under_it_is_kept_as_text() -> None:
    _, chunks = chunked([h("Slides", 1), h("Only a title", 2), h("Another", 2), h("Last", 1)])
    assert "Only a title" in chunks[0].text
    assert "Another" in chunks[0].text
    assert any("Last" in c.text for c in chunks)


def test_a_heading_too_long_to_be_one_is_text() -> None:
    _, chunks = chunked([Element(HEADING, prose(12).text, level=1), prose(1)])
    assert chunks[0].heading_path == ()
    assert chunks[0].text.startswith("Sentence 0")


def test_a_long_path_loses_its_outermost_headings_and_keeps_a_quarter_at_most() -> None:
    names = [f"{word} heading about the closing of valves at night" for word in "ABCDEFGHIJ"]
    elements = [h(name, min(level, 10)) for level, name in enumerate(names, start=1)]
    _, chunks = chunked([*elements, prose(4)])

    path = chunks[-1].heading_path
    assert path == tuple(names[-len(path) :])
    assert 1 < len(path) < len(names)
    assert TOKENIZER.count(HEADING_SEPARATOR.join(path)) <= 64


# --- long sections ---------------------------------------------------------------
def test_a_long_section_is_cut_between_sentences_with_overlap() -> None:
    _, chunks = chunked([h("Night", 2), prose(60)])

    assert len(chunks) > 2
    for before, after in pairwise(chunks):
        assert before.text.endswith("at night.")
        repeated = re.match(r"(Sentence \d+ says[^.]*\. )+", after.text)
        last = before.text.rsplit("Sentence ", 1)[1]
        assert after.text.startswith("Sentence ")
        assert f"Sentence {last}" in after.text
        assert repeated is not None
        shared = after.spans[0].start, before.spans[-1].end
        assert 0 < TOKENIZER.count(prose(60).text[slice(*shared)]) - 2 <= 32


def test_without_overlap_nothing_is_said_twice() -> None:
    _, chunks = chunked([prose(60)], overlap=0)
    assert " ".join(c.text for c in chunks) == prose(60).text


def test_overlap_does_not_cross_a_heading() -> None:
    elements = [h("A", 2), prose(30, "valve"), h("B", 2), prose(30, "train")]
    _, chunks = chunked(elements)
    assert not any("valve" in c.text and "train" in c.text for c in chunks)


def test_a_cut_falls_between_paragraphs_where_that_wastes_little() -> None:
    elements = [prose(15, "valve"), prose(15, "train"), prose(15, "plane"), prose(15, "ship")]
    _, chunks = chunked(elements, overlap=0)
    assert [c.text for c in chunks] == [e.text for e in elements]


def test_the_rest_of_a_section_is_not_a_scrap() -> None:
    _, chunks = chunked([prose(26)])
    assert len(chunks) == 2
    assert min(c.tokens for c in chunks) > 100


# --- tables and code -------------------------------------------------------------
def test_a_split_table_repeats_its_header_and_never_cuts_a_row() -> None:
    rows = ["Place | Weight | Price", *(f"row {n} | {n}.5 kg | {n} euros" for n in range(80))]
    parts, chunks = chunked([h("Prices", 1), Element(TABLE, "\n".join(rows), has_header=True)])

    assert len(chunks) > 3
    assert all(c.text.startswith("Place | Weight | Price\n") for c in chunks)
    assert [line for c in chunks for line in c.text.split("\n")[1:]] == rows[1:]
    assert "Place" not in spanned(parts, chunks[1])


def test_a_table_that_goes_on_over_the_page_repeats_the_header_of_its_beginning() -> None:
    def table(page: int, first: int, *, header: str = "") -> Element:
        rows = [f"Tower {n} | {n} metres" for n in range(first, first + 20)]
        text = "\n".join([header, *rows] if header else rows)
        return Element(TABLE, text, page=page, has_header=bool(header))

    header = "Tower | Height"
    tables = [table(1, 0, header=header), table(2, 20), table(3, 40)]
    _, chunks = chunked(tables, pages=3, max_tokens=64, overlap=0)
    assert len(chunks) > 5
    assert all(draft.text.startswith(f"{header}\n") for draft in chunks)
    assert all(draft.tokens <= 64 for draft in chunks)

    other = Element(TABLE, "a | b | c\n1 | 2 | 3", page=4)
    _, chunks = chunked([*tables, other, table(5, 90)], pages=5, max_tokens=64, overlap=0)
    assert not chunks[-1].text.startswith(header)


def test_a_table_without_header_repeats_nothing() -> None:
    rows = [f"row {n} | {n}.5 kg | {n} euros" for n in range(80)]
    _, chunks = chunked([Element(TABLE, "\n".join(rows))])
    assert [line for c in chunks for line in c.text.split("\n")] == rows


def test_a_table_that_fits_a_passage_is_not_cut() -> None:
    table = Element(TABLE, "\n".join(f"row {n} | {n}.5 kg" for n in range(20)), has_header=True)
    _, chunks = chunked([prose(12), table, prose(12)])
    assert sum("row 0" in c.text and "row 19" in c.text for c in chunks) == 1


def test_code_is_cut_only_if_the_block_alone_is_too_large_and_then_between_lines() -> None:
    small = Element(CODE, "\n".join(f"    print({n})" for n in range(20)))
    _, chunks = chunked([prose(14), small, prose(14)])
    assert sum(small.text in c.text for c in chunks) == 1

    lines = [f"    value_{n} = compute({n})" for n in range(100)]
    _, chunks = chunked([Element(CODE, "\n".join(lines))])
    assert len(chunks) > 2
    assert [line for c in chunks for line in c.text.split("\n")] == lines


# --- the window --------------------------------------------------------------------
def test_a_word_without_blanks_is_cut_within_the_window() -> None:
    parts, chunks = chunked([Element(PARAGRAPH, "x" * 300_000 + " the needle is here")])
    assert all(c.tokens <= 256 and len(c.text) < 5_000 for c in chunks)
    assert "the needle is here" in chunks[-1].text
    assert "".join(part.text for part in parts) == "x" * 300_000 + " the needle is here"


def test_tokens_are_those_of_the_text_that_is_embedded() -> None:
    _, chunks = chunked([h("A", 1), h("B", 2), prose(40)])
    for c in chunks:
        path = HEADING_SEPARATOR.join(c.heading_path)
        assert c.tokens == TOKENIZER.count(passage_text(heading_path=path, text=c.text)) <= 256


@pytest.mark.parametrize(("max_tokens", "overlap"), [(15, 0), (256, -1)])
def test_senseless_sizes_are_refused(max_tokens: int, overlap: int) -> None:
    with pytest.raises(ValueError):
        chunked([prose(1)], max_tokens=max_tokens, overlap=overlap)


# --- parts and pages -----------------------------------------------------------------
def test_every_page_is_a_part_and_passages_know_their_pages() -> None:
    elements = [h("T", 1, 2), prose(3, page=2), prose(14, page=3), prose(9, page=5)]
    parts, chunks = chunked(elements, pages=6)

    assert [(part.ordinal, part.page) for part in parts] == [(n, n + 1) for n in range(6)]
    assert [bool(part.text) for part in parts] == [False, True, True, False, True, False]
    assert parts[1].text == f"T\n\n{elements[1].text}"
    assert (chunks[0].page_from, chunks[0].page_to) == (2, 3)
    assert chunks[-1].page_to == 5
    assert [s.part for s in chunks[0].spans] == [1, 2]


def test_a_sentence_that_runs_over_the_page_stays_one() -> None:
    elements = [
        Element(PARAGRAPH, "The valve is closed", page=1),
        Element(PARAGRAPH, "at night and opened at dawn.", page=2),
    ]
    _, chunks = chunked(elements, pages=2)
    assert chunks[0].text == "The valve is closed at night and opened at dawn."


def test_parts_without_pages_end_with_an_element() -> None:
    elements = [prose(60, f"valve {n}") for n in range(30)]
    parts, _ = chunked(elements)
    assert len(parts) > 2
    assert all(len(part.text) <= PART_CHARACTERS for part in parts)
    assert all(part.text.endswith("at night.") and part.page is None for part in parts)
    assert "\n\n".join(part.text for part in parts) == "\n\n".join(e.text for e in elements)


def test_passages_without_letters_or_digits_are_left_out() -> None:
    assert chunked([Element(PARAGRAPH, "* * *")])[1] == []
    assert chunked([])[1] == []


# --- properties ------------------------------------------------------------------------
PLAIN = ["valve", "night.", "Closed?", "3.5", "a", "Ab", "supercalifragilistic", "rerank-ing"]
ODD = [
    "“naïve”",
    "日本語。",
    "—",
    "e.g.",
    "🙂",
    "end!\n",
    "\t",
    "https://example.org/p?q=1",
    "x" * 130,
]
WORDS = st.sampled_from(PLAIN + ODD)
LINES = st.lists(WORDS, min_size=1, max_size=60).map(" ".join)
ELEMENTS = st.lists(
    st.one_of(
        st.builds(
            h, st.lists(WORDS, min_size=1, max_size=6).map(" ".join), st.integers(1, 6), st.none()
        ),
        st.builds(Element, st.sampled_from([PARAGRAPH, ITEM]), LINES),
        st.builds(
            Element,
            st.sampled_from([TABLE, CODE]),
            st.lists(LINES, min_size=1, max_size=8).map("\n".join),
            has_header=st.booleans(),
        ),
    ),
    max_size=12,
)


# --- strategies ------------------------------------------------------------------
@pytest.mark.parametrize("strategy", list(Strategy))
def test_whatever_the_strategy_a_split_table_repeats_its_header(strategy: Strategy) -> None:
    rows = [f"pump {n} | {n} bar | ready" for n in range(60)]
    table = Element(TABLE, "\n".join(["name | pressure | state", *rows]), has_header=True)
    _, chunks = chunked([h("Pumps", 1), prose(3), table], max_tokens=96, strategy=strategy)

    cut = [draft.text.split("\n") for draft in chunks if "bar" in draft.text]
    assert len(cut) > 3
    assert all("name | pressure | state" in lines for lines in cut)
    assert {row for lines in cut for row in lines if "bar" in row} == set(rows)
    assert all(draft.heading_path == ("Pumps",) for draft in chunks[1:])


@pytest.mark.parametrize("strategy", list(Strategy))
def test_whatever_the_strategy_code_that_fits_a_passage_is_not_cut(strategy: Strategy) -> None:
    code = Element(CODE, "\n".join(f"x{n} = call({n})" for n in range(6)))
    for before in range(1, 12):
        _, chunks = chunked([prose(before), code, prose(4)], max_tokens=96, strategy=strategy)
        assert sum(code.text in draft.text for draft in chunks) == 1


@pytest.mark.parametrize("strategy", list(Strategy))
def test_whatever_the_strategy_passages_bear_the_headings_above_them(strategy: Strategy) -> None:
    elements = [h("Site", 1), h("North", 2), prose(20), h("South", 2), prose(20, "door")]
    _, chunks = chunked(elements, max_tokens=96, overlap=0, strategy=strategy)

    last = chunks[-1]
    assert last.heading_path == ("Site", "South")
    inner = [draft for draft in chunks[1:] if "door" not in draft.text]
    assert inner
    assert all(draft.heading_path == ("Site", "North") for draft in inner)


def test_fixed_passages_are_full_to_the_last_word_and_overlap_by_words() -> None:
    words = " ".join(f"word{n}" for n in range(900))
    _, chunks = chunked(
        [Element(PARAGRAPH, words)], max_tokens=96, overlap=16, strategy=Strategy.FIXED
    )

    assert all(90 < draft.tokens <= 96 for draft in chunks[:-1])
    seen: list[str] = []
    for before, after in pairwise(chunks):
        shared = [word for word in after.text.split() if word in before.text.split()]
        assert 0 < TOKENIZER.count(" ".join(shared)) - 2 <= 16
        seen += before.text.split()
    assert set(seen + chunks[-1].text.split()) == set(words.split())  # no word is cut


def test_a_passage_begins_on_the_page_of_its_first_word() -> None:
    pages = [Element(PARAGRAPH, f"{'word ' * 40}end.", page=page) for page in range(1, 9)]
    _, chunks = chunked(pages, max_tokens=32, overlap=8, strategy=Strategy.FIXED, pages=8)

    assert not any(draft.text.startswith("\n") for draft in chunks)
    assert all(draft.page_from == draft.spans[0].part + 1 for draft in chunks)


def test_sentence_passages_are_filled_over_sections_and_end_with_sentences() -> None:
    elements = [part for n in range(30) for part in (h(f"Part {n}", 2), prose(2))]
    structured, sentences = (
        chunked(elements, max_tokens=120, overlap=0, strategy=strategy)[1]
        for strategy in (Strategy.STRUCTURE, Strategy.SENTENCE)
    )

    assert len(sentences) < len(structured)
    assert all(draft.text.endswith(".") for draft in sentences)
    assert all(draft.tokens > 80 for draft in sentences[:-1])


def test_meaning_cuts_where_the_words_change() -> None:
    lunch = " ".join(f"Lunch of day {n} brings soup, bread and fruit." for n in range(9))
    element = Element(PARAGRAPH, f"{prose(9).text} {lunch}")
    _, chunks = chunked([element], max_tokens=240, overlap=0, strategy=Strategy.SEMANTIC)

    assert [draft.text for draft in chunks] == [prose(9).text, lunch]


def test_meaning_needs_a_model() -> None:
    with pytest.raises(ValueError, match="model"):
        chunk(
            ParsedDocument([prose(2)]),
            tokenizer=TOKENIZER,
            max_tokens=96,
            overlap_tokens=0,
            strategy=Strategy.SEMANTIC,
        )


def test_the_text_that_is_read_does_not_depend_on_how_it_is_cut() -> None:
    long_heading = h("word " * 40, 2, page=1)
    elements = [prose(3, page=1), long_heading, Element(PARAGRAPH, "and goes on", page=2)]
    read = [
        chunked(elements, pages=2, max_tokens=size, strategy=strategy)[0]
        for size in (48, 96, 256)
        for strategy in Strategy
    ]

    assert all(parts == read[0] for parts in read)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    elements=ELEMENTS,
    paged=st.booleans(),
    max_tokens=st.sampled_from([24, 48, 256]),
    overlap=st.sampled_from([0, 8, 32]),
    strategy=st.sampled_from(Strategy),
)
def test_whatever_the_document(
    elements: list[Element], paged: bool, max_tokens: int, overlap: int, strategy: Strategy
) -> None:
    if paged:
        elements = [
            Element(e.kind, e.text, page=1 + n // 3, level=e.level, has_header=e.has_header)
            for n, e in enumerate(elements)
        ]

    def cut() -> tuple[list[PartDraft], list[ChunkDraft]]:
        return chunked(
            elements,
            pages=5 if paged else 0,
            max_tokens=max_tokens,
            overlap=overlap,
            strategy=strategy,
        )

    parts, chunks = cut()
    headers = {e.text.split("\n")[0] for e in elements if e.kind is TABLE and e.has_header}
    covered: set[tuple[int, int]] = set()
    for draft in chunks:
        assert 2 < draft.tokens <= max_tokens
        assert any(map(str.isalnum, draft.text))
        text, place = without_space(draft.text), without_space(spanned(parts, draft))
        assert text == place or text.removesuffix(place) in map(without_space, headers)
        covered |= {(s.part, i) for s in draft.spans for i in range(s.start, s.end)}
    # Nothing is lost: what no passage covers stands in a heading path, or is no word.
    named = " ".join(name for draft in chunks for name in draft.heading_path)
    uncovered = " ".join(
        "".join(c if (part.ordinal, i) not in covered else " " for i, c in enumerate(part.text))
        for part in parts
    )
    allowed = {w for e in elements if e.kind is HEADING for w in e.text.split()} | set(
        named.split()
    )
    assert {w for w in uncovered.split() if any(map(str.isalnum, w))} <= allowed
    assert cut() == (parts, chunks)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from([0, 1, 5, 30])), max_size=14))
def test_no_heading_is_lost(outline: list[tuple[int, int]]) -> None:
    """Levels with the sentences under each; level 0 is text that continues a section."""
    elements: list[Element] = []
    for number, (level, sentences) in enumerate(outline):
        if level:
            elements.append(h(f"Name{number}", level))
        if sentences:
            elements.append(prose(sentences))
    _, chunks = chunked(elements)
    read = " ".join(f"{' '.join(draft.heading_path)} {draft.text}" for draft in chunks).split()
    assert {e.text for e in elements if e.kind is HEADING} <= set(read)
