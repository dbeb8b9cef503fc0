"""Which sentences carry a passage's score: each is left out once, and the reranker asked again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from inference.types import RerankScore
from ingestion.sentences import sentence_spans
from ingestion.types import passage_text
from search.rerank import Reranker

CARRIERS = 3
MAX_SENTENCES = 40
# A sentence carries the score if its loss costs at least this share of the greatest loss.
SHARE = 0.25
_ROW = re.compile(r"^(?=\S.* \| )", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of a passage. `text` has the white space that follows.

    lost: logits that the passage's raw score loses without it; negative where it gains.
    place: 1 for the one that carries most, up to `CARRIERS`; 0 for the others.
    """

    text: str
    lost: float
    place: int = 0

    @property
    def words(self) -> str:
        """The sentence alone."""
        return self.text.rstrip()

    @property
    def rest(self) -> str:
        """The white space after it."""
        return self.text[len(self.words) :]


@dataclass(frozen=True, slots=True)
class Attribution:
    """A passage's raw score and what each of its sentences is worth to it."""

    logit: float
    sentences: Sequence[Sentence]

    @property
    def carriers(self) -> int:
        """How many sentences carry the score."""
        return sum(1 for sentence in self.sentences if sentence.place)


def attribute(
    question: str,
    *,
    heading_path: str,
    text: str,
    reranker: Reranker,
    timeout_seconds: float = 10.0,
) -> Attribution:
    """Score the passage whole and once without each sentence, in one request.

    Sentences after the first `MAX_SENTENCES` count as one. The heading path always stays.

    Raises:
        inference.errors.InferenceError: the reranker is away, late or refuses.
    """
    pieces = _pieces(text)
    variants = [text]
    if len(pieces) > 1:
        variants += ["".join(pieces[:n] + pieces[n + 1 :]).strip() for n in range(len(pieces))]
    scores: Sequence[RerankScore] = reranker.rerank(
        question,
        [passage_text(heading_path=heading_path, text=variant) for variant in variants],
        timeout_seconds=timeout_seconds,
    )
    whole = scores[0].logit
    lost = [whole - score.logit for score in scores[1:]] or [0.0] * len(pieces)
    greatest = max(lost, default=0.0)
    order = sorted(range(len(pieces)), key=lambda n: -lost[n])
    carriers = [n for n in order[:CARRIERS] if greatest > 0 and lost[n] >= SHARE * greatest]
    return Attribution(
        whole,
        [
            Sentence(piece, lost[n], carriers.index(n) + 1 if n in carriers else 0)
            for n, piece in enumerate(pieces)
        ],
    )


def _pieces(text: str) -> list[str]:
    """The sentences with what stands between them; joined they are the text.

    Rows of tables count as sentences, as in quotes: `ingestion` writes each on a line of its own.
    """
    begun = {start for start, _ in sentence_spans(text)}
    begun |= {row.start() for row in _ROW.finditer(text)}
    starts = sorted(begun)[:MAX_SENTENCES]
    cuts = [0, *starts[1:], len(text)]
    return [text[begin:end] for begin, end in pairwise(cuts)]
