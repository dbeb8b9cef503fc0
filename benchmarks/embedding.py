"""How many passages a second are embedded for ingestion? Ours against `SentenceTransformer.encode`.

    python benchmarks/embedding.py [--rounds 5] [--passages 128] [--mixes nq,uniform,chunks]

The packaged embedding model, the same passages in turns: `encode` with its defaults (batches of
32, sorted by length), `encode` with batches of 8, and the model server's engine on batches of
128 as a worker sends them, in float32 and, where the processor has it, in bfloat16 as passages
are. Printed are passages and tokens a second, how many times the default,
the share of the floating-point peak that a matrix product reached on this machine just before,
and the largest difference of a component of a vector.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch

from benchmarks.rerank_cpu import passages
from inference.engines import Embedder, load_embedder
from inference.models_on_disk import DEFAULT_EMBEDDER, embedder_folder

SEED = 5
WIDTH, INNER, LAYERS = 384, 1536, 6


def peak() -> float:
    """Floating-point operations a second of a product of float32 on all cores."""
    a, times = torch.randn(2048, 2048), []
    for _ in range(12):
        began = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - began)
    return 2 * 2048**3 / statistics.median(times[2:])


def main() -> None:
    """Each mix of lengths, each arm."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--passages", type=int, default=128)
    parser.add_argument("--mixes", default="nq,uniform,chunks")
    options = parser.parse_args()
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
        "ours": lambda texts: embedded(engine, texts),
    }
    if (half := engine.half) is not None:
        arms["ours bfloat16"] = lambda texts: embedded(half, texts)
    most = peak()
    print(
        f"{torch.get_num_threads()} threads, peak {most / 1e9:.0f} GFLOP/s, "
        + ", ".join(f"{name} {version(name)}" for name in ("torch", "sentence-transformers"))
    )
    for mix in options.mixes.split(","):
        texts = passages(mix, options.passages, plain.tokenizer, random.Random(SEED))
        tokens = [min(256, len(ids)) for ids in plain.tokenizer(texts)["input_ids"]]
        weights = LAYERS * (4 * WIDTH**2 + 2 * WIDTH * INNER)
        work = sum(2.0 * weights * t + 4.0 * LAYERS * WIDTH * t * t for t in tokens)
        seconds: dict[str, list[float]] = {name: [] for name in arms}
        vectors: dict[str, Any] = {}
        for turn in range(options.rounds + 1):
            for name, embed in arms.items():
                began = time.perf_counter()
                vectors[name] = embed(texts)
                if turn:
                    seconds[name].append(time.perf_counter() - began)
        print(f"\nmix {mix}: {len(texts)} passages of {statistics.mean(tokens):.0f} tokens read")
        print("| arm | passages/s | tokens/s | times the default | share of peak | difference |")
        print("| --- | --- | --- | --- | --- | --- |")
        base = statistics.median(seconds["encode 32"])
        for name, spent in seconds.items():
            median = statistics.median(spent)
            difference = np.abs(vectors[name] - vectors["encode 32"]).max()
            print(
                f"| {name} | {len(texts) / median:.1f} | {sum(tokens) / median:.0f} "
                f"| {base / median:.2f} | {100 * work / median / most:.0f} % | {difference:.1e} |"
            )


if __name__ == "__main__":
    main()
