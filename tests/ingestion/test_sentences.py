"""Where sentences end, and where only abbreviations do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.sentences import sentence_spans


@pytest.mark.parametrize(
    "sentences",
    [
        ["One ends.", "Two asks?", "Three shouts!"],
        ["He said “no.”", "She left."],
        ["See Fig. 3 and Sec. 2.1 for Dr. J. Smith et al. on it.", "Next."],
        ["It costs 3.50 euros, i.e. little.", "Really."],
        ["Das gilt z.B. für Nr. 5.", "Und so weiter."],
        ["これは文です。", "次の文です。"],
        ["Wait… it goes on.", "Done."],
        ["a heading without an end\n\n", "Then a paragraph."],
        ["Version 2.0 is out.", "4 people saw it."],
    ],
)
def test_sentences_are_told_apart(sentences: list[str]) -> None:
    joiner = "" if sentences[0].endswith(("。", "\n")) else " "
    text = joiner.join(sentences)
    assert [text[a:b] for a, b in sentence_spans(text)] == [s.strip() for s in sentences]


@given(st.text(alphabet=" .!?\n\"'aAbB1。、)", max_size=80))
def test_every_character_that_is_not_space_is_in_exactly_one_sentence(text: str) -> None:
    spans = sentence_spans(text)
    inside = [position for a, b in spans for position in range(a, b)]
    assert inside == sorted(set(inside))
    assert {i for i, c in enumerate(text) if not c.isspace()} <= set(inside)
    assert all(text[a:b] == text[a:b].strip() for a, b in spans)
