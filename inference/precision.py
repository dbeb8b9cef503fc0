"""In which type a reranker computes: what an operator may ask for, and what is granted.

By itself it is the quickest type that keeps the scores: float32 on a CPU (bfloat16 for the bundled
encoder where the processor multiplies it), bfloat16 on a GPU. Eight bits are used only where they
are asked for and pass the trial of `inference.trial`.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    from inference.engines import Reranker

AUTO = "auto"
INT8, FLOAT8 = "int8", "float8"
DTYPES = (AUTO, "float32", "float16", "bfloat16", INT8, FLOAT8)
EIGHT_BITS = (INT8, FLOAT8)
DTYPE_SETTING, SPEEDUPS_SETTING = "RERANKER_DTYPE", "RERANKER_SPEEDUPS"
SPEEDUPS = ("compile", "graphs")
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
                known = " and ".join(SPEEDUPS)
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
        if dtype in ("float16", "bfloat16"):
            return "on a CPU it is many times slower or, where it is not, used by itself"
        return "it needs a GPU" if dtype == FLOAT8 else ""
    if compares_states:
        return "on a GPU the bundled reranker computes in float32"
    if dtype == INT8:
        return "it is for CPUs; on a GPU there is float8"
    if dtype == FLOAT8 and torch.cuda.get_device_capability() < FLOAT8_GENERATION:
        return "this GPU does not multiply float8"
    return ""


def in_eight_bits(
    exact: Any, kind: str, *, engine_of: Callable[[Any], Reranker]
) -> tuple[Any | None, str]:
    """The cross-encoder in eight bits if its order is that of the exact one, or why it is not used.

    Args:
        exact: of sentence-transformers, in float32; it stays as it is.
        engine_of: makes an engine of one.
    """
    from inference.eight_bits import convert
    from inference.interaction import Interaction, StateMemory
    from inference.trial import LEAST_OVERLAP, overlap, sample

    quick = deepcopy(exact)
    if kind == FLOAT8:
        quick.bfloat16()
    compares_states = isinstance(quick[0], Interaction)
    if not convert(quick[0].bert if compares_states else quick[0].auto_model, kind):
        return None, "it has no layers that can be computed so"
    if compares_states:  # or each passage would be read anew for each question
        for model in (exact, quick):
            model[0].memory = StateMemory(model[0], float("inf"))
    try:
        found = overlap(engine_of(exact), engine_of(quick), *sample())
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
