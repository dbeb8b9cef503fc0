"""Parts of `benchmarks/rerank_gpu.py`: where the time of a request goes, and which scores move."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks._gpu_ladder import WARMING_TURNS, Run, failure, in_turns
from benchmarks._gpu_models import PAIRS, Arm, Pairs, computed, ours, predict
from benchmarks._gpu_report import Cell, wait
from benchmarks.rerank_cpu import passages
from inference.engines import Reranker
from inference.models_on_disk import DEFAULT_EMBEDDER, embedder_folder
from inference.packed import Cuts, Pack

ALONE = 20
FIRST = 10
COLUMNS = (
    "largest difference",
    "in standard deviations",
    "Kendall tau",
    f"of first {FIRST}",
    "largest difference of a pair alone and among the others",
    "note",
)


def where(run: Run) -> None:
    """Of one question and its passages: tokenising, copying, computing, copying back."""
    from transformers import AutoTokenizer

    engine = run.best_engine()
    packaged = AutoTokenizer.from_pretrained(embedder_folder(DEFAULT_EMBEDDER))
    for mix in ("256", "nq"):
        _steps(run, engine, packaged, mix)


def _steps(run: Run, engine: Reranker, packaged: Any, mix: str) -> None:
    asked = run.pairs(mix)
    question, texts = asked[0][0], [passage for _, passage in asked]
    english = passages("200" if mix == "256" else mix, len(asked), packaged, random.Random(3))
    encoded = engine.encode(question, texts)
    compute = engine._packed
    assert compute is not None
    took: dict[str, list[float]] = {}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        wait(run.device)
        began = time.perf_counter()
        found = call()
        wait(run.device)
        took.setdefault(name, []).append(time.perf_counter() - began)
        return found

    def by_hand() -> None:
        pack = timed("lay end to end", lambda: _pack(encoded))
        there = timed("host to device", lambda: _moved(pack, run.device))
        logits = timed("forward pass", lambda: compute(there))
        timed("device to host", lambda: logits.float().cpu().numpy())

    with torch.inference_mode():
        for turn in range(run.rounds + WARMING_TURNS):
            if turn == WARMING_TURNS:
                took.clear()
            timed("tokenise", lambda: engine.encode(question, texts))
            timed(
                "(tokenise English as WordPiece)",
                lambda: packaged([question] * len(english), english, truncation=True),
            )
            by_hand()
    whole = in_turns(
        {
            f"whole, {run.best}": lambda: ours(engine).score(asked),
            f"whole, {run.best}, tokenised before": lambda: computed(engine, encoded),
            "whole, predict bf16 100": lambda: predict(run.models.half, PAIRS).score(asked),
        },
        run.rounds,
        run.device,
    )
    took |= {name: measured.seconds for name, measured in whole.items() if not measured.failed}
    rows: list[dict[str, Cell]] = [
        {
            "step": name,
            "ms": 1000 * statistics.median(seconds),
            "least": 1000 * min(seconds),
            "most": 1000 * max(seconds),
        }
        for name, seconds in took.items()
    ]
    title = f"One question, {len(asked)} passages ({mix}), steps as one pack and each waited for"
    run.report.table("where", title, rows)


def _pack(encoded: Any) -> Pack:
    ids = [item.ids["input_ids"] for item in encoded]
    return Pack.of(ids, [np.zeros_like(text) for text in ids], "cpu")


def _moved(pack: Pack, device: str) -> Pack:
    def there(values: Any) -> Any:
        return values.to(device, non_blocking=True)

    cuts = Cuts(there(pack.cuts.ends), pack.cuts.lengths, pack.cuts.longest)
    return Pack(there(pack.ids), there(pack.types), there(pack.places), cuts)


def parity(run: Run) -> None:
    """How far scores are from padded float32, and whether a pair's depend on its neighbours."""
    from scipy.stats import kendalltau  # type: ignore[import-untyped]

    asked = run.pairs("uniform")
    builders = run.models.arms()
    exact = builders["predict fp32"]().score(asked)
    spread = float(exact.std())
    rows: list[dict[str, Cell]] = []
    for name in (
        "predict fp32",
        "predict bf16",
        "predict bf16 100",
        "packed",
        "ours",
        "ours float8",
    ):
        if name not in builders:
            continue
        row: dict[str, Cell] = {"arm": name}
        rows.append(row)
        try:
            arm = builders[name]()
            scores = np.asarray(arm.score(asked), np.float32)
            alone = _alone(arm, asked)
        except Exception as exc:  # noqa: BLE001 (a row says so)
            row |= dict.fromkeys(COLUMNS, "") | {"note": failure(exc)}
            continue
        best = [set(np.argsort(-values)[:FIRST].tolist()) for values in (scores, exact)]
        row |= dict(
            zip(
                COLUMNS,
                (
                    float(np.abs(scores - exact).max()),
                    float(np.abs(scores - exact).max()) / spread,
                    float(kendalltau(scores, exact).statistic),
                    len(best[0] & best[1]),
                    float(np.abs(alone - scores[:ALONE]).max()),
                    "",
                ),
                strict=True,
            )
        )
    title = (
        f"Against padded float32, {len(asked)} pairs (uniform) with random weights, whose logits "
        f"have a standard deviation of {spread:.3g}"
    )
    run.report.table("parity", title, rows)


def _alone(arm: Arm, asked: Pairs) -> Any:
    """Logits of the first pairs, each scored by itself."""
    return np.concatenate([np.asarray(arm.score([pair]), np.float32) for pair in asked[:ALONE]])
