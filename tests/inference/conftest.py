"""A small real cross-encoder, and a model server that has it beside the real embedder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from inference.client import InferenceClient
from inference.models_on_disk import DEFAULT_EMBEDDER, embedder_folder
from ragsite import processes

Connect = Callable[..., InferenceClient]
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "num_labels": 1,
    "initializer_range": 0.3,
}


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes clients of an address for embedding and, if given, another one for reranking."""
    with ExitStack() as clients:
        yield lambda embed_url, rerank_url="": clients.enter_context(
            closing(InferenceClient(embed_url=embed_url, rerank_url=rerank_url))
        )


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of the packaged embedder."""
    folder = embedder_folder(DEFAULT_EMBEDDER)
    assert folder is not None
    return folder


@pytest.fixture(scope="session")
def cross_encoder(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer BERT cross-encoder: the first random one that passes the trial by luck."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    from inference.loading import KNOWN_PAIRS

    tokenizer = AutoTokenizer.from_pretrained(minilm)
    questions = [question for question, _, _ in KNOWN_PAIRS]
    good, bad = (
        tokenizer(questions, [pair[n] for pair in KNOWN_PAIRS], padding=True, return_tensors="pt")
        for n in (1, 2)
    )
    for seed in range(200):
        torch.manual_seed(seed)
        model = BertForSequenceClassification(BertConfig(vocab_size=len(tokenizer), **SMALL))
        model.train(mode=False)
        with torch.inference_mode():
            if bool((model(**good).logits > model(**bad).logits + 0.01).all()):
                folder = tmp_path_factory.mktemp("cross-encoder")
                model.save_pretrained(folder)
                tokenizer.save_pretrained(folder)
                return folder
    pytest.fail("no random cross-encoder passed the trial")


@pytest.fixture(scope="session")
def modular_cross_encoder(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One in the layout of the ettin rerankers: the first random one that passes the trial."""
    import torch
    from sentence_transformers import CrossEncoder
    from sentence_transformers.sentence_transformer.modules import (
        Dense,
        LayerNorm,
        Pooling,
        Transformer,
    )
    from transformers import AutoTokenizer, ModernBertConfig, ModernBertModel

    from inference.errors import NoModel
    from inference.loading import load_reranker

    encoder = tmp_path_factory.mktemp("encoder")
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    tokenizer.save_pretrained(encoder)
    marks: dict[str, Any] = {"pad_token_id": 0, "cls_token_id": 101, "sep_token_id": 102}
    windows: dict[str, Any] = {"global_attn_every_n_layers": 2, "local_attention": 16}
    config = ModernBertConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=7999,
        bos_token_id=101,
        eos_token_id=102,
        **marks,
        **windows,
        **SMALL,
    )
    width = config.hidden_size
    for seed in range(300):
        torch.manual_seed(seed)
        ModernBertModel(config).save_pretrained(encoder)
        score = Dense(
            width, 1, activation_function=torch.nn.Identity(), module_output_name="scores"
        )
        modules = [
            Transformer(str(encoder), transformer_task="feature-extraction"),
            Pooling(width, "cls"),
            Dense(width, width, bias=False, activation_function=torch.nn.GELU()),
            LayerNorm(width),
            score,
        ]
        with torch.no_grad():
            modules[3].norm.weight.uniform_(0.5, 1.5)
        folder = tmp_path_factory.mktemp("modular")
        CrossEncoder(modules=modules, device="cpu").save_pretrained(str(folder))
        try:
            load_reranker(str(folder))
        except NoModel:
            continue
        return folder
    pytest.fail("no random model passed the trial")


@pytest.fixture(scope="session")
def rerank_url(cross_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real model server with the embedder and the small cross-encoder, loaded."""
    port = processes.free_port()
    process = processes.Process(
        processes.inference_service(port),
        env={"RERANKER": str(cross_encoder)},
        log=tmp_path_factory.mktemp("inference") / "inference.log",
    )
    url = f"http://127.0.0.1:{port}"
    while process.exit_status() is None and not processes.answers(f"{url}/health"):
        process.wait_until_healthy(1)
    if process.exit_status() is not None:
        pytest.fail(process.log.read_text())
    yield url
    process.stop()
