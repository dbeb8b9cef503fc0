"""Reranking: the cross-encoder reads question and passage together and decides the order.

On a GPU all pairs go in one request. On a CPU, and where the device is not known, pairs go
in slices, best fused first, until the time budget is used; what was not read keeps its
fused order behind what was.
"""

from __future__ import annotations

import math
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Protocol

from inference.errors import InferenceError, InferenceRejected
from inference.types import HOSTED, REMOTE, Calibration, ModelInfo, RerankScore, probability
from search.types import Candidate

SLICE_PAIRS = 16
DEFAULT_MAX_TOKENS = 512
# UTF-8 bytes per token of English text in a BERT vocabulary, special tokens aside.
BYTES_PER_TOKEN = 4.0
SPECIAL_TOKENS = 3
# How letters are named in Unicode, by language; those not listed are written in Latin ones.
SCRIPTS = {
    "ar": ("ARABIC",),
    "el": ("GREEK",),
    "ja": ("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"),
    "ko": ("HANGUL",),
    "ru": ("CYRILLIC",),
    "ta": ("TAMIL",),
    "th": ("THAI",),
    "zh": ("CJK",),
}
SCRIPT_CHARACTERS = 300
# Real logits of so many different texts never lie so close together.
FLAT_TEXTS, FLAT_SPREAD = 12, 1e-6


class Reranker(Protocol):
    """What scores pairs: `inference.client.InferenceClient`, or a stand-in that ranks."""

    def rerank(
        self, question: str, texts: Sequence[str], *, timeout_seconds: float | None = None
    ) -> list[RerankScore]:
        """One raw score per text, in their order. Raises `inference.errors.InferenceError`."""
        ...


@dataclass(frozen=True, slots=True)
class Scored:
    """The scores of the first `len(scores)` texts, and what ended the scoring early, if any."""

    scores: Sequence[RerankScore]
    error: InferenceError | None = None


def score(
    question: str,
    texts: Sequence[str],
    *,
    reranker: Reranker,
    model: ModelInfo | None,
    budget_seconds: float,
    limit_seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Scored:
    """Score the texts against the question, as many as the time allows, first ones first.

    On a CPU a slice is begun only if it ends within the budget at the server's speed and at that
    of the slice before; the first one always is. The slice before alone would not do: what was
    remembered costs next to nothing. Without a known speed slices have SLICE_PAIRS pairs.

    Args:
        texts: (n,) passages with their heading paths, best fused first.
        model: the server's reranker; None where the server does not tell.
        budget_seconds: time to fill on a CPU; nothing is begun after it.
        limit_seconds: time after which an answer is of no use any more, >= the budget.
        clock: seconds, monotonic.

    Returns:
        Scores of a prefix of the texts. Never raises for a server that is away, late or
        failing: `error` has it, beside the scores that came before.
    """
    costs = [estimated_tokens(question, text, model) for text in texts]
    started = clock()
    # Unknown is no limit.
    known = (model.tokens_per_second if model else 0.0) or math.inf
    speed = known
    scores: list[RerankScore] = []
    while len(scores) < len(texts):
        spent, done = clock() - started, len(scores)
        if _runs_on_gpu(model):
            pairs = len(texts)
        elif done and spent >= budget_seconds:
            break
        else:
            pairs = _pairs_within(costs[done:], speed, budget_seconds - spent)
            if done and not pairs:
                break
            pairs = min(max(pairs, 1), SLICE_PAIRS, len(texts) - done)
        began = clock()
        try:
            answer = reranker.rerank(
                question,
                texts[done : done + pairs],
                timeout_seconds=max(0.1, limit_seconds - spent),
            )
            scores += _checked(answer, pairs, offset=done)
        except InferenceError as exc:
            return Scored(scores, exc)
        speed = min(known, sum(costs[done : done + pairs]) / max(clock() - began, 1e-6))
    return Scored(scores)


def planned_pairs(
    question: str, texts: Sequence[str], *, model: ModelInfo | None, budget_seconds: float
) -> int | None:
    """How many pairs `score` expects to have time for; None where the speed is not known."""
    if _runs_on_gpu(model):
        return len(texts)
    if model is None or not model.tokens_per_second:
        return None
    costs = [estimated_tokens(question, text, model) for text in texts]
    return min(len(texts), max(1, _pairs_within(costs, model.tokens_per_second, budget_seconds)))


def are_flat(texts: Sequence[str], scores: Sequence[RerankScore]) -> bool:
    """Whether a reranker tells nothing apart: FLAT_TEXTS different ones, all with one score."""
    logits = [score.logit for score in scores]
    different = len(set(texts[: len(logits)]))
    return different >= FLAT_TEXTS and max(logits) - min(logits) <= FLAT_SPREAD


def reorder(
    candidates: Sequence[Candidate],
    scores: Sequence[RerankScore],
    calibration: Calibration = Calibration(),  # noqa: B008 - frozen
) -> list[Candidate]:
    """The candidates in final order: those with a score by log-odds, then the rest as they were.

    Equal scores: better fused rank first. The log-odds are the model's logit, mapped as its
    calibration says; only where that says so does the fused rank count, and the trace tells.

    Args:
        candidates: (n,) in fused order.
        scores: (m,) of the first m candidates, m <= n, in their order.
        calibration: of the model that gave them.
    """
    read = []
    for rank, (candidate, scored) in enumerate(zip(candidates, scores, strict=False), 1):
        log_odds = calibration.log_odds(scored.logit, rank)
        read.append(
            replace(
                candidate,
                raw_logit=scored.logit,
                rerank_logit=log_odds,
                relevance=probability(log_odds),
                truncated=scored.truncated,
            )
        )
    # A stable sort keeps the fused order among equals.
    read.sort(key=lambda c: -(c.rerank_logit or 0.0))
    ranked = [replace(c, rerank_rank=rank) for rank, c in enumerate(read, 1)]
    return ranked + list(candidates[len(ranked) :])


def foreign_script(texts: Sequence[str], languages: Sequence[str]) -> str:
    """The script most letters of the texts are written in, if the languages do not use it.

    Args:
        languages: ISO 639 codes; empty where a model does not tell, and then nothing is foreign.

    Returns:
        "Cyrillic", "Arabic" …, or nothing.
    """
    if not languages:
        return ""
    letters = Counter(
        unicodedata.name(letter, "").partition(" ")[0]
        for text in texts
        for letter in text[:SCRIPT_CHARACTERS]
        if letter.isalpha()
    )
    known = {script for code in languages for script in SCRIPTS.get(code, ("LATIN",))}
    foreign = sum(count for script, count in letters.items() if script not in known)
    if 2 * foreign <= letters.total():
        return ""
    return next(s for s, _ in letters.most_common() if s not in known).capitalize()


def estimated_tokens(question: str, text: str, model: ModelInfo | None) -> int:
    """What a pair costs, roughly: no tokenizer is loaded for a guess of time."""
    most = model.max_tokens if model and model.max_tokens else DEFAULT_MAX_TOKENS
    length = len(question.encode()) + len(text.encode())
    return min(most, SPECIAL_TOKENS + math.ceil(length / BYTES_PER_TOKEN))


def place(device: str) -> str:
    """Where a model computes, to follow a verb: “ on cpu”, “ by a hosted service”."""
    others = {"": "", HOSTED: " by a hosted service", REMOTE: " by another server"}
    return others.get(device, f" on {device}")


def _pairs_within(costs: Sequence[int], speed: float, seconds: float) -> int:
    """How many of the first pairs end in time."""
    return sum(1 for total in accumulate(costs) if total / speed <= seconds)


def _runs_on_gpu(model: ModelInfo | None) -> bool:
    return model is not None and model.device != "cpu"


def _checked(answer: Sequence[RerankScore], pairs: int, *, offset: int) -> list[RerankScore]:
    """The answer as scores of all texts together, if it is one finite number per pair."""
    in_order = [scored.index for scored in answer] == list(range(pairs))
    if not in_order or not all(math.isfinite(scored.logit) for scored in answer):
        raise InferenceRejected(f"the reranker gave no number for some of {pairs} passages")
    return [replace(scored, index=scored.index + offset) for scored in answer]
