"""How many pairs a second does a GPU rerank? Ours against `CrossEncoder.predict`.

    python benchmarks/rerank_gpu.py [--shape large|tiny] [--rounds 7] [--lengths 128,…,chunks]

A cross-encoder of the shape of XLM-RoBERTa-large (that of bge-reranker-v2-m3) with random weights
scores the same 100 pairs in turns, by each arm:

- predict fp32: `CrossEncoder.predict` as it loads a checkpoint of float32;
- predict bf16: the same with half the bits, which is the fair baseline;
- predict bf16 100: all pairs in one batch;
- packed: the model server's engine, texts end to end in bfloat16, its last layer computed whole;
- ours: the engine as it starts, the last layer for the first token of each text alone;
- ours compiled, ours graphs, ours both: with RERANKER_SPEEDUPS (on a GPU only);
- ours float8: the linear layers in eight bits (where the GPU multiplies them). What eight bits do
  to an order, random weights cannot tell.

Printed are pairs a second, milliseconds for 100, the share of the matrix-product peak in bfloat16
that was measured on the same device just before, the most memory, and the largest difference of a
logit from float32 (those of random weights lie too close together for an order); at the end which
targets were met.
Lengths are tokens of a pair: fixed ones, and the mixes that passages come in.
With `--shape tiny` it runs anywhere, to see that it works; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch

from inference.eight_bits import convert
from inference.engines import Encoded, Reranker
from inference.packed import Pack, PackedEncoder
from inference.precision import FLOAT8, FLOAT8_GENERATION
from inference.types import ModelInfo

SHAPES = {
    "large": {
        "vocab_size": 250002,
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
    "tiny": {
        "vocab_size": 5000,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    },
}
PAIRS = 100
SEED = 7
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


def save_random(shape: str, folder: Path) -> None:
    """A cross-encoder with random weights, and a tokenizer that reads numbers as token ids."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from tokenizers.processors import TemplateProcessing
    from transformers import (
        PreTrainedTokenizerFast,
        XLMRobertaConfig,
        XLMRobertaForSequenceClassification,
    )

    torch.manual_seed(SEED)
    values: dict[str, Any] = dict(SHAPES[shape])
    config = XLMRobertaConfig(max_position_embeddings=514, type_vocab_size=1, **values)
    config.num_labels = 1
    XLMRobertaForSequenceClassification(config).save_pretrained(folder)
    special = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
    words = special | {str(n): n for n in range(4, 5000)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    made = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        cls_token="<s>",
        sep_token="</s>",
        model_max_length=512,
        model_input_names=["input_ids", "attention_mask"],
    )
    made.save_pretrained(folder)


def lengths(mix: str, chooser: random.Random) -> list[int]:
    """Tokens of each pair."""
    if mix.isdecimal():
        return [int(mix)] * PAIRS
    if mix == "nq":
        return [min(512, max(32, int(chooser.lognormvariate(4.9, 0.5)))) for _ in range(PAIRS)]
    if mix == "mixed":  # questions and answers beside long sections
        ends = ((32, 92), (392, 512))
        return [chooser.randint(*ends[chooser.random() < 0.5]) for _ in range(PAIRS)]
    if mix == "chunks":  # a chunker that fills its limit
        return [chooser.randint(452, 512) if chooser.random() < 0.8 else 132 for _ in range(PAIRS)]
    return [chooser.randint(48, 512) for _ in range(PAIRS)]  # "uniform"


def pairs(mix: str) -> list[tuple[str, str]]:
    """Questions of eight tokens and passages for the rest, as words the tokenizer knows."""
    chooser = random.Random(SEED)

    def words(count: int) -> str:
        return " ".join(str(chooser.randrange(4, 5000)) for _ in range(count))

    question = words(8)
    return [(question, words(tokens - 12)) for tokens in lengths(mix, chooser)]


def peak(device: str) -> float:
    """Floating-point operations a second of a large product in bfloat16."""
    size = 8192 if device == "cuda" else 512
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    times = []
    for _ in range(12):
        _wait(device)
        began = time.perf_counter()
        a @ a
        _wait(device)
        times.append(time.perf_counter() - began)
    return 2 * size**3 / statistics.median(times[2:])


def operations(values: dict[str, int], tokens: list[int]) -> float:
    """Of one forward pass over pairs of so many tokens, without the embeddings."""
    width, layers = values["hidden_size"], values["num_hidden_layers"]
    weights = layers * (4 * width**2 + 2 * width * values["intermediate_size"])
    return sum(2.0 * weights * t + 4.0 * layers * width * t * t for t in tokens)


def ours(engine: Reranker) -> Callable[[list[tuple[str, str]]], np.ndarray[Any, Any]]:
    """As the scheduler runs one request on a GPU: packs of up to the token budget."""

    def score(asked: list[tuple[str, str]]) -> np.ndarray[Any, Any]:
        encoded = engine.encode(asked[0][0], [passage for _, passage in asked])
        waiting = sorted(range(len(asked)), key=lambda n: encoded[n].tokens)
        logits = np.zeros(len(asked), np.float32)
        while waiting:
            batch: list[int] = []
            while waiting and _tokens(encoded, [*batch, waiting[0]]) <= engine.batch_tokens:
                batch.append(waiting.pop(0))
            logits[batch] = engine.compute([encoded[n] for n in batch])
        return logits

    return score


def _tokens(encoded: list[Encoded], batch: list[int]) -> int:
    return max(encoded[n].tokens for n in batch) * len(batch)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def with_whole_last_layer(engine: Reranker) -> Reranker:
    """The engine without its shortcut in the last layer."""
    inner = engine.model[0].auto_model
    encoder = PackedEncoder(inner.base_model)

    def logits(pack: Pack) -> Any:
        return inner.classifier(encoder.states(pack)[pack.firsts].unsqueeze(1)).reshape(-1)

    engine._packed = logits
    return engine


def main() -> None:
    """All lengths, all arms."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shape", choices=SHAPES, default="large")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--lengths", default="128,256,384,512,nq,uniform,mixed,chunks")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and options.shape == "large":
        sys.exit("There is no GPU here. To see that this works at all: --shape tiny")
    from sentence_transformers import CrossEncoder

    with tempfile.TemporaryDirectory() as folder:
        save_random(options.shape, Path(folder))

        def load(dtype: torch.dtype) -> Any:
            model = CrossEncoder(folder, device=device, activation_fn=torch.nn.Identity())
            return model.to(dtype).eval()

        exact, half = load(torch.float32), load(torch.bfloat16)
        info = ModelInfo("random", "benchmark", device, "bfloat16", 512)

        def engine(*speedups: str, eight: bool = False) -> Reranker:
            model = load(torch.bfloat16)
            if eight:
                convert(model[0].auto_model, FLOAT8)
            return Reranker(info, model, speedups=speedups)

        plain = {"show_progress_bar": False, "convert_to_numpy": True}
        arms: dict[str, Callable[[list[tuple[str, str]]], Any]] = {
            "predict fp32": lambda asked: exact.predict(asked, **plain),
            "predict bf16": lambda asked: half.predict(asked, **plain),
            "predict bf16 100": lambda asked: half.predict(asked, batch_size=PAIRS, **plain),
            "packed": ours(with_whole_last_layer(engine())),
            "ours": ours(engine()),
        }
        if device == "cuda":
            arms["ours compiled"] = ours(engine("compile"))
            arms["ours graphs"] = ours(engine("graphs"))
            arms["ours both"] = ours(engine("compile", "graphs"))
        if device == "cpu" or torch.cuda.get_device_capability() >= FLOAT8_GENERATION:
            arms["ours float8"] = ours(engine(eight=True))
        most = peak(device)
        name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
        print(
            f"{name}, peak of a bfloat16 product {most / 1e12:.1f} TFLOP/s, "
            + ", ".join(f"{p} {version(p)}" for p in ("torch", "sentence-transformers"))
        )
        rates = {
            mix: _compare(mix, arms, options, device, most, exact.tokenizer)
            for mix in options.lengths.split(",")
        }
        if options.shape == "large":
            _judge(rates)


def _compare(
    mix: str,
    arms: dict[str, Callable[[list[tuple[str, str]]], Any]],
    options: argparse.Namespace,
    device: str,
    most: float,
    tokenizer: Any,
) -> dict[str, float]:
    """Print a table of one mix. Returns pairs a second of each arm."""
    asked = pairs(mix)
    tokens = [len(ids) for ids in tokenizer([a for a, _ in asked], [b for _, b in asked]).input_ids]
    work = operations(SHAPES[options.shape], tokens)
    seconds: dict[str, list[float]] = {arm: [] for arm in arms}
    scores: dict[str, Any] = {}
    memory = dict.fromkeys(arms, 0)
    for turn in range(options.rounds + 2):
        for arm, score in arms.items():
            _wait(device)
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            began = time.perf_counter()
            scores[arm] = np.asarray(score(asked), dtype=np.float32)
            _wait(device)
            if turn > 1:  # two rounds warm up
                seconds[arm].append(time.perf_counter() - began)
            if device == "cuda":
                memory[arm] = torch.cuda.max_memory_allocated()
    print(f"\n{PAIRS} pairs of {statistics.mean(tokens):.0f} tokens on average ({mix})")
    print(
        "| arm | pairs/s | ms for 100, median [min, max] | share of peak "
        "| GiB with the weights of all arms | difference |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    wanted = scores["predict fp32"]
    for arm, spent in seconds.items():
        median = statistics.median(spent)
        difference = np.abs(scores[arm] - wanted).max()
        print(
            f"| {arm} | {PAIRS / median:.0f} | {1000 * median:.1f} [{1000 * min(spent):.1f}, "
            f"{1000 * max(spent):.1f}] | {100 * work / median / most:.0f} % "
            f"| {memory[arm] / 2**30:.1f} | {difference:.4f} |"
        )
    return {arm: PAIRS / statistics.median(spent) for arm, spent in seconds.items()}


def _judge(rates: dict[str, dict[str, float]]) -> None:
    """Print which targets the best exact arm of ours met."""
    print("\n| target | reached | met |")
    print("| --- | --- | --- |")
    for mix, other, wanted in TARGETS:
        if mix not in rates:
            continue
        exact = {arm: rate for arm, rate in rates[mix].items() if arm.startswith("ours")}
        exact.pop("ours float8", None)
        arm = max(exact, key=lambda name: exact[name])
        reached = exact[arm] / rates[mix][other] if other else exact[arm]
        named = f"{wanted} times {other}" if other else f"{wanted} pairs/s"
        print(
            f"| {mix}: {named} | {reached:.4g} ({arm}) | {'yes' if reached >= wanted else 'no'} |"
        )


if __name__ == "__main__":
    main()
