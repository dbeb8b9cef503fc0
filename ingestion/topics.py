"""Where the meaning of a text turns, by the vectors of its sentences. Imports chonkie_core, alone.

The two sentences before a gap are compared with the two after it. Where that similarity has a
local minimum, among the lowest fifth of the minima and low for the text, a new topic begins.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Fewer sentences than these are one topic.
MIN_SENTENCES = 6
_BLOCK = 2
# Found the two turns of three joined texts of seven sentences each exactly; wider blocks and
# windows missed one, the mean of neighbours' similarities put both a sentence early.
_MINIMA = {"window_size": 3, "poly_order": 2, "tolerance": 0.2}
_LOWEST_SHARE = 0.2
_MIN_DISTANCE = 2


def turns(vectors: NDArray[np.float32]) -> list[int]:
    """Which sentences begin something new, in order; never the first.

    Args:
        vectors: (n, d) unit rows, one for each sentence of a run of text, in order.

    Returns:
        Row numbers, each in 1 to n - 1.

    Source: Hearst, Computational Linguistics 1997, aclanthology.org/J97-1003 (blocks, cutoff);
    chonkie's SemanticChunker (minima of the smoothed curve).
    """
    if len(vectors) < MIN_SENTENCES:
        return []
    import chonkie_core  # a worker that never cuts by meaning need not load it

    similarities = np.array([_similarity(vectors, gap) for gap in range(1, len(vectors))])
    indices, values = chonkie_core.find_local_minima_interpolated(similarities, **_MINIMA)
    if not len(indices):
        return []
    kept, _ = chonkie_core.filter_split_indices(indices, values, _LOWEST_SHARE, _MIN_DISTANCE)
    # A dip that is shallow for this text is none, nor is one at its edge.
    cutoff = similarities.mean() - similarities.std() / 2
    lowest = {_lowest_near(int(index), similarities) for index in kept}
    return sorted(
        gap + 1
        for gap in lowest
        if similarities[gap] < cutoff and _BLOCK <= gap + 1 <= len(vectors) - _BLOCK
    )


def _lowest_near(index: int, values: NDArray[np.float64]) -> int:
    """The smoothing moves a minimum by up to one place; this is where it was."""
    first = max(0, index - 1)
    return first + int(np.argmin(values[first : index + 2]))


def _similarity(vectors: NDArray[np.float32], gap: int) -> float:
    """Cosine of the mean vectors of the blocks on both sides of the gap."""
    before = vectors[max(0, gap - _BLOCK) : gap].mean(axis=0, dtype=np.float64)
    after = vectors[gap : gap + _BLOCK].mean(axis=0, dtype=np.float64)
    norms = float(np.linalg.norm(before) * np.linalg.norm(after))
    return float(before @ after) / norms if norms else 0.0
