"""Cross-encoders of each family, against the plain forward pass of transformers, pair by pair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    DebertaV2Config,
    ModernBertConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

from inference.loading import KNOWN_PAIRS, load_reranker

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "num_labels": 1,
    "initializer_range": 0.3,
}
PLACES = {"max_position_embeddings": 514, "pad_token_id": 1, "type_vocab_size": 2}
WINDOWS = {
    "global_attn_every_n_layers": 2,
    "local_attention": 16,
    "pad_token_id": 0,
    "cls_token_id": 101,
    "sep_token_id": 102,
    "bos_token_id": 101,
    "eos_token_id": 102,
}
# What is particular to each, and whether it is computed without padding.
FAMILIES: dict[str, tuple[Any, dict[str, Any], bool]] = {
    "bert": (BertConfig, {}, True),
    "roberta": (RobertaConfig, PLACES, True),
    "xlm-roberta": (XLMRobertaConfig, PLACES, True),
    # As the mxbai rerankers are: relative positions, in two directions.
    "deberta-v2": (
        DebertaV2Config,
        {
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_buckets": 32,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "type_vocab_size": 0,
            "position_biased_input": False,
        },
        False,
    ),
    # Every other layer sees a window, the head reads the first token or the mean.
    "modernbert": (ModernBertConfig, {**WINDOWS, "classifier_pooling": "cls"}, True),
    "modernbert, mean": (ModernBertConfig, {**WINDOWS, "classifier_pooling": "mean"}, False),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_transformers_whatever_the_batch(
    family: str, minilm: Path, tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    kind, particular, is_packed = FAMILIES[family]
    if particular.get("type_vocab_size") == 0:
        tokenizer.model_input_names = ["input_ids", "attention_mask"]

    def logits(model: Any, question: str, passages: list[str]) -> list[float]:
        found = []
        for passage in passages:
            pair = tokenizer(
                question, passage, truncation="only_second", max_length=512, return_tensors="pt"
            )
            with torch.inference_mode():
                found.append(float(model(**pair).logits[0, 0]))
        return found

    for seed in range(300):
        torch.manual_seed(seed)
        config = kind(vocab_size=len(tokenizer), **{**SMALL, **particular})
        model: Any = AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]
        model.eval()
        pairs = [logits(model, q, [good, bad]) for q, good, bad in KNOWN_PAIRS]
        if all(good > bad + 0.01 for good, bad in pairs):
            break
    else:
        pytest.fail("no random model passed the trial")
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)

    engine = load_reranker(str(tmp_path))

    question = KNOWN_PAIRS[0][0]
    passages = [good for _, good, _ in KNOWN_PAIRS] + ["Short.", "A long passage goes on. " * 120]
    found = engine.compute(engine.encode(question, passages))
    assert engine.is_packed == is_packed
    np.testing.assert_allclose(found, logits(model, question, passages), atol=1e-4, rtol=1e-4)
    # Enough for every core to have several parts at the same time.
    many = engine.compute(engine.encode(question, passages * 8))
    np.testing.assert_allclose(many, np.tile(found, 8), atol=1e-4, rtol=1e-4)


def test_a_cross_encoder_of_modules_is_computed_with_its_head(
    modular_cross_encoder: Path,
) -> None:
    """As the ettin rerankers are laid out: encoder, first token, dense with GELU, norm, dense."""
    engine = load_reranker(str(modular_cross_encoder))
    assert engine.is_packed

    encoder = AutoModel.from_pretrained(modular_cross_encoder).eval()
    tokenizer = AutoTokenizer.from_pretrained(modular_cross_encoder)
    first, norm, last = (
        load_file(modular_cross_encoder / part / "model.safetensors")
        for part in ("2_Dense", "3_LayerNorm", "4_Dense")
    )
    question = KNOWN_PAIRS[0][0]
    passages = [good for _, good, _ in KNOWN_PAIRS] + ["A long passage goes on. " * 120]
    expected = []
    for passage in passages:
        pair = tokenizer(
            question, passage, truncation="only_second", max_length=512, return_tensors="pt"
        )
        with torch.inference_mode():
            state = encoder(**pair).last_hidden_state[0, 0]
            state = torch.nn.functional.gelu(first["linear.weight"] @ state)
            state = (state - state.mean()) / (state.var(correction=0) + 1e-5).sqrt()
            state = state * norm["norm.weight"] + norm["norm.bias"]
            expected.append(float(last["linear.weight"][0] @ state + last["linear.bias"]))
    np.testing.assert_allclose(
        engine.compute(engine.encode(question, passages)), expected, atol=1e-4, rtol=1e-4
    )
