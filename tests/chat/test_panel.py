"""Groups of source cards, the line of figures, notices: from stored dicts to what is shown."""

from __future__ import annotations

from typing import Any

import pytest

from chat import panel
from chat.panel import Card, Movement, Standing


def source(rank: int, **changes: Any) -> dict[str, Any]:
    """A source dict with the fields of `Trace.source()`."""
    return {
        "rank": rank,
        "chunk_id": f"c{rank}",
        "document_id": rank,
        "document": "guide.pdf",
        "title": "Guide",
        "heading_path": "Guide › Part",
        "page_from": 3,
        "page_to": 3,
        "text": "The passage.",
        "bm25_rank": 1,
        "bm25_score": 12.3,
        "dense_rank": 2,
        "similarity": 0.61,
        "rrf_rank": rank,
        "rrf_score": 0.03,
        "rerank_rank": rank,
        "rerank_logit": 4.2,
        "relevance": 0.9,
        "truncated": False,
        "movement": 0,
        "cited": False,
        "outcome": "selected",
        **changes,
    }


def trace(candidates: int, *, reranked: int, **report: Any) -> dict[str, Any]:
    """A stored trace with the fields that the line of figures reads."""
    return {
        "candidates": [{"outcome": "selected"}] * candidates + [{"outcome": "outside_pool"}] * 3,
        "stage_timings_ms": {"bm25": 1.3, "rerank": 1900.0},
        "degraded": [],
        "rerank": {
            "candidates": candidates,
            "reranked": reranked,
            "truncated": 0,
            "model": "m",
            "device": "cpu",
            **report,
        },
    }


def test_a_card_tells_what_was_sent_instead_of_the_passage() -> None:
    wide = {"text": "Before. The passage. After.", "page_from": 3, "page_to": 4}
    short = {"text": "The […]", "page_from": 3, "page_to": 3}

    assert Card(source(1, sent=wide), model="m").sent == wide
    words = Card(source(1, sent=wide), model="m").sent_words
    assert words == "Sent to the model with what stands around it, pages 3–4"
    assert "shortened" in Card(source(1, sent=short), model="m").sent_words
    assert Card(source(1, sent=None), model="m").sent_words == ""
    assert Card(source(1), model="m").sent is None  # stored before there was such a thing
    assert Card(source(1, sent=wide), model="").sent is None  # quoted, not sent
    assert Card(source(1, sent=wide, outcome="not_sent"), model="m").sent is None


def test_sources_fall_into_cited_sent_not_sent_and_the_first_five_that_missed() -> None:
    sources = [
        source(1),
        source(2, cited=True),
        source(3, outcome="not_sent"),
        *(source(rank, outcome="below_top_n") for rank in range(4, 12)),
        source(12, outcome="outside_pool"),
    ]

    found = panel.groups(sources, model="small:1b")

    assert [(g.title, [c.source["rank"] for c in g.cards]) for g in found] == [
        ("Cited", [2]),
        ("Also sent to the model", [1]),
        ("Not sent", [3]),
        ("Just missed", [4, 5, 6, 7, 8]),
    ]
    assert panel.shown_count(sources) == 3


@pytest.mark.parametrize(
    ("model", "cited", "titles"),
    [
        (None, False, ["Found"]),
        ("small:1b", False, ["Sent to the model"]),
        ("small:1b", True, ["Cited", "Also sent to the model"]),
        ("", True, ["Cited", "Also found"]),
    ],
)
def test_a_source_is_said_to_be_sent_only_where_a_model_wrote_the_answer(
    model: str | None, cited: bool, titles: list[str]
) -> None:
    groups = panel.groups([source(1, cited=cited), source(2)], model=model)

    assert [group.title for group in groups] == titles


def test_marking_the_cited_sources_leaves_the_stored_ones_as_they_are() -> None:
    stored = [source(1, cited=True), source(2)]

    assert [s["cited"] for s in panel.with_cited(stored, [2])] == [False, True]
    assert [s["cited"] for s in stored] == [True, False]


def test_the_line_of_the_threshold_stands_before_the_first_card_below_it() -> None:
    sources = [source(rank, relevance=1 - rank / 10) for rank in (1, 2, 3)]

    (group,) = panel.groups(sources, model="", threshold=0.85)
    (without,) = panel.groups(sources, model="")

    assert [card.begins_doubt for card in group.cards] == [False, True, False]
    assert not any(card.begins_doubt for card in without.cards)


def test_what_was_not_answered_has_closest_passages() -> None:
    (group,) = panel.groups([source(1)], model="", abstained=True)

    assert group.title == "Closest passages"


def test_the_margin_at_the_cut_is_told() -> None:
    missed = panel.groups(
        [source(1, relevance=0.5), source(2, relevance=0.46, outcome="below_top_n")], model="m"
    )[1]

    assert (
        missed.hint
        == "Ranked right after the last one that was selected, the first of them by 0.04 of "
        "relevance."
    )


def test_a_card_tells_whether_its_document_can_be_opened() -> None:
    standing = {1: Standing.THERE, 2: Standing.DELETED}.__getitem__
    (group,) = panel.groups([source(1), source(2)], standing=standing, model="")

    assert [card.is_there for card in group.cards] == [True, False]


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [(3, 3, "page 3"), (3, 5, "pages 3–5"), (3, None, "page 3"), (None, None, "")],
)
def test_pages_are_named(first: int | None, last: int | None, words: str) -> None:
    assert Card(source(1, page_from=first, page_to=last)).pages == words


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.pdf", "PDF"), ("a.markdown", "MD"), ("a.htm", "HTML"), ("a.<b>", "FILE"), ("a", "FILE")],
)
def test_the_kind_of_a_file_is_one_of_a_few_words(name: str, kind: str) -> None:
    assert Card(source(1, document=name)).kind == kind


@pytest.mark.parametrize(
    ("places", "sign", "words"),
    [
        (3, "▲3", "up 3 places since fusion"),
        (-1, "▼1", "down 1 place since fusion"),
        (0, "=", "same place as after fusion"),
    ],
)
def test_movement_has_a_sign_and_words(places: int, sign: str, words: str) -> None:
    assert (Movement(places).sign, Movement(places).words) == (sign, words)


def test_the_line_says_how_many_were_reranked_where_and_how_fast() -> None:
    partly = panel.figures(trace(100, reranked=24, truncated=3))
    wholly = panel.figures(trace(100, reranked=100, device="cuda"))

    assert partly is not None
    assert wholly is not None
    assert partly.line == "100 candidates · 24 of 100 reranked on cpu in 1.9 s · 3 truncated"
    assert wholly.line == "100 candidates · 100 reranked on cuda in 1.9 s"
    hosted = panel.figures(trace(100, reranked=100, device="hosted"))
    assert hosted is not None
    assert hosted.line == "100 candidates · 100 reranked by a hosted service in 1.9 s"
    assert ("Keyword search", "1 ms") in partly.timings


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("no_reranker", "no reranker can be used"),
        ("reranker_late", "the reranker did not answer in time"),
    ],
)
def test_the_line_says_why_nothing_was_reranked(code: str, reason: str) -> None:
    stored = trace(1, reranked=0)
    stored["degraded"] = [{"code": code, "sentence": "…"}]
    found = panel.figures(stored)

    assert found is not None
    assert found.line == f"1 candidate · not reranked: {reason}"


def test_nothing_found_is_no_reason_to_speak_of_reranking() -> None:
    found = panel.figures(trace(0, reranked=0))

    assert found is not None
    assert found.line == "0 candidates"
    assert panel.figures(None) is None


def test_the_command_to_type_is_cut_out_with_its_dots_but_not_the_full_stop() -> None:
    found = panel.notice(
        "generator_model_missing", "Install it: ollama pull llama3.2:1b. Then ask."
    )

    assert (found.before, found.command, found.after) == (
        "Install it: ",
        "ollama pull llama3.2:1b",
        ". Then ask.",
    )
    assert panel.notice("x", "No command here.").command == ""


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [(0.2, "<1 ms"), (41.4, "41 ms"), (999.6, "1.0 s"), (1900, "1.9 s"), (125_000, "2 min 5 s")],
)
def test_durations_are_short(milliseconds: float, words: str) -> None:
    assert panel.duration(milliseconds) == words
