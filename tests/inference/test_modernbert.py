"""Packs of a ModernBERT give what transformers gives for the same texts, padded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import ModernBertConfig, ModernBertModel

from inference.engines import Embedder
from inference.modernbert import PackedModernBert, is_packable
from inference.onednn import prepack
from inference.packed import Cuts, Pack
from inference.types import ModelInfo

# Shorter than a window of 8 to either side, as long, and of several.
LENGTHS = (1, 7, 8, 9, 17, 41, 64)
SHAPE: dict[str, Any] = {
    "vocab_size": 200,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "local_attention": 16,
    "pad_token_id": 0,
    "cls_token_id": 1,
    "sep_token_id": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.3,
}
# The last layer sees everything, or a window.
LAYERS = {"full": 4, "window": 3}


@pytest.fixture(params=sorted(LAYERS))
def model(request: pytest.FixtureRequest) -> Any:
    return modernbert(LAYERS[request.param])


def modernbert(layers: int, **more: Any) -> Any:
    torch.manual_seed(5)
    biased = {"attention_bias": True, "mlp_bias": True, "norm_bias": True, **more}
    made: Any = ModernBertModel(ModernBertConfig(num_hidden_layers=layers, **SHAPE, **biased))
    made.eval()
    for name, values in made.named_parameters():
        if "norm" in name or name.endswith("bias"):  # ones and zeros before training
            torch.nn.init.normal_(values.data, mean=float("weight" in name), std=0.3)
    return made


@pytest.fixture
def texts() -> list[np.ndarray]:
    chooser = np.random.default_rng(1)
    return [chooser.integers(3, 200, length) for length in LENGTHS]


def packed(texts: list[np.ndarray]) -> Pack:
    return Pack.of(texts, [np.zeros_like(text) for text in texts], step=16)


def states_of(model: Any, texts: list[np.ndarray]) -> list[np.ndarray]:
    with torch.inference_mode():
        return [model(torch.from_numpy(text)[None]).last_hidden_state[0].numpy() for text in texts]


def in_window(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, cuts: Cuts, window: int
) -> torch.Tensor:
    """What the kernel of `torch.nn.attention.varlen` is documented to give with a window, from the
    same values: the offsets alone say where texts lie."""
    places = torch.arange(len(query))
    text = torch.bucketize(places, cuts.ends[1:], right=True)
    seen = (text[:, None] == text) & ((places[:, None] - places).abs() <= window)
    scores = torch.einsum("qhd,khd->hqk", query, key) / query.shape[-1] ** 0.5
    weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, value)


@pytest.mark.parametrize("window_attention", [None, in_window], ids=["blocks", "as a GPU"])
@pytest.mark.parametrize("by_onednn", [False, True])
def test_states_are_those_of_the_model(
    model: Any, texts: list[np.ndarray], window_attention: Any, by_onednn: bool
) -> None:
    wanted = states_of(model, texts)
    if by_onednn:
        assert prepack(model) > 0
    encoder, pack = PackedModernBert(model, window_attention=window_attention), packed(texts)
    with torch.inference_mode():
        found, firsts = encoder.states(pack), encoder.states(pack, first_only=True)

    assert len(pack.ids) > sum(LENGTHS)  # behind them is one without meaning
    np.testing.assert_allclose(found[: sum(LENGTHS)].numpy(), np.concatenate(wanted), atol=3e-5)
    np.testing.assert_allclose(
        firsts[: len(texts)].numpy(), np.stack([rows[0] for rows in wanted]), atol=3e-5
    )
    if by_onednn:  # and so does what is left of the model
        np.testing.assert_allclose(states_of(model, texts)[-1], wanted[-1], atol=3e-5)


def test_a_model_of_another_kind_is_left_alone() -> None:
    assert is_packable(modernbert(2))
    assert not is_packable(modernbert(2, hidden_activation="relu"))
    stretched = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}
    plain = {"rope_type": "default", "rope_theta": 10_000.0}
    parameters = {"full_attention": stretched, "sliding_attention": plain}
    assert not is_packable(modernbert(2, rope_parameters=parameters))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_an_embedding_model_gives_the_vectors_of_sentence_transformers(
    pooling: Any, minilm: Any, tmp_path: Any
) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(minilm)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    made = modernbert(3)
    made.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    made.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    reader = Transformer(str(tmp_path), max_seq_length=64)
    model = SentenceTransformer(modules=[reader, Pooling(32, pooling)], device="cpu").eval()
    texts = ["short", "A pump moves water uphill. " * 5, "What is a pump? " * 40]
    wanted = model.encode(texts, normalize_embeddings=True)

    engine = Embedder(ModelInfo("m", "", "cpu", "float32", 64, 32), model)

    assert engine.is_packed
    np.testing.assert_allclose(engine.compute(engine.encode(texts)), wanted, atol=1e-5)
