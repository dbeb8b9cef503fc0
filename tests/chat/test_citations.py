"""Citations: what counts as one, what is removed, and that streaming shows nothing else."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.citations import CitationStream, cited_numbers, clean, numbers_in, strip_citations

ALLOWED = (1, 2, 3)
FRAGMENTS = st.sampled_from(
    [
        "[1]",
        "[99]",
        "[2, 99]",
        "[1][3]",
        "[1-3]",
        " ",
        "  ",
        "\n",
        "\n\n",
        "`",
        "``",
        "```",
        "~~~",
        "word",
        "a[0]",
        "[",
        "]",
        ",",
        "\\",
        "\\[",
        "9",
        "1",
        "- ",
        "    ",
        "[4",
        "text.",
        "é",
    ]
)
TEXTS = st.lists(FRAGMENTS, max_size=25).map("".join)


def streamed(text: str, cuts: list[int]) -> str:
    """The text through a stream, cut at these places."""
    stream = CitationStream(allowed=ALLOWED)
    places = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    shown = [stream.feed(text[a:b]) for a, b in pairwise(places)]
    return "".join(shown) + stream.finish()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is so [1].", "It is so [1]."),
        ("It is so [99].", "It is so."),
        ("It is so [1][99].", "It is so [1]."),
        ("It is so [1] [99] [2].", "It is so [1] [2]."),
        ("It is so [1, 99, 2].", "It is so [1, 2]."),
        ("It is so [1-5].", "It is so [1, 2, 3]."),
        ("It is so [1–3].", "It is so [1–3]."),
        ("It was so [2019].", "It was so [2019]."),
        ("Nothing is [0].", "Nothing is [0]."),
        ("A list [a], a [link](https://x.example).", "A list [a], a [link](https://x.example)."),
        ("`row[99]` and ``a ` b[98]``", "`row[99]` and ``a ` b[98]``"),
        ("An odd ` here [99]\n\nand `b[98]`", "An odd ` here\n\nand `b[98]`"),
        ("```py\nrow[99]\n```\nafter [99]", "```py\nrow[99]\n```\nafter"),
        ("~~~\nrow[99]\n```\nrow[98]\n~~~\n[97]", "~~~\nrow[99]\n```\nrow[98]\n~~~\n"),
        ("- a\n  ```\n  row[99]\n  ```\n- b [99]", "- a\n  ```\n  row[99]\n  ```\n- b"),
        (r"A quoted \[99\] stays", r"A quoted \[99\] stays"),
        ("Nested [[98]99]", "Nested […99]"),
        ("Cut off [9", "Cut off [9"),
    ],
)
def test_numbers_that_were_not_in_the_prompt_are_removed_outside_code(
    text: str, expected: str
) -> None:
    assert clean(text, allowed=ALLOWED) == expected
    assert streamed(text, list(range(len(text)))) == expected


@given(TEXTS, st.lists(st.integers(min_value=0), max_size=12))
def test_however_the_text_is_cut_the_same_is_shown(text: str, cuts: list[int]) -> None:
    assert streamed(text, cuts) == clean(text, allowed=ALLOWED)


@given(TEXTS)
def test_what_has_been_shown_is_never_taken_back(text: str) -> None:
    stream = CitationStream(allowed=ALLOWED)
    shown = ""
    for character in text:
        shown += stream.feed(character)
        assert clean(text, allowed=ALLOWED).startswith(shown)


@pytest.mark.parametrize("end", range(len("It is so [12, 99] indeed")))
def test_no_part_of_a_made_up_number_is_shown_while_it_arrives(end: int) -> None:
    shown = CitationStream(allowed=ALLOWED).feed("It is so [12, 99] indeed"[:end])

    assert "[" not in shown
    assert "9" not in shown


def test_cited_numbers_are_those_allowed_ones_that_stand_in_the_text() -> None:
    text = "One [3], two [1, 99] and `x[2]`."

    assert cited_numbers(text, allowed=ALLOWED) == [1, 3]
    assert cited_numbers(text, allowed=()) == []


def test_the_numbers_of_a_citation_keep_their_order_and_ranges_are_spelt_out() -> None:
    assert numbers_in("3, 1; 5-7") == [3, 1, 5, 6, 7]
    assert numbers_in("[2, 2]") == [2]
    assert numbers_in("1-999") == [1, 999]


def test_an_old_answer_goes_into_a_new_prompt_without_its_numbers() -> None:
    assert strip_citations("It is so [1], and so [2, 3].") == "It is so, and so."
