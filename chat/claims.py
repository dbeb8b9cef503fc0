"""Whether the passages that an answer cites speak of what the sentences before them say.

After the last word each cited sentence is put to the reranker with the passage it cites. That
tells a citation of the wrong passage; it does not tell a sentence that says the opposite of
its passage, which has the same words.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from chat.types import AnswerModels
from inference.errors import InferenceError
from inference.types import probability

CHECK_SECONDS = 6.0
MAX_SENTENCES = 40
# Of the reranker's own threshold. With the bundled reranker 99 % of the sentences that are put to
# a passage they are not from lie below half of it, and 0 to 5 % of those put to their own:
# benchmarks/citations.py.
WEAK_SHARE = 0.5

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Claim:
    """A citation as it stands in an answer: its number and the sentence it belongs to.

    sentence: without its citations; empty where the citation belongs to none.
    """

    sentence: str
    number: int


@dataclass(frozen=True, slots=True)
class Checks:
    """How relevant each cited passage is to its sentence, in the order of the citations.

    relevances: 0 to 1; None for what was not checked. limit: what lies below is weak.
    """

    relevances: Sequence[float | None]
    limit: float

    @property
    def weak(self) -> list[int]:
        """The places, from 0, of citations whose passage says little of their sentence."""
        return [n for n, r in enumerate(self.relevances) if r is not None and r < self.limit]


def check(
    claims: Sequence[Claim],
    texts: Mapping[int, str],
    *,
    models: AnswerModels,
    clock: Callable[[], float] = time.monotonic,
) -> Checks | None:
    """Put every cited sentence to the reranker with its passages. Blocking.

    Args:
        claims: the citations of an answer in their order.
        texts: by number, what the language model was sent of each passage.
        models: the model server.

    Returns:
        None where nothing could be checked: no reranker, or one without a threshold.
    """
    numbers: dict[str, list[int]] = {}
    for claim in claims:
        if claim.sentence and claim.number in texts:
            asked = numbers.setdefault(claim.sentence, [])
            if claim.number not in asked:
                asked.append(claim.number)
    deadline = clock() + CHECK_SECONDS
    found: dict[tuple[str, int], float] = {}
    limit = 0.0
    try:
        reranker = models.info().reranker
        if reranker is None or reranker.calibration.threshold is None:
            return None
        limit = WEAK_SHARE * reranker.calibration.threshold
        for sentence, cited in list(numbers.items())[:MAX_SENTENCES]:
            left = deadline - clock()
            if left <= 0:
                break
            scores = models.rerank(sentence, [texts[n] for n in cited], timeout_seconds=left)
            for number, score in zip(cited, scores, strict=True):
                log_odds = reranker.calibration.log_odds(score.logit, 1)
                found[sentence, number] = probability(log_odds)
    except InferenceError as exc:
        logger.info("the citations were not all checked: %s", exc)
    if not found:
        return None
    return Checks([found.get((claim.sentence, claim.number)) for claim in claims], limit)
