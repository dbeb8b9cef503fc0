"""Late interaction, against BERT's own forward pass and the definition of MaxSim."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import AutoTokenizer, BertConfig, BertModel

from inference.engines import Reranker
from inference.late_interaction import LateInteractionReranker
from inference.loading import KNOWN_PAIRS, load_reranker

QUESTION_TOKENS, PASSAGE_TOKENS = 32, 180
PASSAGES = [good for _, good, _ in KNOWN_PAIRS] + ["Short.", "A long passage, and on. " * 200]


def write(folder: Path, tokenizer: Any, seed: int) -> Path:
    """A tiny model in the layout of the ColBERT project: the projection beside the encoder."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        initializer_range=0.3,
    )
    model: Any = BertModel(config, add_pooling_layer=False)
    model.eval()
    weights = {f"bert.{name}": value for name, value in model.state_dict().items()}
    weights["linear.weight"] = torch.randn(16, 32)
    tokenizer.save_pretrained(folder)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    told = {**config.to_dict(), "architectures": ["HF_ColBERT"]}
    (folder / "config.json").write_text(json.dumps(told))
    metadata = {
        "query_token_id": "[unused0]",
        "doc_token_id": "[unused1]",
        "query_maxlen": QUESTION_TOKENS,
        "doc_maxlen": PASSAGE_TOKENS,
        "attend_to_mask_tokens": False,
        "mask_punctuation": True,
    }
    (folder / "artifact.metadata").write_text(json.dumps(metadata))
    return folder


class Reference:
    """The score by its definition: the question filled up with masks, no marks in passages."""

    def __init__(self, folder: Path) -> None:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        weights = load_file(folder / "model.safetensors")
        self.projection = weights.pop("linear.weight")
        bert: Any = BertModel(BertConfig.from_pretrained(folder), add_pooling_layer=False)
        bert.load_state_dict({k.removeprefix("bert."): v for k, v in weights.items()})
        self.tokenizer, self.bert = tokenizer, bert.eval()
        self.marks = set(tokenizer.convert_tokens_to_ids(list(string.punctuation)))

    def ids(self, text: str, mark: str) -> list[int]:
        inner = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        begin = self.tokenizer.convert_tokens_to_ids(["[CLS]", mark])
        return [*begin, *inner, self.tokenizer.sep_token_id]

    def vectors(self, ids: list[int], seen: int) -> torch.Tensor:
        attention = torch.tensor([[1] * seen + [0] * (len(ids) - seen)])
        with torch.inference_mode():
            found = self.bert(input_ids=torch.tensor([ids]), attention_mask=attention)
            return functional.normalize(found.last_hidden_state[0] @ self.projection.T, dim=-1)

    def cosine(self, question: str, passage: str) -> float:
        asked = self.ids(question, "[unused0]")
        seen = len(asked)
        asked += [self.tokenizer.mask_token_id] * (QUESTION_TOKENS - seen)
        read = self.ids(passage, "[unused1]")
        if len(read) > PASSAGE_TOKENS:
            read = [*read[: PASSAGE_TOKENS - 1], self.tokenizer.sep_token_id]
        kept = torch.tensor([token not in self.marks for token in read])
        passages = self.vectors(read, len(read))[kept]
        return float((self.vectors(asked, seen) @ passages.T).amax(1).mean())


@pytest.fixture(scope="module")
def folder(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first random one that passes the trial by luck."""
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    place = tmp_path_factory.mktemp("late-interaction")
    for seed in range(200):
        reference = Reference(write(place, tokenizer, seed))
        if all(reference.cosine(q, a) > reference.cosine(q, b) + 0.005 for q, a, b in KNOWN_PAIRS):
            return place
    pytest.fail("no random model passed the trial")


@pytest.fixture(scope="module")
def engine(folder: Path) -> Reranker:
    """It, loaded."""
    return load_reranker(str(folder))


def relevance(logits: Any) -> Any:
    return 1 / (1 + np.exp(-np.asarray(logits, dtype=np.float64)))


def test_the_relevance_is_the_mean_best_cosine_whatever_the_batch(
    engine: Reranker, folder: Path
) -> None:
    assert isinstance(engine, LateInteractionReranker)
    reference = Reference(folder)
    question = KNOWN_PAIRS[0][0]
    wanted = [reference.cosine(question, passage) for passage in PASSAGES]

    together = engine.compute(engine.encode(question, PASSAGES))
    alone = [float(engine.compute([item])[0]) for item in engine.encode(question, PASSAGES)]

    np.testing.assert_allclose(relevance(together), wanted, atol=1e-4)
    np.testing.assert_allclose(together, alone, atol=1e-3)


def test_a_batch_of_several_questions_keeps_them_apart(engine: Reranker, folder: Path) -> None:
    reference = Reference(folder)
    items = [engine.encode(question, [good])[0] for question, good, _ in KNOWN_PAIRS]

    found = engine.compute(items)

    wanted = [reference.cosine(question, good) for question, good, _ in KNOWN_PAIRS]
    np.testing.assert_allclose(relevance(found), wanted, atol=1e-4)


def test_a_passage_that_is_cut_says_so_and_one_of_marks_alone_is_last(engine: Reranker) -> None:
    short, long = engine.encode("Why?", [PASSAGES[0], PASSAGES[-1]])

    assert (short.truncated, long.truncated) == (False, True)
    assert long.tokens == PASSAGE_TOKENS
    assert engine.compute(engine.encode("Why?", ["words", "!?"])).argmin() == 1
