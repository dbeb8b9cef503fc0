"""What stands beside and under an answer: source cards in their groups, notices, figures.

Pure: from the dicts that a turn keeps (`search.types.Trace`) to what templates show, so
that an answer looks the same while it is written and when it is read again years later.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from ingestion.labels import in_words
from search.rerank import place
from search.types import DegradedCode, Outcome

JUST_MISSED = 5
_PULL_COMMAND = re.compile(r"ollama pull [^\s`]*[^\s`.,;]")
_WHY_NOT_RERANKED = {
    DegradedCode.NO_RERANKER: "no reranker can be used",
    DegradedCode.RERANKER_LOADING: "the reranker is still loading",
    DegradedCode.RERANKER_UNREACHABLE: "the model server is not reachable",
    DegradedCode.RERANKER_LATE: "the reranker did not answer in time",
    DegradedCode.RERANKER_FAILED: "the reranker reported an error",
    DegradedCode.RERANKER_SCRIPT: "the reranker was not trained on this script",
    DegradedCode.RERANKER_FLAT: "the reranker gave every passage the same score",
}
_STAGES = {
    "bm25": "Keyword search",
    "embed": "Embedding the question",
    "dense": "Vector search",
    "fuse": "Fusion",
    "resolve": "Reading passages",
    "rerank": "Reranking",
    "total": "Retrieval in all",
    "rewrite": "Rewriting the question",
    "in_line": "In line for the model",
    "first_token": "To the first word",
    "generation": "Writing",
    "checking": "Checking the citations",
    "whole_turn": "The whole turn",
}


class Standing(StrEnum):
    """Whether a source's document can still be opened."""

    THERE = "there"
    DELETED = "document deleted"
    WITHDRAWN = "no longer shared with you"


@dataclass(frozen=True, slots=True)
class Card:
    """One source as its card shows it. `source` is the dict that `Trace.source()` made.

    model: as for `groups`.
    grade: what the reader said of it for this question; None for nothing.
    begins_doubt: whether it is the first of its group below the threshold.
    """

    source: Mapping[str, Any]
    standing: Standing = Standing.THERE
    model: str | None = None
    grade: int | None = None
    begins_doubt: bool = False

    @property
    def is_there(self) -> bool:
        """Whether its document can be opened."""
        return self.standing is Standing.THERE

    @property
    def kind(self) -> str:
        """Two to four capitals for the file's icon: PDF, DOCX, HTML, MD and so on."""
        suffix = str(self.source["document"]).rpartition(".")[2].upper()
        known = {"MARKDOWN": "MD", "HTM": "HTML", "TEXT": "TXT", "JPEG": "JPG", "TIFF": "TIF"}
        suffix = known.get(suffix, suffix)
        return suffix if 2 <= len(suffix) <= 4 and suffix.isalnum() and suffix.isascii() else "FILE"

    @property
    def pages(self) -> str:
        """ "page 3", "pages 3–4", or nothing for a format without pages."""
        return _pages(self.source["page_from"], self.source["page_to"])

    @property
    def sent(self) -> Mapping[str, Any] | None:
        """What the model was sent instead of the passage; None where it was the passage."""
        was_sent = self.model != "" and self.source["outcome"] == Outcome.SELECTED
        return self.source.get("sent") if was_sent else None

    @property
    def sent_words(self) -> str:
        """How that differs from the passage."""
        if self.sent is None:
            return ""
        if len(self.sent["text"]) < len(self.source["text"]):
            return "Sent to the model shortened, for lack of room"
        first, last = self.sent["page_from"], self.sent["page_to"]
        where = f", {_pages(first, last)}" if first is not None else ""
        return f"Sent to the model with what stands around it{where}"

    @property
    def is_reranked(self) -> bool:
        """Whether the reranker has scored it."""
        return self.source["rerank_rank"] is not None

    @property
    def meaning(self) -> str:
        """What the relevance is made of, in a sentence; empty for what was not reranked."""
        log_odds, raw = self.source["rerank_logit"], self.source.get("raw_logit")
        if log_odds is None:
            return ""
        if raw is None or raw == log_odds:
            return f"The reranker's raw score is {log_odds:.2f}; higher is better."
        return (
            f"The reranker's raw score of {raw:.2f}, at place {self.source['rrf_rank']} after "
            f"fusion, means log-odds of {log_odds:.2f} that this passage answers the question."
        )

    @property
    def movement(self) -> Movement:
        """How reranking moved it."""
        return Movement(int(self.source["movement"] or 0))


def _pages(first: int | None, last: int | None) -> str:
    if first is None:
        return ""
    return f"page {first}" if last in (None, first) else f"pages {first}–{last}"


@dataclass(frozen=True, slots=True)
class Movement:
    """Places gained by reranking since fusion; negative when lost."""

    places: int

    @property
    def direction(self) -> str:
        """For the style sheet: up, down or level."""
        return "up" if self.places > 0 else "down" if self.places < 0 else "level"

    @property
    def sign(self) -> str:
        """▲3, ▼2 or =."""
        return "=" if not self.places else f"{'▲' if self.places > 0 else '▼'}{abs(self.places)}"

    @property
    def words(self) -> str:
        """The same for a screen reader."""
        if not self.places:
            return "same place as after fusion"
        noun = "place" if abs(self.places) == 1 else "places"
        return f"{'up' if self.places > 0 else 'down'} {abs(self.places)} {noun} since fusion"


@dataclass(frozen=True, slots=True)
class Group:
    """Cards under one heading."""

    key: str
    title: str
    hint: str
    cards: Sequence[Card]

    @property
    def is_reranked(self) -> bool:
        """Whether the reranker has scored any of them."""
        return any(card.is_reranked for card in self.cards)


def groups(
    sources: Sequence[Mapping[str, Any]],
    *,
    standing: Callable[[int], Standing] = lambda _: Standing.THERE,
    model: str | None,
    grades: Mapping[str, int] | None = None,
    threshold: float | None = None,
    abstained: bool = False,
) -> list[Group]:
    """Sort an answer's sources into the groups of the panel, each in final order.

    Cited, also sent to the model, selected but not sent, and the first few after the cut.
    Empty groups are left out.

    Args:
        sources: `Trace.source()` dicts, best first.
        standing: whether the document of this id can still be opened.
        model: what they were sent to; "" for quotes, which no model wrote; None while that
            and the `cited` flags are not known yet.
        grades: by chunk id, what the reader said of passages for this question.
        threshold: relevance below which the reranker doubts a passage; None for nowhere.
        abstained: whether the question was not answered.
    """
    cited: list[Card] = []
    sent: list[Card] = []
    not_sent: list[Card] = []
    missed: list[Card] = []
    for source in sources:
        grade = (grades or {}).get(source["chunk_id"])
        card = Card(source, standing(int(source["document_id"])), model, grade)
        outcome = source["outcome"]
        if source["cited"]:
            cited.append(card)
        elif outcome == Outcome.SELECTED:
            sent.append(card)
        elif outcome == Outcome.NOT_SENT:
            not_sent.append(card)
        elif outcome == Outcome.BELOW_TOP_N and len(missed) < JUST_MISSED:
            missed.append(card)
    use = "closest passages" if abstained else "sent to the model" if model else "found"
    found = (
        Group("cited", "Cited", "", cited),
        Group("sent", f"Also {use}" if cited else use.capitalize(), "", sent),
        Group("not-sent", "Not sent", "Selected, but there was no room for it.", not_sent),
        Group(
            "missed",
            "Just missed",
            f"Ranked right after the last one that was selected{_margin(sources)}.",
            missed,
        ),
    )
    return [
        replace(group, cards=_with_doubt(group.cards, threshold)) for group in found if group.cards
    ]


def threshold(trace: Mapping[str, Any] | None) -> float | None:
    """The relevance below which a stored trace's passages are doubtful."""
    found = trace["rerank"].get("threshold") if trace else None
    return None if found is None else float(found)


def _with_doubt(cards: Sequence[Card], threshold: float | None) -> list[Card]:
    relevances = [card.source["relevance"] for card in cards]
    first = next(
        (n for n, r in enumerate(relevances) if threshold is not None and r is not None
         and r < threshold),
        None,
    )  # fmt: skip
    return [replace(card, begins_doubt=n == first) for n, card in enumerate(cards)]


def _margin(sources: Sequence[Mapping[str, Any]]) -> str:
    """By how much the first one missed the cut."""
    missed = next((s for s in sources if s["outcome"] == Outcome.BELOW_TOP_N), None)
    last = [s for s in sources if s["outcome"] in (Outcome.SELECTED, Outcome.NOT_SENT)][-1:]
    if missed is None or not last:
        return ""
    behind, ahead = missed["relevance"], last[0]["relevance"]
    if behind is None or ahead is None:
        return ""
    return f", the first of them by {max(0.0, ahead - behind):.2f} of relevance"


def with_cited(
    sources: Sequence[Mapping[str, Any]], cited: Collection[int]
) -> list[dict[str, Any]]:
    """The same sources, with those of these ranks marked as cited and no other."""
    return [{**source, "cited": source["rank"] in cited} for source in sources]


def shown_count(sources: Sequence[Mapping[str, Any]]) -> int:
    """How many sources an answer rests on: those that were selected."""
    return sum(
        1 for s in sources if s["cited"] or s["outcome"] in (Outcome.SELECTED, Outcome.NOT_SENT)
    )


@dataclass(frozen=True, slots=True)
class Notice:
    """A degraded stage in a sentence; `command` is the part of it that is typed in a terminal."""

    code: str
    before: str
    command: str = ""
    after: str = ""

    @property
    def is_about_the_end(self) -> bool:
        """Whether it says how the text ends, and so stands under it."""
        return self.code in (DegradedCode.ANSWER_CUT, DegradedCode.GENERATION_INTERRUPTED)


def notice(code: str, sentence: str) -> Notice:
    """Split the `ollama pull …` line from the sentence around it."""
    found = _PULL_COMMAND.search(sentence)
    if found is None:
        return Notice(code, sentence)
    return Notice(code, sentence[: found.start()], found.group(), sentence[found.end() :])


def chosen(options: Mapping[str, Any]) -> str:
    """What one turn was done with on demand, in words; empty for nothing out of the ordinary.

    Args:
        options: `chat.types.TurnOptions.to_json()`.
    """
    words = []
    if "model" in options:
        words.append(f"model {options['model']}")
    if "top_n" in options:
        words.append(f"{_count(options['top_n'], 'passage')} at most")
    if "pool" in options:
        words.append(f"{options['pool']} reranked at most")
    if "rerank" in options:
        words.append("with the reranker" if options["rerank"] else "without the reranker")
    return ", ".join(words)


def searched_in(trace: Mapping[str, Any] | None, sources: Sequence[Mapping[str, Any]]) -> str:
    """Which documents were searched, in words; empty where all of the corpora were.

    Args:
        trace: `Trace.to_json()` or nothing.
        sources: of the turn; they know the names of documents, if not of all.
    """
    settings = (trace or {}).get("settings", {})
    keys = settings.get("documents", ())
    words = []
    if keys:
        names = list(dict.fromkeys(f"“{s['document']}”" for s in sources if s["document_id"]))
        rest = max(0, len(keys) - len(names))
        if rest:
            names.append(f"{rest} other chosen" if names else _count(rest, "chosen document"))
        words.append(_listed(names, "and"))
    labels: dict[str, list[str]] = {}
    for name, value in settings.get("labels", ()):
        labels.setdefault(name, []).append(in_words((name, value)))
    if labels:
        alternatives = [_listed(values, "or") for values in labels.values()]
        words.append(f"documents with {_listed(alternatives, 'and')}")
    return ", of these in ".join(words)


def _listed(words: Sequence[str], last: str) -> str:
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


@dataclass(frozen=True, slots=True)
class Figures:
    """The line under an answer, and the timings behind it."""

    line: str
    timings: Sequence[tuple[str, str]] = field(default_factory=tuple)


def figures(
    trace: Mapping[str, Any] | None,
    *,
    degraded: Sequence[Mapping[str, Any]] = (),
    timings_ms: Mapping[str, float] | None = None,
) -> Figures | None:
    """The line of figures for a stored trace; None when nothing was retrieved yet.

    "100 candidates · 24 of 100 reranked on cpu in 1.9 s · 3 truncated", or
    "100 candidates · not reranked: no reranker can be used".

    Args:
        trace: `Trace.to_json()`.
        degraded: the turn's `[{code, sentence}]`, those of retrieval among them.
        timings_ms: the turn's own timings, shown after the retrieval's.
    """
    if not trace:
        return None
    in_pool = [c for c in trace["candidates"] if c["outcome"] != Outcome.OUTSIDE_POOL]
    stages = trace["stage_timings_ms"]
    parts = [_count(len(in_pool), "candidate")]
    if in_pool:
        parts += _rerank_parts(trace, [*trace["degraded"], *degraded], of=len(in_pool))
    shown = {**stages, **(timings_ms or {})}
    if not trace["rerank"]["reranked"]:
        shown.pop("rerank", None)
    timings = [(_STAGES.get(k, k.replace("_", " ").capitalize()), duration(v))
               for k, v in shown.items()]  # fmt: skip
    return Figures(" · ".join(parts), tuple(dict(timings).items()))


def _rerank_parts(
    trace: Mapping[str, Any], degraded: Sequence[Mapping[str, Any]], *, of: int
) -> list[str]:
    report = trace["rerank"]
    if not report["reranked"]:
        why = next((_WHY_NOT_RERANKED[d["code"]] for d in degraded
                    if d["code"] in _WHY_NOT_RERANKED), "it is switched off")  # fmt: skip
        return [f"not reranked: {why}"]
    count = str(of) if report["reranked"] == of else f"{report['reranked']} of {of}"
    where = place(report["device"])
    milliseconds = trace["stage_timings_ms"].get("rerank")
    time = f" in {duration(milliseconds)}" if milliseconds is not None else ""
    parts = [f"{count} reranked{where}{time}"]
    if report.get("remembered"):
        parts.append(f"{report['remembered']} scored before")
    if report["truncated"]:
        parts.append(f"{report['truncated']} truncated")
    if report.get("place_weight"):
        parts.append(f"the place after fusion counts too ({report['place_weight']:g})")
    return parts


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def duration(milliseconds: float) -> str:
    """41 ms, 1.9 s, 2 min 5 s."""
    if milliseconds < 999.5:
        return f"{milliseconds:.0f} ms" if milliseconds >= 0.95 else "<1 ms"
    seconds = milliseconds / 1000
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"
