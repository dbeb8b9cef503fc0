"""How quick is the rerank on a GPU? Ours against `CrossEncoder.predict`, and what it is made of.

    python benchmarks/rerank_gpu.py [--out FILE.json] [--parts ladder,where,…]

Everything in one call, meant for six minutes of an H100: a cross-encoder of the shape of
XLM-RoBERTa-large (that of bge-reranker-v2-m3) with random weights, made on the spot. The parts:

- ladder: the same 100 pairs by each way in turns, from `predict` in float32 to float8 (below):
  pairs a second, milliseconds, share of the matrix-product peak that was measured just before,
  tokens of a forward pass, memory beside the weights, largest difference of a logit from float32;
  at the end which targets were met;
- parity: bfloat16 in packs against padded float32; a pair alone and among others;
- where: of one question, the milliseconds of tokenising, copying, computing, copying back;
- budget: from 4k to 128k tokens a batch, pairs a second and what a question waits; the knee;
- shapes: XLM-R-base, MiniLM-L6, and embedding for ingestion beside `SentenceTransformer.encode`;
- load: 1 to 64 people who ask at random times (see `_gpu_load.py`).

The ladder's steps:

- predict fp32: `CrossEncoder.predict` as it loads a checkpoint of float32;
- predict bf16: the same with half the bits, which is the fair baseline;
- predict bf16 100: all pairs in one batch;
- predict re-headed bf16: the model as modules (encoder, pooling, two dense layers), which
  sentence-transformers computes without padding where transformers finds flash attention; where
  it does not, the row says that it was padded;
- padded, varlen attention: the engine with packed attention and padded linear layers;
- packed: all of it without padding, the last layer computed whole;
- ours: the engine as it starts, the last layer for the first token of each text alone;
- ours gelu, ours compiled, ours compiled gelu, ours graphs, ours all: with RERANKER_SPEEDUPS (on a
  GPU only); recorded kernels are for small batches: look at the mixes of few pairs;
- ours float8, ours float8 compiled: the linear layers in eight bits (where the GPU multiplies
  them). What eight bits do to an order, random weights cannot tell.

A step that fails is a row that says why. One that leaves the GPU unusable for the others is left
out next time by naming those with `--arms`. Lengths are tokens of a pair: fixed ones, the mixes
that passages come in, and `10xnq` for ten pairs instead of a hundred. Words are token ids here,
which tokenises quicker than a real vocabulary; `where` has a real one beside it. Three seconds of
`load` hold too few questions for percentiles to quote; for those:
`--parts load --users 16,64 --candidates 50 --seconds 60`.
With `--shape tiny` all of it runs anywhere, to see that it works; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from benchmarks._gpu_details import parity, where
from benchmarks._gpu_ladder import Run, budget, ladder, shapes
from benchmarks._gpu_load import load
from benchmarks._gpu_models import PAIRS, Models
from benchmarks._gpu_report import Report, card, machine, peak

MIXES = "128,256,384,512,nq,uniform,mixed,chunks,30x128,10xnq"
PARTS = "ladder,parity,where,budget,shapes,load"


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """All parts. Returns what `--out` keeps."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shape", choices=("large", "tiny"), default="large")
    parser.add_argument("--parts", type=_list, default=_list(PARTS), help=PARTS)
    parser.add_argument("--out", type=Path, help="a JSON file for all figures")
    parser.add_argument("--limit", type=float, default=420, help="seconds, then no more is begun")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=PAIRS, help="passages of a question")
    parser.add_argument("--lengths", type=_list, default=_list(MIXES), help="mixes of the ladder")
    parser.add_argument("--arms", type=_list, default=[], help="steps of the ladder; else all")
    parser.add_argument("--users", type=_numbers, default=_numbers("1,4,16,64"), help="of load")
    parser.add_argument(
        "--candidates", type=_numbers, default=_numbers("50,30,100"), help="of load"
    )
    parser.add_argument("--seconds", type=float, default=3, help="of load, for each way")
    parser.add_argument("--every", type=float, default=2, help="seconds between a user's questions")
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(_list(PARTS)):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and options.shape == "large":
        sys.exit("There is no GPU here. To see that this works at all: --shape tiny")
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    report = Report(options.out, options.limit)
    for name, value in machine(device).items():
        report.say(name, value)
    report.say("options", {k: str(v) for k, v in vars(options).items()})
    most = peak(device)
    report.say("peak of a bfloat16 product, TFLOP/s", float(f"{most / 1e12:.3g}"))
    with tempfile.TemporaryDirectory() as folder:
        models = Models(options.shape, folder, device)
        run = Run(report, models, device, options.shape, most, options.rounds, options.pairs)
        run.arms = options.arms
        parts: dict[str, Callable[[], None]] = {
            "ladder": lambda: ladder(run, options.lengths),
            "parity": lambda: parity(run),
            "where": lambda: where(run),
            "budget": lambda: budget(run),
            "shapes": lambda: shapes(run),
            "load": lambda: load(
                run,
                users=options.users,
                candidates=options.candidates,
                seconds=options.seconds,
                every_seconds=options.every,
            ),
        }
        for name, part in parts.items():
            if name not in options.parts:
                continue
            if report.is_over:
                report.leave_out(name)
                continue
            try:
                part()
            except Exception as exc:  # noqa: BLE001 (the parts that follow are worth having)
                traceback.print_exc()
                report.say(f"{name} failed", str(exc))
            report.say(f"seconds after {name}", round(report.seconds, 1))
            if device == "cuda":
                report.say(f"card after {name}", card())
    return report.kept


def _list(text: str) -> list[str]:
    return text.split(",")


def _numbers(text: str) -> list[int]:
    return [int(number) for number in _list(text)]


if __name__ == "__main__":
    sys.exit(any(name.endswith(" failed") for name in main()))
