"""An answer without a language model: the passages' own sentences that match best, quoted.

Sentences are compared with the question by the cross-encoder, alone and with the sentence
before them, which says what "it" is; where there is no cross-encoder, by their embeddings; where
the model server is away, by the words they share. `manage.py evaluate_answers` measures it.
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
MIN_CHARACTERS_UNENDED = 40  # what does not end as a sentence does may be a heading
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
    "Nothing in these corpora answers this: the relevance of the closest passage is {best:.2f}, "
    "below the threshold of {threshold:.2f}. The closest passages are shown as sources. Ask in "
    "other words, choose other corpora, or have it answered anyway."
)
SEARCH_INCOMPLETE = (
    "Nothing was found, but the search was incomplete, so the documents may well hold an answer. "
    "Ask again once everything is running."
)

_WORD = re.compile(r"\w+")
_END = re.compile(r"[.!…。！।॥:;][\"'”’»」』)\]]*$")
_ASKS = re.compile(r"[?？؟][\"'”’»」』)\]]*$")
_SPACE = re.compile(r"\s+")
# What Markdown would read as more than text, in the middle of a line.
_MARKDOWN = re.compile(r"[\\`*\[\]<]|~(?=~)|(?<!\w)_|_(?!\w)|&(?=#?\w+;)")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of a passage.

    text: its words as they stand there, line ends made blanks.
    number: the passage's number, from 1. place: its place in the passage, from 0.
    before: the sentence before it, or nothing.
    """

    text: str
    number: int
    place: int
    before: str = ""


def quoted_answer(question: str, passages: Sequence[Passage], *, models: SentenceModels) -> str:
    """Markdown with the `quotes`, each with the number of its passage."""
    chosen = quotes(question, passages, models=models)
    lines = [f"> “{escape(sentence.text)}” [{sentence.number}]" for sentence in chosen]
    return "\n\n".join([INTRODUCTION, *lines])


def quotes(question: str, passages: Sequence[Passage], *, models: SentenceModels) -> list[Sentence]:
    """The three to five sentences that match the question best, the best first.

    Blocking: it asks the model server.

    Args:
        question: what was asked.
        passages: what retrieval selected, best first; at least one.
        models: the model server.
    """
    sentences = sentences_of(passages)
    return choose(sentences, _scores(question, sentences, models))


def sentences_of(passages: Sequence[Passage]) -> list[Sentence]:
    """The sentences of the best passages that can be quoted, at least one of each.

    Rows of a table count as sentences. Left out are scraps (headings, numbers, list markers)
    and questions, which answer nothing. Of a passage that has nothing else, its beginning
    counts as a sentence.
    """
    found: list[Sentence] = []
    for number, passage in enumerate(passages[:PASSAGES_READ], 1):
        texts = _texts(passage.text)
        kept = [
            Sentence(text, number, place, texts[place - 1] if place else "")
            for place, text in enumerate(texts)
            if _is_quotable(text)
        ]
        found += kept or [Sentence(_beginning(passage.text), number, 0)]
    while len(found) > SENTENCES_READ:
        # The last sentence of the lowest passage that has more than one goes first.
        per_passage = Counter(sentence.number for sentence in found)
        last = max(i for i, s in enumerate(found) if per_passage[s.number] > 1)
        del found[last]
    return found


def choose(sentences: Sequence[Sentence], scores: Sequence[float]) -> list[Sentence]:
    """The best sentences that do not repeat each other, the best first.

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
    return chosen


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


def _scores(question: str, sentences: Sequence[Sentence], models: SentenceModels) -> list[float]:
    alone = [sentence.text for sentence in sentences]
    following = [f"{sentence.before} {sentence.text}".strip() for sentence in sentences]
    try:
        scored = models.rerank(question, [*alone, *following], timeout_seconds=MODEL_SECONDS)
        logits = [score.logit for score in scored]
        if len(logits) == 2 * len(alone) and all(map(math.isfinite, logits)):
            return [
                (a + b) / 2 for a, b in zip(logits[: len(alone)], logits[len(alone) :], strict=True)
            ]
    except InferenceError as exc:
        logger.info("sentences are not compared by the cross-encoder: %s", exc)
    try:
        vectors = models.embed([question, *alone], timeout_seconds=MODEL_SECONDS)
        if len(vectors) == len(alone) + 1:
            return [float(vector @ vectors[0]) for vector in vectors[1:]]
    except InferenceError as exc:
        logger.info("sentences are not compared by their embeddings: %s", exc)
    return shared_words(question, alone)


def _texts(passage: str) -> list[str]:
    """The sentences of a passage, rows of tables apart."""
    found = []
    for a, b in sentence_spans(passage):
        lines = passage[a:b].splitlines() if " | " in passage[a:b] else [passage[a:b]]
        found += [flat for line in lines if (flat := _flat(line))]
    return found


def _flat(text: str) -> str:
    return _SPACE.sub(" ", text).strip()


def _beginning(text: str) -> str:
    """The first words of a passage, with a sign where it goes on."""
    flat = _flat(text)
    if len(flat) <= MAX_CHARACTERS:
        return flat
    words = flat[:MAX_CHARACTERS].rpartition(" ")[0]
    return f"{words or flat[:MAX_CHARACTERS]} …"


def _is_quotable(text: str) -> bool:
    letters = sum(character.isalpha() for character in text)
    least = MIN_CHARACTERS if _END.search(text) else MIN_CHARACTERS_UNENDED
    return (
        least <= len(text) <= MAX_CHARACTERS and letters > len(text) / 2 and not _ASKS.search(text)
    )


def _words(text: str) -> list[str]:
    return [word for word in _WORD.findall(text.casefold()) if len(word) > 2 or not word.isascii()]


def _overlap(one: str, other: str) -> float:
    """The share of the shorter one's words that the other has too, 0 to 1."""
    first, second = set(_words(one)), set(_words(other))
    smaller = min(len(first), len(second))
    return len(first & second) / smaller if smaller else float(one == other)
