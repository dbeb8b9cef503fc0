"""Extractive answers: the right sentences, word for word, whatever models are there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from chat.extractive import (
    INTRODUCTION,
    Sentence,
    choose,
    escape,
    quoted_answer,
    sentences_of,
    shared_words,
)
from chat.render import render_markdown
from inference.errors import InferenceUnreachable, NoModel
from inference.types import RerankScore
from ingestion.types import Passage


class Models:
    """A model server that ranks by the letters two texts share; each part can be away."""

    def __init__(self, *, reranks: bool = True, embeds: bool = True) -> None:
        self.reranks, self.embeds = reranks, embeds
        self.asked: list[str] = []

    def rerank(
        self, question: str, texts: Sequence[str], *, timeout_seconds: float | None = None
    ) -> list[RerankScore]:
        """Prefers sentences that hold the word of the question longest in it."""
        self.asked.append("rerank")
        if not self.reranks:
            raise NoModel("no reranker")
        word = max(re.findall(r"\w+", question), key=len)
        return [RerankScore(i, 5.0 if word in text else -5.0 - i) for i, text in enumerate(texts)]

    def embed(
        self,
        texts: Sequence[str],
        *,
        lane: Literal["question", "ingestion"] = "question",
        timeout_seconds: float | None = None,
    ) -> NDArray[np.float32]:
        """Counts of letters, as unit rows."""
        self.asked.append("embed")
        if not self.embeds:
            raise InferenceUnreachable("away")
        rows = [[t.lower().count(chr(97 + i)) for i in range(26)] for t in texts]
        vectors = np.array(rows, dtype=np.float32) + 0.01
        unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


def passage(text: str) -> Passage:
    """A passage of a guide."""
    return Passage("c", 1, "guide.pdf", "", "", None, None, text)


PASSAGES = [
    passage("Ranking is the subject of this text. Reciprocal rank fusion merges two rankings."),
    passage("The weather was fine on that day. People went to the sea with their children."),
    passage("Fusion needs no tuning at all\nin most cases. A reranker reads both texts at once."),
]


@pytest.mark.parametrize(
    ("models", "asked"),
    [
        (Models(), ["rerank"]),
        (Models(reranks=False), ["rerank", "embed"]),
        (Models(reranks=False, embeds=False), ["rerank", "embed"]),
    ],
    ids=["cross-encoder", "embeddings", "words"],
)
def test_the_best_model_that_is_there_chooses_the_sentences(
    models: Models, asked: list[str]
) -> None:
    answer = quoted_answer("How does reciprocal fusion work?", PASSAGES, models=models)

    assert models.asked == asked
    assert answer.startswith(INTRODUCTION)
    assert "> “Reciprocal rank fusion merges two rankings.” [1]" in answer
    assert 3 <= answer.count("> “") <= 5


def test_the_cross_encoders_order_decides_and_not_the_passages() -> None:
    answer = quoted_answer("What about the children?", PASSAGES, models=Models())

    assert "People went to the sea with their children.” [2]" in answer


def test_every_quote_stands_word_for_word_in_the_passage_of_its_number() -> None:
    answer = quoted_answer("fusion", PASSAGES, models=Models(reranks=False, embeds=False))

    quotes = re.findall(r"> “(.+)” \[(\d)\]", answer)
    assert quotes
    for text, number in quotes:
        assert text in " ".join(PASSAGES[int(number) - 1].text.split())


def test_the_best_sentence_is_read_first_whatever_passage_it_is_of() -> None:
    answer = quoted_answer("What about the children?", PASSAGES, models=Models())

    first = answer.split("\n\n")[1]
    assert first == "> “People went to the sea with their children.” [2]"


def test_a_sentence_is_also_read_with_the_one_before_it() -> None:
    before = "The lighthouse was built in 1850 by the harbour board."
    after = "It is painted red and white and can be seen from afar."
    asked: list[Sequence[str]] = []

    class Listening(Models):
        def rerank(
            self, question: str, texts: Sequence[str], *, timeout_seconds: float | None = None
        ) -> list[RerankScore]:
            asked.append(texts)
            return super().rerank(question, texts, timeout_seconds=timeout_seconds)

    answer = quoted_answer(
        "What colour is the lighthouse?", [passage(f"{before} {after}")], models=Listening()
    )

    assert asked == [[before, after, before, f"{before} {after}"]]
    assert f"> “{after}” [1]" in answer


def test_questions_and_headings_are_not_answers() -> None:
    text = (
        "Reciprocal rank fusion (RRF)\n\nHow does reciprocal rank fusion work?\n\n"
        "It merges rankings by adding up the reciprocal of each place."
    )

    assert [s.text for s in sentences_of([passage(text)])] == [
        "It merges rankings by adding up the reciprocal of each place."
    ]


def test_each_row_of_a_table_is_quoted_for_itself() -> None:
    text = (
        "Score | Meaning of the number\n"
        "Relevance | the calibrated probability that the passage answers\n"
        "Movement | places gained or lost between fusion and reranking"
    )

    assert [s.text for s in sentences_of([passage(text)])] == [
        "Relevance | the calibrated probability that the passage answers",
        "Movement | places gained or lost between fusion and reranking",
    ]


def test_words_that_few_sentences_have_count_more() -> None:
    sentences = ["the fusion of ranks", "the sea and the ranks", "the ranks are there"]

    scores = shared_words("What is the fusion of the ranks?", sentences)
    assert scores[0] > scores[1]
    assert scores[1] == scores[2]


def test_a_sentence_that_repeats_a_better_one_is_left_out() -> None:
    sentences = [
        Sentence("Fusion merges rankings of two searches.", 1, 0),
        Sentence("Fusion merges the rankings of two searches.", 2, 0),
        Sentence("A reranker reads question and passage together.", 3, 0),
    ]

    assert choose(sentences, [3.0, 2.9, 1.0]) == [sentences[0], sentences[2]]


def test_three_are_quoted_and_more_only_if_they_are_good() -> None:
    names = ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot"]
    sentences = [Sentence(name, n, 0) for n, name in enumerate(names, 1)]

    few = choose(sentences, [10, 9, 3, 2, 1, 0])
    assert [s.text for s in few] == ["alpha", "bravo", "charlie"]
    many = choose(sentences, [10, 9, 8, 9, 9, 0])
    assert len(many) == 5
    assert "foxtrot" not in [s.text for s in many]


@pytest.mark.parametrize("text", ["42", "Too short", "1 | 2 | 3 | 4\n5 | 6 | 7 | 8", "word " * 300])
def test_a_passage_without_a_proper_sentence_is_still_quoted(text: str) -> None:
    answer = quoted_answer("Anything?", [passage(text)], models=Models())

    assert answer.count("> “") == 1
    assert "[1]" in answer


def test_many_sentences_are_cut_from_the_lowest_passage_first() -> None:
    long = " ".join(f"This is sentence number {n} of many in here." for n in range(30))
    found = sentences_of([passage(long)] * 3)

    assert len(found) == 48
    assert sum(s.number == 1 for s in found) == 30
    assert sum(s.number == 3 for s in found) == 1


class Text(HTMLParser):
    """The text of some HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.feed(html)
        self.close()

    def handle_data(self, data: str) -> None:
        """Collect it."""
        self.text += data


@given(st.text(alphabet="ab _*~`[]()<>&#;:1!|\\/.-+=\"'x", min_size=1, max_size=40))
def test_a_quote_is_shown_exactly_as_it_stands(text: str) -> None:
    text = " ".join(text.split()) or "x"
    html = render_markdown(f"> “{escape(text)}” [1]", sources=1)

    assert Text(html).text.strip() == f"“{text}” 1"
    assert html.count("<a ") == 1
