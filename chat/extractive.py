"""An answer without a language model: the passages' own sentences that match best, quoted.

Sentences are compared with the question by the cross-encoder; where there is none, by
their embeddings; where the model server is away, by the words they share.
"""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from chat.types import SentenceModels
from inference.errors import InferenceError
from ingestion.sentences import sentence_spans
from ingestion.types import Passage

PASSAGES_READ = 5
SENTENCES_READ = 48
MIN_QUOTES, MAX_QUOTES = 3, 5
MIN_CHARACTERS, MAX_CHARACTERS = 25, 500
MAX_OVERLAP = 0.6
MODEL_SECONDS = 4.0

INTRODUCTION = (
    "These are sentences from your documents, word for word; no language model wrote this answer."
)
NO_DOCUMENTS = (
    "There is nothing to search yet: none of the chosen corpora holds a document that is ready. "
    "Upload documents, or wait until they are processed, and ask again."
)
NOTHING_FOUND = (
    "Nothing in the chosen corpora matches this question. Try other words, or choose other corpora."
)
NOTHING_ANSWERS = (
    "Nothing in these corpora answers this: the reranker finds even the closest passages beside "
    "the point. They are shown as sources. Ask in other words, or choose other corpora."
)
SEARCH_INCOMPLETE = (
    "Nothing was found, but the search was incomplete, so the documents may well hold an answer. "
    "Ask again once everything is running."
)

_WORD = re.compile(r"\w+")
_SPACE = re.compile(r"\s+")
# What Markdown would read as more than text, in the middle of a line.
_MARKDOWN = re.compile(r"[\\`*\[\]<]|~(?=~)|(?<!\w)_|_(?!\w)|&(?=#?\w+;)")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of a passage.

    text: its words as they stand there, line ends made blanks.
    number: the passage's number, from 1. place: its place in the passage, from 0.
    """

    text: str
    number: int
    place: int


def quoted_answer(question: str, passages: Sequence[Passage], *, models: SentenceModels) -> str:
    """Markdown that quotes the three to five sentences that match the question best.

    Each has the number of its passage. They stand in the order of the passages, which is
    the order of relevance. Blocking: it asks the model server.

    Args:
        question: what was asked.
        passages: what retrieval selected, best first; at least one.
        models: the model server.
    """
    sentences = sentences_of(passages)
    scores = _scores(question, [sentence.text for sentence in sentences], models)
    chosen = choose(sentences, scores)
    quotes = [f"> “{escape(sentence.text)}” [{sentence.number}]" for sentence in chosen]
    return "\n\n".join([INTRODUCTION, *quotes])


def sentences_of(passages: Sequence[Passage]) -> list[Sentence]:
    """The sentences of the best passages that can be quoted, at least one of each.

    Left out are scraps (headings, numbers, list markers). Of a passage that has nothing
    else, its beginning counts as a sentence.
    """
    found: list[Sentence] = []
    for number, passage in enumerate(passages[:PASSAGES_READ], 1):
        texts = [_flat(passage.text[a:b]) for a, b in sentence_spans(passage.text)]
        kept = [
            Sentence(text, number, place) for place, text in enumerate(texts) if _is_quotable(text)
        ]
        found += kept or [Sentence(_flat(passage.text)[:MAX_CHARACTERS], number, 0)]
    while len(found) > SENTENCES_READ:
        # The last sentence of the lowest passage that has more than one goes first.
        per_passage = Counter(sentence.number for sentence in found)
        last = max(i for i, s in enumerate(found) if per_passage[s.number] > 1)
        del found[last]
    return found


def choose(sentences: Sequence[Sentence], scores: Sequence[float]) -> list[Sentence]:
    """The best sentences that do not repeat each other, in the order they are read.

    Three, and two more if their scores lie in the upper half of all. A sentence that
    shares most of its words with a better one is skipped.

    Args:
        sentences: at least one.
        scores: (n,) one for each, higher is better, of any scale.
    """
    ranked = sorted(zip(scores, sentences, strict=True), key=lambda pair: -pair[0])
    middle = (ranked[0][0] + ranked[-1][0]) / 2
    chosen: list[Sentence] = []
    for score, sentence in ranked:
        if len(chosen) == MAX_QUOTES or (len(chosen) >= MIN_QUOTES and score < middle):
            break
        if all(_overlap(sentence.text, other.text) <= MAX_OVERLAP for other in chosen):
            chosen.append(sentence)
    return sorted(chosen, key=lambda sentence: (sentence.number, sentence.place))


def escape(text: str) -> str:
    """The text so that Markdown shows it unchanged inside a line."""
    return _MARKDOWN.sub(lambda found: f"\\{found[0]}", text)


def shared_words(question: str, sentences: Sequence[str]) -> list[float]:
    """How many of the question's words each sentence has, rare ones counting more."""
    words = [set(_words(sentence)) for sentence in sentences]
    having = Counter(word for found in words for word in found)
    asked = set(_words(question))
    return [
        sum(math.log(1 + len(words) / having[word]) for word in sorted(asked & found))
        for found in words
    ]


def _scores(question: str, sentences: Sequence[str], models: SentenceModels) -> list[float]:
    try:
        scored = models.rerank(question, sentences, timeout_seconds=MODEL_SECONDS)
        scores = [score.logit for score in scored]
        if len(scores) == len(sentences) and all(map(math.isfinite, scores)):
            return scores
    except InferenceError as exc:
        logger.info("sentences are not compared by the cross-encoder: %s", exc)
    try:
        vectors = models.embed([question, *sentences], timeout_seconds=MODEL_SECONDS)
        if len(vectors) == len(sentences) + 1:
            return [float(vector @ vectors[0]) for vector in vectors[1:]]
    except InferenceError as exc:
        logger.info("sentences are not compared by their embeddings: %s", exc)
    return shared_words(question, sentences)


def _flat(text: str) -> str:
    return _SPACE.sub(" ", text).strip()


def _is_quotable(text: str) -> bool:
    letters = sum(character.isalpha() for character in text)
    return MIN_CHARACTERS <= len(text) <= MAX_CHARACTERS and letters > len(text) / 2


def _words(text: str) -> list[str]:
    return [word for word in _WORD.findall(text.casefold()) if len(word) > 2 or not word.isascii()]


def _overlap(one: str, other: str) -> float:
    """The share of the shorter one's words that the other has too, 0 to 1."""
    first, second = set(_words(one)), set(_words(other))
    smaller = min(len(first), len(second))
    return len(first & second) / smaller if smaller else float(one == other)
