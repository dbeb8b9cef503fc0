"""Models with code of their own, and weights that could run some: refused unless allowed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from inference.errors import NoModel
from inference.loading import load_embedder, load_reranker
from inference.remote_code import SETTING, code_digest, permit

CODE = """
from transformers import BertConfig, BertForSequenceClassification
with open({mark!r}, "a") as file:
    file.write("ran")
class TheirConfig(BertConfig):
    model_type = "their-own"
class TheirModel(BertForSequenceClassification):
    config_class = TheirConfig
"""
AUTO_MAP = {
    "AutoConfig": "their_code.TheirConfig",
    "AutoModelForSequenceClassification": "their_code.TheirModel",
}


@pytest.fixture
def theirs(cross_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cross-encoder that only code in its own folder can load, and which leaves a mark."""
    folder = tmp_path / "theirs"
    shutil.copytree(cross_encoder, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "their-own", "architectures": ["TheirForSequenceClassification"]}
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": AUTO_MAP}))
    (folder / "their_code.py").write_text(CODE.format(mark=str(tmp_path / "mark")))
    monkeypatch.setattr(
        "transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules")
    )
    return folder


def test_code_runs_only_where_exactly_it_was_allowed(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark, digest = tmp_path / "mark", code_digest(theirs)

    for allowed in ("", "1", "true", "0" * 40):
        monkeypatch.setenv(SETTING, allowed)
        with pytest.raises(NoModel, match=f"brings code of its own.*{SETTING}={digest}"):
            load_reranker(str(theirs))
    assert not mark.exists()

    monkeypatch.setenv(SETTING, digest)
    engine = load_reranker(str(theirs))
    assert mark.read_text().startswith("ran")
    assert len(engine.compute(engine.encode("Who?", ["He.", "She."]))) == 2

    mark.unlink()
    with (theirs / "their_code.py").open("a") as code:
        code.write("\n# one line more\n")
    with pytest.raises(NoModel, match="brings code of its own"):
        load_reranker(str(theirs))
    assert not mark.exists()


HERE, THERE = "a" * 40, "b" * 40
ELSEWHERE = {"auto_map": {"AutoModel": "jinaai/flash--modeling.Model"}}


@pytest.mark.parametrize(
    ("config", "allowed", "given"),
    [
        ({}, "", {}),
        ({"auto_map": {}}, "", {}),
        ({"auto_map": AUTO_MAP}, HERE, {"trust_remote_code": True, "revision": HERE}),
        (
            ELSEWHERE,
            f"{HERE}:{THERE}",
            {"trust_remote_code": True, "revision": HERE, "code_revision": THERE},
        ),
    ],
)
def test_a_model_of_the_hub_is_loaded_at_the_commit_that_was_allowed(
    config: dict[str, Any], allowed: str, given: dict[str, Any]
) -> None:
    assert permit("some/model", config, {SETTING: allowed}) == given


@pytest.mark.parametrize(
    ("config", "allowed", "told"),
    [
        ({"auto_map": AUTO_MAP}, "", "its commit on the hub, 40 hexadecimal digits"),
        ({"auto_map": AUTO_MAP}, "main", "its commit on the hub"),
        (ELSEWHERE, HERE, "a colon and the commit of jinaai/flash"),
        (ELSEWHERE, f"{HERE}:main", "a colon and the commit of jinaai/flash"),
    ],
)
def test_a_branch_is_no_version(config: dict[str, Any], allowed: str, told: str) -> None:
    with pytest.raises(NoModel, match=told):
        permit("some/model", config, {SETTING: allowed})


@pytest.mark.parametrize("load", [load_reranker, load_embedder])
def test_weights_in_a_format_that_can_run_code_are_refused(
    load: Any, cross_encoder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(cross_encoder, folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()

    with pytest.raises(NoModel, match="has weights in a format that can run code"):
        load(str(folder))
