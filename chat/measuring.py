"""Whether answers made of quotes hold the answer: counted on questions whose answer is known."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chat import extractive
from chat.conf import chat_services
from ingestion.models import Corpus
from search.evaluation.beir import CollectionError
from search.evaluation.metrics import Estimate, estimate, paired_p_value

FIRST = 3

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and texts of which each is its answer."""

    question: str
    answers: Sequence[str]


@dataclass(frozen=True, slots=True)
class Measured:
    """Shares of the questions, 0 to 1, whose answer stands …

    quotes: in the first three quotes. beginning: in the first three sentences of the best
    passage. read: anywhere in the passages that sentences are chosen from. p_value: of the
    difference between the first two, paired.
    """

    questions: int
    quotes: Estimate
    beginning: Estimate
    read: Estimate
    p_value: float


def read_answers(path: Path) -> list[Asked]:
    """Read JSON lines of `question` and `answers`.

    Raises:
        CollectionError: the file cannot be read or holds no question.
    """
    asked = []
    number = 0
    try:
        for line in path.read_text(encoding="utf-8-sig").split("\n"):
            number += 1
            if line.strip():
                row: dict[str, Any] = json.loads(line)
                answers = [str(answer) for answer in row["answers"] if str(answer).strip()]
                if not answers or not str(row["question"]).strip():
                    raise ValueError("empty")
                asked.append(Asked(str(row["question"]).strip(), answers))
    except UnicodeDecodeError as exc:
        raise CollectionError(f"{path.name} is not UTF-8. Convert it first.") from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise CollectionError(
            f"{path.name}, line {number}: expected one JSON object with question and answers, "
            "a list of texts."
        ) from exc
    except OSError as exc:
        raise CollectionError(f"{path.name} cannot be read: {exc}") from exc
    if not asked:
        raise CollectionError(f"{path.name} holds no question.")
    return asked


def measure(asked: Sequence[Asked], *, corpus: Corpus, progress: Progress) -> Measured:
    """Ask every question as the chat does, and look for its answers in what would be quoted."""
    services = chat_services()
    rows: list[tuple[bool, bool, bool]] = []
    for number, one in enumerate(asked):
        progress(number, len(asked), "questions")
        trace = services.retrieve(one.question, [corpus], lambda _: None)
        passages = [trace.passages[candidate.chunk_id] for candidate in trace.selected]
        if not passages:
            rows.append((False, False, False))
            continue
        chosen = extractive.quotes(one.question, passages, models=services.sentences)
        beginning = extractive.sentences_of(passages[:1])[:FIRST]
        read = passages[: extractive.PASSAGES_READ]
        rows.append(
            (
                _holds([sentence.text for sentence in chosen[:FIRST]], one.answers),
                _holds([sentence.text for sentence in beginning], one.answers),
                _holds([passage.text for passage in read], one.answers),
            )
        )
    progress(len(asked), len(asked), "questions")
    table = np.array(rows, dtype=np.float64)
    quotes, first, whole = table[:, 0], table[:, 1], table[:, 2]
    return Measured(
        len(asked),
        estimate(quotes),
        estimate(first),
        estimate(whole),
        paired_p_value(quotes, first),
    )


def as_json(found: Measured) -> dict[str, Any]:
    """All figures, as they are."""
    return asdict(found)


def as_table(found: Measured) -> str:
    """The figures in percent, with their intervals, as a Markdown table."""
    rows = [
        (f"first {FIRST} quotes", found.quotes),
        (f"first {FIRST} sentences of the best passage", found.beginning),
        ("anywhere in the passages read", found.read),
    ]
    lines = [f"| the answer stands in ({found.questions} questions) | % [95 %] |", "| --- | --- |"]
    lines += [
        f"| {name} | {100 * e.mean:.1f} [{100 * e.low:.1f}, {100 * e.high:.1f}] |"
        for name, e in rows
    ]
    return "\n".join([*lines, "", f"p of the first two being equal: {found.p_value:.4f}"])


def _holds(texts: Sequence[str], answers: Sequence[str]) -> bool:
    """Whether an answer stands in one of the texts, whatever its case and white space."""
    flat = [_flat(text) for text in texts]
    return any(_flat(answer) in text for answer in answers for text in flat)


def _flat(text: str) -> str:
    return " ".join(text.casefold().split())
