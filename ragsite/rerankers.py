"""What an operator chooses a reranker by: the catalogue, what is in use, its times of late."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from django.conf import settings

from chat.models import Turn
from inference.catalogue import CATALOGUE, Entry, known
from inference.client import shared_client
from inference.errors import InferenceError
from inference.types import ModelInfo

ANSWER_SECONDS = 1.0
# Times are of the latest so many answers.
LATEST = 500


@dataclass(frozen=True, slots=True)
class Measured:
    """Answers that one model reranked: how many, on which device, and the stage's milliseconds.

    ms_p95: the nearest-rank 95th percentile. passages: the median that was read for one answer.
    remembered: of all their passages the share that had been scored for the same question before,
    0 to 1: how often the score cache hits.
    """

    model: str
    device: str
    answers: int
    ms_p50: float
    ms_p95: float
    passages: float
    remembered: float = 0.0

    @property
    def remembered_percent(self) -> float:
        """0 to 100."""
        return 100 * self.remembered


@dataclass(frozen=True, slots=True)
class Choice:
    """The catalogue beside what is in use.

    in_use: the model that the server has loaded, None for none. entry: its line of the catalogue,
    None for a model that is not in it. reason: why there is none, empty where there is.
    """

    in_use: ModelInfo | None
    entry: Entry | None
    reason: str
    measured: Sequence[Measured]
    catalogue: Sequence[Entry] = CATALOGUE


def look() -> Choice:
    """Ask the model server, for a second at most, and the latest answers."""
    try:
        info = shared_client(settings.EMBED_URL, settings.RERANK_URL).info(ANSWER_SECONDS)
    except InferenceError:
        return Choice(None, None, "the model server does not answer", measured())
    reason = "" if info.reranker else info.reranker_reason or "no reranker is installed"
    entry = known(info.reranker.model_id) if info.reranker else None
    return Choice(info.reranker, entry, reason, measured())


def measured() -> list[Measured]:
    """The rerank stage of the latest answers, by model and device, the most used first."""
    rows = (
        Turn.objects.filter(state=Turn.State.DONE, trace__isnull=False)
        .order_by("-pk")
        .values_list("trace__rerank", "trace__stage_timings_ms")[:LATEST]
    )
    found: dict[tuple[str, str], list[tuple[float, int, int]]] = defaultdict(list)
    for report, times in rows:
        if report and report.get("reranked") and "rerank" in (times or {}):
            key = (str(report["model"]), str(report.get("device") or ""))
            counts = int(report["reranked"]), int(report.get("remembered") or 0)
            found[key].append((float(times["rerank"]), *counts))
    lines = []
    for (model, device), pairs in found.items():
        ms = sorted(one for one, *_ in pairs)
        read = [count for _, count, _ in pairs]
        lines.append(
            Measured(
                model,
                device,
                answers=len(ms),
                ms_p50=statistics.median(ms),
                ms_p95=ms[-(-95 * len(ms) // 100) - 1],
                passages=statistics.median(read),
                remembered=sum(count for *_, count in pairs) / sum(read),
            )
        )
    return sorted(lines, key=lambda line: -line.answers)
