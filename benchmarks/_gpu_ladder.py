"""Parts of `benchmarks/rerank_gpu.py`: the ladder, the token budget, other shapes, embedding."""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from benchmarks._gpu_models import (
    PAIRS,
    SEED,
    SPED_UP,
    Arm,
    Models,
    Pairs,
    batches,
    computed,
    operations,
    pairs,
    tokens_of,
)
from benchmarks._gpu_report import Cell, Report, wait
from benchmarks.rerank_cpu import passages
from inference.engines import Embedder
from inference.loading import load_embedder
from inference.models_on_disk import DEFAULT_EMBEDDER, embedder_folder
from inference.types import ModelInfo

WARMING_TURNS = 2
LADDER = (
    "arm",
    "pairs/s",
    "ms",
    "least",
    "most",
    "share of peak %",
    "tokens a pass",
    "GiB beside weights",
    "difference",
)
# (mix, arm to beat or none, what is asked for): pairs a second, or times the other arm's.
TARGETS = (
    ("512", "", 1100),
    ("512", "", 1500),
    ("nq", "", 2800),
    ("256", "", 2000),
    ("nq", "predict bf16", 1.5),
    ("uniform", "predict bf16", 1.5),
    ("mixed", "predict bf16", 1.5),
)
# Those of ours that need no sizes known before.
BEST_OF = tuple(arm for arm, speedups in SPED_UP.items() if "graphs" not in speedups)
BUDGETS = (4096, 8192, 16384, 32768, 65536, 131072)
BUDGET_QUESTIONS = 10
KNEE = 0.95
# Shapes and mixes.
OTHERS = {
    "large": (("base", "minilm"), ("512", "nq", "30x128")),
    "tiny": (("tiny-bert",), ("30x128",)),
}
OTHER_ARMS = ("predict fp32", "predict bf16", "predict bf16 100", "packed", "ours", "ours graphs")
# Passages for the packaged embedder, and for the one of the large shape.
EMBEDDED = {"large": (2048, 512), "tiny": (2, 2)}


@dataclass
class Run:
    """What all parts share.

    peak: of the matrix product, in operations a second. count: pairs of a question. arms: of the
    ladder, all if empty. best: the arm of ours that the other parts take. rates: pairs a second by
    mix and arm, as far as the ladder got.
    """

    report: Report
    models: Models
    device: str
    shape: str
    peak: float
    rounds: int
    count: int = PAIRS
    arms: Sequence[str] = ()
    best: str = "ours"
    rates: dict[str, dict[str, float]] = field(default_factory=dict)

    def pairs(self, mix: str, seed: int = SEED) -> Pairs:
        """A question and its passages."""
        return pairs(mix, count=self.count, seed=seed)

    def best_engine(self) -> Any:
        """The engine of that arm."""
        return self.models.engine(*SPED_UP[self.best])


@dataclass
class Measured:
    """Of one arm: seconds of each turn, the last result, the most memory beside the weights."""

    seconds: list[float] = field(default_factory=list)
    result: Any = None
    memory_bytes: int = 0
    failed: str = ""

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)


def in_turns(
    arms: Mapping[str, Callable[[], Any]], rounds: int, device: str
) -> dict[str, Measured]:
    """Call each in turns, after two that warm up. What fails is not called again."""
    found = {name: Measured() for name in arms}
    for turn in range(rounds + WARMING_TURNS):
        for name, run in arms.items():
            measured = found[name]
            if measured.failed:
                continue
            try:  # all of it: a device that an arm has broken fails in whatever comes next
                wait(device)
                before = 0
                if device == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                    before = torch.cuda.memory_allocated()
                began = time.perf_counter()
                measured.result = run()
                wait(device)
                if turn >= WARMING_TURNS:
                    measured.seconds.append(time.perf_counter() - began)
                if device == "cuda":
                    measured.memory_bytes = torch.cuda.max_memory_allocated() - before
            except Exception as exc:  # noqa: BLE001 (whatever it is, the other arms go on)
                measured.failed = failure(exc)
    return found


def failure(exc: Exception) -> str:
    """What a table says of it."""
    first = str(exc).strip().partition("\n")[0].replace("|", "/")
    return f"failed: {type(exc).__name__}: {first[:160]}"


def made(builders: Mapping[str, Callable[[], Arm]]) -> dict[str, Arm]:
    """Arms; one that cannot be made fails when it is called."""

    def never(exc: Exception) -> Callable[[Pairs], Any]:
        def score(asked: Pairs) -> Any:
            raise exc

        return score

    arms: dict[str, Arm] = {}
    for name, build in builders.items():
        try:
            arms[name] = build()
        except Exception as exc:  # noqa: BLE001 (a row says so)
            arms[name] = Arm(never(exc), lambda asked: 0)
    return arms


def ladder(run: Run, mixes: Sequence[str]) -> None:
    """All arms on all mixes, and which targets are met."""
    builders = run.models.arms()
    arms = made({arm: b for arm, b in builders.items() if arm in (run.arms or builders)})
    for mix in mixes:
        if run.report.is_over:
            run.report.leave_out(f"the ladder from {mix} on")
            break
        run.rates[mix] = _compare(run, "ladder", mix, arms, run.models)
    full = list(run.rates.values())
    if able := [arm for arm in BEST_OF if full and all(arm in rates for rates in full)]:
        run.best = max(able, key=lambda arm: sum(rates[arm] for rates in full))
    if targets := _targets(run.rates):
        run.report.table("ladder", "Targets, by the best arm of ours in bfloat16", targets)


def _compare(
    run: Run, part: str, mix: str, arms: Mapping[str, Arm], models: Models
) -> dict[str, float]:
    """One table. Returns pairs a second of each arm."""
    asked = run.pairs(mix)
    tokens = tokens_of(models.exact.tokenizer, asked)
    work = operations(models.shape, tokens)
    calls = {name: lambda arm=arm: arm.score(asked) for name, arm in arms.items()}
    found = in_turns(calls, run.rounds, run.device)
    exact = found.get("predict fp32", Measured())
    wanted = np.asarray(exact.result, np.float32)  # not a number, where it could not be had
    rows: list[dict[str, Cell]] = []
    rates: dict[str, float] = {}
    for name, measured in found.items():
        row: dict[str, Cell] = dict.fromkeys(
            (*LADDER, "note"),
            "",
        )
        row |= {"arm": name, "note": measured.failed or arms[name].note}
        rows.append(row)
        if not measured.seconds:
            continue
        rates[name] = len(asked) / measured.median
        values: tuple[Cell, ...] = (
            name,
            rates[name],
            1000 * measured.median,
            1000 * min(measured.seconds),
            1000 * max(measured.seconds),
            100 * work / measured.median / run.peak,
            sum(tokens) / arms[name].passes(asked),
            measured.memory_bytes / 2**30,
            float(np.abs(np.asarray(measured.result, np.float32) - wanted).max()),
        )
        row |= dict(zip(LADDER, values, strict=True))
    title = (
        f"{models.shape}: {len(asked)} pairs of {statistics.mean(tokens):.0f} tokens on average "
        f"({mix})"
    )
    run.report.table(part, title, rows)
    return rates


def _targets(rates: Mapping[str, Mapping[str, float]]) -> list[dict[str, Cell]]:
    """Which were met, of the mixes that were measured."""
    rows: list[dict[str, Cell]] = []
    for mix, other, wanted in TARGETS:
        own = {arm: rate for arm, rate in rates.get(mix, {}).items() if arm in SPED_UP}
        if not own or (other and other not in rates[mix]):
            continue
        arm = max(own, key=lambda name: own[name])
        reached = own[arm] / rates[mix][other] if other else own[arm]
        rows.append(
            {
                "target": f"{mix}: {wanted} {f'times {other}' if other else 'pairs/s'}",
                "reached": reached,
                "arm": arm,
                "met": "yes" if reached >= wanted else "no",
            }
        )
    return rows


def budget(run: Run) -> None:
    """How many tokens a batch should have: throughput, and what one question waits for."""
    engine = run.best_engine()
    many = [pair for seed in range(BUDGET_QUESTIONS) for pair in run.pairs("uniform", seed)]
    encoded = engine.encode(many[0][0], [passage for _, passage in many])
    first = encoded[: run.count]
    rows: list[dict[str, Cell]] = []
    of_one = f"ms for {len(first)} pairs"
    usual = engine.batch_tokens
    for tokens in BUDGETS:
        engine.batch_tokens = tokens
        numbers = batches(encoded, tokens, is_packed=engine.is_packed)
        groups = [[encoded[n] for n in group] for group in numbers]
        full = max(groups, key=lambda group: sum(item.tokens for item in group))
        asked = {"all": encoded, "question": first, "one batch": full}
        calls = {name: lambda texts=texts: computed(engine, texts) for name, texts in asked.items()}
        found = in_turns(calls, max(2, run.rounds // 2), run.device)
        row: dict[str, Cell] = {"token budget": tokens, "pairs/s": 0.0}
        if failed := next((m.failed for m in found.values() if m.failed), ""):
            rows.append({**row, of_one: "", "ms of a full batch": "", "note": failed})
            continue
        rows.append(
            {
                **row,
                "pairs/s": len(many) / found["all"].median,
                of_one: 1000 * found["question"].median,
                "ms of a full batch": 1000 * found["one batch"].median,
                "note": "",
            }
        )
    engine.batch_tokens = usual
    most = max(float(row["pairs/s"]) for row in rows)
    knee = next(row for row in rows if float(row["pairs/s"]) >= KNEE * most)
    knee["note"] = f"the least that reaches {KNEE:.0%} of the best"
    for row in rows:
        if row["token budget"] == usual:
            row["note"] = f"{row['note']}; as it starts".removeprefix("; ")
    run.report.table(
        "budget", f"{run.best}, tokenised before, {len(many)} pairs (uniform) at once", rows
    )


def shapes(run: Run) -> None:
    """Smaller cross-encoders, and embedding for ingestion."""
    others, mixes = OTHERS[run.shape]
    for shape in others:
        if run.report.is_over:
            run.report.leave_out(f"the shapes from {shape} on")
            return
        with tempfile.TemporaryDirectory() as folder:
            models = Models(shape, folder, run.device)
            builders = {name: b for name, b in models.arms().items() if name in OTHER_ARMS}
            arms = made(builders)
            for mix in mixes:
                _compare(run, "shapes", mix, arms, models)
    embedding(run)


def embedding(run: Run) -> None:
    """Passages a second of the packaged embedder and of one of the large shape."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

    few, fewer = EMBEDDED[run.shape]
    packaged = str(embedder_folder(DEFAULT_EMBEDDER))

    def minilm() -> Any:
        return SentenceTransformer(packaged, device=run.device).eval()

    texts = passages("nq", few, minilm().tokenizer, random.Random(5))
    more: dict[str, Callable[[], Any]] = {}
    if run.device == "cuda":  # `embedding.py` has it on a CPU
        started = load_embedder(DEFAULT_EMBEDDER)
        kind = f"{started.described.dtype}, {'packed' if started.is_packed else 'padded'}"
        name = f"the server as it starts ({kind})"
        more[name] = lambda: computed(started, started.encode(texts))
    _embed(run, "all-MiniLM-L6-v2, English text", minilm, "minilm", texts, more)
    if run.report.is_over:
        run.report.leave_out(f"embedding in the shape {run.shape}")
        return

    def random_one() -> Any:
        reader = Transformer(run.models.folder, model_kwargs={"add_pooling_layer": False})
        modules = [reader, Pooling(reader.get_embedding_dimension(), "cls"), Normalize()]
        return SentenceTransformer(modules=modules, device=run.device).eval()

    numbers = [passage for _, passage in pairs("nq", count=fewer)]
    _embed(run, f"random weights, {run.shape}", random_one, run.shape, numbers, {})


def _embed(
    run: Run,
    title: str,
    load: Callable[[], Any],
    shape: str,
    texts: Sequence[str],
    more: Mapping[str, Callable[[], Any]],
) -> None:
    """One table of an embedding model, by the usual ways and some more."""
    plain, half, inner = load(), load().bfloat16(), load().bfloat16()
    most, width = int(half.max_seq_length), int(half.get_embedding_dimension())
    info = ModelInfo("embedder", "benchmark", run.device, "bfloat16", most, width)
    packed = Embedder(info, inner)
    encoded = packed.encode(texts)
    silent = {"show_progress_bar": False}
    found = in_turns(
        {
            "encode fp32": lambda: plain.encode(list(texts), **silent),
            "encode bf16": lambda: half.encode(list(texts), **silent),
            "encode bf16 256": lambda: half.encode(list(texts), batch_size=256, **silent),
            "packed bf16": lambda: computed(packed, packed.encode(texts)),
            "packed bf16, tokenised before": lambda: computed(packed, encoded),
            **more,
        },
        run.rounds,
        run.device,
    )
    tokens = [item.tokens for item in encoded]
    work = operations(shape, tokens)
    exact = found["encode fp32"].result
    rows: list[dict[str, Cell]] = []
    for name, measured in found.items():
        row: dict[str, Cell] = {"arm": name, "passages/s": "", "tokens/s": ""}
        row |= {"share of peak %": "", "least cosine": "", "note": measured.failed}
        rows.append(row)
        if not measured.seconds:
            continue
        vectors = np.asarray(measured.result, np.float32)
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        row |= {
            "passages/s": len(texts) / measured.median,
            "tokens/s": sum(tokens) / measured.median,
            "share of peak %": 100 * work / measured.median / run.peak,
            "least cosine": float((vectors * exact).sum(axis=1).min()),
        }
    title = f"Embedding, {title}: {len(texts)} passages of {statistics.mean(tokens):.0f} tokens"
    run.report.table("shapes", title, rows)
