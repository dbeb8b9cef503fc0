"""Embeddings in SQL, and the ids of passages."""

import numpy as np
import pytest

from ingestion.chunk_ids import chunk_id
from ingestion.embeddings import from_bytes, to_bytes


def test_an_embedding_comes_back_in_the_same_direction() -> None:
    vectors = np.random.default_rng(1).standard_normal((50, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    packed = to_bytes(vectors)
    unpacked = from_bytes(packed, dimension=384)

    assert {len(row) for row in packed} == {768}
    cosines = (vectors * unpacked).sum(axis=1)
    assert cosines.min() > 0.9999
    assert np.linalg.norm(unpacked, axis=1) == pytest.approx(np.ones(50), abs=1e-5)


def test_one_is_stored_as_little_endian_half_precision() -> None:
    assert to_bytes(np.array([[1.0, 0.0]], dtype=np.float32)) == [b"\x00\x3c\x00\x00"]


def test_an_embedding_of_another_dimension_is_refused() -> None:
    with pytest.raises(ValueError, match="384"):
        from_bytes([b"\x00" * 700], dimension=384)


def test_no_rows_make_an_empty_matrix() -> None:
    assert from_bytes([], dimension=384).shape == (0, 384)


def test_an_id_is_a_function_of_everything_that_makes_a_passage() -> None:
    given = {
        "document_id": 1,
        "generation_key": "g",
        "pipeline_version": "1",
        "ordinal": 0,
        "text": "a passage",
    }
    same = chunk_id(**given)  # type: ignore[arg-type]
    changed = [
        chunk_id(**{**given, name: value})  # type: ignore[arg-type]
        for name, value in [
            ("document_id", 2),
            ("generation_key", "h"),
            ("pipeline_version", "2"),
            ("ordinal", 1),
            ("text", "another"),
        ]
    ]

    assert chunk_id(**given) == same  # type: ignore[arg-type]
    assert len({same, *changed}) == 6
    assert len(same) == 32
