"""Several people ask at once: the model server's queue against `predict` behind a lock.

    python benchmarks/callers.py [--seconds 20] [--callers 1,4,16] [--passages 20]

Callers rerank 20 passages again and again, each its own question and passages, the first of them
only 4 (the person with the small corpus). Weights: a cross-encoder of the shape of MiniLM-L6 with
random weights, on this CPU. Printed are questions a second, seconds to an answer (median, 95 %,
99 %), and the median of the caller with few passages beside that of the others: fair is far below.

- lock: one thread at a time calls `CrossEncoder.predict`;
- ours: `Scheduler` and engine of the model server, batches over all callers.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from benchmarks.rerank_cpu import engine_of, passages, random_minilm
from inference import engines
from inference.scheduler import Lane, Scheduler

SEED = 11
FEW = 4

Rerank = Callable[[str, Sequence[str]], object]


def ask(
    rerank: Rerank, questions: Sequence[tuple[str, Sequence[str]]], until: float
) -> list[float]:
    """Seconds of each answer to one caller, who asks until the time is over."""
    spent, n = [], 0
    while time.monotonic() < until:
        question, texts = questions[n % len(questions)]
        began = time.perf_counter()
        rerank(f"{question} {n}", texts)
        spent.append(time.perf_counter() - began)
        n += 1
    return spent


def measure(
    rerank: Rerank, work: Sequence[Sequence[tuple[str, Sequence[str]]]], seconds: float
) -> list[list[float]]:
    """All callers at once; the seconds of the answers to each."""
    found: list[list[float]] = [[] for _ in work]
    until = time.monotonic() + seconds

    def call(number: int) -> None:
        found[number] = ask(rerank, work[number], until)

    threads = [threading.Thread(target=call, args=(n,)) for n in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def at(share: float, values: Sequence[float]) -> float:
    """The value below which this share of them lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main() -> None:
    """Each number of callers, each arm."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--callers", default="1,4,16")
    parser.add_argument("--passages", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        random_minilm(Path(folder))
        plain = engines.cross_encoder(folder)
        engine = engine_of(engines.cross_encoder(folder), "random")
    lock, scheduler = threading.Lock(), Scheduler()

    def locked(question: str, texts: Sequence[str]) -> object:
        with lock:
            return plain.predict([(question, text) for text in texts], show_progress_bar=False)

    def queued(question: str, texts: Sequence[str]) -> object:
        encoded = engine.encode(question, texts)
        return scheduler.submit(engine, encoded, lane=Lane.QUESTION).result()

    print(
        f"{torch.get_num_threads()} threads, "
        + ", ".join(f"{name} {version(name)}" for name in ("torch", "sentence-transformers"))
    )
    print("| callers | arm | questions/s | median s | 95 % | 99 % | caller with few: median s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    chooser = random.Random(SEED)
    for callers in (int(number) for number in options.callers.split(",")):
        work = [
            [
                (
                    "Which of these answers?",
                    passages(
                        "nq",
                        FEW if not n and callers > 1 else options.passages,
                        plain.tokenizer,
                        chooser,
                    ),
                )
                for _ in range(4)
            ]
            for n in range(callers)
        ]
        for name, rerank in (("lock", locked), ("ours", queued)):
            found = measure(rerank, work, options.seconds)
            every = [seconds for caller in found for seconds in caller]
            few = f"{statistics.median(found[0]):.2f}" if callers > 1 else ""
            middle, late, last = statistics.median(every), at(0.95, every), at(0.99, every)
            print(
                f"| {callers} | {name} | {len(every) / options.seconds:.2f} "
                f"| {middle:.2f} | {late:.2f} | {last:.2f} | {few} |"
            )
    scheduler.close()


if __name__ == "__main__":
    main()
