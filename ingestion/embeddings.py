"""Embeddings as they are kept in SQL: float16, little-endian, one row of bytes a passage.

Half the size of float32; the rounding moves a cosine similarity by less than 0.001.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

STORED = np.dtype("<f2")


def to_bytes(vectors: NDArray[np.float32]) -> list[bytes]:
    """Pack vectors (n, d) into n strings of 2 * d bytes."""
    return [row.tobytes() for row in np.ascontiguousarray(vectors, dtype=STORED)]


def from_bytes(rows: Sequence[bytes | memoryview], *, dimension: int) -> NDArray[np.float32]:
    """Unpack n strings into vectors (n, d) of unit length.

    Raises:
        ValueError: a string is not 2 * d bytes long.
    """
    packed = [bytes(row) for row in rows]
    if any(len(row) != dimension * STORED.itemsize for row in packed):
        raise ValueError(f"an embedding does not have {dimension} dimensions")
    flat = np.frombuffer(b"".join(packed), dtype=STORED).astype(np.float32)
    vectors = flat.reshape(len(packed), dimension)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)
    return unit
