"""A conversation to be taken along: as Markdown, or as JSON; `chat.transcript_pdf` draws it.

All three come from one value, in which the passages of documents that the reader may not open
are left out: that a source was there is said, not what it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from chat.models import Conversation, Turn
from chat.panel import Standing, shown_count

WITHHELD = "withheld: you may not read its corpus, or its document is deleted"
QUOTES_WITHHELD = (
    "This answer is made of quotes of documents that are deleted or that you may not read, so it "
    "is not shown."
)
_FIELDS = (
    *("rank", "chunk_id", "document", "title", "heading_path", "page_from", "page_to", "text"),
    *("bm25_rank", "bm25_score", "dense_rank", "similarity", "rrf_rank", "rrf_score"),
    *("rerank_rank", "rerank_logit", "relevance", "cited", "outcome"),
)
_SCORES = (
    ("BM25", "bm25_rank", "bm25_score", 2),
    ("dense", "dense_rank", "similarity", 3),
    ("fused", "rrf_rank", "rrf_score", 4),
    ("rerank", "rerank_rank", "rerank_logit", 2),
)


@dataclass(frozen=True, slots=True)
class Part:
    """One question with its answer.

    sources: as the reader may see them: the fields of `search.types.Trace.source()` that are
        for people, or the rank and `withheld` alone.
    """

    question: str
    searched_for: str
    answer: str
    state: str
    model: str
    asked_at: str
    notices: Sequence[str]
    sources: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Transcript:
    """The branch of a conversation that is shown."""

    title: str
    corpora: Sequence[str]
    parts: Sequence[Part]


def transcript(
    conversation: Conversation,
    turns: Sequence[Turn],
    *,
    corpora: Sequence[str],
    standing: Callable[[int], Standing],
) -> Transcript:
    """What a reader may take along.

    Args:
        conversation: whose title it gets.
        turns: of it, in order.
        corpora: names of those corpora of it that the reader may read.
        standing: whether the reader can open a document; what they cannot is withheld.
    """
    return Transcript(str(conversation), tuple(corpora), [_part(t, standing) for t in turns])


def part(turn: Turn, *, standing: Callable[[int], Standing]) -> Part:
    """One turn of it."""
    return _part(turn, standing)


def _part(turn: Turn, standing: Callable[[int], Standing]) -> Part:
    shown = turn.sources[: shown_count(turn.sources)]
    sources = [_source(source, standing) for source in shown]
    return Part(
        question=turn.question,
        searched_for=turn.standalone_question,
        answer=readable_answer(turn, standing=standing),
        state=turn.state,
        model=turn.model,
        asked_at=turn.created_at.isoformat(timespec="seconds"),
        notices=[notice["sentence"] for notice in turn.degraded],
        sources=sources,
    )


def readable_answer(turn: Turn, *, standing: Callable[[int], Standing]) -> str:
    """The answer; quotes, which no model wrote, only where all they quote may be read."""
    is_quotes = not turn.model and not turn.abstained
    cited = [source for source in turn.sources if source["cited"]]
    # A turn that is not over has not marked yet what it cites.
    quoted = cited if turn.has_ended else turn.sources
    if is_quotes and any(is_withheld(source, standing) for source in quoted):
        return QUOTES_WITHHELD
    return turn.answer


def is_withheld(source: Mapping[str, Any], standing: Callable[[int], Standing]) -> bool:
    """Whether the reader may not see this source."""
    return standing(int(source["document_id"])) != Standing.THERE


def _source(source: Mapping[str, Any], standing: Callable[[int], Standing]) -> dict[str, Any]:
    if is_withheld(source, standing):
        return {"rank": source["rank"], "withheld": WITHHELD}
    return {name: source.get(name) for name in _FIELDS}


def to_json(found: Transcript) -> str:
    """One JSON document: title, corpora, turns with all fields of their sources."""
    value = asdict(found)
    return json.dumps({**value, "turns": value.pop("parts")}, ensure_ascii=False, indent=2)


def to_markdown(found: Transcript) -> str:
    """The same to be read: questions as headings, answers as they are, sources with scores."""
    lines = [f"# {_line(found.title)}", ""]
    if found.corpora:
        lines += [f"Asked of: {', '.join(map(_line, found.corpora))}", ""]
    for one in found.parts:
        lines += [f"## {_line(one.question)}", "", part_to_markdown(one), ""]
    return "\n".join(lines).rstrip() + "\n"


def part_to_markdown(one: Part) -> str:
    """One answer with its notices and sources."""
    lines = [f"*{about(one)}*", ""]
    if one.searched_for:
        lines += [f"Searched for: {_line(one.searched_for)}", ""]
    lines += [f"> Note: {_line(notice)}\n" for notice in one.notices]
    lines += [one.answer or "(no answer)", ""]
    if one.sources:
        lines += ["Sources:", ""]
        lines += [f"{source['rank']}. {source_line(source)}" for source in one.sources]
    return "\n".join(lines).rstrip()


def about(one: Part) -> str:
    """When it was asked, who answered, and how it ended unless that was well."""
    asked = f"{datetime.fromisoformat(one.asked_at).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    words = [f"Asked {asked}", *([f"answered by {one.model}"] if one.model else [])]
    if one.state != Turn.State.DONE:
        words.append(Turn.State(one.state).label.lower())
    return ", ".join(words)


def source_line(source: Mapping[str, Any]) -> str:
    """Where a source is from, and its scores, on one line."""
    if "withheld" in source:
        return str(source["withheld"])
    first, last = source["page_from"], source["page_to"]
    pages = "" if first is None else f", p. {first}" if last in (None, first) else (
        f", p. {first}–{last}"
    )  # fmt: skip
    words = [f"{_line(source['document'])}{pages}"]
    if source["relevance"] is not None:
        words.append(f"relevance {source['relevance']:.2f}")
    words += [
        f"{name} #{source[rank]} ({source[score]:.{digits}f})"
        for name, rank, score, digits in _SCORES
        if source[rank] is not None and source[score] is not None
    ]
    return " · ".join([*words, *(["cited"] if source["cited"] else [])])


def file_name(title: str, kind: str) -> str:
    """A name that every file system takes."""
    plain = re.sub(r"[^\w -]+", "", title).strip()[:60].strip()
    return f"{plain or 'conversation'}.{kind}"


def _line(text: str) -> str:
    return " ".join(text.split())
