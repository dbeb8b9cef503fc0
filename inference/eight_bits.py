"""Linear layers in eight bits: int8 on a CPU, float8 on a GPU. Quicker, and scores move a little.

Weights are rounded once, with a scale for each output; what comes in is rounded as it comes, with
a scale for each token. So a score depends on its own pair alone and not on what shares its batch.
Everything between the linear layers stays as it is, and so do a classifier's head and, in int8, the
layers of attention: a third of the products, and most of what the order loses.

`inference.trial` decides whether a model may be used so.

Sources: Dettmers et al., LLM.int8(), NeurIPS 2022, arXiv:2208.07339 (a scale per row and column);
Micikevicius et al., FP8 Formats for Deep Learning, 2022, arXiv:2209.05433
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import nn

from inference.precision import FLOAT8, INT8

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_INT8 = 127.0
LARGEST_FLOAT8 = torch.finfo(torch.float8_e4m3fn).max
# Heads on top of an encoder: a few rows, and all that a score rests on.
HEADS = ("pooler", "classifier", "head", "score")
ATTENTION = ("attention", "attn", "self_attn")


class EightBitLinear(nn.Module):
    """`nn.Linear` with weights (outputs, inputs) in eight bits and a scale (outputs,) for each row.

    `linears` become one whose outputs follow each other.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None
    largest: float
    # Parts of a network that stay as they are.
    spared: tuple[str, ...] = HEADS

    def __init__(self, *linears: nn.Linear) -> None:
        super().__init__()
        weight = torch.cat([linear.weight.detach() for linear in linears])
        scale = weight.float().abs().amax(1).clamp_min(1e-12) / self.largest
        self.register_buffer("weight", self._rounded(weight.float() / scale.unsqueeze(1)))
        self.register_buffer("scale", scale)
        biases = [linear.bias.detach() for linear in linears if linear.bias is not None]
        self.register_buffer("bias", torch.cat(biases) if biases else None)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """One layer of several that read the same; the parts become views of it."""
        made = cls.__new__(cls)
        nn.Module.__init__(made)
        for name in ("weight", "scale", "bias"):
            whole = torch.cat([getattr(part, name) for part in parts])
            made.register_buffer(name, whole)
            begin = 0
            for part in parts:
                rows = len(part.weight)
                part.register_buffer(name, whole[begin : begin + rows])
                begin += rows
        return made

    def rows(self, begin: int, end: int) -> Self:
        """The layer of some of its outputs."""
        made = type(self).__new__(type(self))
        nn.Module.__init__(made)
        for name in ("weight", "scale", "bias"):
            whole = getattr(self, name)
            made.register_buffer(name, None if whole is None else whole[begin:end])
        return made

    def forward(self, states: Tensor) -> Tensor:
        """(…, inputs) to (…, outputs), in the type of what came in."""
        flat = states.reshape(-1, states.shape[-1])
        scales = flat.abs().amax(1, keepdim=True).float().clamp_min(1e-12) / self.largest
        found = self._product(flat / scales, scales)
        return found.to(states.dtype).reshape(*states.shape[:-1], -1)

    def _rounded(self, values: Tensor) -> Tensor:
        raise NotImplementedError

    def _product(self, rows: Tensor, scales: Tensor) -> Tensor:
        """Of rows (t, inputs) up to `largest` with scales (t, 1) and the weights, and the biases
        added; (t, outputs)."""
        raise NotImplementedError


class Int8Linear(EightBitLinear):
    """For a CPU with instructions for it (AVX512-VNNI, AVX-VNNI, AMX)."""

    largest = LARGEST_INT8
    spared = (*HEADS, *ATTENTION)

    def _rounded(self, values: Tensor) -> Tensor:
        return values.round().clamp_(-LARGEST_INT8, LARGEST_INT8).to(torch.int8)

    def _product(self, rows: Tensor, scales: Tensor) -> Tensor:
        found = torch._int_mm(self._rounded(rows), self.weight.t()).float()
        found = found.mul_(scales).mul_(self.scale)
        return found if self.bias is None else found.add_(self.bias)


class Float8Linear(EightBitLinear):
    """On a GPU of the Ada or Hopper generations, or later."""

    largest = LARGEST_FLOAT8

    def _rounded(self, values: Tensor) -> Tensor:
        # What is beyond the largest by rounding alone becomes the largest.
        return values.to(torch.float8_e4m3fn)

    def _product(self, rows: Tensor, scales: Tensor) -> Tensor:
        return torch._scaled_mm(
            self._rounded(rows),
            self.weight.t(),
            scale_a=scales,
            scale_b=self.scale.unsqueeze(0),
            bias=None if self.bias is None else self.bias.bfloat16(),
            out_dtype=torch.bfloat16,
            use_fast_accum=True,
        )


KINDS: dict[str, type[EightBitLinear]] = {INT8: Int8Linear, FLOAT8: Float8Linear}


def convert(network: Any, kind: str) -> int:
    """Replace linear layers of a network, but for the spared ones. Returns how many there were."""
    spared = KINDS[kind].spared
    chosen = [
        (parent, name, child)
        for path, parent in network.named_modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear and not any(part in spared for part in (*path.split("."), name))
    ]
    for parent, name, child in chosen:
        setattr(parent, name, KINDS[kind](child))
    return len(chosen)
