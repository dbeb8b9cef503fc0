"""Recorded kernels: a small batch on a GPU costs what its kernels take, not their launches.

A forward pass of 24 layers launches some 300 kernels; below a few thousand tokens launching takes
longer than computing. So the pass is recorded once for each of a few sizes (a CUDA graph) and
replayed as a whole; a batch is padded to the next size with texts without meaning.

Off unless RERANKER_SPEEDUPS asks for it: it has not been run on a GPU yet.

Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from inference.packed import Pack

if TYPE_CHECKING:
    from torch import Tensor

# Beyond this many tokens computing takes longer than launching.
MOST_TOKENS = 8192
TOKENS_STEP, TEXTS_STEP = 1024, 32

Compute = Callable[[Pack], "Tensor"]


@dataclass(frozen=True, slots=True)
class _Recorded:
    """One recorded pass: where its texts are put, and where its result is found."""

    graph: Any
    pack: Pack
    result: Tensor


class Graphs:
    """Computes packs like the function that it is made of; small ones by replaying."""

    def __init__(self, compute: Compute, *, longest: int) -> None:
        """Record nothing yet.

        Args:
            compute: one result (n,) for the n texts of a pack, by kernels alone.
            longest: the most tokens of a text.
        """
        self._compute, self._longest = compute, longest
        self._kept: dict[tuple[int, int], _Recorded] = {}
        # Of all recordings: the stream, and the memory, which they can share because one is
        # replayed after the other and each result is copied before the next.
        self._beside: Any = None
        self._memory: Any = None

    def __call__(self, pack: Pack) -> Tensor:
        """Results (n,) of the n texts."""
        texts = len(pack.cuts.lengths)
        if len(pack.ids) > MOST_TOKENS:
            return self._compute(pack)
        padded = to_next_size(pack, longest=self._longest)
        size = (len(padded.ids), len(padded.cuts.lengths))
        if size not in self._kept:
            self._kept[size] = self._record(padded)
        recorded = self._kept[size]
        for there, here in zip(_tensors(recorded.pack), _tensors(padded), strict=True):
            there.copy_(here)
        recorded.graph.replay()
        return recorded.result[:texts].clone()

    def _record(self, pack: Pack) -> _Recorded:
        if self._beside is None:
            self._beside, self._memory = torch.cuda.Stream(), torch.cuda.graph_pool_handle()
        self._beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._beside):  # what is allocated or compiled at the first use
            for _ in range(2):
                self._compute(pack)
        torch.cuda.current_stream().wait_stream(self._beside)
        graph = torch.cuda.CUDAGraph()
        # By thread, or what another one does meanwhile, such as embedding a question while the
        # reranker is loaded, would fail and spoil the recording.
        with torch.cuda.graph(
            graph, pool=self._memory, stream=self._beside, capture_error_mode="thread_local"
        ):
            result = self._compute(pack)
        return _Recorded(graph, pack, result)


def to_next_size(pack: Pack, *, longest: int) -> Pack:
    """A pack of the same texts and some without meaning, of one of a few sizes."""
    tokens = _up(len(pack.ids), TOKENS_STEP)
    fillers = math.ceil((tokens - len(pack.ids)) / longest)
    texts = _up(len(pack.cuts.lengths) + fillers, TEXTS_STEP)
    return pack.padded(tokens=tokens, texts=texts, longest=longest)


def _up(value: int, step: int) -> int:
    return step * math.ceil(value / step)


def _tensors(pack: Pack) -> tuple[Tensor, ...]:
    return pack.ids, pack.types, pack.places, pack.cuts.ends
