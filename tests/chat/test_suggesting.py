"""Further questions: about what was found and is not in the answer."""

from __future__ import annotations

from typing import Any

from chat.suggesting import FOLLOW_UPS, follow_ups

QUESTION = "How long is the warranty?"


def source(heading: str, relevance: float | None = 0.6, **more: Any) -> dict[str, Any]:
    return {"title": "Manual", "heading_path": heading, "relevance": relevance, **more}


def test_what_is_near_and_not_cited_is_suggested_best_first() -> None:
    sources = [
        source("Manual › Warranty", cited=True),
        source("Manual › Repairs", 0.8),
        source("Manual › Repairs", 0.7),
        source("Manual › Returns", 0.5),
        source("Manual › How are parts ordered?", 0.4),
    ]

    assert follow_ups(sources, question=QUESTION) == [
        "What does “Manual” say about “Repairs”?",
        "What does “Manual” say about “Returns”?",
        "How are parts ordered?",
    ]


def test_nothing_is_suggested_that_was_said_is_far_or_has_no_place() -> None:
    sources = [
        source("Manual › Warranty", cited=True),
        source("Manual › Warranty", 0.9),
        source("Manual › Colours", 0.05),
        source("Manual › Unread", None),
        source("", 0.9),
        source("Manual", 0.9),
        source("Manual › " + "Long " * 40, 0.9),
        source("Manual › " + QUESTION, 0.9),
    ]

    assert follow_ups(sources, question=QUESTION) == []


def test_an_answer_that_cites_nothing_suggests_nothing() -> None:
    assert follow_ups([source("Manual › Repairs", 0.9)], question=QUESTION) == []


def test_a_few_are_enough() -> None:
    sources = [source("A", cited=True), *(source(f"Part {n}") for n in range(9))]

    assert len(follow_ups(sources, question=QUESTION)) == FOLLOW_UPS
