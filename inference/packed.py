"""An encoder without padding: the texts of a batch laid end to end.

Linear layers see the tokens of all texts as one matrix, attention sees each text by itself; on
CUDA that is one kernel (`torch.nn.attention.varlen`), elsewhere one call for each text. Weights and
sums are those of the model it is made of, so scores are the same to rounding. Where only the
first token of each text is asked for, the last layer is computed for those tokens alone.

For the BERT and (XLM-)RoBERTa families, as transformers builds them.

Sources: Zeng et al., ByteTransformer, IPDPS 2023, arXiv:2210.03052 (packing);
https://docs.pytorch.org/docs/stable/nn.attention.varlen.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

# Families, and whether their positions are counted from behind the padding's id.
FAMILIES = {"bert": False, "roberta": True, "xlm-roberta": True}
HALVES = (torch.float16, torch.bfloat16)
# Of one core at a time: enough rows for its matrix products, few enough for its cache.
CORE_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Pack:
    """Texts end to end: token ids and types (t,), and how many tokens each text has, (n,)."""

    ids: Tensor
    types: Tensor
    lengths: Sequence[int]

    def offsets(self) -> Tensor:
        """Where each text begins, and where the last one ends: (n + 1,) int32."""
        lengths = torch.tensor([0, *self.lengths], device=self.ids.device)
        return lengths.cumsum(0).to(torch.int32)

    def places(self) -> Tensor:
        """The place of each token in its text, (t,) from 0."""
        begins = torch.repeat_interleave(
            self.offsets()[:-1].long(), torch.tensor(self.lengths, device=self.ids.device)
        )
        return torch.arange(len(self.ids), device=self.ids.device) - begins


def is_packable(model: Any) -> bool:
    """Whether a model of transformers is one that `PackedEncoder` computes exactly."""
    config: Any = getattr(model, "config", None)
    return (
        getattr(config, "model_type", "") in FAMILIES
        and config.hidden_act == "gelu"
        and not getattr(config, "is_decoder", False)
        and getattr(config, "position_embedding_type", None) in (None, "absolute")
    )


class PackedEncoder:
    """The encoder of a BERT or RoBERTa model of transformers, on packs.

    It computes with the model's own weights; those of query, key and value become one matrix,
    of which the model's are views.
    """

    def __init__(self, model: Any) -> None:
        """Take over an encoder (such as BertModel) for which `is_packable` holds."""
        self._model = model
        config = model.config
        self._heads, self._width = config.num_attention_heads, config.hidden_size
        behind = FAMILIES[config.model_type]
        self._first_place = config.pad_token_id + 1 if behind else 0
        self._layers = list(model.encoder.layer)
        self._joined = [_join(layer.attention.self) for layer in self._layers]

    def states(self, pack: Pack, *, first_only: bool = False) -> Tensor:
        """Last states (t, d) of all tokens; of each text's first token alone, (n, d)."""
        offsets = pack.offsets()
        hidden = self._embedded(pack)
        for number, (layer, joined) in enumerate(zip(self._layers, self._joined, strict=True)):
            last = first_only and number == len(self._layers) - 1
            hidden = self._layer(layer, joined, hidden, offsets, pack.lengths, first_only=last)
        return hidden

    def _embedded(self, pack: Pack) -> Tensor:
        parts = self._model.embeddings
        hidden = parts.word_embeddings(pack.ids) + parts.token_type_embeddings(pack.types)
        hidden = hidden + parts.position_embeddings(pack.places() + self._first_place)
        found: Tensor = parts.LayerNorm(hidden)
        return found

    def _layer(
        self,
        layer: Any,
        joined: tuple[Tensor, Tensor],
        hidden: Tensor,
        offsets: Tensor,
        lengths: Sequence[int],
        *,
        first_only: bool,
    ) -> Tensor:
        weight, bias = joined
        firsts = offsets[:-1].long()
        split = (-1, self._heads, self._width // self._heads)
        if first_only:
            asked = hidden[firsts]
            query = functional.linear(asked, weight[: self._width], bias[: self._width])
            others = functional.linear(hidden, weight[self._width :], bias[self._width :])
            key, value = others.chunk(2, dim=1)
            lengths_asked = [1] * len(lengths)
        else:
            asked = hidden
            query, key, value = functional.linear(hidden, weight, bias).chunk(3, dim=1)
            lengths_asked = list(lengths)
        attended = _attention(
            query.reshape(split), key.reshape(split), value.reshape(split), lengths_asked, lengths
        ).reshape(-1, self._width)
        output, feed = layer.attention.output, layer.output
        hidden = output.LayerNorm(output.dense(attended) + asked)
        inner = functional.gelu(layer.intermediate.dense(hidden))
        found: Tensor = feed.LayerNorm(feed.dense(inner) + hidden)
        return found


class PackedClassifier:
    """A sequence-classification model with one output: packs in, logits out."""

    def __init__(self, model: Any) -> None:
        """Take over a model (such as BertForSequenceClassification)."""
        encoder = model.base_model
        self._encoder, self._model = PackedEncoder(encoder), model
        self._pooler = getattr(encoder, "pooler", None)

    def logits(self, pack: Pack) -> Tensor:
        """Logits (n,) of the n texts."""
        firsts = self._encoder.states(pack, first_only=True).unsqueeze(1)
        pooled = firsts if self._pooler is None else self._pooler(firsts)
        found: Tensor = self._model.classifier(pooled)
        return found.reshape(-1)


class Cores:
    """Runs packs on a CPU: each core takes one at a time and computes it alone."""

    def __init__(self) -> None:
        self._count = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(
            self._count, "core", initializer=torch.set_num_threads, initargs=(1,)
        )

    def shares(self, lengths: Sequence[int]) -> list[list[int]]:
        """Numbers of the texts that go together: alike in length, about as many tokens each."""
        total = sum(lengths)
        rounds = max(1, round(total / (CORE_TOKENS * self._count)))
        wanted = total / (rounds * self._count)
        shares: list[list[int]] = [[]]
        tokens = 0.0
        for n in sorted(range(len(lengths)), key=lambda n: -lengths[n]):
            if shares[-1] and tokens + lengths[n] / 2 > wanted:
                shares.append([])
                tokens = 0.0
            shares[-1].append(n)
            tokens += lengths[n]
        return shares

    def run(self, compute: Callable[[Pack], Tensor], packs: Sequence[Pack]) -> list[Tensor]:
        """Results of `compute(pack)` for each, in their order."""

        def alone(pack: Pack) -> Tensor:
            with torch.inference_mode():  # which holds for one thread
                return compute(pack)

        return list(self._pool.map(alone, packs))


def _join(attention: Any) -> tuple[Tensor, Tensor]:
    """The weights (3d, d) and biases (3d,) of query, key and value; the parts become views."""
    parts = (attention.query, attention.key, attention.value)
    weight = torch.cat([part.weight.detach() for part in parts])
    bias = torch.cat([part.bias.detach() for part in parts])
    for part, own_weight, own_bias in zip(parts, weight.chunk(3), bias.chunk(3), strict=True):
        part.weight.data, part.bias.data = own_weight, own_bias
    return weight, bias


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    asked: Sequence[int],
    lengths: Sequence[int],
) -> Tensor:
    """Attention (t, heads, d) of `asked` tokens of each text to its `lengths` tokens."""
    if query.is_cuda and query.dtype in HALVES:
        from torch.nn.attention.varlen import varlen_attn

        ends = [
            torch.tensor([0, *counts], device=query.device).cumsum(0).to(torch.int32)
            for counts in (asked, lengths)
        ]
        found: Tensor = varlen_attn(query, key, value, *ends, max(asked), max(lengths))
        return found
    texts = zip(
        query.split(list(asked)), key.split(list(lengths)), value.split(list(lengths)), strict=True
    )
    return torch.cat(
        [
            functional.scaled_dot_product_attention(
                *(part.transpose(0, 1).unsqueeze(0) for part in text)
            )
            .squeeze(0)
            .transpose(0, 1)
            for text in texts
        ]
    )
