"""How many passages a second are embedded for ingestion? Ours against `SentenceTransformer.encode`.

    python benchmarks/embedding.py [--rounds 7] [--passages 128] [--mixes nq,uniform,chunks]

The packaged embedding model, the same passages in turns: `encode` with its defaults (batches of
32, sorted by length), `encode` with batches of 8, and the model server's engine on batches of
128 as a worker sends them, in float32 and, where the processor has it, in bfloat16 as passages
are. Printed are, over the rounds after a first one that warms up: passages a second (median, least,
most), tokens a second, processor seconds of all cores, how many times the default, the share of the
floating-point peak that a matrix product of float32 reached on this machine just before (in
bfloat16 it can be above one), and the largest difference of a component of a vector.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch

from benchmarks._figures import Spent, machine, spread, told, versions
from benchmarks.rerank_cpu import passages
from inference.devices import keep_freed_memory
from inference.engines import Embedder
from inference.loading import load_embedder
from inference.models_on_disk import DEFAULT_EMBEDDER, embedder_folder
from inference.onednn import PrepackedLinear, can_prepack

SEED = 5
WIDTH, INNER, LAYERS = 384, 1536, 6


def peak() -> float:
    """Floating-point operations a second of a product of float32 on all cores, by the quicker of
    the libraries that torch has for it."""
    a = torch.randn(2048, 2048)
    products: list[Callable[[], Any]] = [lambda: a @ a]
    if can_prepack():
        layer = PrepackedLinear(torch.nn.Linear(2048, 2048, bias=False))
        products.append(lambda: layer(a))
    quickest = float("inf")
    with torch.inference_mode():
        for product in products:
            spent = Spent()
            for _ in range(12):
                spent.measure(product)
            quickest = min(quickest, statistics.median(spent.seconds[2:]))
    return 2 * 2048**3 / quickest


def main() -> None:
    """Each mix of lengths, each arm."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--passages", type=int, default=128)
    parser.add_argument("--mixes", default="nq,uniform,chunks")
    options = parser.parse_args()
    keep_freed_memory()
    from sentence_transformers import SentenceTransformer

    plain = SentenceTransformer(str(embedder_folder(DEFAULT_EMBEDDER)), device="cpu")
    engine = load_embedder(DEFAULT_EMBEDDER)

    def embedded(engine: Embedder, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        encoded = engine.encode(texts)
        waiting = sorted(range(len(texts)), key=lambda n: encoded[n].tokens)
        vectors = np.zeros((len(texts), WIDTH), np.float32)
        while waiting:
            batch = [waiting.pop(0)]
            while waiting and encoded[waiting[0]].tokens * (len(batch) + 1) <= engine.batch_tokens:
                batch.append(waiting.pop(0))
            vectors[batch] = engine.compute([encoded[n] for n in batch])
        return vectors

    arms: dict[str, Callable[[Sequence[str]], Any]] = {
        "encode 32": lambda texts: plain.encode(texts, show_progress_bar=False),
        "encode 8": lambda texts: plain.encode(texts, batch_size=8, show_progress_bar=False),
        "ours float32": lambda texts: embedded(engine, texts),
    }
    if (half := engine.half) is not None:
        arms["ours bfloat16"] = lambda texts: embedded(half, texts)
    most = peak()
    print(f"{told(machine())}\n{told(versions())}\npeak {most / 1e9:.0f} GFLOP/s")
    for mix in options.mixes.split(","):
        texts = passages(mix, options.passages, plain.tokenizer, random.Random(SEED))
        tokens = [min(256, len(ids)) for ids in plain.tokenizer(texts, verbose=False)["input_ids"]]
        weights = LAYERS * (4 * WIDTH**2 + 2 * WIDTH * INNER)
        work = sum(2.0 * weights * t + 4.0 * LAYERS * WIDTH * t * t for t in tokens)
        vectors: dict[str, Any] = {}
        for turn in range(options.rounds + 1):
            if turn < 2:  # the first round warms up
                spent = {name: Spent() for name in arms}
            for name, embed in arms.items():
                vectors[name] = spent[name].measure(partial(embed, texts))
        print(
            f"\nmix {mix}: {len(texts)} passages of {statistics.mean(tokens):.0f} tokens read; "
            f"load {machine()['load']}\n"
        )
        print(
            "| arm | passages/s | tokens/s | CPU s | times the default | share of peak "
            "| difference |\n" + "| --- " * 7 + "|"
        )
        base = statistics.median(spent["encode 32"].seconds)
        for name, took in spent.items():
            median = statistics.median(took.seconds)
            difference = np.abs(vectors[name] - vectors["encode 32"]).max()
            rates = [len(texts) / seconds for seconds in took.seconds]
            print(
                f"| {name} | {spread(rates, 1)} | {sum(tokens) / median:.0f} "
                f"| {spread(took.cpu_seconds)} | {base / median:.2f} "
                f"| {100 * work / median / most:.0f} % | {difference:.1e} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
