"""The vector gateway against a real Chroma server."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from ingestion.errors import VectorStoreError
from ingestion.models import new_key
from ingestion.vectors import WRITE_BATCH, VectorStore

pytestmark = pytest.mark.services


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths: NDArray[np.float32] = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / lengths).astype(np.float32)


def random_units(n: int, *, dimension: int = 16, seed: int = 0) -> NDArray[np.float32]:
    numbers = np.random.default_rng(seed).standard_normal((n, dimension))
    return unit(numbers.astype(np.float32))


@pytest.fixture
def store(chroma_url: str) -> VectorStore:
    return VectorStore(chroma_url)


@pytest.fixture
def name(store: VectorStore) -> Iterator[str]:
    collection = f"c-{new_key()}"
    yield collection
    store.drop(collection)


def test_the_nearest_passage_comes_first_with_its_cosine(store: VectorStore, name: str) -> None:
    store.ensure(name, 2)
    vectors = np.array([[1, 0], [0.6, 0.8], [-1, 0]], dtype=np.float32)
    store.add_missing(name, ["east", "north-east", "west"], vectors)

    hits = store.search(name, np.array([1, 0], dtype=np.float32), k=3)

    assert [hit.chunk_id for hit in hits] == ["east", "north-east", "west"]
    assert [hit.score for hit in hits] == pytest.approx([1.0, 0.6, -1.0], abs=1e-5)


def test_only_what_is_missing_is_added(store: VectorStore, name: str) -> None:
    vectors = random_units(2 * WRITE_BATCH + 7)
    ids = [f"id{i:04}" for i in range(len(vectors))]
    store.ensure(name, 16)
    assert store.add_missing(name, ids[:200], vectors[:200]) == 200

    added = store.add_missing(name, ids, vectors)

    assert added == len(ids) - 200
    assert store.count(name) == len(ids)
    assert store.ids(name) == set(ids)
    assert store.missing(name, [*ids, "absent"]) == ["absent"]


def test_a_present_vector_is_left_as_it_is(store: VectorStore, name: str) -> None:
    east, north = np.eye(2, dtype=np.float32)
    store.ensure(name, 2)
    store.add_missing(name, ["a"], east[None])

    assert store.add_missing(name, ["a"], north[None]) == 0
    assert store.search(name, east, k=1)[0].score == pytest.approx(1.0, abs=1e-5)


def test_deleted_vectors_are_not_found_again(store: VectorStore, name: str) -> None:
    vectors = random_units(20)
    ids = [f"id{i:02}" for i in range(20)]
    store.ensure(name, 16)
    store.add_missing(name, ids, vectors)

    store.delete(name, [*ids[:5], "never-there"])

    assert store.ids(name) == set(ids[5:])
    assert ids[0] not in {hit.chunk_id for hit in store.search(name, vectors[0], k=20)}


def test_a_collection_that_is_gone(store: VectorStore) -> None:
    absent = f"c-{new_key()}"

    assert store.missing(absent, ["a"]) == ["a"]
    assert not store.exists(absent)
    store.delete(absent, ["a"])
    store.drop(absent)
    with pytest.raises(VectorStoreError):
        store.search(absent, np.zeros(2, dtype=np.float32), k=1)
    with pytest.raises(VectorStoreError):
        store.ids(absent)


def test_a_collection_that_another_process_made_anew_is_found(
    store: VectorStore, chroma_url: str, name: str
) -> None:
    vector = np.ones((1, 2), dtype=np.float32)
    store.ensure(name, 2)
    other = VectorStore(chroma_url)
    other.drop(name)
    other.ensure(name, 2)
    other.add_missing(name, ["new"], vector)

    with pytest.raises(VectorStoreError):
        store.count(name)
    assert store.ids(name) == {"new"}


def test_collections_have_the_index_settings_chosen_for_them(
    store: VectorStore, name: str, chroma_url: str
) -> None:
    store.ensure(name, 16)

    database = f"{chroma_url}/api/v2/tenants/default_tenant/databases/default_database"
    answer = httpx.get(f"{database}/collections/{name}", trust_env=False)
    settings = answer.json()["configuration_json"]["hnsw"]

    assert settings["space"] == "cosine"
    assert settings["max_neighbors"] == 32
    assert settings["ef_construction"] == settings["ef_search"] == 200


def test_a_wrong_dimension_is_the_stores_error_and_nobody_elses(
    store: VectorStore, name: str
) -> None:
    store.ensure(name, 2)
    store.add_missing(name, ["a"], np.ones((1, 2), dtype=np.float32))

    with pytest.raises(VectorStoreError):
        store.add_missing(name, ["b"], np.ones((1, 3), dtype=np.float32))
    with pytest.raises(VectorStoreError):
        store.search(name, np.ones(3, dtype=np.float32), k=1)


def test_a_server_that_is_not_there_is_reported_at_once() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        store = VectorStore(f"http://127.0.0.1:{unused.getsockname()[1]}")
        begun = time.monotonic()

        with pytest.raises(VectorStoreError):
            store.heartbeat()

    assert time.monotonic() - begun < 5


def test_a_server_that_hangs_does_not_hang_the_caller() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        store = VectorStore(f"http://127.0.0.1:{silent.getsockname()[1]}")
        begun = time.monotonic()

        with pytest.raises(VectorStoreError):
            store.search("c-any", np.ones(2, dtype=np.float32), k=1, timeout_seconds=0.5)

    assert 0.4 < time.monotonic() - begun < 5
