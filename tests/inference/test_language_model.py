"""A causal language model as a reranker, against its own plain forward pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from inference.language_model import INSTRUCTION, LanguageModelReranker
from inference.loading import KNOWN_PAIRS, load_reranker

PASSAGES = [good for _, good, _ in KNOWN_PAIRS] + ["Short.", "A long passage. " * 200]


def prompt(question: str, passage: str) -> str:
    """The whole prompt as one text; line ends are no tokens of this vocabulary."""
    return f"A: {question} B: {passage} {INSTRUCTION}"


@pytest.fixture(scope="module")
def folder(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama, the first that passes the trial by luck, with a plain vocabulary."""
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    yes = tokenizer("Yes", add_special_tokens=False)["input_ids"][0]
    for seed in range(200):
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            initializer_range=0.3,
        )
        model = LlamaForCausalLM(config).train(mode=False)

        def logit(question: str, passage: str, model: LlamaForCausalLM = model) -> float:
            text = prompt(question, passage)
            ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
            with torch.inference_mode():
                return float(model(ids).logits[0, -1, yes])

        if all(logit(q, good) > logit(q, bad) + 0.01 for q, good, bad in KNOWN_PAIRS):
            target = tmp_path_factory.mktemp("language-model")
            model.save_pretrained(target)
            tokenizer.save_pretrained(target)
            return target
    pytest.fail("no random language model passed the trial")


def test_the_logit_is_that_of_yes_after_the_prompt_whatever_the_batch(folder: Path) -> None:
    engine = load_reranker(str(folder))
    assert isinstance(engine, LanguageModelReranker)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = LlamaForCausalLM.from_pretrained(folder)
    yes = tokenizer("Yes", add_special_tokens=False)["input_ids"][0]
    question = KNOWN_PAIRS[0][0]
    wanted = []
    for passage in PASSAGES[:4]:
        text = prompt(question, passage)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            wanted.append(float(model(ids).logits[0, -1, yes]))

    found = engine.compute(engine.encode(question, PASSAGES[:4]))

    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_a_long_passage_loses_its_end_and_the_instruction_stays(folder: Path) -> None:
    engine = load_reranker(str(folder))
    after = engine.model.tokenizer(INSTRUCTION, add_special_tokens=False)["input_ids"]

    short, long = engine.encode("Why?", PASSAGES[3:])
    (endless,) = engine.encode("why " * 3000, ["A passage."])

    assert (short.truncated, long.truncated, endless.truncated) == (False, True, True)
    for item in (short, long, endless):
        assert item.tokens <= engine.max_tokens
        assert list(item.ids["input_ids"])[-len(after) :] == after


def test_one_that_says_yes_to_the_wrong_passages_is_refused(folder: Path, tmp_path: Path) -> None:
    from inference.errors import NoModel

    model = LlamaForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.lm_head.weight.neg_()
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)

    with pytest.raises(NoModel, match="failed its trial"):
        load_reranker(str(tmp_path))
