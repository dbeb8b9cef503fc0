"""How long does a rerank of 100 passages take on this CPU? Ours against the usual ways.

    python benchmarks/rerank_cpu.py [--rounds 7] [--passages 100] [--models bundled,minilm,ettin]
        [--mixes 200,nq,uniform,mixed,chunks] [--out FILE.json]

Every arm scores the same token ids (which is checked) with the same weights in one process, in
turns:

- predict 32, predict 8: `CrossEncoder.predict` of the installed sentence-transformers (which sorts
  by length) with its default batch and with a small one;
- one batch (as FlashRank), 16 (as rerankers), 64 (as fastembed): their batches, without sorting;
- ours float32, ours bfloat16 (where the processor has instructions for it), ours int8: the model
  server's engine on passages it has not read;
- ours again: another question on the same passages, whose states are remembered;
- onnxruntime, openvino: the exported model, as sentence-transformers' backends run it and as well
  as it was found to run here; `benchmarks/_other_runtimes.py` says how, and what must be installed.

Three models: the bundled one, whose network only sentence-transformers itself can load; a
cross-encoder of the shape of MiniLM-L6; and one of the shape of ettin-reranker-17m, which is what
`auto` takes on a CPU with a network. The latter two have random weights, and only the second is
exported to the two runtimes. They show speed and exactness; how well eight bits keep an order, only
trained weights can show, since random ones give all passages about the same logit (its standard
deviation is printed).

Printed are, over the rounds after a first one that warms up: seconds (median, least, most), seconds
of processor time of all cores together, how many times as quick as predict 32, the largest
difference of a logit from predict 32, also in standard deviations of its logits (σ), and how many
of its first ten are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch

from benchmarks import _other_runtimes
from benchmarks._figures import Spent, machine, spread, told, versions
from inference import loading
from inference.devices import keep_freed_memory, memory_for_states, multiplies_bfloat16
from inference.eight_bits import convert
from inference.engines import Reranker
from inference.interaction import Interaction, StateMemory
from inference.models_on_disk import BUNDLED_RERANKER, DEFAULT_EMBEDDER, embedder_folder
from inference.precision import BFLOAT16, INT8, cast
from inference.scheduler import Lane, Scheduler
from inference.types import ModelInfo

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
QUESTIONS = (
    "What does the reranker do with the passages?",
    "How are two rankings merged into one?",
)
SEED = 7
CALIBRATION_SEED = 13
FIRST = 10

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
    from transformers import BertConfig, BertForSequenceClassification

    tokenizer = _packaged_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
    )
    _save_random(BertForSequenceClassification, config, tokenizer, folder)


def random_ettin(folder: Path) -> None:
    """The same of the shape of ettin-reranker-17m, a ModernBERT."""
    from transformers import ModernBertConfig, ModernBertForSequenceClassification

    tokenizer = _packaged_tokenizer()
    config = ModernBertConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        num_hidden_layers=7,
        num_attention_heads=4,
        intermediate_size=384,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.cls_token_id,
        cls_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        sep_token_id=tokenizer.sep_token_id,
    )
    _save_random(ModernBertForSequenceClassification, config, tokenizer, folder)


def _packaged_tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(embedder_folder(DEFAULT_EMBEDDER))


def _save_random(kind: Any, config: Any, tokenizer: Any, folder: Path) -> None:
    torch.manual_seed(SEED)
    config.num_labels = 1
    kind(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


RANDOM = {"minilm": random_minilm, "ettin": random_ettin}


def ours(engine: Reranker) -> Arm:
    """Through the queue in which all requests to the model server wait."""
    scheduler = Scheduler()

    def score(question: str, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        encoded = engine.encode(question, texts)
        return scheduler.submit(engine, encoded, lane=Lane.QUESTION).result()

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


def engine_of(model: Any, name: str) -> Reranker:
    """The server's engine around a model that is loaded."""
    info = ModelInfo(name, "benchmark", "cpu", str(model.dtype).removeprefix("torch."), 512)
    return Reranker(info, model)


def in_float32(place: str) -> Reranker:
    """Ours, exact."""
    return engine_of(loading.cross_encoder(place), place)


def in_bfloat16(place: str) -> Reranker:
    """Ours with the encoder's numbers rounded to 16 bits."""
    model = loading.cross_encoder(place)
    if isinstance(model[0], Interaction):
        model[0].read_in_bfloat16()
    else:
        cast(model, BFLOAT16)
    return engine_of(model, place)


def in_int8(place: str) -> Reranker:
    """Ours with the linear layers in eight bits, whatever the trial at the start would say."""
    model = loading.cross_encoder(place)
    convert(model[0].bert if isinstance(model[0], Interaction) else model[0].auto_model, INT8)
    return engine_of(model, place)


def our_engines(place: str) -> dict[str, Reranker]:
    """The model server's engines by the names of their arms."""
    found = {"ours float32": in_float32(place)}
    if multiplies_bfloat16():
        found["ours bfloat16"] = in_bfloat16(place)
    found["ours int8"] = in_int8(place)
    return found


def forget(engine: Reranker) -> None:
    """Let the engine read all passages anew, as a server that has just started."""
    if isinstance(engine.model[0], Interaction):
        engine.model[0].memory = StateMemory(engine.model[0], memory_for_states())


def check_token_ids(model: Any, engine: Reranker, question: str, texts: Sequence[str]) -> None:
    """Stop unless the engine reads the token ids that `CrossEncoder.predict` reads."""
    features = model.preprocess([(question, text) for text in texts])
    for row, item in enumerate(engine.encode(question, texts)):
        there = features["attention_mask"][row].bool()
        for name, ids in item.ids.items():
            if not np.array_equal(features[name][row][there].numpy(), ids):
                sys.exit(f"passage {row}: {name} differ from those that predict reads")


def calibration(tokenizer: Any) -> list[tuple[str, str]]:
    """Pairs of a sample question and a passage, none of them measured, to quantise by."""
    found = json.loads((SAMPLES / "questions.json").read_text("utf-8"))["questions"]
    chooser = random.Random(CALIBRATION_SEED)
    texts = passages("uniform", _other_runtimes.CALIBRATION_PAIRS, tokenizer, chooser)
    return [(found[n % len(found)]["question"], text) for n, text in enumerate(texts)]


def arms_of(predicting: Any, own: dict[str, Reranker], count: int) -> dict[str, Arm]:
    """All ways to rerank with one model, the usual ones first."""
    made: dict[str, Arm] = {
        "predict 32": predict(predicting, 32),
        "predict 8": predict(predicting, 8),
        "one batch": predict(predicting, count, in_order=True),
        "16, unsorted": predict(predicting, 16, in_order=True),
        "64, unsorted": predict(predicting, 64, in_order=True),
    }
    made |= {name: ours(engine) for name, engine in own.items()}
    exact = own["ours float32"]
    if isinstance(predicting[0], Interaction):
        return made | {"ours again": ours(exact)}
    if predicting[0].auto_model.config.model_type != "bert":
        return made
    return made | _other_runtimes.arms(predicting, exact, calibration(predicting.tokenizer))


def measure(
    arms: dict[str, Arm], own: Sequence[Reranker], texts: Sequence[str], rounds: int
) -> tuple[dict[str, Spent], dict[str, np.ndarray[Any, Any]]]:
    """Each arm in each round, after one that warms up: what they took, and their logits."""
    scores: dict[str, np.ndarray[Any, Any]] = {}
    for turn in range(rounds + 1):
        if turn < 2:  # the first round warms up
            spent = {name: Spent() for name in arms}
        for engine in own:
            forget(engine)
        for name, arm in arms.items():
            question = QUESTIONS[name == "ours again"]
            scores[name] = spent[name].measure(partial(arm, question, texts))
    return spent, scores


def figures(
    spent: dict[str, Spent], scores: dict[str, np.ndarray[Any, Any]]
) -> dict[str, dict[str, Any]]:
    """What is printed and kept of each arm."""
    wanted, base = scores["predict 32"], statistics.median(spent["predict 32"].seconds)
    best, deviation = set(np.argsort(-wanted)[:FIRST]), float(wanted.std())
    found: dict[str, dict[str, Any]] = {}
    for name, took in spent.items():
        found[name] = {
            **asdict(took),
            "times as quick": base / statistics.median(took.seconds),
        }
        if name != "ours again":  # another question
            difference = float(np.abs(scores[name] - wanted).max())
            found[name] |= {
                "largest difference": difference,
                "in standard deviations": difference / deviation,
                "of first ten": len(best & set(np.argsort(-scores[name])[:FIRST])),
            }
    return found


def print_table(found: dict[str, dict[str, Any]]) -> None:
    """One line for each arm."""
    print(
        "| arm | seconds | CPU s | times as quick | largest difference | of first ten |\n"
        "| --- | --- | --- | --- | --- | --- |"
    )
    for name, arm in found.items():
        difference = ""
        if "largest difference" in arm:
            difference = f"{arm['largest difference']:.5f} ({arm['in standard deviations']:.3f} σ)"
        print(
            f"| {name} | {spread(arm['seconds'])} | {spread(arm['cpu_seconds'])} "
            f"| {arm['times as quick']:.2f} | {difference} "
            f"| {arm.get('of first ten', '')} |",
            flush=True,
        )


def main() -> None:
    """All models over the mixes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--passages", type=int, default=100)
    parser.add_argument("--mixes", default="200,nq,uniform,mixed,chunks")
    parser.add_argument("--models", default="bundled,minilm,ettin")
    parser.add_argument("--out", type=Path, help="also keep the figures of all rounds, as JSON")
    options = parser.parse_args()
    keep_freed_memory()
    kept: dict[str, Any] = {
        "machine": machine(),
        "versions": versions(_other_runtimes.PACKAGES),
        "rounds": options.rounds,
        "tables": [],
    }
    print(f"{told(kept['machine'])}\n{told(kept['versions'])}", flush=True)
    for model in options.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            place = str(BUNDLED_RERANKER)
            if model in RANDOM:
                RANDOM[model](Path(folder))
                place = folder
            print(f"\n## {model}")
            predicting, own = loading.cross_encoder(place), our_engines(place)
            arms = arms_of(predicting, own, options.passages)
            for mix in options.mixes.split(","):
                texts = passages(mix, options.passages, predicting.tokenizer, random.Random(SEED))
                for engine in own.values():
                    check_token_ids(predicting, engine, QUESTIONS[0], texts)
                spent, scores = measure(arms, list(own.values()), texts, options.rounds)
                tokens = [len(ids) for ids in predicting.tokenizer(texts)["input_ids"]]
                found = figures(spent, scores)
                deviation = float(scores["predict 32"].std())
                print(
                    f"\nmix {mix}: {len(texts)} passages of {min(tokens)} to {max(tokens)} tokens, "
                    f"{statistics.mean(tokens):.0f} on average; standard deviation of the logits "
                    f"{deviation:.3f}; load {machine()['load']}\n"
                )
                print_table(found)
                kept["tables"].append(
                    {
                        "model": model,
                        "mix": mix,
                        "tokens": tokens,
                        "standard deviation of the logits": deviation,
                        "arms": found,
                    }
                )
                if options.out:
                    options.out.write_text(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
