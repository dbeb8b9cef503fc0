"""Types that a reranker computes in: eight bits against float32, and what is refused."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import ModernBertConfig, ModernBertModel

from inference import loading
from inference.devices import half_type, multiplies_bfloat16
from inference.eight_bits import EightBitLinear, Float8Linear, Int8Linear, convert
from inference.engines import Reranker
from inference.loading import load_reranker
from inference.precision import FLOAT8, INT8, Options, cast, unfit
from inference.trial import overlap, sample

EIGHT = pytest.mark.parametrize("kind", [Int8Linear, Float8Linear])


@pytest.fixture
def linear() -> nn.Linear:
    torch.manual_seed(5)
    return nn.Linear(64, 48)


@EIGHT
def test_a_layer_in_eight_bits_is_nearly_the_layer(
    kind: type[EightBitLinear], linear: nn.Linear
) -> None:
    states = torch.randn(2, 30, 64)
    with torch.inference_mode():
        wanted, found = linear(states), kind(linear)(states)

    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    error = float((found - wanted).norm() / wanted.norm())
    assert error < (0.02 if kind is Int8Linear else 0.06)


@EIGHT
def test_what_shares_a_batch_changes_nothing(kind: type[EightBitLinear], linear: nn.Linear) -> None:
    layer = kind(linear)
    row, others = torch.randn(1, 64), 50 * torch.randn(20, 64)
    with torch.inference_mode():
        alone, among = layer(row), layer(torch.cat([others, row]))[-1:]

    assert torch.equal(alone, among)


@EIGHT
def test_layers_that_read_the_same_are_one_and_can_be_taken_apart(
    kind: type[EightBitLinear],
) -> None:
    parts = [kind(nn.Linear(64, 32)) for _ in range(3)]
    states = torch.randn(9, 64)
    with torch.inference_mode():
        wanted = torch.cat([part(states) for part in parts], dim=1)
        joined = kind.joined(parts)
        found = [joined(states), joined.rows(32, 96)(states), parts[1](states)]

    assert torch.equal(found[0], wanted)
    assert torch.equal(found[1], wanted[:, 32:])
    assert torch.equal(found[2], wanted[:, 32:64])
    assert parts[1].weight.data_ptr() == joined.weight[32:].data_ptr()  # held once


@pytest.mark.parametrize(("kind", "layers"), [(INT8, 2), (FLOAT8, 6)])
def test_head_and_in_int8_attention_stay_as_they_are(
    cross_encoder: Path, kind: str, layers: int
) -> None:
    from transformers import AutoModelForSequenceClassification

    network = AutoModelForSequenceClassification.from_pretrained(cross_encoder)

    assert convert(network, kind) == layers * len(network.bert.encoder.layer)
    assert type(network.classifier) is nn.Linear
    assert type(network.bert.pooler.dense) is nn.Linear


def test_packs_are_computed_in_eight_bits(cross_encoder: Path) -> None:
    exact = load_reranker(str(cross_encoder))
    model = loading.cross_encoder(str(cross_encoder), device="cpu")
    convert(model[0].auto_model, INT8)
    quick = Reranker(exact.described, model.eval())
    pairs = exact.encode("Which engine?", ["a copper engine", "a garden", "the harbour " * 40])

    found, wanted = quick.compute(pairs), exact.compute(pairs)

    assert isinstance(quick.model[0].auto_model.bert.encoder.layer[0].output.dense, Int8Linear)
    assert 0 < np.abs(found - wanted).max() < 0.1 * np.ptp(wanted)


def test_eight_bits_that_change_the_order_are_refused_and_the_scores_stay(
    cross_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = load_reranker(str(cross_encoder))
    monkeypatch.setattr(Int8Linear, "largest", 1.0)  # of 256 values three are left

    found = load_reranker(str(cross_encoder), options=Options(INT8))

    assert found.info.dtype == "float32"
    assert found.info.dtype_refused.startswith("int8 was asked for: of the first ten")
    pairs = exact.encode("Which engine?", ["a copper engine", "a garden"])
    assert np.array_equal(found.compute(pairs), exact.compute(pairs))


@pytest.mark.skipif(not multiplies_bfloat16(), reason="this processor does not multiply it")
@pytest.mark.parametrize("which", ["bundled", "cross-encoder"])
def test_bfloat16_on_a_cpu_is_granted_where_it_is_asked_for_and_keeps_the_order(
    cross_encoder: Path, which: str
) -> None:
    place = str(cross_encoder) if which == "cross-encoder" else which
    exact = load_reranker(place)
    quick = load_reranker(place, options=Options("bfloat16"))
    pairs = exact.encode("Which engine?", ["a copper engine", "a garden", "the harbour " * 40])

    found, wanted = quick.compute(pairs), exact.compute(pairs)

    assert (exact.info.dtype, quick.info.dtype) == ("float32", "bfloat16")
    assert quick.info.dtype_refused == ""
    assert 0 < np.abs(found - wanted).max() < 0.1


def test_without_instructions_for_bfloat16_a_cpu_computes_in_float32(
    cross_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference.precision.multiplies_bfloat16", lambda: False)

    found = load_reranker(str(cross_encoder), options=Options("bfloat16"))

    assert found.info.dtype == "float32"
    assert "this processor has no instructions for it" in found.info.dtype_refused


def test_weights_that_were_saved_in_half_precision_are_computed_in_float32_on_a_cpu(
    cross_encoder: Path, tmp_path: Path
) -> None:
    loading.cross_encoder(str(cross_encoder), device="cpu").half().save_pretrained(str(tmp_path))

    found = load_reranker(str(tmp_path))

    assert found.info.dtype == "float32"


def test_the_trial_counts_the_first_ten(cross_encoder: Path) -> None:
    engine = load_reranker(str(cross_encoder))
    questions, passages = sample()

    class Reversed:
        def encode(self, *given: Any) -> Any:
            return engine.encode(*given)

        def compute(self, batch: Any) -> Any:
            return -engine.compute(batch)

    few = questions[:2]
    assert (len(questions), len(passages)) == (12, 40)
    assert overlap(engine, engine, few, passages) == 1.0
    assert overlap(engine, Reversed(), few, passages) == 0.0  # type: ignore[arg-type]
    assert overlap(engine, Reversed(), few, passages[:15]) == 0.5  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("dtype", "device", "compares_states", "why"),
    [
        ("auto", "cpu", False, ""),
        ("float32", "cpu", True, ""),
        (INT8, "cpu", True, ""),
        ("float16", "cpu", False, "many times slower"),
        (FLOAT8, "cpu", False, "needs a GPU"),
        (INT8, "cuda", False, "on a GPU there is float8"),
        ("float16", "cuda", False, ""),
        ("float16", "cuda", True, "in float32"),
    ],
)
def test_what_a_device_cannot_do_is_refused_with_the_reason(
    dtype: str, device: str, compares_states: bool, why: str
) -> None:
    found = unfit(dtype, device=device, compares_states=compares_states)

    assert why in found
    assert bool(found) == bool(why)


@pytest.mark.parametrize(("generation", "quick"), [((7, 5), "float16"), ((8, 0), "bfloat16")])
def test_a_gpu_that_does_not_multiply_bfloat16_computes_in_float16(
    generation: tuple[int, int], quick: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: generation)

    assert half_type("cuda") == quick
    assert unfit("float16", device="cuda") == ""
    assert bool(unfit("bfloat16", device="cuda")) == (quick == "float16")


def test_settings_that_do_not_exist_are_refused() -> None:
    assert Options.from_environment({}) == Options("auto", ())
    asked = {"RERANKER_DTYPE": " INT8", "RERANKER_SPEEDUPS": "compile, graphs,gelu"}
    assert Options.from_environment(asked) == Options("int8", ("compile", "graphs", "gelu"))
    for name in ("RERANKER_DTYPE", "RERANKER_SPEEDUPS"):
        with pytest.raises(ValueError, match=f"^{name} .*, not fast.$"):
            Options.from_environment({name: "fast"})


def test_in_half_the_bits_places_turn_states_as_far_as_ever() -> None:
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "vocab_size": 500,
        "hidden_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "intermediate_size": 128,
        "initializer_range": 0.2,
    }
    special: dict[str, Any] = {
        f"{name}_token_id": n for n, name in enumerate(("pad", "bos", "eos", "cls", "sep"))
    }
    config = ModernBertConfig(**shape, **special)
    exact: Any = ModernBertModel(config)
    exact.eval()
    ids = torch.randint(3, 500, (1, 400))

    def states(model: Any) -> torch.Tensor:
        with torch.inference_mode():
            found: torch.Tensor = model(ids).last_hidden_state.float()
        return found

    wanted, plain = states(exact), states(deepcopy(exact).bfloat16())
    found = states(cast(exact, "bfloat16"))

    assert {value.dtype for value in exact.parameters()} == {torch.bfloat16}
    assert (found - wanted).norm() < 0.5 * (plain - wanted).norm()
