"""Layers by oneDNN give what the layers they are made of give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from inference import onednn
from inference.devices import multiplies_bfloat16
from inference.loading import load_reranker
from inference.onednn import PrepackedLinear, prepack

needs_bfloat16 = pytest.mark.skipif(
    not multiplies_bfloat16(), reason="this processor has no instructions for bfloat16"
)


@pytest.fixture
def linear() -> nn.Linear:
    torch.manual_seed(5)
    return nn.Linear(96, 160)


@pytest.mark.parametrize("shape", [(1, 96), (7, 96), (16, 96), (700, 96), (3, 40, 96), (0, 96)])
def test_results_are_those_of_the_layer(linear: nn.Linear, shape: tuple[int, ...]) -> None:
    states = torch.randn(*shape)
    with torch.inference_mode():
        wanted, layer = linear(states), PrepackedLinear(linear)
        found, bent = layer(states), layer.gelu(states)

    np.testing.assert_allclose(found.numpy(), wanted.numpy(), atol=1e-5)
    np.testing.assert_allclose(bent.numpy(), nn.functional.gelu(wanted).numpy(), atol=1e-5)


def test_rows_that_do_not_lie_together_are_read_as_they_are(linear: nn.Linear) -> None:
    layer, whole = PrepackedLinear(linear), torch.randn(96, 20)
    with torch.inference_mode():
        for states in (whole.t(), torch.randn(20, 200)[:, 50:146], torch.randn(40, 96)[::2]):
            found, wanted = layer(states), linear(states)
            np.testing.assert_allclose(found.numpy(), wanted.numpy(), atol=1e-5)


def test_a_layer_without_biases() -> None:
    plain, states = nn.Linear(96, 160, bias=False), torch.randn(9, 96)
    with torch.inference_mode():
        found, wanted = PrepackedLinear(plain)(states), plain(states)

    np.testing.assert_allclose(found.numpy(), wanted.numpy(), atol=1e-5)


@needs_bfloat16
def test_bfloat16_stays_bfloat16(linear: nn.Linear) -> None:
    states, plain = torch.randn(30, 96).bfloat16(), linear.bfloat16()
    with torch.inference_mode():
        wanted, found = plain(states), PrepackedLinear(plain)(states)

    assert found.dtype == torch.bfloat16
    np.testing.assert_allclose(found.float().numpy(), wanted.float().numpy(), atol=0.02)


def test_every_linear_layer_of_a_network_is_replaced_once() -> None:
    network = nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.ReLU(), nn.Linear(8, 4)), nn.GELU())
    states = torch.randn(5, 8)
    with torch.inference_mode():
        wanted = network(states)
        counts = [prepack(network), prepack(network)]
        found = network(states)

    assert counts == [2, 0]
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), atol=1e-5)


def test_where_torch_lacks_it_everything_stays(
    cross_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = load_reranker(str(cross_encoder))
    monkeypatch.setattr(onednn, "can_prepack", lambda: False)
    plain = load_reranker(str(cross_encoder))

    def kinds(engine: Any) -> set[type]:
        return {type(m) for m in engine.model.modules() if hasattr(m, "in_features")}

    assert (kinds(usual), kinds(plain)) == ({PrepackedLinear}, {nn.Linear})
    pairs = usual.encode("Which engine?", ["a copper engine", "a garden", "the harbour " * 40])
    np.testing.assert_allclose(usual.compute(pairs), plain.compute(pairs), atol=1e-5)
