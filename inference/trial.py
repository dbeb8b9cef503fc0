"""Whether a quicker way of computing keeps a reranker's order, tried on the sample documents.

Everything else is left to the operator, but no setting may quietly make answers worse: a type that
fails this trial is not used.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from inference.engines import Reranker

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
FIRST = 10
QUESTIONS, PASSAGES = 12, 40
CHARACTERS = (200, 900)
# Of the first ten by the exact scores, the share that must be among the first ten by the others.
LEAST_OVERLAP = 0.97


def overlap(
    exact: Reranker, quick: Reranker, questions: Sequence[str], passages: Sequence[str]
) -> float:
    """The share of the first ten of one that are among the first ten of the other, 0 to 1."""
    shares = []
    for question in questions:
        pairs = exact.encode(question, passages)
        first, second = (
            set(np.argsort(-engine.compute(pairs), kind="stable")[:FIRST].tolist())
            for engine in (exact, quick)
        )
        shares.append(len(first & second) / min(FIRST, len(passages)))
    return float(np.mean(shares))


def sample() -> tuple[list[str], list[str]]:
    """Questions and passages from the sample documents, evenly over all of them.

    Raises:
        OSError: the samples do not lie beside the code.
    """
    asked = json.loads((SAMPLES / "questions.json").read_text("utf-8"))["questions"]
    passages = [
        " ".join(paragraph.split())
        for path in sorted([*SAMPLES.glob("sources/*.md"), *SAMPLES.glob("*.md")])
        for paragraph in path.read_text("utf-8").split("\n\n")
    ]
    fitting = [text for text in passages if CHARACTERS[0] <= len(text) <= CHARACTERS[1]]
    return _evenly([one["question"] for one in asked], QUESTIONS), _evenly(fitting, PASSAGES)


def _evenly(values: Sequence[str], count: int) -> list[str]:
    return [values[n * len(values) // count] for n in range(min(count, len(values)))]
