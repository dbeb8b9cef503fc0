"""What a request gets from a model: its rows once they are there, and how long they took."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Part:
    """Texts of one request that were computed in one batch: how many, after how long, how long."""

    texts: int
    queued_seconds: float
    computed_seconds: float


class Answer(Future[NDArray[np.float32]]):
    """The rows of a request, (n, …) in the order of its texts; `parts` lists its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[Part] = []
