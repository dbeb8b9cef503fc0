"""Layerwise rerankers: a language model that can answer after any of its later layers.

BAAI's bge-reranker-v2-minicpm-layerwise has a head for each layer from the eighth on. Its network
is that of Llama with two constants, which are multiplied into its weights here, so that the code
it brings is not needed. Layers above the chosen one are not loaded at all.

Sources: https://github.com/FlagOpen/FlagEmbedding (its layers, heads and prompt); Hu et al.,
MiniCPM, 2024, arXiv:2404.06395 (the constants)
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaModel, LlamaPreTrainedModel

from inference.errors import NoModel

ARCHITECTURE = "LayerWiseMiniCPMForCausalLM"
SETTING = "RERANKER_LAYER"
DEFAULT_LAYER = 28


class _Head(nn.Module):
    """One number from a state; named as in the published files."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear_head = nn.Linear(width, 1, bias=False)


class Layerwise(LlamaPreTrainedModel):  # type: ignore[no-untyped-call]
    """Token ids of (n, t) prompts, padded on the left, in; (n,) logits out."""

    def __init__(self, config: LlamaConfig) -> None:
        """Make one of `llama_config`; use `load`."""
        super().__init__(config)
        self.model = LlamaModel(config)
        self.lm_head = nn.ModuleList(_Head(config.hidden_size) for _ in range(config.heads))
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(self, input_ids: Any, attention_mask: Any, **_: Any) -> torch.Tensor:
        """The head of the chosen layer on the state of the last token."""
        found = self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
        states = found.last_hidden_state
        chosen: nn.Module = self.lm_head[self.config.head]
        logits: torch.Tensor = chosen.get_submodule("linear_head")(states[:, -1])
        return logits.reshape(-1)


def is_layerwise(config: Mapping[str, Any]) -> bool:
    """Whether a `config.json` is of this kind."""
    return ARCHITECTURE in (config.get("architectures") or ())


def load(place: str, config: Mapping[str, Any], *, dtype: Any) -> Layerwise:
    """Load as many layers as RERANKER_LAYER says, with the constants in their weights.

    Raises:
        NoModel: there is no such layer, or the heads are of another kind.
        OSError, ValueError: it cannot be loaded.
    """
    layer = chosen_layer(config)
    made: Layerwise = Layerwise.from_pretrained(
        place, config=llama_config(config, layer), dtype=dtype, use_safetensors=True
    )
    scale = config["scale_depth"] / math.sqrt(config["num_hidden_layers"])
    with torch.no_grad():
        made.model.embed_tokens.weight.mul_(config["scale_emb"])
        for decoder in made.model.layers:
            decoder.self_attn.o_proj.weight.mul_(scale)
            decoder.mlp.down_proj.weight.mul_(scale)
    return made


def chosen_layer(config: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> int:
    """After which layer the score is read.

    Raises:
        NoModel: the model has no head there.
    """
    first, last = config["start_layer"], config["num_hidden_layers"]
    wanted = environment.get(SETTING, "") or str(min(DEFAULT_LAYER, last))
    if not wanted.isdecimal() or not first <= int(wanted) <= last:
        raise NoModel(
            f"{SETTING} is {wanted}, but the model answers after layers {first} to {last}"
        )
    if config.get("head_type") != "simple" or not config.get("head_multi"):
        raise NoModel("it has no head of its own for each layer")
    return int(wanted)


def llama_config(config: Mapping[str, Any], layer: int) -> LlamaConfig:
    """The Llama that these layers are."""
    first, last = config["start_layer"], config["num_hidden_layers"]
    made = LlamaConfig(
        vocab_size=config["vocab_size"],
        hidden_size=config["hidden_size"],
        intermediate_size=config["intermediate_size"],
        num_hidden_layers=layer,
        num_attention_heads=config["num_attention_heads"],
        num_key_value_heads=config.get("num_key_value_heads") or config["num_attention_heads"],
        hidden_act=config.get("hidden_act", "silu"),
        max_position_embeddings=config.get("max_position_embeddings", 2048),
        rms_norm_eps=config.get("rms_norm_eps", 1e-6),
        rope_parameters={"rope_type": "default", "rope_theta": config.get("rope_theta", 10_000.0)},
        attention_bias=bool(config.get("attention_bias")),
        pad_token_id=config.get("pad_token_id"),
        bos_token_id=config.get("bos_token_id", 1),
        eos_token_id=config.get("eos_token_id", 2),
        tie_word_embeddings=False,
    )
    made.heads, made.head = last - first + 1, layer - first
    return made
