"""RERANKER=auto takes what can be had, and says why."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from inference.catalogue import (
    BUNDLED,
    CATALOGUE,
    EMBEDDERS,
    WITH_CUDA,
    WITH_NETWORK,
    Kind,
    known,
)
from inference.choice import Choice, check_reachable, choose
from inference.errors import NoModel
from inference.hosted import SERVICES, service_of
from inference.models import Models, Slot
from inference.types import ServerInfo

# Those that people come with from guides to reranking.
REFERENCE = (
    "BAAI/bge-reranker-v2-gemma",
    "BAAI/bge-reranker-v2-minicpm-layerwise",
    "jinaai/jina-reranker-v2-base-multilingual",
    "mixedbread-ai/mxbai-rerank-large-v1",
    "mixedbread-ai/mxbai-rerank-base-v1",
    "BAAI/bge-reranker-large",
    "jinaai/jina-colbert-v2",
)


@pytest.fixture
def hub() -> Iterator[str]:
    """A hub that has the small reranker and nothing else."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            has = self.path == f"/{WITH_NETWORK}/resolve/main/config.json"
            self.send_response(200 if has else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Be quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("name", ["none", BUNDLED, "/a/folder", "some/model"])
def test_what_the_operator_names_stays(name: str) -> None:
    assert choose(name, has_cuda=True, environment={}).name == name


@pytest.mark.parametrize(
    ("name", "meant"), [("None", "none"), (" BUNDLED", BUNDLED), ("Some/Model", "Some/Model")]
)
def test_words_of_ours_may_have_capitals(name: str, meant: str, tmp_path: Path) -> None:
    offline = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}

    assert choose(name, has_cuda=False, environment=offline).name == meant
    assert choose("Auto", has_cuda=False, environment=offline).name == BUNDLED


def test_without_a_hub_it_is_the_bundled_one(tmp_path: Path) -> None:
    away = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:1"}

    choice = choose("auto", has_cuda=False, environment=away)

    assert choice.name == BUNDLED
    assert choice.why == "picked by itself: there is no GPU, and no model hub can be reached"


def test_a_hub_that_can_be_reached_is_used_where_it_has_the_model(hub: str, tmp_path: Path) -> None:
    reached = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": hub}

    assert choose("auto", has_cuda=False, environment=reached).name == WITH_NETWORK
    assert choose("auto", has_cuda=True, environment=reached).name == BUNDLED
    offline = {**reached, "HF_HUB_OFFLINE": "1"}
    assert choose("auto", has_cuda=False, environment=offline).name == BUNDLED


def test_a_named_model_is_refused_at_once_where_no_hub_is_in_reach(
    hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:1"}

    with pytest.raises(
        NoModel, match=r"some/model is neither a folder.*127\.0\.0\.1:1 cannot be reached"
    ):
        check_reachable("some/model", away)
    check_reachable("some/model", {**away, "HF_ENDPOINT": hub})
    check_reachable("some/model", {**away, "HF_HUB_OFFLINE": "1"})  # its library says so at once
    fetch(tmp_path, "some/model", "config.json")
    check_reachable("some/model", away)

    for name, value in {**away, "HF_HUB_OFFLINE": "0"}.items():
        monkeypatch.setenv(name, value)
    models = Models("other/model", "another/model")
    models.load()
    assert models.embedder.reason.startswith("other/model is neither a folder nor in the cache")
    assert models.reranker.reason.startswith("another/model is neither a folder nor in the cache")
    models = Models("./model", "/another/model")
    models.load()
    assert models.embedder.reason == "the folder ./model does not exist"
    assert models.reranker.reason == "the folder /another/model does not exist"


@pytest.mark.parametrize(("has_cuda", "model"), [(True, WITH_CUDA), (False, WITH_NETWORK)])
def test_a_model_in_the_cache_needs_no_hub(has_cuda: bool, model: str, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer_config.json", "model.safetensors"):
        assert choose_offline(tmp_path, has_cuda=has_cuda).name == BUNDLED
        fetch(tmp_path, model, name)

    choice = choose_offline(tmp_path, has_cuda=has_cuda)

    assert choice.name == model
    assert "cache of models" in choice.why


def test_a_model_of_several_parts_is_cached_when_the_last_one_is_there(tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer_config.json", "model-1.safetensors"):
        fetch(tmp_path, WITH_NETWORK, name)
    shards = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    fetch(tmp_path, WITH_NETWORK, "model.safetensors.index.json", json.dumps(shards))
    parts = [{"path": ""}, {"path": "4_Dense"}]
    fetch(tmp_path, WITH_NETWORK, "modules.json", json.dumps(parts))
    for name in ("model-2.safetensors", "4_Dense/model.safetensors"):
        assert choose_offline(tmp_path, has_cuda=False).name == BUNDLED
        fetch(tmp_path, WITH_NETWORK, name)

    assert choose_offline(tmp_path, has_cuda=False).name == WITH_NETWORK


def fetch(home: Path, model: str, name: str, content: str = "{}") -> None:
    """Put a file where the hub's library keeps it."""
    path = home / "hub" / f"models--{model.replace('/', '--')}" / "snapshots" / "abc" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def choose_offline(home: Path, *, has_cuda: bool) -> Choice:
    environment = {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    return choose("auto", has_cuda=has_cuda, environment=environment)


def test_how_much_was_fetched_stands_in_the_reason_while_a_model_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    models = Models("all-MiniLM-L6-v2", WITH_CUDA)
    assert models.reason("reranker") == "the model is loading: it waits for its turn"

    blobs = tmp_path / f"models--{WITH_CUDA.replace('/', '--')}" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "one").write_bytes(bytes(2_000_000))
    (blobs / "two.incomplete").write_bytes(bytes(1_500_000))
    models.under_way = {"reranker": WITH_CUDA}
    assert models.reason("reranker") == f"the model is loading: {WITH_CUDA}, 3 MB fetched"

    models.under_way = {"embedder": "all-MiniLM-L6-v2"}
    assert models.reason("embedder").endswith("all-MiniLM-L6-v2 is read and tried")
    models.embedder = Slot(None, reason="")
    assert models.reason("embedder") == ""
    told = ServerInfo("1", None, None, reranker_reason=models.reason("reranker"))
    assert told.is_loading


def test_the_catalogue_names_each_once_and_every_service_can_be_asked() -> None:
    names = [entry.name for entry in CATALOGUE]

    assert len(names) == len(set(names))
    assert {WITH_CUDA, WITH_NETWORK, BUNDLED, *REFERENCE} <= set(names)
    assert {"BAAI/bge-m3", "BAAI/bge-small-en-v1.5"} <= {entry.name for entry in EMBEDDERS}
    asked = {service_of(entry.name) for entry in CATALOGUE if entry.kind == Kind.SERVICE}
    assert {found[0] for found in asked if found} == set(SERVICES)
    assert known("cohere:rerank-v3.5") is not None
    assert known("/a/folder") is None


def test_the_documentation_has_the_whole_catalogue() -> None:
    written = (Path(__file__).parents[2] / "docs" / "rerankers.md").read_text(encoding="utf-8")

    for entry in CATALOGUE:
        line = next(row for row in written.splitlines() if row.startswith(f"| `{entry.name}`"))
        for stated in (entry.kind, entry.licence, entry.languages, entry.cost, entry.page):
            assert str(stated) in line
    written = (Path(__file__).parents[2] / "docs" / "inference.md").read_text(encoding="utf-8")
    for embedder in EMBEDDERS:
        line = next(row for row in written.splitlines() if row.startswith(f"| `{embedder.name}`"))
        for fact in (embedder.licence, embedder.languages, embedder.dimension, embedder.page):
            assert str(fact) in line


@pytest.mark.parametrize(("device", "wanted"), [("cuda", "true"), ("cpu", "false")])
def test_texts_are_tokenised_by_all_cores_where_a_gpu_computes(
    device: str, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    monkeypatch.setattr("inference.models.best_device", lambda: device)

    Models("/nowhere", "none").load()

    assert os.environ["TOKENIZERS_PARALLELISM"] == wanted
