"""A layerwise language model, against its forward pass written out in plain torch."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import AutoTokenizer

from inference.engines import Reranker
from inference.errors import NoModel
from inference.language_model import LanguageModelReranker
from inference.layerwise import SETTING
from inference.loading import KNOWN_PAIRS, load_reranker

WIDTH, HEADS, INNER, LAYERS, FIRST = 32, 4, 48, 4, 2
CONFIG: dict[str, Any] = {
    "architectures": ["LayerWiseMiniCPMForCausalLM"],
    # The publisher's code is named, and must not be needed.
    "auto_map": {
        "AutoConfig": "configuration_minicpm_reranker.LayerWiseMiniCPMConfig",
        "AutoModel": "modeling_minicpm_reranker.LayerWiseMiniCPMModel",
        "AutoModelForCausalLM": "modeling_minicpm_reranker.LayerWiseMiniCPMForCausalLM",
    },
    "model_type": "minicpm",
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 2048,
    "scale_emb": 12,
    "scale_depth": 1.4,
    "dim_model_base": 256,
    "start_layer": FIRST,
    "head_type": "simple",
    "head_multi": True,
    "bos_token_id": 101,
    "eos_token_id": 102,
    "pad_token_id": 0,
}


def random_weights(vocabulary: int, seed: int) -> dict[str, torch.Tensor]:
    """Weights of such a model under the names of the published files."""
    generator = torch.Generator().manual_seed(seed)

    def matrix(rows: int, columns: int) -> torch.Tensor:
        return torch.randn(rows, columns, generator=generator) * 0.3

    weights = {"model.embed_tokens.weight": matrix(vocabulary, WIDTH) * 0.1}
    shared = WIDTH // 2
    for n in range(LAYERS):
        base = f"model.layers.{n}"
        weights[f"{base}.input_layernorm.weight"] = 1 + matrix(1, WIDTH)[0]
        weights[f"{base}.post_attention_layernorm.weight"] = 1 + matrix(1, WIDTH)[0]
        for name, rows in (("q", WIDTH), ("k", shared), ("v", shared), ("o", WIDTH)):
            weights[f"{base}.self_attn.{name}_proj.weight"] = matrix(rows, WIDTH)
        weights[f"{base}.mlp.gate_proj.weight"] = matrix(INNER, WIDTH)
        weights[f"{base}.mlp.up_proj.weight"] = matrix(INNER, WIDTH)
        weights[f"{base}.mlp.down_proj.weight"] = matrix(WIDTH, INNER)
    weights["model.norm.weight"] = 1 + matrix(1, WIDTH)[0]
    for n in range(LAYERS - FIRST + 1):
        weights[f"lm_head.{n}.linear_head.weight"] = matrix(1, WIDTH)
    return weights


def normed(states: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return states * torch.rsqrt(states.pow(2).mean(-1, keepdim=True) + 1e-5) * weight


def turned(states: torch.Tensor) -> torch.Tensor:
    """Rotary positions, (heads, t, d)."""
    half = states.shape[-1] // 2
    speeds = 10000.0 ** (-torch.arange(half) / half)
    angles = torch.arange(states.shape[1])[:, None] * speeds
    cos, sin = angles.cos().repeat(1, 2), angles.sin().repeat(1, 2)
    other = torch.cat([-states[..., half:], states[..., :half]], dim=-1)
    return states * cos + other * sin


def reference(weights: dict[str, torch.Tensor], ids: list[int], layer: int) -> float:
    """The logit after a layer, by the description of the model."""
    states = weights["model.embed_tokens.weight"][ids] * CONFIG["scale_emb"]
    scale, size = CONFIG["scale_depth"] / math.sqrt(LAYERS), WIDTH // HEADS
    for n in range(layer):
        base = f"model.layers.{n}"
        x = normed(states, weights[f"{base}.input_layernorm.weight"])
        query, key, value = (
            (x @ weights[f"{base}.self_attn.{name}_proj.weight"].T)
            .reshape(len(ids), -1, size)
            .transpose(0, 1)
            for name in "qkv"
        )
        key, value = key.repeat_interleave(2, dim=0), value.repeat_interleave(2, dim=0)
        scores = turned(query) @ turned(key).transpose(1, 2) / math.sqrt(size)
        later = torch.ones(len(ids), len(ids)).triu(1).bool()
        mixed = scores.masked_fill(later, -math.inf).softmax(-1) @ value
        out = mixed.transpose(0, 1).reshape(len(ids), WIDTH)
        states = states + out @ weights[f"{base}.self_attn.o_proj.weight"].T * scale
        x = normed(states, weights[f"{base}.post_attention_layernorm.weight"])
        gate = functional.silu(x @ weights[f"{base}.mlp.gate_proj.weight"].T)
        inner = gate * (x @ weights[f"{base}.mlp.up_proj.weight"].T)
        states = states + inner @ weights[f"{base}.mlp.down_proj.weight"].T * scale
    last = normed(states, weights["model.norm.weight"])[-1]
    return float(last @ weights[f"lm_head.{layer - FIRST}.linear_head.weight"][0])


def write(folder: Path, weights: dict[str, torch.Tensor], tokenizer: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    config = {**CONFIG, "vocab_size": len(weights["model.embed_tokens.weight"])}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def folder(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random one, the first whose second and last layers pass the trial by luck."""
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    place = tmp_path_factory.mktemp("layerwise")
    for seed in range(400):
        weights = random_weights(len(tokenizer), seed)
        write(place, weights, tokenizer)
        if all(passes(weights, tokenizer, layer) for layer in (3, LAYERS)):
            return place
    pytest.fail("no random layerwise model passed the trial")


def passes(weights: dict[str, torch.Tensor], tokenizer: Any, layer: int) -> bool:
    def logit(question: str, passage: str) -> float:
        return reference(weights, prompt_ids(tokenizer, question, passage), layer)

    return all(logit(q, good) > logit(q, bad) + 0.01 for q, good, bad in KNOWN_PAIRS)


def prompt_ids(tokenizer: Any, question: str, passage: str) -> list[int]:
    """The prompt's tokens; this vocabulary has no line end, and no start of its own."""
    from inference.language_model import INSTRUCTION

    text = f"A: {question} B: {passage} {INSTRUCTION}"
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


@pytest.mark.parametrize("layer", [3, LAYERS])
def test_the_logit_is_that_of_the_chosen_layer_whatever_the_batch(
    layer: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SETTING, str(layer))
    engine: Reranker = load_reranker(str(folder))
    assert isinstance(engine, LanguageModelReranker)
    assert len(engine.model.network.model.layers) == layer
    weights = load_file(folder / "model.safetensors")
    question, passages = KNOWN_PAIRS[1][0], [KNOWN_PAIRS[n][1] for n in range(3)] + ["Short."]

    found = engine.compute(engine.encode(question, passages))

    wanted = [
        reference(weights, prompt_ids(engine.model.tokenizer, question, passage), layer)
        for passage in passages
    ]
    np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("layer", ["1", "5", "all"])
def test_a_layer_without_a_head_is_refused(
    layer: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SETTING, layer)

    with pytest.raises(NoModel, match=f"is {layer}, but the model answers after layers 2 to 4"):
        load_reranker(str(folder))
