"""Linear layers on a CPU by oneDNN, with weights that are laid out for it once.

Of its own accord torch multiplies float32 by Intel's MKL, which uses AVX-512 on Intel's processors
alone: on an AMD EPYC with AVX-512 one core reaches 115 GFLOP/s with it and 265 with oneDNN, which
also comes inside torch. Sums are those of float32 in another order, so results are the same to
rounding. In the same pass oneDNN adds biases and computes GELU.

torch's compiler makes the same calls when it freezes a model; here they are made without a
compiler. Where torch lacks them everything stays as it is.

Source: https://uxlfoundation.github.io/oneDNN/dev_guide_inner_product.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from inference.devices import multiplies_bfloat16

if TYPE_CHECKING:
    from torch import Tensor

# Kernels are made for each number of rows, some 0.3 ms; so there should be few such numbers.
ROWS_STEP = 16
# For how many rows weights are laid out; others cost little more.
USUAL_ROWS = 512


class PrepackedLinear(nn.Module):
    """`nn.Linear` for inference. What it was made of can be let go."""

    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), USUAL_ROWS)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())

    @property
    def weight(self) -> Tensor:
        """A copy of the weights as `nn.Linear` has them, (outputs, inputs)."""
        plain: Tensor = self._weight.to_dense()
        return plain

    def forward(self, states: Tensor) -> Tensor:
        """(…, inputs) to (…, outputs)."""
        return self._product(states, "none", "")

    def gelu(self, states: Tensor) -> Tensor:
        """The same and then GELU by the error function."""
        return self._product(states, "gelu", "none")

    def _product(self, states: Tensor, then: str, algorithm: str) -> Tensor:
        found: Tensor = torch.ops.mkldnn._linear_pointwise(
            states, self._weight, self.bias, then, [], algorithm
        )
        return found


def can_prepack() -> bool:
    """Whether this torch has what is called here."""
    operators = torch.ops.mkldnn
    return torch.backends.mkldnn.is_available() and all(
        hasattr(operators, name) for name in ("_reorder_linear_weight", "_linear_pointwise")
    )


def prepack(network: Any) -> int:
    """Replace the linear layers of a network that computes on a CPU. Returns how many there were.

    Those of types that oneDNN does not multiply here stay, and so does what has no weights.
    """
    if not can_prepack():
        return 0
    types = (torch.float32, *([torch.bfloat16] if multiplies_bfloat16() else []))
    chosen = [
        (parent, name, child)
        for parent in network.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear and child.weight.dtype in types and child.weight.numel()
    ]
    for parent, name, child in chosen:
        setattr(parent, name, PrepackedLinear(child))
    return len(chosen)
