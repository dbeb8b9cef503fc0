"""The training process on a small task: it learns, it is killed and goes on, it explains itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inference.training import Example, write_examples

TOPICS = ("copper", "harbour", "lighthouse", "engine", "valley", "garden", "signal", "window")


def prepare(folder: Path, **settings: object) -> Path:
    """A task that goes against the untrained head: the shorter passage is the answer."""
    examples = []
    for topic in TOPICS:
        for verb in ("made", "kept", "seen"):
            question = f"How is the {topic} {verb}?"
            wrong = [f"The {topic} is {verb} in {other} year, at length." for other in TOPICS[:3]]
            examples.append(Example(question, [*wrong, f"{verb}: {topic}"], [0, 0, 0, 1]))
    folder.mkdir(exist_ok=True)
    write_examples(folder / "train.jsonl", examples[4:])
    write_examples(folder / "validation-small.jsonl", examples[:4])
    values = {"learning_rate": 0.01, "questions_per_batch": 4, "patience": 50, **settings}
    (folder / "settings.json").write_text(json.dumps(values))
    return folder


def start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "inference.training", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
    )


@pytest.mark.parametrize("loss", ["listwise", "binary"])
def test_a_run_learns_and_leaves_a_model_with_its_scores(tmp_path: Path, loss: str) -> None:
    folder = prepare(tmp_path / loss, loss=loss, epochs=6, evaluations=3)

    process = start(folder)
    _, errors = process.communicate(timeout=150)

    assert process.returncode == 0, errors
    report = json.loads((folder / "training.json").read_text())
    lines = (folder / "scores-small.jsonl").read_text().splitlines()
    scores = [json.loads(line) for line in lines]
    assert report["ndcg_by_step"][-1][1] > report["ndcg_before"]
    assert all(row["logits"].index(max(row["logits"])) == 3 for row in scores)
    assert (folder / "model" / "model.safetensors").is_file()


def test_a_killed_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    folder = prepare(tmp_path / "run", epochs=40, evaluations=20)
    process = start(folder)
    deadline = time.monotonic() + 120
    while not list(folder.glob("checkpoints/checkpoint-*/trainer_state.json")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (folder / "training.json").exists()

    again = start(folder)
    _, errors = again.communicate(timeout=150)

    assert again.returncode == 0, errors
    report = json.loads((folder / "training.json").read_text())
    assert report["resumed"]
    assert report["steps"] == 200


def test_a_run_without_examples_says_so(tmp_path: Path) -> None:
    folder = prepare(tmp_path / "run")
    (folder / "train.jsonl").write_text("")

    process = start(folder)
    _, errors = process.communicate(timeout=60)

    assert process.returncode == 1
    assert "There are no questions to train on" in errors


def test_a_base_that_is_not_there_is_named(tmp_path: Path) -> None:
    folder = prepare(tmp_path / "run", base=str(tmp_path / "away"))

    process = start(folder)
    _, errors = process.communicate(timeout=90)

    assert process.returncode == 1
    assert f"The model {tmp_path / 'away'} cannot be loaded" in errors
