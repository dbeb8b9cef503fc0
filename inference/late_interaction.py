"""Rerankers by late interaction: a vector per token, each of the question's with its best match.

The score is the mean of those matches (MaxSim over the number of tokens of the question), a cosine;
for one question it orders as the sum does. Models are loaded by sentence-transformers:
its own, PyLate's, and those of the ColBERT project.

Source: Khattab and Zaharia, ColBERT, SIGIR 2020, arXiv:2004.12832
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from inference.engines import Encoded, Reranker

if TYPE_CHECKING:
    from torch import Tensor

    from inference.packed import Pack

# Scores of exactly 0 and 1 have no log-odds.
SMALLEST = 1e-6


@dataclass(frozen=True, slots=True)
class Compared(Encoded):
    """A passage, and the question it is compared with: the same object for all of a request."""

    question: Mapping[str, Any]


class LateInteractionReranker(Reranker):
    """Pairs whose texts are read apart; the logit is that of the mean best cosine."""

    tells_what_it_read = False

    def encode(self, question: str, passages: Sequence[str]) -> list[Encoded]:
        """Tokenise the question once and n passages, each with the mark of its kind."""
        model, prompts = self.model, self.model.prompts
        with self._tokenizing:
            asked = model.preprocess([question], prompt=prompts.get("query"), task="query")
            read = [
                model.preprocess([passage], prompt=prompts.get("document"), task="document")
                for passage in passages
            ]
            whole = model.tokenizer(
                [(prompts.get("document") or "") + passage for passage in passages],
                truncation=False,
                verbose=False,
            )["input_ids"]
        encoded: list[Encoded] = []
        for features, ids in zip(read, whole, strict=True):
            rows = {
                name: value[0].tolist()
                for name, value in features.items()
                if hasattr(value, "shape") and value.ndim == 2
            }
            tokens = len(rows["input_ids"])
            encoded.append(Compared(rows, tokens, len(ids) > tokens, asked))
        return encoded

    def _tensors(self, batch: Sequence[Encoded]) -> dict[str, Any]:
        """The passages padded; each question once, and which is whose."""
        pairs = cast("Sequence[Compared]", batch)
        questions = {id(pair.question): pair.question for pair in pairs}
        places = {key: place for place, key in enumerate(questions)}
        return {
            "passages": super()._tensors(batch),
            "questions": list(questions.values()),
            "whose": [places[id(pair.question)] for pair in pairs],
        }

    def _forward(self, tensors: dict[str, Any]) -> Any:
        import torch

        device, whose = self.described.device, np.asarray(tensors["whose"])
        read, kept = self._vectors(tensors["passages"], task="document")
        means = torch.empty(len(whose), device=device)
        for number, features in enumerate(tensors["questions"]):
            moved = {name: _moved(value, device) for name, value in features.items()}
            asked, counted = self._vectors(moved, task="query")
            places = torch.from_numpy(np.flatnonzero(whose == number)).to(device)
            # A passage of nothing but marks has no match, and the lowest score.
            best = (asked @ read[places].transpose(1, 2)).masked_fill(
                ~kept[places].unsqueeze(1), -torch.inf
            )
            total = best.amax(2).masked_fill(~counted, 0.0).sum(1)
            means[places] = total / counted.sum()
        cosines = means.clamp(SMALLEST, 1 - SMALLEST)
        return torch.log(cosines) - torch.log1p(-cosines)

    def _vectors(self, features: dict[str, Any], *, task: str) -> tuple[Tensor, Tensor]:
        """The unit vectors (n, t, d) of n texts, and which of them count (n, t)."""
        import torch

        found = self.model(features, task=task)
        unit = torch.nn.functional.normalize(found["token_embeddings"], dim=-1)
        return unit.float(), found["attention_mask"].bool()

    def _on_packs(self) -> Callable[[Pack], Tensor] | None:
        return None


def is_late_interaction(config: Mapping[str, Any], saved: Mapping[str, Any]) -> bool:
    """Whether a `config.json` and a `config_sentence_transformers.json` are of this kind."""
    return "HF_ColBERT" in (config.get("architectures") or ()) or saved.get("model_type") in (
        "ColBERT",
        "MultiVectorEncoder",
    )


def load(place: str, *, device: str, **allowed: Any) -> Any:
    """Load one from a folder or the hub.

    Args:
        allowed: what `remote_code.permit` gave.

    Raises:
        OSError, ValueError: it cannot be loaded.
    """
    from sentence_transformers import MultiVectorEncoder

    code = {"code_revision": allowed.pop("code_revision")} if "code_revision" in allowed else {}
    kwargs: dict[str, Any] = {"use_safetensors": True, **code}
    return MultiVectorEncoder(
        place, device=device, model_kwargs=kwargs, config_kwargs=code, **allowed
    )


def _moved(value: Any, device: str) -> Any:
    return value.to(device) if hasattr(value, "to") else value
