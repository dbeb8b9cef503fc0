"""Several people ask at once: the model server's queue against `predict` behind a lock.

    python benchmarks/callers.py [--rounds 3] [--seconds 20] [--callers 1,4,16] [--passages 20]

Callers rerank 20 passages again and again, each its own question and passages, the first of them
only 4 (the person with the small corpus). Weights: a cross-encoder of the shape of MiniLM-L6 with
random weights, on this CPU. The arms take turns, round after round:

- lock: one thread at a time calls `CrossEncoder.predict`;
- ours: `Scheduler` and engine of the model server in float32, batches over all callers.

A round stops asking after so many seconds and ends when all are answered; rates are over the whole
of it. Printed are questions and pairs a second (median, least, most of the rounds), processor
seconds of all cores for 100 pairs, and over the answers of all rounds the seconds to one (median,
95 %, 99 %, most) for callers with 20 passages. The last two columns are for fairness: the caller
with few passages should wait far less than the others, and of those, who have equal work, the one
with the fewest answers should have about as many as the one with the most.
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
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from benchmarks._figures import Spent, machine, spread, told, versions
from benchmarks.rerank_cpu import in_float32, passages, random_minilm
from inference import loading
from inference.devices import keep_freed_memory
from inference.scheduler import Lane, Scheduler

SEED = 11
FEW = 4
QUESTION = "Which of these answers?"

Rerank = Callable[[str, Sequence[str]], "np.ndarray[Any, Any]"]
# Of one caller: questions, each with its passages.
Work = Sequence[tuple[str, Sequence[str]]]


def ask(rerank: Rerank, questions: Work, until: float) -> list[float]:
    """Seconds of each answer to one caller, who asks until the time is over."""
    spent, n = [], 0
    while time.monotonic() < until:
        question, texts = questions[n % len(questions)]
        began = time.perf_counter()
        rerank(f"{question} {n}", texts)
        spent.append(time.perf_counter() - began)
        n += 1
    return spent


def ask_all(rerank: Rerank, work: Sequence[Work], seconds: float) -> list[list[float]]:
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


def row(
    name: str, work: Sequence[Work], spent: Spent, answers: Sequence[Sequence[Sequence[float]]]
) -> str:
    """A line of the table. Of each round: the seconds of the answers to each caller."""
    asked_for = [len(questions[0][1]) for questions in work]
    questions = [sum(len(to_one) for to_one in to_each) for to_each in answers]
    pairs = [
        sum(size * len(to_one) for size, to_one in zip(asked_for, to_each, strict=True))
        for to_each in answers
    ]

    def rates(counts: Sequence[int]) -> list[float]:
        return [count / took for count, took in zip(counts, spent.seconds, strict=True)]

    cpu = [100 * took / count for count, took in zip(pairs, spent.cpu_seconds, strict=True)]
    alike = range(len(work) > 1, len(work))  # the first has few passages where there are others
    waits = [seconds for to_each in answers for n in alike for seconds in to_each[n]]
    few, counts = "", ""
    if len(work) > 1:
        few = f"{statistics.median(s for to_each in answers for s in to_each[0]):.2f}"
        by_caller = [sum(len(to_each[n]) for to_each in answers) for n in alike]
        counts = f"{min(by_caller)} to {max(by_caller)}"
    late = " | ".join(f"{value:.2f}" for value in (at(0.95, waits), at(0.99, waits), max(waits)))
    return (
        f"| {len(work)} | {name} | {spread(rates(questions))} | {spread(rates(pairs), 1)} "
        f"| {spread(cpu)} | {statistics.median(waits):.2f} | {late} | {few} | {counts} |"
    )


def main() -> None:
    """Each number of callers, each arm."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--callers", default="1,4,16")
    parser.add_argument("--passages", type=int, default=20)
    options = parser.parse_args()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        random_minilm(Path(folder))
        plain, engine = loading.cross_encoder(folder), in_float32(folder)
    lock, scheduler = threading.Lock(), Scheduler()

    def locked(question: str, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        with lock:
            pairs = [(question, text) for text in texts]
            return np.asarray(plain.predict(pairs, show_progress_bar=False))

    def queued(question: str, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        encoded = engine.encode(question, texts)
        return np.asarray(scheduler.submit(engine, encoded, lane=Lane.QUESTION).result())

    arms = {"lock": locked, "ours": queued}
    chooser = random.Random(SEED)
    texts = passages("nq", options.passages, plain.tokenizer, chooser)
    locked_scores, own_scores = (arm(QUESTION, texts) for arm in arms.values())
    print(f"{told(machine())}\n{told(versions())}")
    print(f"largest difference of a score {np.abs(locked_scores - own_scores).max():.6f}\n")
    print(
        "| callers | arm | questions/s | pairs/s | CPU s for 100 pairs | median s | 95 % | 99 % "
        f"| most | caller with {FEW} passages: median s | answers to each of the others |\n"
        + "| --- " * 11
        + "|",
        flush=True,
    )
    for callers in (int(number) for number in options.callers.split(",")):
        counts = [FEW if not n and callers > 1 else options.passages for n in range(callers)]
        work = [
            [(QUESTION, passages("nq", count, plain.tokenizer, chooser)) for _ in range(4)]
            for count in counts
        ]
        spent = {name: Spent() for name in arms}
        answers: dict[str, list[list[list[float]]]] = {name: [] for name in arms}
        for _ in range(options.rounds):
            for name, arm in arms.items():
                asked = partial(ask_all, arm, work, options.seconds)
                answers[name].append(spent[name].measure(asked))
        for name in arms:
            print(row(name, work, spent[name], answers[name]), flush=True)
    scheduler.close()


if __name__ == "__main__":
    main()
