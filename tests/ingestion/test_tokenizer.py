"""The embedder's tokenizer: what it counts, and where its tokens stand."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from ingestion.errors import TransientError
from ingestion.tokenizer import PassageTokenizer, load_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> PassageTokenizer:
    return load_tokenizer("all-MiniLM-L6-v2")


def test_it_counts_what_the_model_reads(tokenizer: PassageTokenizer) -> None:
    assert tokenizer.count("") == 2
    assert tokenizer.count("hello world") == 4
    assert tokenizer.count("word " * 1000) == 1002


def test_offsets_are_characters_of_the_text_as_it_is(tokenizer: PassageTokenizer) -> None:
    text = "Über “naïve” 日本 reranking"
    found = [text[a:b] for a, b in tokenizer.offsets(text)]
    assert found == ["Über", "“", "naïve", "”", "日", "本", "re", "rank", "ing"]


def test_long_texts_are_tokenised_as_one(tokenizer: PassageTokenizer) -> None:
    text = "Retrieval finds passages.\n" * 6000
    offsets = tokenizer.offsets(text)
    assert len(offsets) == tokenizer.count(text) - 2
    assert offsets == sorted(offsets)
    assert {text[a:b] for a, b in offsets} == {"Retrieval", "finds", "passages", "."}


def test_a_word_without_end_has_places_to_cut(tokenizer: PassageTokenizer) -> None:
    offsets = tokenizer.offsets("x" * 120_000)
    assert max(b - a for a, b in offsets) <= 100
    assert offsets[0][0] == 0
    assert offsets[-1][1] == 120_000
    assert all(before[1] == after[0] for before, after in pairwise(offsets))


def test_it_is_loaded_once() -> None:
    assert load_tokenizer("all-MiniLM-L6-v2") is load_tokenizer("all-MiniLM-L6-v2")


def test_a_model_without_tokenizer_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(TransientError) as caught:
        load_tokenizer(str(tmp_path))
    assert caught.value.code == "no_model"
