"""A training run: mine, train in a process of its own, measure, calibrate, write the card.

Everything of a run lies in one folder, so that a run that was stopped or killed goes on where
it was when it is started again with the same options.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.models_on_disk import CALIBRATION_FILE, DEFAULT_EMBEDDER, DEFAULT_EMBEDDER_SHA256
from inference.training import TrainingSettings, read_examples, write_examples
from inference.types import Calibration
from search.training import card, measure
from search.training.measure import Judged
from search.training.mining import fused_order, training_examples, validation_examples
from search.training.pairs import LabelledSet, read, split

if TYPE_CHECKING:
    from django.contrib.auth.models import User

HELD_OUT = 0.1

Progress = Callable[[int, int, str], None]


class RunFailed(Exception):
    """The run cannot be done; the text is a sentence that says why."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file of pairs or a collection: where, what of it, under which licence.

    limit: at most so many questions. titles: whether its titles mean something.
    """

    path: Path
    limit: int | None = None
    titles: bool = True
    licence: str = "not stated"


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What to learn from, what to validate with, and how.

    validate: sets that are left out whole; without any, a tenth of each training set's groups.
    """

    train: Sequence[Source]
    validate: Sequence[Source] = ()
    settings: TrainingSettings = field(default_factory=TrainingSettings)


def plan_from_json(value: Mapping[str, Any]) -> RunPlan:
    """Read what `dataclasses.asdict` made of a plan; anything else is a KeyError or TypeError."""

    def sources(name: str) -> list[Source]:
        return [Source(**{**found, "path": Path(found["path"])}) for found in value[name]]

    return RunPlan(sources("train"), sources("validate"), TrainingSettings(**value["settings"]))


def carry_out(plan: RunPlan, folder: Path, *, owner: User, progress: Progress) -> dict[str, Any]:
    """Do the run, or what remains of it; the model ends in `folder`/model.

    Returns:
        The run card, as in `folder`/card.json.

    Raises:
        CollectionError: a source cannot be read.
        IndexingFailed, InferenceError: the site's services cannot be used for mining.
        RunFailed: the folder holds another run, or training failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _same_run(plan, folder)
    data = _prepare(plan, folder, owner=owner, progress=progress)
    _train(folder, progress)
    sets = {
        path.stem.removeprefix("validation-"): _judged(folder, path)
        for path in sorted(folder.glob("validation-*.jsonl"))
    }
    calibration = measure.calibrate(sets)
    languages = sorted({entry["language"] for entry in data["train"]})
    meaning = {"calibration": asdict(calibration), "languages": languages}
    (folder / "model" / CALIBRATION_FILE).write_text(json.dumps(meaning, indent=1))
    report = _card(plan, folder, data=data, sets=sets, calibration=calibration)
    (folder / "card.json").write_text(json.dumps(report, indent=1, ensure_ascii=False))
    (folder / "model" / "README.md").write_text(card.as_markdown(report), encoding="utf-8")
    return report


def _same_run(plan: RunPlan, folder: Path) -> None:
    """Refuse a folder in which another run was begun."""
    described = json.dumps(asdict(plan), indent=1, default=str, sort_keys=True)
    begun = folder / "plan.json"
    if begun.exists() and begun.read_text() != described:
        raise RunFailed(
            f"{folder} holds a run with other options. Name another folder with --out, or "
            "repeat the options of that run to go on with it."
        )
    begun.write_text(described)


def _prepare(plan: RunPlan, folder: Path, *, owner: User, progress: Progress) -> dict[str, Any]:
    """Write the lists to learn from and to validate with, unless they are there."""
    done = folder / "data.json"
    if done.exists():
        found: dict[str, Any] = json.loads(done.read_text())
        return found

    def order(found: LabelledSet) -> dict[str, list[str]]:
        results = folder / "mined" / f"{found.name}.jsonl"
        return fused_order(found, owner=owner, results=results, progress=progress)

    examples = []
    data: dict[str, Any] = {"train": [], "validate": []}
    for source in plan.train:
        kept = read(source.path, titles=source.titles, limit=source.limit, whole=False)
        orders = order(kept)
        if not plan.validate:
            kept, held = split(kept, HELD_OUT)
            _write_validation(held, orders, folder, data, source)
        mined = training_examples(kept, orders, seed=plan.settings.seed)
        examples += mined
        data["train"].append(_described(kept, source, questions=len(mined)))
    for source in plan.validate:
        held = read(source.path, titles=source.titles, limit=source.limit, whole=True)
        _write_validation(held, order(held), folder, data, source)
    write_examples(folder / "train.jsonl", examples)
    (folder / "settings.json").write_text(json.dumps(asdict(plan.settings), indent=1))
    done.write_text(json.dumps(data, indent=1))
    return data


def _write_validation(
    held: LabelledSet,
    orders: Mapping[str, list[str]],
    folder: Path,
    data: dict[str, Any],
    source: Source,
) -> None:
    examples = validation_examples(held, orders)
    if examples:
        write_examples(folder / f"validation-{held.name}.jsonl", examples)
        data["validate"].append(_described(held, source, questions=len(examples)))


def _described(found: LabelledSet, source: Source, *, questions: int) -> dict[str, Any]:
    return {
        "name": found.name,
        "language": found.language,
        "licence": source.licence,
        "questions": questions,
        "passages": len(found.collection.documents),
    }


def _train(folder: Path, progress: Progress) -> None:
    """Run the training process, unless it has finished before."""
    if (folder / "training.json").exists():
        return
    progress(0, 0, "training")
    log = folder / "training.log"
    with log.open("ab") as output:
        finished = subprocess.run(
            [sys.executable, "-m", "inference.training", str(folder)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
            check=False,
        )
    if finished.returncode:
        last = log.read_text(errors="replace").strip().rpartition("\n")[2]
        raise RunFailed(
            f"Training ended with status {finished.returncode}: {last} The whole log is {log}; "
            "the same command goes on from the last checkpoint."
        )


def _judged(folder: Path, path: Path) -> list[Judged]:
    name = path.stem.removeprefix("validation-")
    with (folder / f"scores-{name}.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [Judged(row["logits"], row["labels"]) for row in rows]


def _card(
    plan: RunPlan,
    folder: Path,
    *,
    data: dict[str, Any],
    sets: Mapping[str, Sequence[Judged]],
    calibration: Calibration,
) -> dict[str, Any]:
    bins, error = measure.reliability(sets, calibration)
    curve = measure.abstention(sets, calibration)
    return {
        "base": plan.settings.base,
        "encoder": {"name": DEFAULT_EMBEDDER, "sha256": DEFAULT_EMBEDDER_SHA256},
        "settings": asdict(plan.settings),
        "examples": len(read_examples(folder / "train.jsonl")),
        "data": data,
        "training": json.loads((folder / "training.json").read_text()),
        "calibration": asdict(calibration),
        "gains": {
            name: {
                "alone": asdict(measure.gain(questions, Calibration())),
                "calibrated": asdict(measure.gain(questions, calibration)),
            }
            for name, questions in sets.items()
        },
        "reliability": {"error": error, "bins": [asdict(found) for found in bins]},
        "abstention": {
            "auroc": {name: measure.auroc({name: q}, calibration) for name, q in sets.items()},
            "curve": [asdict(point) for point in curve[:: max(1, len(curve) // 20)]],
        },
    }
