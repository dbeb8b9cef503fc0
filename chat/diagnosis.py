"""What is wrong with reranking on this site, found in its own answers, and what to do about it.

Each finding is one fault that guides on mending rerankers list. The latest answers of the reranker
in use are looked at, the judgements of its passages, and what the model server tells of itself.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from chat.models import Turn
from inference.catalogue import in_words
from inference.types import ModelInfo, ServerInfo
from ingestion.models import Corpus
from search.evaluation.metrics import paired_p_value
from search.models import Judgement
from search.types import DegradedCode

LATEST = 100
# Fewer answers or judged questions than this say nothing.
AT_LEAST = 10
# Relevances beyond these say “certainly” or “certainly not”; so many answers of nothing else are
# not what questions of people look like.
SURE, SATURATED_SHARE = 0.99, 0.9
CUT_SHARE = 0.25
READ_SHARE = 0.5
SURE_P = 0.05
MULTILINGUAL = "BAAI/bge-reranker-v2-m3"
# How many corpora a sentence names.
NAMED = 3


class Fault(StrEnum):
    """What can be found, the gravest first."""

    FLAT = "flat scores"
    WORSE = "worse than fusion"
    SATURATED = "saturated scores"
    SCRIPT = "foreign script"
    LANGUAGE = "foreign language"
    FAILED = "failing"
    MEMORY = "out of memory"
    GPU = "unused GPU"
    POOL = "pool too large"
    CUT = "passages cut"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault: what was seen and what to do, in full sentences."""

    fault: Fault
    sentence: str


@dataclass(frozen=True, slots=True)
class Answered:
    """What is looked at of one answer.

    relevances: 0 to 1, of the passages shown beside it; empty where nothing was reranked.
    wanted: passages that should have been reranked. model: of the reranker, empty where there was
    none or it was not known. degraded: what was said of it, by code.
    """

    model: str = ""
    device: str = ""
    wanted: int = 0
    reranked: int = 0
    cut: int = 0
    relevances: Sequence[float] = ()
    degraded: Mapping[str, str] = field(default_factory=dict)

    @property
    def failure(self) -> str:
        """How its reranker failed or came too late, though it was there; empty where it did not."""
        codes = [DegradedCode.RERANKER_FAILED, DegradedCode.RERANKER_LATE]
        if self.model:  # it refuses, as a hosted one does that does not take the key
            codes.append(DegradedCode.NO_RERANKER)
        said = next((self.degraded[code] for code in codes if code in self.degraded), "")
        return said.partition(". ")[0]


@dataclass(frozen=True, slots=True)
class Judged:
    """The best place of a passage judged relevant, from 1, for one question."""

    fused: int
    reranked: int


def diagnose(info: ServerInfo | None) -> list[Finding]:
    """Everything that can be found now, the gravest first; empty on a healthy site.

    Args:
        info: what the model server tells; None where it does not answer.
    """
    answers = latest_answers()
    model = next((one.model for one in answers if one.model), "")
    former = (n for n, one in enumerate(answers) if one.model not in ("", model))
    mine = answers[: next(former, len(answers))]
    found = [*of_answers(mine), *of_judgements(judged_questions(model))]
    if info is not None:
        found += of_server(info)
        found += of_languages(info.reranker)
    return sorted(found, key=lambda finding: list(Fault).index(finding.fault))


def of_answers(answers: Sequence[Answered]) -> list[Finding]:
    """What answers of one reranker tell about it."""
    found = []
    of, read = len(answers), [one for one in answers if one.reranked]
    counts = {code: sum(1 for one in answers if code in one.degraded) for code in DegradedCode}
    if flat := counts[DegradedCode.RERANKER_FLAT]:
        found.append(
            Finding(
                Fault.FLAT,
                f"{_of_the_last(flat, of)} the reranker gave every passage the same "
                "score, so it is broken or no reranker. Set RERANKER to another model.",
            )
        )
    if script := counts[DegradedCode.RERANKER_SCRIPT]:
        found.append(
            Finding(
                Fault.SCRIPT,
                f"{_of_the_last(script, of)} the text was in a script that the reranker "
                "was never trained on, and was not reranked. Set RERANKER to a multilingual "
                f"model, such as {MULTILINGUAL}.",
            )
        )
    failures = [one.failure for one in answers if one.failure]
    if len(failures) >= max(2, of // 20):
        found.append(
            Finding(
                Fault.FAILED,
                f"{_of_the_last(len(failures), of)} the reranker failed or came too "
                f"late, at last with “{failures[0].rstrip('.')}”. The log of the model server has "
                "more; set RERANKER to a smaller model if it is only slow.",
            )
        )
    if len(read) < AT_LEAST:
        return found
    sure = sum(1 for one in read if _is_sure(one.relevances))
    if sure >= SATURATED_SHARE * len(read):
        found.append(
            Finding(
                Fault.SATURATED,
                f"In {sure} of the last {len(read)} reranked answers every relevance shown was "
                f"above {SURE:.0%} or below {1 - SURE:.0%}: the order may be right, but the "
                "numbers tell nothing. Train or choose a reranker with fitted scores "
                "(manage.py train_reranker).",
            )
        )
    on_cpu = [one for one in read if one.device == "cpu" and one.wanted]
    if len(on_cpu) >= AT_LEAST:
        usual = statistics.median(one.reranked for one in on_cpu)
        wanted = statistics.median(one.wanted for one in on_cpu)
        if usual < READ_SHARE * wanted:
            found.append(
                Finding(
                    Fault.POOL,
                    f"The time allowed is enough for {usual:.0f} of {wanted:.0f} passages. Make "
                    f"the pool of the corpora smaller (in the inspector, “Copy these settings to "
                    "the corpus”), allow more time by RERANK_BUDGET_MS, or set RERANKER to a "
                    "quicker model.",
                )
            )
    cut, pairs = sum(one.cut for one in read), sum(one.reranked for one in read)
    if cut > CUT_SHARE * pairs:
        found.append(
            Finding(
                Fault.CUT,
                f"The reranker could not read the end of {cut / pairs:.0%} of the passages. "
                "Choose a smaller passage size for the corpora, on their pages “Index”, or a "
                "reranker with a higher limit.",
            )
        )
    return found


def of_judgements(questions: Sequence[Judged]) -> list[Finding]:
    """Whether passages that people called relevant stand lower after reranking than before.

    Compared by reciprocal rank, with a paired randomisation test over questions. People judge
    what they are shown, the best reranked passages, so what is found in spite of that is true.
    """
    if len(questions) < AT_LEAST:
        return []
    fused = np.array([1 / one.fused for one in questions])
    reranked = np.array([1 / one.reranked for one in questions])
    if reranked.mean() >= fused.mean() or paired_p_value(fused, reranked) >= SURE_P:
        return []
    return [
        Finding(
            Fault.WORSE,
            f"By {len(questions)} judged questions reranking does harm: the mean reciprocal rank "
            f"of relevant passages is {fused.mean():.2f} by fusion and {reranked.mean():.2f} "
            "after it. Set RERANKER to another model, or to none until there is one.",
        )
    ]


def of_server(info: ServerInfo) -> list[Finding]:
    """What the model server tells."""
    found = []
    if halved := info.out_of_memory:
        batches = "1 batch" if halved == 1 else f"{halved:,} batches"
        found.append(
            Finding(
                Fault.MEMORY,
                f"{batches} did not fit into memory since the model server began and had to be "
                "computed in halves. Set RERANKER to a smaller model, or give "
                "the server more memory.",
            )
        )
    if info.unused_gpu:
        found.append(
            Finding(
                Fault.GPU,
                f"A GPU ({info.unused_gpu}) is there, but the models run on the CPU. Install a "
                "torch built for CUDA, or start the container with the GPU (docs/deployment.md).",
            )
        )
    return found


def of_languages(reranker: ModelInfo | None) -> list[Finding]:
    """Corpora in a language that the reranker was never trained on, by what their owners set."""
    if reranker is None or not reranker.languages:
        return []
    foreign = Corpus.objects.present().exclude(language__in=reranker.languages)
    found = list(foreign.order_by("name").values_list("name", "language"))
    if not found:
        return []
    named = ", ".join(f"“{name}” ({language})" for name, language in found[:NAMED])
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return [
        Finding(
            Fault.LANGUAGE,
            f"The reranker was trained on {in_words(reranker.languages)} only, and not on the "
            f"language of the corpora {named}{more}. Set RERANKER to a multilingual model, such "
            f"as {MULTILINGUAL}, or switch reranking off on their pages “Search”.",
        )
    ]


def latest_answers() -> list[Answered]:
    """The last LATEST answers that were looked for, the latest first."""
    turns = Turn.objects.filter(state=Turn.State.DONE, trace__isnull=False).order_by("-pk")
    rows = turns.values_list("trace__rerank", "trace__settings", "sources", "degraded")
    return [_answered(*row) for row in rows[:LATEST]]


def judged_questions(model: str) -> list[Judged]:
    """The questions with a relevant passage that this reranker ranked, each once."""
    rows = Judgement.objects.filter(
        grade__gt=Judgement.Grade.NOT_RELEVANT, trace__rerank__model=model
    ).order_by("-pk")
    places: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for digest, candidate in rows.values_list("question_sha256", "trace__candidate")[:2000]:
        if candidate["rrf_rank"] and candidate["rerank_rank"]:
            places[digest].append((candidate["rrf_rank"], candidate["rerank_rank"]))
    return [
        Judged(min(fused for fused, _ in ranks), min(reranked for _, reranked in ranks))
        for ranks in places.values()
    ]


def _answered(
    rerank: dict[str, Any] | None,
    settings: dict[str, Any] | None,
    sources: Iterable[dict[str, Any]],
    degraded: Iterable[dict[str, Any]],
) -> Answered:
    report, knobs = rerank or {}, settings or {}
    candidates = int(report.get("candidates") or 0)
    relevances = (source.get("relevance") for source in sources)
    return Answered(
        model=str(report.get("model") or ""),
        device=str(report.get("device") or ""),
        wanted=min(candidates, int(knobs.get("rerank_at_most") or candidates)),
        reranked=int(report.get("reranked") or 0),
        cut=int(report.get("truncated") or 0),
        relevances=[relevance for relevance in relevances if relevance is not None],
        degraded={str(one["code"]): str(one.get("sentence") or "") for one in degraded},
    )


def _of_the_last(count: int, of: int) -> str:
    return "In the last answer" if of == 1 else f"In {count} of the last {of} answers"


def _is_sure(relevances: Sequence[float]) -> bool:
    return bool(relevances) and all(one >= SURE or one <= 1 - SURE for one in relevances)
