"""An encoder without padding: the texts of a batch laid end to end.

Linear layers see the tokens of all texts as one matrix, attention sees each text by itself; on
CUDA that is one kernel (`torch.nn.attention.varlen`), elsewhere one call for each text. Weights and
sums are those of the model it is made of, so scores are the same to rounding. Where only the
first token of each text is asked for, the last layer is computed for those tokens alone; on a CPU
without keys and values of the others (`_FirstsAlone`).

For the BERT and (XLM-)RoBERTa families, as transformers builds them.

Sources: Zeng et al., ByteTransformer, IPDPS 2023, arXiv:2210.03052 (packing);
https://docs.pytorch.org/docs/stable/nn.attention.varlen.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from threading import Barrier
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
import torch
from torch.nn import functional

from inference.eight_bits import EightBitLinear
from inference.onednn import PrepackedLinear

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

# Families, and whether their positions are counted from behind the padding's id.
FAMILIES = {"bert": False, "roberta": True, "xlm-roberta": True}
HALVES = (torch.float16, torch.bfloat16)
# Of one core at a time: enough rows for its matrix products, few enough for its cache.
CORE_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Cuts:
    """Where texts lie in a pack: `ends` (n + 1,) int32 from 0 on the device, and on the host the
    lengths of the n texts and the most that any of them can have."""

    ends: Tensor
    lengths: Sequence[int]
    longest: int


# (query, key, value) of (t, heads, width) each, the tokens asked for, and those they look at.
Attention = Callable[["Tensor", "Tensor", "Tensor", Cuts, Cuts], "Tensor"]


@dataclass(frozen=True, slots=True)
class Pack:
    """Texts end to end: ids, types and places in their text (from 0) of all tokens, each (t,).

    All that kernels need is on the device before the first of them: none waits for the host.
    """

    ids: Tensor
    types: Tensor
    places: Tensor
    cuts: Cuts

    @classmethod
    def of(
        cls,
        ids: Sequence[ArrayLike],
        types: Sequence[ArrayLike],
        device: str = "cpu",
        *,
        step: int = 1,
    ) -> Self:
        """Lay n texts end to end.

        Args:
            step: of what the number of tokens is to be a multiple; for that another text, without
                meaning, may stand behind the n.
        """
        missing = -sum(np.size(text) for text in ids) % step
        if missing:
            filler = np.zeros(missing, np.int64)
            ids, types = [*ids, filler], [*types, filler]
        lengths = [np.size(text) for text in ids]
        ends = np.cumsum([0, *lengths])
        places = np.arange(ends[-1]) - np.repeat(ends[:-1], lengths)

        def there(values: NDArray[np.integer[Any]]) -> Tensor:
            return torch.from_numpy(values).to(device, non_blocking=True)

        cuts = Cuts(there(ends.astype(np.int32)), lengths, max(lengths))
        flat = [np.concatenate(rows).astype(np.int64, copy=False) for rows in (ids, types)]
        return cls(there(flat[0]), there(flat[1]), there(places), cuts)

    def padded(self, *, tokens: int, texts: int, longest: int) -> Self:
        """The same with so many tokens and texts, the last ones without meaning.

        Args:
            tokens, texts: no fewer than there are, and texts for the tokens that are added.
            longest: what no text exceeds.
        """
        more = tokens - len(self.ids)
        added = [min(longest, more - begin) for begin in range(0, more, longest)]
        added += [0] * (texts - len(self.cuts.lengths) - len(added))
        lengths = [*self.cuts.lengths, *added]

        def filled(values: Tensor) -> Tensor:
            return functional.pad(values, (0, more))

        ends = torch.from_numpy(np.cumsum([0, *lengths]).astype(np.int32))
        cuts = Cuts(ends.to(self.ids.device, non_blocking=True), lengths, longest)
        return type(self)(filled(self.ids), filled(self.types), filled(self.places), cuts)

    @property
    def firsts(self) -> Tensor:
        """The number of each text's first token, (n,); of an empty one, any token."""
        return self.cuts.ends[:-1].long().clamp(max=len(self.ids) - 1)


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

    It computes with the model's own layers, whatever they have been replaced by. Plain ones of
    query, key and value become one matrix, of which the model's are views.
    """

    def __init__(self, model: Any, *, attention: Attention | None = None) -> None:
        """Take over an encoder (such as BertModel) for which `is_packable` holds.

        Args:
            attention: in place of the quickest one there is.
        """
        self._model = model
        config = model.config
        self._heads, self._width = config.num_attention_heads, config.hidden_size
        behind = FAMILIES[config.model_type]
        self._first_place = config.pad_token_id + 1 if behind else 0
        self._layers = list(model.encoder.layer)
        self._reading = [_reading(layer.attention.self) for layer in self._layers]
        last = self._layers[-1].attention.self
        self._firsts_alone = _FirstsAlone.of(last, self._heads) if attention is None else None
        self._attention = attention or varlen_attention
        self._behind_attention, self._widen = _behind_attention, _widened

    def fuse_gelu(self) -> None:
        """Let one kernel compute a product, its biases and GELU; on CUDA, where that is the curve
        by tanh, which differs from the model's by a thirtieth of what bfloat16 does."""
        self._widen = _widened_at_once

    def compile(self, backend: str = "inductor") -> None:
        """Let what follows attention in each layer become fewer kernels, at the first use."""
        self._behind_attention = torch.compile(_behind_attention, dynamic=True, backend=backend)

    def states(self, pack: Pack, *, first_only: bool = False) -> Tensor:
        """Last states (t, d) of all tokens; of each text's first token alone, (n, d)."""
        last = len(self._layers)
        if not first_only:
            return self.states_after([last], pack)[0]
        hidden = self._embedded(pack)
        for number in range(1, last):
            hidden = self._after(number, hidden, pack)
        attended, asked = self._firsts(hidden, pack)
        return self._behind_attention(self._layers[-1], attended, asked, self._widen)

    def states_after(self, layers: Sequence[int], pack: Pack) -> list[Tensor]:
        """States (t, d) after each of these layers, counted from 1 and in ascending order."""
        hidden, found = self._embedded(pack), []
        for number in range(1, layers[-1] + 1):
            hidden = self._after(number, hidden, pack)
            if number in layers:
                found.append(hidden)
        return found

    def _embedded(self, pack: Pack) -> Tensor:
        parts = self._model.embeddings
        hidden = parts.word_embeddings(pack.ids) + parts.token_type_embeddings(pack.types)
        hidden = hidden + parts.position_embeddings(pack.places + self._first_place)
        found: Tensor = parts.LayerNorm(hidden)
        return found

    def _after(self, number: int, hidden: Tensor, pack: Pack) -> Tensor:
        """States of all tokens after a layer, counted from 1, of those before it."""
        attended = self._attend(*self._reading[number - 1](hidden), pack.cuts, pack.cuts)
        return self._behind_attention(self._layers[number - 1], attended, hidden, self._widen)

    def _firsts(self, hidden: Tensor, pack: Pack) -> tuple[Tensor, Tensor]:
        """What the first token of each text sees in the last layer, and these tokens."""
        asked = hidden[pack.firsts]
        if self._firsts_alone is not None:
            return self._firsts_alone(hidden, asked, pack.cuts), asked
        query, key, value = self._reading[-1](hidden, asked)
        texts = len(asked)
        ends = torch.arange(texts + 1, dtype=torch.int32, device=asked.device)
        return self._attend(query, key, value, Cuts(ends, [1] * texts, 1), pack.cuts), asked

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, asked: Cuts, read: Cuts) -> Tensor:
        split = (-1, self._heads, self._width // self._heads)
        found = self._attention(
            query.reshape(split), key.reshape(split), value.reshape(split), asked, read
        )
        return found.reshape(-1, self._width)


class PackedClassifier:
    """A sequence-classification model with one output: packs in, logits out."""

    def __init__(self, model: Any, *, attention: Attention | None = None) -> None:
        """Take over a model (such as BertForSequenceClassification)."""
        self.encoder, self._model = PackedEncoder(model.base_model, attention=attention), model
        self._pooler = getattr(model.base_model, "pooler", None)

    def logits(self, pack: Pack) -> Tensor:
        """Logits (n,) of the n texts."""
        firsts = self.encoder.states(pack, first_only=True).unsqueeze(1)
        pooled = firsts if self._pooler is None else self._pooler(firsts)
        found: Tensor = self._model.classifier(pooled)
        return found.reshape(-1)


Part = TypeVar("Part")
Result = TypeVar("Result")


def _alone() -> None:
    """Let this thread compute by itself. Torch keeps the number of a thread once it was asked for.

    Source: https://github.com/pytorch/pytorch/blob/main/aten/src/ATen/ParallelOpenMP.cpp
    """
    torch.set_num_threads(1)
    torch.get_num_threads()


class Cores:
    """Runs parts of a batch on a CPU: each core takes one at a time and computes it alone."""

    def __init__(self) -> None:
        self._count = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(self._count, "core", initializer=_alone)
        # What a thread sets becomes that of all later threads as well. So all of these begin now,
        # each waiting for the others, and then the number for the rest is what it was.
        all_there = Barrier(self._count)
        for begun in [self._pool.submit(all_there.wait) for _ in range(self._count)]:
            begun.result()
        torch.set_num_threads(self._count)

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

    def begin(
        self, compute: Callable[[Part], Result], parts: Sequence[Part]
    ) -> Callable[[], list[Result]]:
        """Let the cores compute each part, behind what they have. Returns what waits for it:
        the results of `compute(part)` in their order."""

        def alone(part: Part) -> Result:
            with torch.inference_mode():  # which holds for one thread
                return compute(part)

        begun = [self._pool.submit(alone, part) for part in parts]
        return lambda: [each.result() for each in begun]


@cache
def cores() -> Cores:
    """The cores of this process, which all of its models share."""
    return Cores()


# Queries of the tokens asked for, or of all, and keys and values of all, (t, d) each.
_Reading = Callable[..., tuple["Tensor", "Tensor", "Tensor"]]


def _reading(attention: Any) -> _Reading:
    """The layers of query, key and value: as one of 3d outputs, where they can be joined."""
    parts = (attention.query, attention.key, attention.value)
    if isinstance(parts[0], PrepackedLinear):

        def apart(hidden: Tensor, asked: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
            query, key, value = parts
            return query(hidden if asked is None else asked), key(hidden), value(hidden)

        return apart
    joined = _join(parts)
    width = len(joined.weight) // 3

    def together(hidden: Tensor, asked: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        if asked is None:
            query, key, value = joined(hidden).chunk(3, dim=1)
            return query, key, value
        key, value = joined.rows(width, 3 * width)(hidden).chunk(2, dim=1)
        return joined.rows(0, width)(asked), key, value

    return together


@dataclass(frozen=True, slots=True)
class _Linear:
    """A linear layer by its weights (outputs, inputs) and biases (outputs,)."""

    weight: Tensor
    bias: Tensor

    def __call__(self, states: Tensor) -> Tensor:
        return functional.linear(states, self.weight, self.bias)

    def rows(self, begin: int, end: int) -> Self:
        """The layer of some of its outputs."""
        return type(self)(self.weight[begin:end], self.bias[begin:end])


@dataclass(frozen=True, slots=True)
class _FirstsAlone:
    """Attention of each text's first token, with products of three matrices in another order.

    A token's key is K x and the score q (K x) = (q K) x: the query is taken to the width of the
    states, once, in place of all states to keys. What a head sees is the sum of p (V x) = V (sum of
    p x) likewise. What K adds to all scores of a head alike makes no difference to softmax.

    query: the layer. keys, values: of h heads of the width w, (h, w, d) and (h, d, w), the keys
    divided by the root of w. bias: (h, 1, w) of the values.
    """

    query: Any
    keys: Tensor
    values: Tensor
    bias: Tensor

    @classmethod
    def of(cls, attention: Any, heads: int) -> Self | None:
        """Of the attention of a layer; None but in float32 on a CPU, where small products pay."""
        weights = [layer.weight.detach() for layer in (attention.key, attention.value)]
        if any(weight.is_cuda or weight.dtype != torch.float32 for weight in weights):
            return None
        key, value = (weight.reshape(heads, -1, weight.shape[1]) for weight in weights)
        bias = attention.value.bias.detach().reshape(heads, 1, -1)
        root = key.shape[1] ** 0.5
        return cls(attention.query, key / root, value.transpose(1, 2).contiguous(), bias)

    def __call__(self, hidden: Tensor, firsts: Tensor, cuts: Cuts) -> Tensor:
        """(n, d) for n first tokens of texts that lie end to end in `hidden` (t, d)."""
        heads = len(self.keys)
        query = self.query(firsts).reshape(len(firsts), heads, -1)
        looking = torch.bmm(query.transpose(0, 1), self.keys).transpose(0, 1)
        seen = [
            torch.softmax(look @ text.T, dim=1) @ text
            for look, text in zip(looking, hidden.split(list(cuts.lengths)), strict=True)
        ]
        found = torch.baddbmm(self.bias, torch.stack(seen, 1), self.values)
        return found.transpose(0, 1).reshape(len(firsts), -1)


def _join(parts: Sequence[Any]) -> Any:
    """Layers that read the same as one; the parts become views of it."""
    if isinstance(parts[0], EightBitLinear):
        return type(parts[0]).joined(parts)
    weight = torch.cat([part.weight.detach() for part in parts])
    bias = torch.cat([part.bias.detach() for part in parts])
    for part, own_weight, own_bias in zip(parts, weight.chunk(3), bias.chunk(3), strict=True):
        part.weight.data, part.bias.data = own_weight, own_bias
    return _Linear(weight, bias)


def _widened(inner: Any, hidden: Tensor) -> Tensor:
    """The wide states of a layer, behind GELU."""
    if isinstance(inner, PrepackedLinear):
        return inner.gelu(hidden)
    return functional.gelu(inner(hidden))


def _widened_at_once(inner: Any, hidden: Tensor) -> Tensor:
    """The same, saved from being written and read between product and GELU."""
    if type(inner) is not torch.nn.Linear:
        return _widened(inner, hidden)
    return torch._addmm_activation(inner.bias, hidden, inner.weight.t(), use_gelu=True)


def _behind_attention(
    layer: Any, attended: Tensor, asked: Tensor, widen: Callable[[Any, Tensor], Tensor]
) -> Tensor:
    """The rest of a layer, for the tokens that were asked for."""
    output, feed = layer.attention.output, layer.output
    hidden = output.LayerNorm(output.dense(attended) + asked)
    wide = widen(layer.intermediate.dense, hidden)
    found: Tensor = feed.LayerNorm(feed.dense(wide) + hidden)
    return found


def varlen_attention(query: Tensor, key: Tensor, value: Tensor, asked: Cuts, read: Cuts) -> Tensor:
    """What the tokens asked for see of their texts, (t, heads, width)."""
    if query.is_cuda and query.dtype in HALVES:
        from torch.nn.attention.varlen import varlen_attn

        found: Tensor = varlen_attn(
            query, key, value, asked.ends, read.ends, asked.longest, read.longest
        )
        return found
    texts = zip(
        query.split(list(asked.lengths)),
        key.split(list(read.lengths)),
        value.split(list(read.lengths)),
        strict=True,
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
