"""Models that are loaded, and those that are refused with a reason."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from inference.catalogue import BUNDLED
from inference.choice import Choice
from inference.errors import NoModel
from inference.loading import load_embedder, load_reranker
from inference.models import Models
from inference.models_on_disk import DEFAULT_EMBEDDER
from tests.inference.test_engines import plain_logits


def changed(folder: Path, target: Path, change: Any, **config: Any) -> str:
    """A copy of the cross-encoder with another head."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(
        folder, ignore_mismatched_sizes=True, **config
    )
    with torch.no_grad():
        change(model.classifier)
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(folder).save_pretrained(target)
    return str(target)


def test_a_reranker_that_prefers_the_wrong_passages_is_refused(
    cross_encoder: Path, tmp_path: Path
) -> None:
    reversed_ = changed(cross_encoder, tmp_path, lambda head: head.weight.mul_(-1))

    with pytest.raises(NoModel, match=r"failed its trial.*capital of France"):
        load_reranker(reversed_)


def test_where_the_one_picked_is_refused_the_bundled_one_is_used_and_says_why(
    cross_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picked = Choice(changed(cross_encoder, tmp_path, lambda head: head.weight.mul_(-1)), "it lies")
    monkeypatch.setattr("inference.models._choice", lambda wanted: picked)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    models = Models(DEFAULT_EMBEDDER, "auto")

    models.load()

    info = models.reranker.get().info
    assert info.model_id == BUNDLED
    assert info.chosen.startswith(f"picked by itself, as {picked.name} could not be used: ")
    assert "failed its trial" in info.chosen


def test_a_reranker_that_gives_no_numbers_is_refused(cross_encoder: Path, tmp_path: Path) -> None:
    broken = changed(cross_encoder, tmp_path, lambda head: head.bias.fill_(float("nan")))

    with pytest.raises(NoModel, match="failed its trial: it gives nan"):
        load_reranker(broken)


def test_a_classifier_with_two_outputs_is_refused(cross_encoder: Path, tmp_path: Path) -> None:
    two = changed(cross_encoder, tmp_path, lambda head: None, num_labels=2)

    with pytest.raises(NoModel, match="is not a cross-encoder with one output"):
        load_reranker(two)


def test_a_bi_encoder_is_refused_as_reranker(minilm: Path) -> None:
    with pytest.raises(NoModel, match=r"is an embedding model \(a bi-encoder\)"):
        load_reranker(str(minilm))


def test_a_reranker_without_the_files_of_its_tokenizer_is_refused(
    cross_encoder: Path, tmp_path: Path
) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(cross_encoder / name, tmp_path)

    with pytest.raises(NoModel, match="knows no words: the files of its tokenizer are missing"):
        load_reranker(str(tmp_path))


def test_weights_that_are_not_whole_are_named_as_the_reason(
    cross_encoder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(cross_encoder, tmp_path / "torn")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])

    with pytest.raises(NoModel, match=r"torn cannot be loaded: .*header"):
        load_reranker(str(folder))


def test_a_cross_encoder_that_wants_a_prompt_is_refused(
    cross_encoder: Path, tmp_path: Path
) -> None:
    from sentence_transformers import CrossEncoder

    prompts = {"query": "Instruct: judge whether the passage answers this question. Question: "}
    made = CrossEncoder(
        str(cross_encoder), device="cpu", prompts=prompts, default_prompt_name="query"
    )
    made.save_pretrained(str(tmp_path))

    with pytest.raises(NoModel, match="wants its pairs with a prompt or template of its own"):
        load_reranker(str(tmp_path))


def test_a_cross_encoder_saved_by_sentence_transformers_is_accepted(
    cross_encoder: Path, tmp_path: Path
) -> None:
    from sentence_transformers import CrossEncoder

    CrossEncoder(str(cross_encoder), device="cpu").save(str(tmp_path / "saved"))
    passages = ["a marble window", "a copper engine"]

    again = load_reranker(str(tmp_path / "saved"))

    found = again.compute(again.encode("what is it", passages))
    # Raw, though the library's default for one output is the logistic function.
    assert found == pytest.approx(plain_logits(cross_encoder, "what is it", passages), abs=1e-4)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("none", "switched off"),
        ("/nowhere/model", "the folder /nowhere/model does not exist"),
        ("nobody/no-such-model", "the reranker nobody/no-such-model cannot be loaded: "),
    ],
)
def test_a_reranker_that_cannot_be_had_says_why(model: str, reason: str) -> None:
    with pytest.raises(NoModel, match=reason) as refused:
        load_reranker(model)

    assert "\n" not in str(refused.value)


def test_an_embedder_whose_files_are_incomplete_says_why(minilm: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(minilm, folder)
    (folder / "model.safetensors").unlink()

    with pytest.raises(NoModel, match=r"the embedding model .*/model cannot be loaded: "):
        load_embedder(str(folder))
