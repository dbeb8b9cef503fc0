"""Training a cross-encoder on prepared lists of passages: `python -m inference.training FOLDER`.

A process of its own, because it needs torch and all the memory it can get, and gives both
back when it ends. The folder holds `settings.json` (`TrainingSettings`), `train.jsonl` and
`validation-NAME.jsonl` (one `Example` a line); `checkpoints/`, `model/`, `scores-NAME.jsonl` and
`training.json` are written. A run that was killed goes on from its last checkpoint.

The trainer, the losses and the evaluator are those of sentence-transformers.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

UNTRAINED = "untrained"
LOSSES = ("listwise", "binary")
# A label of 1 as a logit: far enough from 0 that a softmax gives it nearly everything.
SURE = 10.0
PAIRS_AT_ONCE = 32
BEST = "sequential_score"


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """What a run is made with; see `manage.py train_reranker --help` for the meaning.

    base: a folder or model id of a cross-encoder, "bundled", or "untrained" for a new head of
    the bundled kind. teacher: a folder or model id of a larger one, or "" for none;
    teacher_share, 0 to 1, is its part of the target. memory_gib bounds the states kept of
    texts that a frozen encoder has read.
    """

    base: str = UNTRAINED
    loss: str = "listwise"
    epochs: float = 1.0
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    questions_per_batch: int = 8
    teacher: str = ""
    teacher_share: float = 0.5
    evaluations: int = 5
    patience: int = 2
    seed: int = 0
    memory_gib: float = 4.0


@dataclass(frozen=True, slots=True)
class Example:
    """A question, its passages and for each a label: 1 answers it, 0 does not.

    In validation sets the passages stand in fused order, the best first.
    """

    question: str
    passages: Sequence[str]
    labels: Sequence[float]


class TrainingFailed(Exception):
    """The run cannot be done; the text is a sentence that says why."""


def read_examples(path: Path) -> list[Example]:
    """Examples of a file with one JSON object a line."""
    with path.open(encoding="utf-8") as lines:
        return [Example(**json.loads(line)) for line in lines]


def write_examples(path: Path, examples: Sequence[Example]) -> None:
    """The reverse of `read_examples`."""
    with path.open("w", encoding="utf-8") as lines:
        for example in examples:
            lines.write(json.dumps(asdict(example), ensure_ascii=False) + "\n")


def train(folder: Path) -> None:
    """Do the run that the folder describes, or go on with it.

    Raises:
        TrainingFailed: base or teacher cannot be loaded, or there is nothing to learn from.
    """
    settings = TrainingSettings(**json.loads((folder / "settings.json").read_text()))
    examples = read_examples(folder / "train.jsonl")
    sets = {
        path.stem.removeprefix("validation-"): read_examples(path)
        for path in sorted(folder.glob("validation-*.jsonl"))
    }
    if not examples or not any(sets.values()):
        raise TrainingFailed("There are no questions to train on, or none to validate with.")
    # Everything is on this machine: a library that asks a hub for a model card would only wait.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch

    torch.manual_seed(settings.seed)
    model = _load(settings.base)
    if settings.base == UNTRAINED:
        _learn_frequencies(model, examples)
    _remember(model, settings)
    targets = _targets(examples, settings, folder / "teacher.json")
    began = time.monotonic()
    trainer = _trainer(model, examples, targets, sets, settings, folder)
    before = trainer.evaluator(model)[BEST]
    from transformers.trainer_utils import get_last_checkpoint

    checkpoints = folder / "checkpoints"
    last: str | None = None
    if checkpoints.is_dir():
        last = get_last_checkpoint(str(checkpoints))  # type: ignore[no-untyped-call]
    trainer.train(resume_from_checkpoint=last)
    model.save_pretrained(str(folder / "model"), create_model_card=False)
    for name, found in sets.items():
        _write_scores(model, found, folder / f"scores-{name}.jsonl")
    steps = [e for e in trainer.state.log_history if f"eval_{BEST}" in e]
    report = {
        "seconds": round(time.monotonic() - began),
        "resumed": last is not None,
        "steps": trainer.state.global_step,
        "device": str(model.device),
        "threads": torch.get_num_threads(),
        "ndcg_before": round(before, 4),
        "ndcg_by_step": [[e["step"], round(e[f"eval_{BEST}"], 4)] for e in steps],
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
    }
    (folder / "training.json").write_text(json.dumps(report, indent=1))


def _load(name: str) -> Any:
    from inference.loading import cross_encoder
    from inference.models_on_disk import BUNDLED_RERANKER

    if name == UNTRAINED:
        from sentence_transformers import CrossEncoder
        from torch.nn import Identity

        from inference.interaction import Interaction

        return CrossEncoder(modules=[Interaction()], activation_fn=Identity())
    place = str(BUNDLED_RERANKER) if name == "bundled" else name
    try:
        return cross_encoder(place)
    except (OSError, ValueError) as exc:
        raise TrainingFailed(f"The model {name} cannot be loaded: {exc}") from exc


def _learn_frequencies(model: Any, examples: Sequence[Example]) -> None:
    """Set how rare each token is, from the distinct passages of the training set."""
    import torch

    module = model[0]
    passages = list({text for example in examples for text in example.passages})
    counts = torch.zeros(len(module.head.inverse_frequency))
    for begin in range(0, len(passages), 256):
        encoded = module.tokenizer(passages[begin : begin + 256], truncation=True)["input_ids"]
        for ids in encoded:
            counts[torch.tensor(ids).unique()] += 1
    rarity = torch.log1p((len(passages) - counts + 0.5) / (counts + 0.5))
    # In units near 1 whatever the number of passages.
    module.head.inverse_frequency.copy_(rarity / 8.0)


def _remember(model: Any, settings: TrainingSettings) -> None:
    """An epoch after the first one costs the head alone, where the encoder is frozen."""
    from inference.interaction import Interaction, StateMemory

    if isinstance(model[0], Interaction):
        model[0].memory = StateMemory(model[0], settings.memory_gib * 2**30)


def _targets(
    examples: Sequence[Example], settings: TrainingSettings, kept: Path
) -> list[list[float]]:
    """What the student is to fit: logits of the labels, mixed with the teacher's."""
    scores: list[list[float]] = []
    if settings.teacher:
        if kept.exists():
            scores = json.loads(kept.read_text())
        else:
            scores = _scores(_load(settings.teacher), examples)
            kept.write_text(json.dumps(scores))
    share = settings.teacher_share if settings.teacher else 0.0
    targets = []
    for n, example in enumerate(examples):
        if settings.loss == "binary":
            taught = [1 / (1 + math.exp(-s)) for s in scores[n]] if scores else example.labels
            mixed = zip(example.labels, taught, strict=True)
            targets.append([(1 - share) * label + share * t for label, t in mixed])
            continue
        labels = _softmax([SURE * label for label in example.labels])
        taught = _softmax(scores[n]) if scores else labels
        mixed = zip(labels, taught, strict=True)
        targets.append([math.log((1 - share) * a + share * b + 1e-9) for a, b in mixed])
    return targets


def _softmax(logits: Sequence[float]) -> list[float]:
    top = max(logits)
    weights = [math.exp(logit - top) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def _scores(model: Any, examples: Sequence[Example]) -> list[list[float]]:
    """Raw logits of all passages of each example."""
    pairs = [(e.question, passage) for e in examples for passage in e.passages]
    logits = model.predict(pairs, batch_size=PAIRS_AT_ONCE, show_progress_bar=False).tolist()
    places = iter(logits)
    return [[float(next(places)) for _ in example.passages] for example in examples]


def _write_scores(model: Any, examples: Sequence[Example], path: Path) -> None:
    with path.open("w", encoding="utf-8") as lines:
        for example, logits in zip(examples, _scores(model, examples), strict=True):
            row = {"labels": list(example.labels), "logits": [round(s, 4) for s in logits]}
            lines.write(json.dumps(row) + "\n")


def _trainer(
    model: Any,
    examples: Sequence[Example],
    targets: Sequence[Sequence[float]],
    sets: dict[str, list[Example]],
    settings: TrainingSettings,
    folder: Path,
) -> Any:
    from datasets import Dataset
    from sentence_transformers.cross_encoder import (
        CrossEncoderTrainer,
        CrossEncoderTrainingArguments,
        losses,
    )
    from transformers import EarlyStoppingCallback

    if settings.loss == "binary":
        rows = [
            (e.question, passage, target)
            for e, wanted in zip(examples, targets, strict=True)
            for passage, target in zip(e.passages, wanted, strict=True)
        ]
        data = Dataset.from_dict(
            {name: [row[n] for row in rows] for n, name in enumerate(("query", "passage", "label"))}
        )
        loss = losses.BinaryCrossEntropyLoss(model)
        batch = settings.questions_per_batch * max(len(e.passages) for e in examples)
    else:
        data = Dataset.from_dict(
            {
                "query": [e.question for e in examples],
                "passages": [list(e.passages) for e in examples],
                "labels": [list(wanted) for wanted in targets],
            }
        )
        loss = losses.ListNetLoss(model, mini_batch_size=PAIRS_AT_ONCE)
        batch = settings.questions_per_batch
    steps = max(1, math.ceil(len(data) / batch * settings.epochs))
    every = max(1, steps // max(1, settings.evaluations))
    arguments = CrossEncoderTrainingArguments(
        output_dir=str(folder / "checkpoints"),
        max_steps=steps,
        per_device_train_batch_size=batch,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        warmup_steps=min(50, steps // 10),
        max_grad_norm=1.0,
        seed=settings.seed,
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model=f"eval_{BEST}",
        greater_is_better=True,
        logging_steps=max(1, every // 5),
        report_to=[],
        disable_tqdm=not sys.stderr.isatty(),
        dataloader_pin_memory=False,
    )
    return CrossEncoderTrainer(
        model=model,
        args=arguments,
        train_dataset=data,
        loss=loss,
        evaluator=_evaluator(sets),
        callbacks=[EarlyStoppingCallback(early_stopping_patience=settings.patience)],
    )


def _evaluator(sets: dict[str, list[Example]]) -> Any:
    """Mean nDCG@10 over the validation sets, each counting once whatever its size."""
    from sentence_transformers.base.evaluation import SequentialEvaluator
    from sentence_transformers.cross_encoder.evaluation import CrossEncoderRerankingEvaluator

    evaluators = [
        CrossEncoderRerankingEvaluator(
            samples=[
                {
                    "query": e.question,
                    "positive": [p for p, label in zip(e.passages, e.labels, strict=True) if label],
                    "documents": list(e.passages),
                }
                for e in examples
            ],
            name=name,
            batch_size=PAIRS_AT_ONCE,
            write_csv=False,
        )
        for name, examples in sets.items()
        if examples
    ]
    return SequentialEvaluator(evaluators, lambda scores: sum(scores) / len(scores))


def main() -> int:
    """Train in the folder that the command line names; exit status 1 with a sentence if not."""
    try:
        train(Path(sys.argv[1]))
    except TrainingFailed as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
