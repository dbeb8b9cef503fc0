"""How long does a rerank of 100 passages take on this CPU? Ours against the usual ways.

    python benchmarks/rerank_cpu.py [--rounds 3] [--passages 100] [--mixes nq,uniform,mixed,chunks]

Every arm scores the same pairs with the same weights in one process, in turns:

- predict 32, predict 8: `CrossEncoder.predict` of the installed sentence-transformers (which sorts
  by length) with its default batch and with a small one;
- one batch (as FlashRank), 16 (as rerankers), 64 (as fastembed): their batches, without sorting;
- ours fp32, ours: the model server's engine, at full precision and as it starts on this processor
  (bfloat16 where that has instructions for it), on passages it has not read;
- ours int8: the engine with RERANKER_DTYPE=int8;
- ours again: another question on the same passages, whose states are remembered.

- onnxruntime, openvino (where `onnx`, `onnxscript`, `onnxruntime`, `openvino` are installed): the
  model exported by torch, sorted batches of four, each core for itself; onnxruntime int8: its
  linear layers quantised by onnxruntime, what comes in by the batch.

Two models: the bundled one, and a cross-encoder of the shape of MiniLM-L6 with random weights.
Printed are the seconds, how many times as quick as predict 32, the largest difference of a logit
from predict 32, and how many of its first ten are among ours.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch

from inference import engines
from inference.devices import memory_for_states, multiplies_bfloat16
from inference.eight_bits import convert
from inference.engines import Reranker
from inference.interaction import Interaction, StateMemory
from inference.models_on_disk import BUNDLED_RERANKER, DEFAULT_EMBEDDER, embedder_folder
from inference.precision import INT8
from inference.types import ModelInfo

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
QUESTIONS = (
    "What does the reranker do with the passages?",
    "How are two rankings merged into one?",
)
SEED = 7

Arm = Callable[[str, Sequence[str]], "np.ndarray[Any, Any]"]


def lengths(mix: str, count: int, chooser: random.Random) -> list[int]:
    """Tokens of each passage in one of the mixes that passages come in."""
    if mix == "nq":  # short paragraphs with a long tail, mean about 150
        return [min(480, max(24, int(chooser.lognormvariate(4.87, 0.5)))) for _ in range(count)]
    if mix == "uniform":
        return [chooser.randint(40, 480) for _ in range(count)]
    if mix == "mixed":  # questions and answers beside long sections
        pairs = ((20, 80), (380, 480))
        return [chooser.randint(*pairs[chooser.random() < 0.5]) for _ in range(count)]
    if mix == "chunks":  # a chunker that fills its limit
        return [chooser.randint(440, 480) if chooser.random() < 0.8 else 120 for _ in range(count)]
    return [chooser.randint(190, 210) for _ in range(count)]  # "200"


def passages(mix: str, count: int, tokenizer: Any, chooser: random.Random) -> list[str]:
    """Texts of the samples' words with so many tokens each."""
    words = " ".join(path.read_text("utf-8") for path in sorted(SAMPLES.glob("*.md"))).split()
    found = []
    for tokens in lengths(mix, count, chooser):
        begin = chooser.randrange(len(words))
        text = " ".join((words[begin:] + words)[:tokens])
        ids = tokenizer(text, truncation=True, max_length=tokens + 2)["input_ids"][1:-1]
        found.append(tokenizer.decode(ids))
    return found


def random_minilm(folder: Path) -> None:
    """Save a cross-encoder of MiniLM-L6's shape with random weights and the packaged tokenizer."""
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    torch.manual_seed(SEED)
    tokenizer = AutoTokenizer.from_pretrained(embedder_folder(DEFAULT_EMBEDDER))
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
    )
    config.num_labels = 1
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def ours(engine: Reranker) -> Arm:
    """Batches as the scheduler forms them of one request: shortest together, by tokens."""

    def score(question: str, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        encoded = engine.encode(question, texts)
        waiting = sorted(range(len(texts)), key=lambda n: encoded[n].tokens)
        logits = np.zeros(len(texts), np.float32)
        while waiting:
            batch = [waiting.pop(0)]
            while waiting and encoded[waiting[0]].tokens * (len(batch) + 1) <= engine.batch_tokens:
                batch.append(waiting.pop(0))
            logits[batch] = engine.compute([encoded[n] for n in batch])
        return logits

    return score


def predict(model: Any, batch: int, *, in_order: bool = False) -> Arm:
    """`CrossEncoder.predict`; or the same batches in the order the texts came in."""

    def score(question: str, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        pairs = [(question, text) for text in texts]
        options = {"batch_size": batch, "show_progress_bar": False}
        if not in_order:
            return np.asarray(model.predict(pairs, **options))
        parts = [pairs[n : n + batch] for n in range(0, len(pairs), batch)]
        return np.concatenate([np.asarray(model.predict(part, **options)) for part in parts])

    return score


def exported(model: Any, folder: Path) -> dict[str, Arm]:
    """The same model in other runtimes, if they and the exporter are installed."""
    try:
        importlib.import_module("onnx")
        onnxruntime = importlib.import_module("onnxruntime")
        openvino = importlib.import_module("openvino")
    except ImportError:
        return {}
    path = folder / "model.onnx"
    inner = model[0].auto_model
    names = ["input_ids", "attention_mask", "token_type_ids"]
    example = tuple(torch.ones(2, 8, dtype=torch.long) for _ in names)
    torch.onnx.export(
        inner,
        example,
        str(path),
        input_names=names,
        output_names=["logits"],
        dynamic_axes={name: {0: "n", 1: "t"} for name in names},
        opset_version=17,
        dynamo=False,
    )
    one = onnxruntime.SessionOptions()
    one.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), one, ["CPUExecutionProvider"])
    quantization = importlib.import_module("onnxruntime.quantization")
    small = folder / "int8.onnx"
    quantization.quantize_dynamic(str(path), str(small), per_channel=True)
    eight = onnxruntime.InferenceSession(str(small), one, ["CPUExecutionProvider"])
    cores = torch.get_num_threads()
    compiled = openvino.Core().compile_model(
        str(path),
        "CPU",
        {"NUM_STREAMS": cores, "INFERENCE_NUM_THREADS": cores, "INFERENCE_PRECISION_HINT": "f32"},
    )
    runners: dict[str, Callable[[dict[str, Any]], Any]] = {
        f"onnxruntime {onnxruntime.__version__}": lambda feed: session.run(None, feed)[0],
        "onnxruntime int8": lambda feed: eight.run(None, feed)[0],
        f"openvino {openvino.__version__.partition('-')[0]}": lambda feed: (
            compiled.create_infer_request().infer(feed)[0]
        ),
    }
    pool = ThreadPoolExecutor(cores)

    def arm(run: Callable[[dict[str, Any]], Any]) -> Arm:
        def score(question: str, texts: Sequence[str]) -> np.ndarray[Any, Any]:
            lengths = [len(text) for text in texts]
            order = sorted(range(len(texts)), key=lambda n: -lengths[n])
            groups = [order[n : n + 4] for n in range(0, len(order), 4)]

            def read(group: list[int]) -> Any:
                feed = model.tokenizer(
                    [question] * len(group),
                    [texts[n] for n in group],
                    padding=True,
                    truncation="longest_first",
                    max_length=512,
                    return_tensors="np",
                )
                return run({name: feed[name] for name in names}).reshape(-1)

            logits = np.zeros(len(texts), np.float32)
            for group, found in zip(groups, pool.map(read, groups), strict=True):
                logits[group] = found
            return logits

        return score

    return {name: arm(run) for name, run in runners.items()}


def engine_of(model: Any, name: str) -> Reranker:
    """The server's engine around a model that is loaded."""
    info = ModelInfo(name, "benchmark", "cpu", str(model.dtype).removeprefix("torch."), 512)
    return Reranker(info, model)


def compare(place: str, mix: str, count: int, rounds: int) -> None:
    """Print a table of one model and one mix."""
    plain = engines.cross_encoder(place)
    full = engine_of(engines.cross_encoder(place), place)
    chooser = random.Random(SEED)
    texts = passages(mix, count, plain.tokenizer, chooser)
    arms: dict[str, Arm] = {
        "predict 32": predict(plain, 32),
        "predict 8": predict(plain, 8),
        "one batch": predict(plain, count, in_order=True),
        "16, unsorted": predict(plain, 16, in_order=True),
        "64, unsorted": predict(plain, 64, in_order=True),
        "ours fp32": ours(full),
    }
    compares = isinstance(plain[0], Interaction)
    eight = engines.cross_encoder(place)
    convert(eight[0].bert if compares else eight[0].auto_model, INT8)
    rounded = engine_of(eight, place)
    arms["ours int8"] = ours(rounded)
    if not compares:
        arms |= exported(plain, Path(place))
    readers = [full, rounded]
    if compares:
        half = engines.cross_encoder(place)
        if multiplies_bfloat16():
            half[0].read_in_bfloat16()
        quick = engine_of(half, place)
        readers.append(quick)
        arms |= {f"ours {quick.described.dtype}": ours(quick), "ours again": ours(quick)}
        for engine in readers:
            engine.batch_tokens = engines.CPU_READING_TOKENS
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    scores: dict[str, np.ndarray[Any, Any]] = {}
    for turn in range(rounds + 1):
        if compares:
            for engine in readers:
                engine.model[0].memory = StateMemory(engine.model[0], memory_for_states())
        for name, arm in arms.items():
            question = QUESTIONS[name == "ours again"]
            began = time.perf_counter()
            found = arm(question, texts)
            if turn:  # the first round warms up
                seconds[name].append(time.perf_counter() - began)
            scores[name] = found
    _print(mix, texts, plain.tokenizer, seconds, scores)


def _print(
    mix: str,
    texts: Sequence[str],
    tokenizer: Any,
    seconds: dict[str, list[float]],
    scores: dict[str, np.ndarray[Any, Any]],
) -> None:
    tokens = [len(ids) for ids in tokenizer(list(texts))["input_ids"]]
    print(f"\nmix {mix}: {len(texts)} passages of {statistics.mean(tokens):.0f} tokens on average")
    print(
        "| arm | seconds, median [min, max] | times as quick | largest difference | of first 10 |"
    )
    print("| --- | --- | --- | --- | --- |")
    wanted, base = scores["predict 32"], statistics.median(seconds["predict 32"])
    best = set(np.argsort(-wanted)[:10])
    for name, spent in seconds.items():
        median = statistics.median(spent)
        same = name != "ours again"
        difference = f"{np.abs(scores[name] - wanted).max():.4f}" if same else ""
        kept = f"{len(best & set(np.argsort(-scores[name])[:10]))}" if same else ""
        print(
            f"| {name} | {median:.2f} [{min(spent):.2f}, {max(spent):.2f}] | {base / median:.2f} "
            f"| {difference} | {kept} |"
        )


def main() -> None:
    """Both models over the mixes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--passages", type=int, default=100)
    parser.add_argument("--mixes", default="200,nq,uniform,mixed,chunks")
    parser.add_argument("--models", default="bundled,minilm")
    options = parser.parse_args()
    able = torch.cpu.get_capabilities()
    print(
        f"{able.get('cpu_name', platform.processor())}, {torch.get_num_threads()} threads, "
        f"bfloat16 instructions: {'yes' if multiplies_bfloat16() else 'no'}; "
        + ", ".join(f"{name} {version(name)}" for name in ("torch", "sentence-transformers"))
    )
    for model in options.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            place = str(BUNDLED_RERANKER)
            if model == "minilm":
                random_minilm(Path(folder))
                place = folder
            print(f"\n## {model}")
            for mix in options.mixes.split(","):
                compare(place, mix, options.passages, options.rounds)


if __name__ == "__main__":
    main()
