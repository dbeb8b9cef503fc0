"""Which sentences carry a score, found by leaving each out."""

from __future__ import annotations

import pytest

from inference.errors import InferenceError, InferenceUnreachable
from search.attribution import attribute
from tests.search.stand_ins import Models

TEXT = (
    "The pump stands in the cellar. Fault code four means the fan stands still.\n"
    "Nobody may enter without a badge. The fan is cleaned in May."
)


def test_the_sentence_with_the_words_of_the_question_carries_the_score() -> None:
    found = attribute("fault code four", heading_path="Handbook", text=TEXT, reranker=Models())

    assert "".join(sentence.text for sentence in found.sentences) == TEXT
    carriers = [s.text.strip() for s in sorted(found.sentences, key=lambda s: s.place) if s.place]
    assert carriers == ["Fault code four means the fan stands still."]
    assert max(s.lost for s in found.sentences) > 5  # three words of 2 logits each, less length


def test_the_heading_stays_in_every_variant() -> None:
    models = Models()

    attribute("fault", heading_path="Handbook", text=TEXT, reranker=models)

    assert len(models.reranked[0]) == 5  # whole, and without each of four
    assert all(text.startswith("Handbook\n") for text in models.reranked[0])


def test_a_passage_of_one_sentence_has_nothing_to_leave_out() -> None:
    (only,) = attribute(
        "fan", heading_path="", text="The fan stands still.", reranker=Models()
    ).sentences

    assert (only.place, only.lost) == (0, 0.0)


def test_rows_of_a_table_count_as_sentences() -> None:
    table = "Code | Meaning\n3 | the door is open\n4 | the fan stands still"

    found = attribute("fan", heading_path="", text=table, reranker=Models())

    assert "".join(sentence.text for sentence in found.sentences) == table
    assert [s.words for s in found.sentences if s.place] == ["4 | the fan stands still"]
    assert found.carriers == 1


def test_a_reranker_that_is_away_is_an_error() -> None:
    with pytest.raises(InferenceError):
        attribute(
            "fan",
            heading_path="",
            text=TEXT,
            reranker=Models(rerank_error=InferenceUnreachable("away")),
        )
