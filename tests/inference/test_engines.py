"""The real embedder and a small real cross-encoder, against the libraries themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference import loading
from inference.catalogue import BUNDLED
from inference.devices import multiplies_bfloat16
from inference.engines import Embedder, Reranker
from inference.loading import HALF_COSINE, load_embedder, load_reranker
from inference.models_on_disk import DEFAULT_EMBEDDER

TEXTS = [
    "Rerankers read the question and the passage together.",
    "short",
    "Grüße aus Köln, 東京 and Ελλάδα – naïve café №5 🙂",
    "A long text about retrieval. " * 100,
    "   spaces\tand\nlines   ",
    "",
]
WORDS = ["harbour", "lighthouse", "engine", "valley", "copper", "garden", "signal", "window"]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return load_embedder(DEFAULT_EMBEDDER)


@pytest.fixture(scope="module")
def reranker(cross_encoder: Path) -> Reranker:
    return load_reranker(str(cross_encoder))


def plain_logits(folder: Path, question: str, passages: list[str], **cut: Any) -> np.ndarray:
    """The logits by transformers alone, one unpadded pair at a time."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        return np.array(
            [
                model(**tokenizer(question, text, return_tensors="pt", **cut)).logits.item()
                for text in passages
            ]
        )


def test_vectors_equal_those_of_sentence_transformers(embedder: Embedder, minilm: Path) -> None:
    from sentence_transformers import SentenceTransformer

    expected = SentenceTransformer(str(minilm), device="cpu").encode(TEXTS)

    found = embedder.compute(embedder.encode(TEXTS))

    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-5
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)


def test_half_precision_gives_nearly_the_same_vectors(embedder: Embedder) -> None:
    half = loading.in_half(embedder)
    assert half is not None
    texts = embedder.encode([*TEXTS[:3], "The reranker reads it. " * 12])

    found, expected = half.compute(texts), embedder.compute(texts)

    cosines = (found * expected).sum(axis=1)
    assert cosines.min() > HALF_COSINE
    assert np.abs(found - expected).max() > 1e-5  # it is another computation
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)
    assert (embedder.half is not None) == multiplies_bfloat16()


def test_related_texts_are_nearer_than_unrelated_ones(embedder: Embedder) -> None:
    question, answer, other = embedder.compute(
        embedder.encode(
            [
                "How do I reset my password?",
                "Open the account page and choose a new password.",
                "The cathedral was built of red sandstone.",
            ]
        )
    )

    assert question @ answer > question @ other + 0.3


def test_the_embedder_reads_256_tokens_and_says_when_a_text_has_more(embedder: Embedder) -> None:
    fits, over = embedder.encode(["word " * 254, "word " * 255])

    assert embedder.info.max_tokens == 256
    assert (fits.tokens, fits.truncated) == (256, False)
    assert (over.tokens, over.truncated) == (256, True)


def test_the_embedder_describes_itself(embedder: Embedder) -> None:
    info = embedder.info

    assert (info.model_id, info.revision) == (DEFAULT_EMBEDDER, "53aa51172d14")
    assert (info.dimension, info.dtype, embedder.pooling) == (384, "float32", "mean")
    assert info.tokens_per_second > 0


def test_logits_equal_those_of_plain_transformers_whatever_the_batch(
    reranker: Reranker, cross_encoder: Path
) -> None:
    question = "Which garden has a copper signal?"
    passages = [" ".join(WORDS[n:] + WORDS[:n] * n) for n in range(len(WORDS))]

    found = reranker.compute(reranker.encode(question, passages))

    assert found.shape == (8,)
    assert np.abs(found - plain_logits(cross_encoder, question, passages)).max() < 1e-4
    assert np.ptp(found) > 0.01  # the model tells them apart


def test_a_pair_that_is_too_long_loses_the_end_of_its_passage(
    reranker: Reranker, cross_encoder: Path
) -> None:
    question, passage = "Where is the lighthouse?", " ".join(WORDS * 90)

    (pair,) = reranker.encode(question, [passage])

    assert (pair.tokens, pair.truncated) == (512, True)
    expected = plain_logits(
        cross_encoder, question, [passage], truncation="only_second", max_length=512
    )
    assert reranker.compute([pair]) == pytest.approx(expected, abs=1e-4)


def test_a_question_longer_than_the_limit_leaves_the_passage_its_place(reranker: Reranker) -> None:
    tokenizer = reranker.model.tokenizer

    (pair,) = reranker.encode("why " * 2000, ["the marble window"])

    assert (pair.tokens, pair.truncated) == (512, True)
    assert tokenizer.decode(pair.ids["input_ids"][-4:]) == "the marble window [SEP]"


def test_a_pair_that_fits_is_not_called_truncated(reranker: Reranker) -> None:
    pairs = reranker.encode("why", ["word " * 508, "word " * 509])

    assert [(pair.tokens, pair.truncated) for pair in pairs] == [(512, False), (512, True)]


def test_the_speed_is_that_of_passages_that_had_to_be_read() -> None:
    engine = load_reranker(BUNDLED)

    def speed_after(*passages: str) -> float:
        engine.compute(engine.encode("Where is the lighthouse?", passages))
        return engine.info.tokens_per_second

    loaded = engine.info.tokens_per_second
    read = speed_after(*(" ".join([word] * 50) for word in WORDS))

    assert 0 < loaded != read > 0
    assert speed_after(*(" ".join([word] * 50) for word in WORDS)) == read
    assert speed_after("A passage nobody has asked for before.", " ".join(WORDS[:1] * 50)) == read
    assert speed_after("Another that nobody has asked for.") != read


def test_a_question_without_end_is_not_tokenised_with_each_passage(
    reranker: Reranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = "why does the lighthouse " * 2000
    passages = ["the marble window", " ".join(WORDS * 90)]
    tokenizer = reranker.model.tokenizer
    whole = tokenizer(
        [question] * 2, passages, truncation="longest_first", max_length=512, verbose=False
    )
    asked: list[int] = []
    plain = type(tokenizer).__call__

    def counted(self: Any, text: Any, *more: Any, **options: Any) -> Any:
        asked.append(sum(map(len, [text] if isinstance(text, str) else text)))
        return plain(self, text, *more, **options)

    monkeypatch.setattr(type(tokenizer), "__call__", counted)
    pairs = reranker.encode(question, passages)

    assert [list(pair.ids["input_ids"]) for pair in pairs] == whole["input_ids"]
    assert all(pair.truncated for pair in pairs)
    assert asked[0] == len(question)
    assert max(asked[1:]) < len(question)  # both pairs together


def test_what_fails_on_a_device_is_done_without_and_told(cross_encoder: Path) -> None:
    """Speed-ups first, then packs: as on a GPU whose kernels nobody has tried."""
    engine = load_reranker(str(cross_encoder))
    pairs = engine.encode("Which engine?", ["a copper engine", "a garden", "the harbour " * 40])
    wanted = engine.compute(pairs)

    def failing(pack: Any) -> Any:
        raise RuntimeError("no kernel image is available\nfor execution")

    engine.speedups, engine._packed = ("compile", "graphs"), failing
    engine.try_packs(pairs)
    told = engine.info.padded
    np.testing.assert_allclose(engine.compute(pairs), wanted, atol=1e-5)
    assert told == "without compile and graphs, which failed: no kernel image is available"
    assert (engine.is_packed, len(engine.speedups)) == (True, 0)

    engine._packed = failing
    engine.try_packs(pairs)
    told = engine.info.padded
    np.testing.assert_allclose(engine.compute(pairs), wanted, atol=1e-5)
    assert told == "texts are padded, because packs failed: no kernel image is available"
    assert not engine.is_packed


def test_nothing_is_told_where_packs_work(reranker: Reranker) -> None:
    reranker.try_packs(reranker.encode("Which engine?", ["a copper engine"]))

    assert (reranker.is_packed, reranker.info.padded) == (True, "")
