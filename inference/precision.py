"""In which type a reranker computes: what an operator may ask for, and what is granted.

By itself it is the quickest type that keeps the scores: float32 on a CPU, bfloat16 on a GPU. What
moves scores by more than that, eight bits and bfloat16 on a CPU, is used only where it is asked for
and passes the trial of `inference.trial`.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from inference.devices import is_ampere, multiplies_bfloat16

if TYPE_CHECKING:
    from collections.abc import Callable

    from inference.engines import Reranker

AUTO = "auto"
INT8, FLOAT8 = "int8", "float8"
DTYPES = (AUTO, "float32", "float16", "bfloat16", INT8, FLOAT8)
EIGHT_BITS = (INT8, FLOAT8)
BFLOAT16 = "bfloat16"
DTYPE_SETTING, SPEEDUPS_SETTING = "RERANKER_DTYPE", "RERANKER_SPEEDUPS"
SPEEDUPS = ("compile", "graphs", "gelu")
# The first GPUs that multiply float8 are of this generation (Ada; Hopper is 9.0).
FLOAT8_GENERATION = (8, 9)


@dataclass(frozen=True, slots=True)
class Options:
    """What an operator asks of a reranker.

    dtype: one of DTYPES. speedups: those of SPEEDUPS that a GPU shall use.
    """

    dtype: str = AUTO
    speedups: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read RERANKER_DTYPE and RERANKER_SPEEDUPS.

        Raises:
            ValueError: one has a value that does not exist; one full sentence.
        """
        dtype = environment.get(DTYPE_SETTING, "").strip().lower() or AUTO
        if dtype not in DTYPES:
            raise ValueError(f"{DTYPE_SETTING} must be one of {', '.join(DTYPES)}, not {dtype}.")
        listed = environment.get(SPEEDUPS_SETTING, "").lower().split(",")
        speedups = tuple(name.strip() for name in listed if name.strip())
        for name in speedups:
            if name not in SPEEDUPS:
                known = ", ".join(SPEEDUPS)
                raise ValueError(f"{SPEEDUPS_SETTING} can name {known}, not {name}.")
        return cls(dtype, speedups)


def unfit(dtype: str, *, device: str, compares_states: bool = False) -> str:
    """Why a type cannot be used there, as one clause; empty where it can be tried.

    Args:
        compares_states: whether it is the bundled kind, whose head is float32.
    """
    import torch

    if dtype == AUTO or (dtype == "float32" and device == "cpu"):
        return ""
    if device == "cpu":
        slow = dtype == "float16" or (dtype == BFLOAT16 and not multiplies_bfloat16())
        if slow:
            return "this processor has no instructions for it, and is many times slower without"
        return "it needs a GPU" if dtype == FLOAT8 else ""
    if compares_states:
        return "on a GPU the bundled reranker computes in float32"
    if dtype == INT8:
        return "it is for CPUs; on a GPU there is float8"
    if dtype == BFLOAT16 and not is_ampere():
        return "this GPU does not multiply bfloat16"
    if dtype == FLOAT8 and torch.cuda.get_device_capability() < FLOAT8_GENERATION:
        return "this GPU does not multiply float8"
    return ""


def cast(model: Any, dtype: str) -> Any:
    """The model with its weights in a type of torch.

    By how much places turn queries and keys stays in float32, as transformers loads it: rounded to
    bfloat16, the states of a ModernBERT are fifteen times as far from the exact ones after 500
    tokens.
    """
    import torch

    turns = [
        (module, name, values)
        for module in model.modules()
        for name, values in module.named_buffers(recurse=False)
        if name.endswith("inv_freq")
    ]
    model.to(getattr(torch, dtype))
    for module, name, values in turns:
        setattr(module, name, values)
    return model


def needs_trial(dtype: str, *, device: str) -> bool:
    """Whether scores in a type move so far that their order is to be tried."""
    return dtype in EIGHT_BITS or (dtype == BFLOAT16 and device == "cpu")


def in_quicker_type(
    exact: Any, dtype: str, *, engine_of: Callable[[Any], Reranker]
) -> tuple[Any | None, str]:
    """The cross-encoder in a type that needs a trial, or why its order is not the exact one's.

    Args:
        exact: of sentence-transformers, in float32; layers of it may be replaced by such as
            compute the same.
        engine_of: makes an engine of one.
    """
    from inference.eight_bits import convert
    from inference.interaction import Interaction, StateMemory
    from inference.trial import LEAST_OVERLAP, overlap, sample

    quick = deepcopy(exact)
    compares_states = isinstance(quick[0], Interaction)
    if dtype == BFLOAT16 and compares_states:
        quick[0].read_in_bfloat16()
    elif dtype in (BFLOAT16, FLOAT8):
        cast(quick, BFLOAT16)
    network = quick[0].bert if compares_states else quick[0].auto_model
    if dtype in EIGHT_BITS and not convert(network, dtype):
        return None, "it has no layers that can be computed so"
    engines = engine_of(exact), engine_of(quick)
    if compares_states:  # or each passage would be read anew for each question
        for model in (exact, quick):
            model[0].memory = StateMemory(model[0], float("inf"))
    try:
        found = overlap(*engines, *sample())
    except OSError as exc:
        return None, f"the sample documents to try it on cannot be read ({exc})"
    finally:
        if compares_states:
            exact[0].memory = quick[0].memory = None
    if not found >= LEAST_OVERLAP:
        return None, (
            f"of the first ten of each question in the trial it keeps {found:.1%}, and "
            f"{LEAST_OVERLAP:.0%} are asked for"
        )
    return quick, ""
