"""`manage.py train_reranker` from a file of pairs to a model that the model server takes."""

from __future__ import annotations

import json
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from inference.loading import load_reranker
from inference.training import TrainingSettings
from ingestion.models import Corpus
from search.management.commands.train_reranker import Command
from search.tasks import train_reranker
from search.training.runs import RunPlan, Source

if TYPE_CHECKING:
    from django.contrib.auth.models import User

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.services]

TOPICS = ("copper", "harbour", "lighthouse", "engine", "valley", "garden", "signal", "window")
VERBS = ("made", "kept", "seen", "sold", "lost")


def write_pairs(path: Path) -> Path:
    rows = [
        {
            "query": f"How is the {topic} {verb}?",
            "passage": f"In our town the {topic} is {verb} by hand, every day anew.",
            "label": 1,
            "lang": "en",
            "group": topic,
        }
        for topic in TOPICS
        for verb in VERBS
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def run(*arguments: Any, **options: Any) -> str:
    out = StringIO()
    call_command(Command(), *arguments, stdout=out, **options)
    return out.getvalue()


def test_pairs_become_a_calibrated_model_and_a_card(
    admin: User, tmp_data: Path, chroma_url: str, inference_url: str
) -> None:
    pairs, folder = write_pairs(tmp_data / "town.jsonl"), tmp_data / "run"
    options: dict[str, Any] = {"out": folder, "epochs": 1.0, "evaluations": 1}
    source = f"{pairs},licence=MIT"

    card = json.loads(run("--json", "--pairs", source, **options))

    (trained,), (validated,) = card["data"]["train"], card["data"]["validate"]
    assert (trained["name"], trained["licence"]) == ("town", "MIT")
    assert trained["questions"] + validated["questions"] == 40
    assert validated["questions"] % 5 == 0, "a group was split"
    assert card["gains"]["town"]["calibrated"]["questions"] == validated["questions"]
    assert "| town | training | en | MIT |" in (folder / "model" / "README.md").read_text()
    engine = load_reranker(str(folder / "model"))
    assert engine.info.calibration.threshold is not None
    assert engine.info.languages == ("en",)
    assert not Corpus.objects.present().exists()

    # The run is finished: the same again, by a worker, has nothing left to do.
    settings = TrainingSettings(epochs=1.0, evaluations=1)
    plan = RunPlan([Source(pairs, licence="MIT")], [], settings)
    (tmp_data / "training").mkdir()
    folder.rename(tmp_data / "training" / "run")
    train_reranker(json.loads(json.dumps(asdict(plan), default=str)), owner_id=admin.pk, name="run")

    with pytest.raises(CommandError, match="holds a run with other options"):
        run("--pairs", source, out=tmp_data / "training" / "run", epochs=2.0)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--pairs", "away.jsonl"], "neither a file of pairs nor a folder"),
        (["--pairs", "away.jsonl,limit=some"], "“limit=some” is not understood"),
        (["--pairs", "away.jsonl", "--epochs", "0"], "--epochs must be greater than 0"),
        (["--pairs", "away.jsonl", "--teacher-share", "2"], "a share from 0 to 1"),
    ],
)
def test_what_cannot_be_done_is_said_at_once(
    admin: User, tmp_data: Path, arguments: list[str], sentence: str
) -> None:
    with pytest.raises(CommandError, match=sentence):
        run(*arguments, "--out", str(tmp_data / "run"))
