"""How many layers of the encoder does the bundled reranker need?

    python benchmarks/reranker_depth.py RUN [--steps 250] [--queries 100] [--pool 50]

RUN is the folder of a training run (`inference/models/reranker/make.py DATA RUN`): its mined
lists are what the heads learn from, its validation sets what they are measured on.

Four heads are trained side by side on the same batches, each on the states after half and after all
of its layers: 2, 3, 4 and 6. One reading of the encoder serves them all. Printed are nDCG@10 of the
fused order and of each head by its logit alone, the difference with its 95 % interval, and
the seconds that 100 passages of about 200 tokens cost the encoder at that depth.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch.nn import functional

from inference.interaction import PASSAGE_TOKENS, Head, Interaction, StateMemory
from inference.training import Example, read_examples
from inference.types import Calibration
from search.evaluation.metrics import Estimate
from search.training.measure import Judged, gain

DEPTHS = {2: (1, 2), 3: (1, 3), 4: (2, 4), 6: (3, 6)}
BATCH, WARMUP, SEED = 8, 25, 0
SPEED_PASSAGES, SPEED_TOKENS, ROUNDS = 100, 200, 3

Read = tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]


class Depths:
    """One encoder, and a head for each depth."""

    def __init__(self, rarity: torch.Tensor) -> None:
        self.layers = sorted({layer for pair in DEPTHS.values() for layer in pair})
        self.module = Interaction(layers=self.layers)
        # A few passages are in the lists of many questions of one set.
        self.module.memory = StateMemory(self.module, 4 * 2**30)
        config = self.module.bert.config
        self.heads = {
            depth: Head(config.vocab_size, config.hidden_size, layers=2, window=31, rank=64)
            for depth in DEPTHS
        }
        for head in self.heads.values():
            head.inverse_frequency.copy_(rarity)

    def logits(self, example: Example) -> dict[int, torch.Tensor]:
        """Logits (n,) of the example's n passages by each head."""
        with torch.no_grad():
            question = self._read([example.question])
            passages = self._read(example.passages)
        which = torch.zeros(len(example.passages), dtype=torch.long)
        table = self.module.bert.embeddings.word_embeddings.weight
        found = {}
        for depth, pair in DEPTHS.items():
            places = [self.layers.index(layer) for layer in pair]
            asked = (
                question[0][which],
                question[1][which],
                [question[2][place][which] for place in places],
            )
            offered = (passages[0], passages[1], [passages[2][place] for place in places])
            found[depth] = self.heads[depth](table, asked, offered)
        return found

    def _read(self, texts: Sequence[str]) -> Read:
        encoded = self.module.tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=PASSAGE_TOKENS,
            return_tensors="pt",
        )
        return self.module.read(encoded["input_ids"])


def train(depths: Depths, examples: Sequence[Example], steps: int) -> None:
    """Fit each head to the labels, listwise, on the same batches in the same order."""
    weights = [p for head in depths.heads.values() for p in head.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda n: min(1, (n + 1) / WARMUP) * max(0.02, 1 - n / steps)
    )
    began = time.monotonic()
    for step in range(steps):
        batch = examples[step * BATCH : (step + 1) * BATCH]
        losses = []
        for example in batch:
            wanted = functional.softmax(10 * torch.tensor(example.labels), 0)
            losses += [
                functional.cross_entropy(logits[None], wanted[None]) / len(batch)
                for logits in depths.logits(example).values()
            ]
        optimiser.zero_grad()
        torch.stack(losses).sum().backward()
        # Each head for itself, as if it were trained alone.
        for head in depths.heads.values():
            torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 25 == 0:
            print(f"step {step} of {steps}, {time.monotonic() - began:.0f} s", file=sys.stderr)


def measured(
    depths: Depths, examples: Sequence[Example], pool: int
) -> dict[int, tuple[Estimate, Estimate, Estimate]]:
    """For each depth nDCG@10 in fused order and reranked, and the difference."""
    judged: dict[int, list[Judged]] = {depth: [] for depth in DEPTHS}
    for example in examples:
        cut = Example(example.question, example.passages[:pool], example.labels[:pool])
        with torch.inference_mode():
            scored = depths.logits(cut)
        for depth, logits in scored.items():
            judged[depth].append(Judged(logits.tolist(), cut.labels))
    found = {}
    for depth, questions in judged.items():
        one = gain(questions, Calibration())
        found[depth] = (one.fused, one.reranked, one.difference)
    return found


def rarities(examples: Sequence[Example]) -> torch.Tensor:
    """How rare each token is, from the passages to learn from."""
    module = Interaction()
    passages = list({text for example in examples for text in example.passages})
    counts = torch.zeros(len(module.head.inverse_frequency))
    for begin in range(0, len(passages), 256):
        for ids in module.tokenizer(passages[begin : begin + 256], truncation=True)["input_ids"]:
            counts[torch.tensor(ids).unique()] += 1
    return torch.log1p((len(passages) - counts + 0.5) / (counts + 0.5)) / 8.0


def seconds(depth: int) -> float:
    """What the encoder needs for 100 passages at a depth; median of three rounds."""
    generator = torch.Generator().manual_seed(SEED)
    ids = torch.randint(1000, 30000, (SPEED_PASSAGES, SPEED_TOKENS), generator=generator)
    ids[:, 0] = 101
    taken = []
    for n in range(ROUNDS):
        module = Interaction(layers=DEPTHS[depth])
        memory = StateMemory(module, 2**30)
        ids[:, 1] = 2000 + n
        began = time.perf_counter()
        memory(ids)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def main() -> None:
    """Train, measure, print."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("run", type=Path, nargs="?")
    options.add_argument("--steps", type=int, default=250)
    options.add_argument("--queries", type=int, default=100)
    options.add_argument("--pool", type=int, default=50)
    given = options.parse_args()
    if given.run is None:
        print("Left out: it needs the folder of a training run; see --help.")
        return
    torch.manual_seed(SEED)
    examples = read_examples(given.run / "train.jsonl")
    random.Random(SEED).shuffle(examples)
    examples = examples[: given.steps * BATCH]
    print(
        f"torch {version('torch')}, {torch.get_num_threads()} threads, {given.steps} steps of "
        f"{BATCH} questions, {given.queries} queries a set, pool {given.pool}"
    )
    depths = Depths(rarities(examples))
    train(depths, examples, given.steps)
    names = [f"{depth} layers" for depth in DEPTHS]
    print(f"| set | fused | {' | '.join(names)} |")
    print("| --- | --- |" + " --- |" * len(names))
    for path in sorted(given.run.glob("validation-*.jsonl")):
        found = measured(depths, read_examples(path)[: given.queries], given.pool)
        fused = next(iter(found.values()))[0]
        cells = [
            f"{100 * after.mean:.1f}: {100 * by.mean:+.1f} "
            f"[{100 * by.low:+.1f}, {100 * by.high:+.1f}]"
            for _, after, by in found.values()
        ]
        name = path.stem.removeprefix("validation-")
        print(f"| {name} | {100 * fused.mean:.1f} | {' | '.join(cells)} |", flush=True)
    print(f"| seconds | | {' | '.join(f'{seconds(depth):.2f}' for depth in DEPTHS)} |")


if __name__ == "__main__":
    main()
