"""A trace to take away: all of it as JSON, its candidates as CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from io import StringIO
from typing import Any

from search.types import Trace

COLUMNS = (
    "rank",
    "chunk_id",
    "document",
    "page_from",
    "page_to",
    "bm25_rank",
    "bm25_score",
    "dense_rank",
    "similarity",
    "rrf_rank",
    "rrf_score",
    "rerank_rank",
    "raw_logit",
    "rerank_logit",
    "relevance",
    "truncated",
    "outcome",
    "text",
)


def as_json(trace: Trace, *, corpora: Sequence[str], timings_ms: Mapping[str, float]) -> str:
    """The fields of `manage.py retrieve --json`, with the settings.

    Args:
        timings_ms: what the answer took beside the retrieval.
    """
    document = {
        "question": trace.question,
        "corpora": list(corpora),
        "settings": asdict(trace.settings),
        "candidates": trace.sources(),
        "timings_ms": {**trace.stage_timings_ms, **timings_ms},
        "degraded": [asdict(problem) for problem in trace.degraded],
        "rerank": asdict(trace.rerank),
    }
    return json.dumps(document, ensure_ascii=False, indent=1)


def as_csv(trace: Trace) -> str:
    """One candidate a line, best first."""
    out = StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for source in trace.sources():
        writer.writerow([_cell(source[name]) for name in COLUMNS])
    return out.getvalue()


def _cell(value: Any) -> Any:
    """A text of a document must not become a formula in a spreadsheet."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value
