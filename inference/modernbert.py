"""ModernBERT without padding: the texts of a batch laid end to end, as `inference.packed` does it.

Most layers look only so far to either side. On a CPU their products are computed for blocks of a
text and what such a block can see, so a long text costs what it is long, not its square; on CUDA
`torch.nn.attention.varlen` takes the window as an argument.

Source: Warner et al., Smarter, Better, Faster, Longer, 2024, arXiv:2412.13663 (local attention,
rotary positions, gated linear units)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from inference.packed import HALVES, Cuts, Pack, varlen_attention

if TYPE_CHECKING:
    from torch import Tensor

FULL, WINDOW = "full_attention", "sliding_attention"

# Query, key and value of (t, heads, width) each, where their texts lie, and how far one sees.
WindowAttention = Callable[["Tensor", "Tensor", "Tensor", Cuts, int], "Tensor"]


def is_packable(model: Any) -> bool:
    """Whether a model of transformers, or the one inside a classifier, is one that
    `PackedModernBert` computes exactly."""
    config: Any = getattr(model, "config", None)
    return (
        getattr(config, "model_type", "") == "modernbert"
        and config.hidden_activation == "gelu"
        and all(
            config.rope_parameters[kind]["rope_type"] == "default"
            for kind in set(config.layer_types)
        )
    )


class PackedModernBert:
    """The encoder of a ModernBERT of transformers, on packs."""

    def __init__(self, model: Any, *, window_attention: WindowAttention | None = None) -> None:
        """Take over a ModernBertModel for which `is_packable` holds.

        Args:
            window_attention: in place of the quickest one there is.
        """
        self._model, config = model, model.config
        self._heads = config.num_attention_heads
        self._window = config.sliding_window
        self._layers = list(model.layers)
        self._window_attention = window_attention or _in_window
        self._turns = {kind: _turns(model, kind) for kind in set(config.layer_types)}

    def states(self, pack: Pack, *, first_only: bool = False) -> Tensor:
        """Last states (t, d) of all tokens; of each text's first token alone, (n, d)."""
        hidden: Tensor = self._model.embeddings(input_ids=pack.ids)
        turns = {
            kind: [table[pack.places] for table in tables] for kind, tables in self._turns.items()
        }
        *before, last = range(len(self._layers))
        for number in before:
            hidden = self._after(number, hidden, pack, turns)
        if first_only and self._layers[last].attention_type == FULL:
            hidden = self._firsts_after(last, hidden, pack, turns[FULL])
        else:
            hidden = self._after(last, hidden, pack, turns)
            hidden = hidden[pack.firsts] if first_only else hidden
        found: Tensor = self._model.final_norm(hidden)
        return found

    def _after(
        self, number: int, hidden: Tensor, pack: Pack, turns: dict[str, list[Tensor]]
    ) -> Tensor:
        """States of all tokens after a layer, counted from 0, of those before it."""
        layer = self._layers[number]
        query, key, value = self._read(layer, hidden, turns[layer.attention_type])
        if layer.attention_type == FULL:
            attended = varlen_attention(query, key, value, pack.cuts, pack.cuts)
        else:
            attended = self._window_attention(query, key, value, pack.cuts, self._window)
        return _rest(layer, attended, hidden)

    def _firsts_after(self, number: int, hidden: Tensor, pack: Pack, turns: list[Tensor]) -> Tensor:
        """The same for the first token of each text, whose place turns nothing."""
        firsts, texts = pack.firsts, len(pack.cuts.lengths)
        query, key, value = self._read(self._layers[number], hidden, turns)
        ends = torch.arange(texts + 1, dtype=torch.int32, device=hidden.device)
        asked = Cuts(ends, [1] * texts, 1)
        attended = varlen_attention(query[firsts], key, value, asked, pack.cuts)
        return _rest(self._layers[number], attended, hidden[firsts])

    def _read(
        self, layer: Any, hidden: Tensor, turns: list[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value (t, heads, width), the first two turned by their place."""
        read = layer.attn.Wqkv(layer.attn_norm(hidden))
        read = read.view(len(hidden), 3, self._heads, -1)
        query, key = _turned(read[:, :2], *turns).unbind(1)
        return query, key, read[:, 2]


def classifier(model: Any) -> Callable[[Pack], Tensor] | None:
    """What makes logits (n,) of packs of n texts, of a sequence-classification model with one
    output; None where it pools all tokens."""
    if model.config.classifier_pooling != "cls":
        return None
    encoder = PackedModernBert(model.model)

    def logits(pack: Pack) -> Tensor:
        found: Tensor = model.classifier(model.head(encoder.states(pack, first_only=True)))
        return found.reshape(-1)

    return logits


def _turns(model: Any, kind: str) -> list[Tensor]:
    """Cosines and sines (places, 1, 1, width / 2) by which queries and keys are turned."""
    places = torch.arange(model.config.max_position_embeddings, device=model.device)
    exact = torch.zeros((), dtype=torch.float32, device=model.device)
    tables = model.rotary_emb(exact, places[None], kind)
    # Their second half repeats the first.
    return [table[0, :, None, None, : table.shape[-1] // 2].contiguous() for table in tables]


def _turned(states: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Queries and keys (t, 2, heads, width), in float32 turned by their place."""
    first, second = states.float().chunk(2, dim=-1)
    halves = (
        torch.addcmul(first * cosines, second, sines, value=-1),
        torch.addcmul(second * cosines, first, sines),
    )
    return torch.cat(halves, dim=-1).to(states.dtype)


def _rest(layer: Any, attended: Tensor, asked: Tensor) -> Tensor:
    """The rest of a layer, for the tokens that were asked for."""
    hidden = asked + layer.attn.Wo(attended.reshape(len(asked), -1))
    found: Tensor = hidden + layer.mlp(layer.mlp_norm(hidden))
    return found


def _in_window(query: Tensor, key: Tensor, value: Tensor, cuts: Cuts, window: int) -> Tensor:
    """What tokens see of their text within so many places to either side, (t, heads, width)."""
    if query.is_cuda and query.dtype in HALVES:
        from torch.nn.attention.varlen import varlen_attn

        where = (cuts.ends, cuts.ends, cuts.longest, cuts.longest)
        on_gpu: Tensor = varlen_attn(query, key, value, *where, window_size=(window, window))
        return on_gpu
    # A block begins a window behind what it sees: row r sees columns r to r + 2 windows.
    places = torch.arange(3 * window, device=query.device)
    distances = places - places[:window, None]
    band = (distances >= 0) & (distances <= 2 * window)
    seen, begin = [], 0
    for length in cuts.lengths:
        end = begin + length
        for block in range(begin, end, window):
            stop = min(block + window, end)
            low, high = max(begin, block - window), min(end, stop + window)
            found = functional.scaled_dot_product_attention(
                query[block:stop].transpose(0, 1).unsqueeze(0),
                key[low:high].transpose(0, 1).unsqueeze(0),
                value[low:high].transpose(0, 1).unsqueeze(0),
                attn_mask=band[: stop - block, low - block + window : high - block + window],
            )
            seen.append(found.squeeze(0).transpose(0, 1))
        begin = end
    return torch.cat(seen)
