"""The models: texts in, unit vectors or logits out. The only module that imports torch.

An engine is used by one thread. Tokenising is separate from computing (`measure`), so that
the scheduler can form batches by tokens.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inference.errors import NoModel
from inference.models_on_disk import BUNDLED_RERANKER, embedder_folder, revision
from inference.types import ModelInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray

RERANKER_MAX_TOKENS = 512
# On a CPU larger batches are no faster, and a question waits for the batch that is running.
CPU_BATCH_TOKENS = 1024
GPU_BATCH_TOKENS = 32768
# Pairs on whose order any reranker must agree: (question, answering passage, other passage).
KNOWN_PAIRS = (
    (
        "What is the capital of France?",
        "Paris is the capital and largest city of France.",
        "Photosynthesis turns light, water and carbon dioxide into sugar.",
    ),
    (
        "How does a bicycle stay upright?",
        "A moving bicycle stays upright because steering into a fall brings the wheels back under "
        "the rider.",
        "The recipe needs two eggs, a cup of flour and a pinch of salt.",
    ),
    (
        "When was the telephone invented?",
        "Alexander Graham Bell patented the telephone in 1876.",
        "Penguins live in the southern hemisphere and cannot fly.",
    ),
)


@dataclass(frozen=True, slots=True)
class Encoded:
    """One text or pair, ready for the model: its token ids by name, and whether it was cut."""

    ids: dict[str, list[int]]
    tokens: int
    truncated: bool


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@dataclass
class _Engine:
    """What both kinds of model share: a tokenizer, a limit, a device."""

    info: ModelInfo
    tokenizer: Any
    model: Any
    batch_tokens: int = field(init=False)
    # A fast tokenizer keeps its truncation as state: one caller at a time.
    _tokenizing: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.batch_tokens = CPU_BATCH_TOKENS if self.info.device == "cpu" else GPU_BATCH_TOKENS

    def _encode(self, *columns: Sequence[str]) -> list[Encoded]:
        limit = self.info.max_tokens
        with self._tokenizing:
            full = cut = self.tokenizer(*columns, truncation=False, verbose=False)
            lengths = [len(ids) for ids in full["input_ids"]]
            if max(lengths, default=0) > limit:
                how = "only_second" if len(columns) == 2 else True
                cut = self.tokenizer(*columns, truncation=how, max_length=limit, verbose=False)
        return [
            Encoded(
                {name: cut[name][n] for name in cut},
                len(cut["input_ids"][n]),
                truncated=length > limit,
            )
            for n, length in enumerate(lengths)
        ]

    def _tensors(self, batch: Sequence[Encoded]) -> dict[str, Any]:
        with self._tokenizing:
            padded = self.tokenizer.pad(
                {name: [item.ids[name] for item in batch] for name in batch[0].ids},
                return_tensors="pt",
            )
        return {name: tensor.to(self.info.device) for name, tensor in padded.items()}


class Embedder(_Engine):
    """A bi-encoder of sentence-transformers: a text becomes a unit vector."""

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Tokenise (n,) texts, cut at the model's own limit."""
        return self._encode(texts)

    def compute(self, batch: Sequence[Encoded]) -> NDArray[np.float32]:
        """(n, dimension) float32 unit vectors of n encoded texts."""
        import torch

        with torch.inference_mode():
            output = self.model(self._tensors(batch))["sentence_embedding"]
            output = torch.nn.functional.normalize(output.float(), dim=1)
            return np.asarray(output.cpu().numpy(), dtype=np.float32)


class Reranker(_Engine):
    """A cross-encoder: question and passage, read together, become one logit."""

    def encode(self, question: str, passages: Sequence[str]) -> list[Encoded]:
        """Tokenise n pairs; only the passage is cut, unless the question alone is too long."""
        room = self.info.max_tokens // 2
        with self._tokenizing:
            ids = self.tokenizer(question, truncation=True, max_length=room, verbose=False)
            if len(ids["input_ids"]) >= room:
                question = self.tokenizer.decode(ids["input_ids"], skip_special_tokens=True)
        return self._encode([question] * len(passages), list(passages))

    def compute(self, batch: Sequence[Encoded]) -> NDArray[np.float32]:
        """(n,) float32 raw logits of n encoded pairs."""
        import torch

        with torch.inference_mode():
            logits = self.model(**self._tensors(batch)).logits
            return np.asarray(logits.float().reshape(-1).cpu().numpy(), dtype=np.float32)


def load_embedder(model: str) -> Embedder:
    """Load the embedding model.

    Args:
        model: the name of the packaged model, a folder, or a model id of the hub.

    Raises:
        NoModel: it cannot be had; the text says why.
    """
    from sentence_transformers import SentenceTransformer

    folder = embedder_folder(model)
    device = _device()
    try:
        loaded = SentenceTransformer(str(folder or model), device=device)
    except (OSError, ValueError) as exc:
        raise NoModel(f"The embedding model {model} cannot be loaded: {exc}") from exc
    loaded.eval()
    weights = next(loaded.parameters())
    info = ModelInfo(
        model_id=model,
        revision=revision(folder, hub_revision=_hub_commit(loaded[0].auto_model)),
        device=device,
        dtype=str(weights.dtype).removeprefix("torch."),
        max_tokens=int(loaded.max_seq_length or 512),
        dimension=int(loaded.get_embedding_dimension() or 0),
    )
    return Embedder(info, loaded.tokenizer, loaded)


def load_reranker(model: str) -> Reranker:
    """Load the cross-encoder and try it on pairs whose order is known.

    Args:
        model: "auto" or "bundled" for the one that comes with the project, a folder, or a
            model id of the hub; "none" for no reranking.

    Raises:
        NoModel: there is none, it is no cross-encoder, or it fails the trial; the text
            is one clause for people.
    """
    if model == "none":
        raise NoModel("reranking is switched off (RERANKER=none)")
    place = str(BUNDLED_RERANKER) if model in ("auto", "bundled") else model
    if model in ("auto", "bundled") and not BUNDLED_RERANKER.is_dir():
        raise NoModel("no reranker is installed")
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    try:
        config = AutoConfig.from_pretrained(place)
        if config.num_labels != 1 or "SequenceClassification" not in str(config.architectures):
            raise NoModel(f"{model} is not a cross-encoder with one output, so it cannot rerank")
        device = _device()
        loaded = AutoModelForSequenceClassification.from_pretrained(place).to(device).eval()
        tokenizer = AutoTokenizer.from_pretrained(place)
    except (OSError, ValueError) as exc:
        raise NoModel(f"the reranker {model} cannot be loaded ({exc})") from exc
    folder = Path(place) if Path(place).is_dir() else None
    info = ModelInfo(
        model_id="bundled" if place == str(BUNDLED_RERANKER) else model,
        revision=revision(folder, hub_revision=_hub_commit(loaded)),
        device=device,
        dtype=str(next(loaded.parameters()).dtype).removeprefix("torch."),
        max_tokens=min(RERANKER_MAX_TOKENS, config.max_position_embeddings),
    )
    engine = Reranker(info, tokenizer, loaded)
    try_out(engine)
    return engine


def try_out(engine: Reranker) -> None:
    """Refuse a reranker that prefers an unrelated passage to the answering one.

    Raises:
        NoModel: it does so on one of KNOWN_PAIRS, or gives no usable numbers.
    """
    for question, good, bad in KNOWN_PAIRS:
        better, worse = engine.compute(engine.encode(question, [good, bad]))
        if not (np.isfinite(better) and np.isfinite(worse) and better > worse):
            raise NoModel(
                f"the reranker {engine.info.model_id} failed its trial: it gives {better:.3f} to a "
                f"passage that answers “{question}” and {worse:.3f} to one that does not"
            )


def measured_speed(engine: Reranker) -> float:
    """Tokens per second of this reranker on this machine, from one warm batch."""
    question, good, _ = KNOWN_PAIRS[0]
    batch = engine.encode(question, [good * 8] * 8)
    engine.compute(batch)
    began = time.perf_counter()
    engine.compute(batch)
    return sum(item.tokens for item in batch) / (time.perf_counter() - began)


def _hub_commit(model: Any) -> str:
    return str(getattr(model.config, "_commit_hash", None) or "unknown")
