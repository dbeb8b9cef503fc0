"""`manage.py ask`: one answer in the terminal, with the sources it rests on."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from chat import services
from chat.answering import Draft
from chat.errors import QuestionRefused
from chat.models import Turn
from ingestion import command_options
from search.errors import SearchError
from search.types import Outcome


class Command(BaseCommand):
    """Answer one question; exit status 1 if it could not be asked or the answer broke off."""

    help = "Answer a question from a corpus, and show the sources with their scores."

    def add_arguments(self, parser: CommandParser) -> None:
        """`ask QUESTION --corpus NAME [--as USERNAME] [--json]`."""
        parser.add_argument("question")
        command_options.add_person_and_corpus(parser)
        command_options.add_filter(parser)
        parser.add_argument(
            "--json", action="store_true", help="Print one JSON document and nothing else."
        )

    def handle(self, *args: object, **options: Any) -> None:
        """Answer and print. A missing service is reported in the result, not as a failure."""
        person = command_options.person(options)
        corpus = command_options.readable_corpus(options, person)

        def tell(name: str, data: dict[str, Any]) -> None:
            if name == "stage":
                self.stderr.write(data["text"])
            elif name == "text" and not options["json"]:
                self.stdout.write(data["text"], ending="")
                self.stdout.flush()

        try:
            draft = services.answer_once(
                options["question"],
                corpora=[corpus],
                tell=tell,
                only=command_options.filter_of(options, corpus),
            )
        except (QuestionRefused, SearchError) as exc:
            raise CommandError(exc.sentence) from exc
        if options["json"]:
            document = as_json(draft, corpus=corpus.name)
            self.stdout.write(json.dumps(document, ensure_ascii=False))
        else:
            self.stdout.write(f"\n\n{as_table(draft)}")
        if draft.state is not Turn.State.DONE:
            raise CommandError(draft.error)


def as_json(draft: Draft, *, corpus: str) -> dict[str, Any]:
    """The document that `--json` prints; `sources` are those that were selected."""
    stages = draft.trace.stage_timings_ms if draft.trace else {}
    return {
        "question": draft.question,
        "corpus": corpus,
        "answer": draft.text,
        "abstained": draft.abstained,
        "degraded": [asdict(degradation) for degradation in draft.degraded],
        "model": draft.model,
        "sources": _selected(draft),
        "timings_ms": {
            **{_stage(name): round(ms, 1) for name, ms in stages.items()},
            **draft.timings_ms,
        },
    }


def as_table(draft: Draft) -> str:
    """The sources as aligned lines, cited ones marked, then what was missing and the times."""
    lines = []
    if sources := _selected(draft):
        header = ("", "#", "bm25", "dense", "rrf", "rerank", "relevance", "document")
        rows = [header, *map(_row, sources)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        lines.append("* cited in the answer")
    lines += [degradation.sentence for degradation in draft.degraded]
    times = as_json(draft, corpus="")["timings_ms"]
    lines.append(", ".join(f"{name} {ms:.0f} ms" for name, ms in times.items()))
    if draft.model:
        lines.append(f"written by {draft.model}")
    return "\n".join(lines)


def _selected(draft: Draft) -> list[dict[str, Any]]:
    outcomes = (Outcome.SELECTED, Outcome.NOT_SENT)
    return [source for source in draft.sources if source["outcome"] in outcomes]


def _stage(name: str) -> str:
    """The search's own total among the timings of the whole answer."""
    return "retrieval" if name == "total" else name


def _row(source: dict[str, Any]) -> tuple[str, ...]:
    page = f", p. {source['page_from']}" if source["page_from"] else ""
    not_sent = " (not sent)" if source["outcome"] == Outcome.NOT_SENT else ""
    relevance = source["relevance"]
    return (
        "*" if source["cited"] else "",
        str(source["rank"]),
        _rank_and_score(source["bm25_rank"], source["bm25_score"]),
        _rank_and_score(source["dense_rank"], source["similarity"]),
        _rank_and_score(source["rrf_rank"], source["rrf_score"], digits=4),
        _rank_and_score(source["rerank_rank"], source["rerank_logit"]),
        "–" if relevance is None else f"{relevance:.2f}",
        f"{source['document']}{page}{not_sent}",
    )


def _rank_and_score(rank: int | None, score: float | None, *, digits: int = 2) -> str:
    return "–" if rank is None or score is None else f"{rank} ({score:.{digits}f})"
