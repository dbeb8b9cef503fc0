"""Rerankers that are language models: the logit of “Yes” to the question whether a passage answers.

The prompt is that of BAAI's bge-reranker-v2-gemma. Question and passage stand in it as data, cut so
that the instruction behind them is always read.

Source: https://github.com/FlagOpen/FlagEmbedding (its prompt and the token that is read)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inference.devices import half_type
from inference.engines import Encoded, Reranker

if TYPE_CHECKING:
    from torch import Tensor

    from inference.packed import Pack

BEFORE_QUESTION, BEFORE_PASSAGE = "A: ", "B: "
INSTRUCTION = (
    "Given a query A and a passage B, determine whether the passage contains an answer to the "
    "query by providing a prediction of either 'Yes' or 'No'."
)
YES = "Yes"


@dataclass
class LanguageModel:
    """A causal language model with its tokenizer, as the engine needs them."""

    tokenizer: Any
    network: Any

    @property
    def dtype(self) -> Any:
        """Of its weights."""
        return self.network.dtype

    @property
    def config(self) -> Any:
        """The network's."""
        return self.network.config


def load(place: str, config: Mapping[str, Any], *, device: str, **allowed: Any) -> LanguageModel:
    """Load one from a folder or the hub, on a GPU with half the bits.

    Args:
        config: its `config.json`.
        allowed: what `remote_code.permit` gave.

    Raises:
        NoModel: a layerwise one has no head at the chosen layer.
        OSError, ValueError: it cannot be loaded, or its vocabulary has no “Yes”.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from inference import layerwise

    tokenizer = AutoTokenizer.from_pretrained(place, **allowed)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    dtype = getattr(torch, half_type(device)) if device == "cuda" else torch.float32
    network: Any
    if layerwise.is_layerwise(config):
        network = layerwise.load(place, config, dtype=dtype)
    else:
        network = AutoModelForCausalLM.from_pretrained(
            place, dtype=dtype, use_safetensors=True, **allowed
        )
    model = LanguageModel(tokenizer, network.to(device).eval())
    if not _ids(tokenizer, YES):
        raise ValueError(f"its tokenizer cannot write “{YES}”")
    return model


class LanguageModelReranker(Reranker):
    """Pairs as prompts; the logit is that of the token “Yes” after the prompt.

    A layerwise model has a head that gives the logit itself.
    """

    tells_what_it_read = False

    @property
    def shares_itself(self) -> bool:
        """No: its network computes what it is given."""
        return False

    def encode(self, question: str, passages: Sequence[str]) -> list[Encoded]:
        """Tokenise n prompts; a passage that is too long loses its end, then the question does."""
        tokenizer = self.model.tokenizer
        with self._tokenizing:
            asked = _ids(tokenizer, BEFORE_QUESTION + question)
            read = [_ids(tokenizer, BEFORE_PASSAGE + passage) for passage in passages]
            between = _ids(tokenizer, "\n")
            after = between + _ids(tokenizer, INSTRUCTION)
        begin = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
        room = self.max_tokens - len(begin) - len(between) - len(after)
        kept = asked[: room // 2] if len(asked) > room // 2 else asked
        most = room - len(kept)
        encoded = []
        for ids in read:
            whole = [*begin, *kept, *between, *ids[:most], *after]
            is_cut = len(ids) > most or len(kept) < len(asked)
            tokens = {"input_ids": whole, "attention_mask": [1] * len(whole)}
            encoded.append(Encoded(tokens, len(whole), truncated=is_cut))
        return encoded

    def _forward(self, tensors: dict[str, Any]) -> Any:
        from inference.layerwise import Layerwise

        network = self.model.network
        if isinstance(network, Layerwise):
            return network(**tensors)
        # Nothing is generated: what is kept for that would be gigabytes for a batch.
        found = network(**tensors, logits_to_keep=1, use_cache=False)
        return found.logits[:, -1, _ids(self.model.tokenizer, YES)[0]]

    def _on_packs(self) -> Callable[[Pack], Tensor] | None:
        return None


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
