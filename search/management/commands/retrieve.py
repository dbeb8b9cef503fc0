"""`manage.py retrieve`: the ranked passages for a question, without an answer."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ingestion import command_options
from search.conf import retrieval_settings, search_services
from search.errors import SearchError
from search.pipeline import retrieve
from search.types import Trace

SNIPPET_CHARACTERS = 60


class Command(BaseCommand):
    """Print the trace of one retrieval; exit status 1 if the question could not be asked."""

    help = "Find the passages that answer a question, with the scores of every stage."

    def add_arguments(self, parser: CommandParser) -> None:
        """`retrieve QUESTION --corpus NAME [--k N] [--json] [--as USERNAME]`."""
        parser.add_argument("question")
        command_options.add_person_and_corpus(parser)
        command_options.add_filter(parser)
        parser.add_argument(
            "--k",
            type=int,
            metavar="N",
            help="Select and print the N best (default: select 10; with --json print all).",
        )
        parser.add_argument(
            "--json", action="store_true", help="Print one JSON document and nothing else."
        )

    def handle(self, *args: object, **options: Any) -> None:
        """Retrieve and print. A missing service is reported in the result, not as a failure."""
        person = command_options.person(options)
        corpus = command_options.readable_corpus(options, person)
        if not options["question"].strip():
            raise CommandError("The question is empty. Write it in quotes after `retrieve`.")
        only = command_options.filter_of(options, corpus)
        settings = retrieval_settings([corpus]).limited_to(only)
        if options["k"] is not None:
            if options["k"] < 1:
                raise CommandError("--k must be at least 1.")
            settings = replace(settings, top_n=options["k"])
        try:
            trace = retrieve(
                options["question"],
                corpora=[corpus],
                settings=settings,
                services=search_services(),
                on_stage=lambda line: self.stderr.write(line, style_func=str),
            )
        except SearchError as exc:
            raise CommandError(exc.sentence) from exc
        if options["json"]:
            document = as_json(trace, corpus=corpus.name, limit=options["k"])
            self.stdout.write(json.dumps(document, ensure_ascii=False))
        else:
            self.stdout.write(as_table(trace))


def as_json(trace: Trace, *, corpus: str, limit: int | None) -> dict[str, Any]:
    """The document that `--json` prints; `limit` cuts the list, best first."""
    return {
        "question": trace.question,
        "corpus": corpus,
        "candidates": trace.sources()[:limit],
        "timings_ms": {name: round(ms, 2) for name, ms in trace.stage_timings_ms.items()},
        "degraded": [asdict(degradation) for degradation in trace.degraded],
        "rerank": asdict(trace.rerank),
    }


def as_table(trace: Trace) -> str:
    """The selected candidates as aligned lines, then what was missing and the times."""
    if trace.candidates:
        header = ("#", "bm25", "dense", "rrf", "rerank", "relevance", "document", "passage")
        rows = [header, *(_row(trace, rank) for rank in range(1, len(trace.selected) + 1))]
        widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
    else:
        lines = ["No passage was found."]
    lines += [degradation.sentence for degradation in trace.degraded]
    lines.append(", ".join(f"{name} {ms:.0f} ms" for name, ms in trace.stage_timings_ms.items()))
    lines.append(
        f"{len(trace.candidates)} candidates, {trace.rerank.reranked} of "
        f"{trace.rerank.candidates} reranked"
        + (
            f"; the fused place counts {trace.rerank.place_weight:g} logits per unit of ln(rank)"
            if trace.rerank.place_weight
            else ""
        )
    )
    return "\n".join(lines)


def _row(trace: Trace, rank: int) -> tuple[str, ...]:
    candidate = trace.candidates[rank - 1]
    passage = trace.passages[candidate.chunk_id]
    page = f", p. {passage.page_from}" if passage.page_from else ""
    snippet = " ".join(passage.text.split())
    if len(snippet) > SNIPPET_CHARACTERS:
        snippet = snippet[: SNIPPET_CHARACTERS - 1] + "…"
    return (
        str(rank),
        _rank_and_score(candidate.bm25_rank, candidate.bm25_score),
        _rank_and_score(candidate.dense_rank, candidate.similarity),
        _rank_and_score(candidate.rrf_rank, candidate.rrf_score, digits=4),
        _rank_and_score(candidate.rerank_rank, candidate.rerank_logit),
        "–" if candidate.relevance is None else f"{candidate.relevance:.2f}",
        passage.document + page,
        snippet,
    )


def _rank_and_score(rank: int | None, score: float | None, *, digits: int = 2) -> str:
    return "–" if rank is None or score is None else f"{rank} ({score:.{digits}f})"
