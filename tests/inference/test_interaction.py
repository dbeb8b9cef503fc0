"""The bundled reranker's network: the same score in any company, saved and loaded whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder

from inference.interaction import Interaction, StateMemory
from inference.packed import Pack, PackedEncoder

PAIRS = [
    ("Who wrote Hamlet?", "Hamlet is a tragedy by William Shakespeare."),
    ("Who wrote Hamlet?", "The recipe needs two eggs, a cup of flour and a pinch of salt. " * 6),
    ("How does a bicycle stay upright?", "Steering into a fall brings the wheels back."),
    ("東京の人口は?", "東京都の人口は約1400万人である。"),
]


@pytest.fixture(scope="module")
def untrained() -> CrossEncoder:
    torch.manual_seed(0)
    return CrossEncoder(modules=[Interaction()], activation_fn=torch.nn.Identity())


def test_a_pair_scores_the_same_alone_and_in_any_batch(untrained: CrossEncoder) -> None:
    alone = [float(untrained.predict([pair])[0]) for pair in PAIRS]

    together = untrained.predict(PAIRS, batch_size=len(PAIRS))

    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_even_before_training_the_passage_about_the_question_is_first(
    untrained: CrossEncoder,
) -> None:
    about, beside = untrained.predict(PAIRS[:2])

    assert about > beside + 1


@pytest.mark.parametrize("pair", [("", "A passage."), ("A question?", ""), ("", ""), ("🦉", "?!")])
def test_texts_without_words_have_a_score(untrained: CrossEncoder, pair: tuple[str, str]) -> None:
    assert np.isfinite(untrained.predict([pair])).all()


def test_a_passage_beyond_the_limit_is_read_up_to_it(untrained: CrossEncoder) -> None:
    encoded = untrained[0].preprocess([("Why?", "word " * 2000)])

    assert encoded["input_ids"].shape == (1, 512)
    assert np.isfinite(untrained.predict([("Why?", "word " * 2000)])).all()


def test_saving_keeps_the_head_and_leaves_the_encoder(
    untrained: CrossEncoder, tmp_path: Path
) -> None:
    with torch.no_grad():
        untrained[0].head.whole[2].bias.fill_(3.0)
    before = untrained.predict(PAIRS)

    untrained.save_pretrained(str(tmp_path), create_model_card=False)
    loaded = CrossEncoder(
        modules=[Interaction.load(str(tmp_path))], activation_fn=torch.nn.Identity()
    )

    np.testing.assert_allclose(loaded.predict(PAIRS), before, atol=1e-5)
    assert (tmp_path / "model.safetensors").stat().st_size < 1_000_000


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    Interaction(rank=8).save(str(tmp_path))
    configuration = tmp_path / "interaction.json"
    configuration.write_text(configuration.read_text().replace('"rank": 8', '"rank": 16'))

    with pytest.raises(ValueError, match="another network"):
        Interaction.load(str(tmp_path))


def test_training_touches_the_head_alone() -> None:
    module = Interaction().train()

    assert not module.bert.training
    assert module.head.training
    assert not any(weight.requires_grad for weight in module.bert.parameters())
    module(module.preprocess(PAIRS))["scores"].sum().backward()
    assert any(weight.grad is not None for weight in module.head.parameters())


def test_remembered_states_are_those_that_were_read(untrained: CrossEncoder) -> None:
    module = untrained[0]
    ids = module.tokenizer([p for _, p in PAIRS], padding=True, return_tensors="pt")["input_ids"]
    fresh = module.states(ids)
    memory = StateMemory(module, 1e9)

    for _ in range(2):
        found = memory(ids)
        for layer, wanted in zip(found, fresh, strict=True):
            there = (ids != module.tokenizer.pad_token_id).unsqueeze(2)
            np.testing.assert_allclose((layer * there).numpy(), (wanted * there).numpy(), atol=0.01)


def test_what_has_begun_is_read_once_and_anew_after_a_failure(
    untrained: CrossEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = untrained[0]
    ids = module.tokenizer([p for _, p in PAIRS], padding=True, return_tensors="pt")["input_ids"]
    memory, reads, fails = StateMemory(module, 1e9), [], [True]
    plain = PackedEncoder.states_after

    def counting(encoder: PackedEncoder, layers: Any, pack: Pack) -> list[torch.Tensor]:
        reads.append(len(pack.cuts.lengths))
        if fails[0]:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return plain(encoder, layers, pack)

    monkeypatch.setattr(PackedEncoder, "states_after", counting)
    memory.begin(ids)
    memory.begin(ids[:2])
    with pytest.raises(RuntimeError, match="allocate"):
        memory(ids)
    fails[0], tried = False, len(reads)
    memory.begin(ids)
    found = memory(ids)
    once = reads[tried:]

    wanted = StateMemory(module, 1e9)(ids)
    for layer, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(layer.numpy(), other.numpy())
    assert sorted(reads[tried + len(once) :]) == sorted(once)  # nothing was read twice


def test_the_memory_keeps_to_its_limit_and_forgets_the_oldest(untrained: CrossEncoder) -> None:
    module = untrained[0]
    texts = [module.tokenizer([text], return_tensors="pt")["input_ids"] for _, text in PAIRS]
    one = StateMemory(module, 1e9)
    one(texts[0])
    memory = StateMemory(module, one.bytes * 1.5)

    memory(texts[1])  # alone larger than the limit
    assert memory.bytes == 0
    memory(texts[0])
    memory(texts[0])
    assert memory.bytes == one.bytes
    memory(texts[2])
    assert memory.bytes <= one.bytes * 1.5


def test_a_score_does_not_depend_on_what_was_asked_before(untrained: CrossEncoder) -> None:
    module = untrained[0]
    module.memory = StateMemory(module, 1e9)
    try:
        first = untrained.predict(PAIRS)
        again = untrained.predict(PAIRS[::-1])[::-1]
    finally:
        module.memory = None

    np.testing.assert_allclose(again, first, atol=1e-5)
    np.testing.assert_allclose(again, untrained.predict(PAIRS), atol=0.05)


def test_bfloat16_keeps_the_order_and_nearly_the_scores() -> None:
    torch.manual_seed(0)
    module = Interaction()
    model = CrossEncoder(modules=[module], activation_fn=torch.nn.Identity())
    exact = model.predict(PAIRS)

    module.read_in_bfloat16()
    module.memory = StateMemory(module, 1e9)
    quick = model.predict(PAIRS)

    assert next(module.bert.parameters()).dtype == torch.bfloat16
    assert np.argsort(exact).tolist() == np.argsort(quick).tolist()
    np.testing.assert_allclose(quick, exact, atol=0.1)


@pytest.mark.parametrize("texts", [1, 2, 7, 8, 9, 40])
def test_every_text_is_read_once_whatever_their_number(
    untrained: CrossEncoder, texts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = untrained[0]
    read: list[int] = []
    plain = PackedEncoder.states_after

    def counting(encoder: PackedEncoder, layers: Any, pack: Pack) -> list[torch.Tensor]:
        read.append(int((pack.ids == module.tokenizer.cls_token_id).sum()))
        return plain(encoder, layers, pack)

    monkeypatch.setattr(PackedEncoder, "states_after", counting)
    memory = StateMemory(module, 1e9)
    words = [f"word {'more ' * n}{n}" for n in range(texts)]
    ids = module.tokenizer(words, padding=True, return_tensors="pt")["input_ids"]

    states = memory(ids)

    assert sum(read) == texts
    assert states[0].shape[:2] == ids.shape
