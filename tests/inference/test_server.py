"""The routes of the model server: the real process with real models, and the awkward moments."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from inference.errors import InferenceLate, InferenceUnreachable
from inference.loading import HALF_COSINE, in_half, load_embedder
from inference.models import Models, Slot
from inference.models_on_disk import DEFAULT_EMBEDDER
from inference.protocol import MAX_BODY_BYTES, MAX_CLIENT_BATCH
from inference.scheduler import Scheduler
from inference.types import probability
from tests.inference.conftest import Connect
from tests.inference.stand_ins import BREAKS, HeldEngine, serving

PASSAGES = [
    "Copper conducts heat well.",
    "The lighthouse stands at the harbour.",
    "A garden needs water in the morning.",
    "Signals travel through the valley.",
]


def post(url: str, body: Any, **more: Any) -> httpx.Response:
    given = {"content": body} if isinstance(body, bytes) else {"json": body}
    return httpx.post(url, **given, **more, timeout=60, trust_env=False)


def get(url: str) -> httpx.Response:
    return httpx.get(url, timeout=60, trust_env=False)


# --- the real process with real models -------------------------------------------------


def test_vectors_keep_the_order_of_the_texts_across_batches(
    connect: Connect, rerank_url: str
) -> None:
    client = connect(rerank_url)
    texts = [f"passage number {n} " + "about retrieval " * (n % 7) for n in range(300)]

    vectors = client.embed(texts, lane="ingestion", timeout_seconds=120)
    again = client.embed([texts[0], texts[131], texts[299]])

    assert vectors.shape == (300, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    for row, n in zip(again, (0, 131, 299), strict=True):
        assert int(np.argmax(vectors @ row)) == n
        assert vectors[n] @ row > HALF_COSINE


def test_one_text_may_be_sent_without_a_list(rerank_url: str) -> None:
    answer = post(f"{rerank_url}/embed", {"inputs": "alone"})

    assert answer.status_code == 200
    assert np.shape(answer.json()) == (1, 384)


def test_scores_are_the_logits_of_the_cross_encoder_best_first(
    rerank_url: str, cross_encoder: Path
) -> None:
    from tests.inference.test_engines import plain_logits

    question = "Where is the lighthouse?"

    body = {"query": question, "texts": PASSAGES, "raw_scores": True}
    ranked = post(f"{rerank_url}/rerank", body).json()

    logits = plain_logits(cross_encoder, question, PASSAGES)
    assert [rank["index"] for rank in ranked] == np.argsort(-logits).tolist()
    for rank in ranked:
        assert rank["score"] == pytest.approx(logits[rank["index"]], abs=1e-4)
        assert set(rank) == {"index", "score", "truncated"}


def test_without_raw_scores_they_are_probabilities_and_texts_come_back_on_demand(
    rerank_url: str,
) -> None:
    body = {"query": "copper", "texts": PASSAGES}

    raw = post(f"{rerank_url}/rerank", {**body, "raw_scores": True}).json()
    ranked = post(f"{rerank_url}/rerank", {**body, "return_text": True}).json()

    for rank, logit in zip(ranked, raw, strict=True):
        assert rank["score"] == pytest.approx(1 / (1 + np.exp(-logit["score"])), abs=1e-6)
        assert rank["text"] == PASSAGES[rank["index"]]


def test_the_client_gives_scores_in_the_order_of_the_texts(
    connect: Connect, rerank_url: str, cross_encoder: Path
) -> None:
    from tests.inference.test_engines import plain_logits

    client = connect(rerank_url)
    texts = [f"{passage} {n}" for n in range(20) for passage in PASSAGES]

    scores = client.rerank("Where is the lighthouse?", texts)

    assert [score.index for score in scores] == list(range(80))
    expected = plain_logits(cross_encoder, "Where is the lighthouse?", texts)
    assert [score.logit for score in scores] == pytest.approx(expected, abs=1e-4)


def test_each_pair_says_whether_it_was_read_whole(connect: Connect, rerank_url: str) -> None:
    texts = ["short", "word " * 600, "also short"]

    scores = connect(rerank_url).rerank("why", texts)

    assert [score.truncated for score in scores] == [False, True, False]


def test_a_text_that_was_cut_tells_how_far_it_was_read(connect: Connect, rerank_url: str) -> None:
    client = connect(rerank_url)

    assert client.read_characters("why", "word " * 600) == len("word " * 508) - 1
    assert client.read_characters("why", "short") == 5


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("embed", {"inputs": ["word " * 300], "truncate": False}),
        ("rerank", {"query": "why", "texts": ["word " * 600], "truncate": False}),
    ],
)
def test_a_caller_that_forbids_truncation_hears_of_it(
    rerank_url: str, path: str, body: Any
) -> None:
    answer = post(f"{rerank_url}/{path}", body)

    assert answer.status_code == 413
    assert answer.json()["error_type"] == "Validation"
    assert "tokens" in answer.json()["error"]


def test_info_has_the_fields_of_tei_and_both_models(
    connect: Connect, rerank_url: str, cross_encoder: Path
) -> None:
    told = get(f"{rerank_url}/info").json()

    assert told["model_id"] == "all-MiniLM-L6-v2"
    assert told["model_type"] == {"embedding": {"pooling": "mean"}}
    assert (told["max_input_length"], told["max_client_batch_size"]) == (256, MAX_CLIENT_BATCH)
    assert told["embedder"]["dimension"] == 384
    assert told["reranker"]["model_id"] == str(cross_encoder)
    assert told["reranker"]["max_tokens"] == 512
    assert told["reranker"]["tokens_per_second"] > 0
    assert told["reranker_reason"] == ""
    assert told["queue_depth"] == 0

    info = connect(rerank_url).info()
    assert info.embedder is not None
    assert info.reranker is not None
    assert (info.embedder.dimension, info.reranker.revision) == (
        384,
        told["reranker"]["revision"],
    )
    assert not info.is_loading


def test_a_server_without_a_reranker_says_so_and_still_embeds(
    connect: Connect, minilm: Path
) -> None:
    models = Models(str(minilm), "none")
    models.load()
    why = "reranking is switched off (RERANKER=none)"

    with serving(_Loaded("", "", embedder=models.embedder, reranker=models.reranker)) as url:
        answer = post(f"{url}/rerank", {"query": "why", "texts": ["because"]})
        info = connect(url).info()
        healthy = get(f"{url}/health").status_code
        embedded = post(f"{url}/embed", {"inputs": "x"}).status_code

    assert answer.status_code == 424
    assert answer.json() == {"error": why, "error_type": "no_model"}
    assert (info.reranker, info.reranker_reason) == (None, why)
    assert (healthy, embedded) == (200, 200)


def test_the_bundled_reranker_is_there_and_calibrated(connect: Connect, inference_url: str) -> None:
    client = connect(inference_url)
    passages = [
        "The recipe needs two eggs, a cup of flour and a pinch of salt.",
        "Hamlet is a tragedy that William Shakespeare wrote about 1600.",
    ]

    beside, about = client.rerank("Who wrote Hamlet?", passages)
    info = client.info().reranker

    assert about.logit > beside.logit
    assert info is not None
    assert info.model_id == "bundled"
    assert "en" in info.languages
    relevance = [probability(info.calibration.log_odds(s.logit, 1)) for s in (beside, about)]
    assert relevance[0] < (info.calibration.threshold or 0) < relevance[1]
    body = {"query": "Who wrote Hamlet?", "texts": passages}
    told = post(f"{inference_url}/rerank", body).json()
    assert [row["score"] for row in told] == pytest.approx(relevance[::-1], abs=0.01)


@pytest.mark.parametrize(
    ("path", "body", "status", "error_type"),
    [
        ("embed", b"{not json", 422, "Validation"),
        ("embed", b'{"inputs": "\\ud800"}', 422, "Validation"),
        ("embed", ["a list"], 422, "Validation"),
        ("embed", {}, 422, "Validation"),
        ("embed", {"inputs": []}, 400, "Empty"),
        ("embed", {"inputs": ["fine", 7]}, 422, "Validation"),
        ("embed", {"inputs": "x", "truncate": "yes"}, 422, "Validation"),
        ("embed", {"inputs": "x", "normalize": False}, 422, "Validation"),
        ("embed", {"inputs": "x", "prompt_name": "query"}, 422, "Validation"),
        ("embed", {"inputs": ["x"] * (MAX_CLIENT_BATCH + 1)}, 413, "Validation"),
        ("embed", {"inputs": "x" * (MAX_BODY_BYTES + 1)}, 413, "Validation"),
        ("rerank", {"texts": ["a"]}, 422, "Validation"),
        ("rerank", {"query": "  ", "texts": ["a"]}, 422, "Validation"),
        ("rerank", {"query": "q", "texts": "a"}, 422, "Validation"),
        ("rerank", {"query": "q", "texts": []}, 400, "Empty"),
        ("rerank", {"query": "q", "texts": ["a"], "raw_scores": 1}, 422, "Validation"),
        ("predict", {"inputs": "x"}, 404, "Validation"),
        ("info", {}, 405, "Validation"),
    ],
)
def test_a_bad_request_is_refused_in_the_shape_of_tei(
    rerank_url: str, path: str, body: Any, status: int, error_type: str
) -> None:
    answer = post(f"{rerank_url}/{path}", body)

    assert answer.status_code == status
    assert set(answer.json()) == {"error", "error_type"}
    assert answer.json()["error_type"] == error_type


@pytest.mark.parametrize(("path", "key"), [("rerank", "error"), ("v1/rerank", "message")])
def test_a_wrong_method_is_refused_with_what_the_route_takes(
    rerank_url: str, path: str, key: str
) -> None:
    answer = get(f"{rerank_url}/{path}")

    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert f"`/{path}` takes POST alone" in answer.json()[key]


def test_a_value_that_is_refused_is_told_as_it_was_sent(rerank_url: str) -> None:
    answer = post(f"{rerank_url}/embed", {"inputs": "x", "normalize": False})

    assert answer.json()["error"] == "`normalize` cannot be false on this server"


@pytest.mark.parametrize("milliseconds", ["9" * 30, "9" * 2000])
def test_a_caller_may_be_as_patient_as_it_likes(rerank_url: str, milliseconds: str) -> None:
    body = {"query": "why", "texts": ["because"]}

    answer = post(f"{rerank_url}/rerank", body, headers={"X-Timeout-Ms": milliseconds})

    assert answer.status_code == 200


def test_what_tei_takes_as_its_default_is_taken(rerank_url: str) -> None:
    body = {
        "inputs": ["x"],
        "normalize": True,
        "prompt_name": None,
        "truncation_direction": "right",
        "truncate": None,
    }

    assert post(f"{rerank_url}/embed", body).status_code == 200


def test_a_question_is_answered_while_ingestion_keeps_the_model_busy(
    connect: Connect, rerank_url: str
) -> None:
    texts = ["a passage of the documents that come in " * 25] * 60
    client = connect(rerank_url)
    bulk = threading.Thread(
        target=client.embed, args=(texts,), kwargs={"lane": "ingestion", "timeout_seconds": 120}
    )
    bulk.start()
    while not get(f"{rerank_url}/info").json()["queue_depth"]:
        time.sleep(0.01)

    client.embed(["What is in the documents?"], timeout_seconds=30)

    assert get(f"{rerank_url}/info").json()["queue_depth"] > 0  # the bulk is still there
    bulk.join()


# --- the awkward moments, with an engine that can be held ------------------------------


class _Loaded(Models):
    """Models that are what the test put into the slots."""

    def load(self) -> None:
        pass


@pytest.fixture
def engine() -> HeldEngine:
    return HeldEngine()


def loaded(engine: Any) -> Models:
    return _Loaded("held", "held", embedder=Slot(engine, ""), reranker=Slot(engine, ""))


@pytest.fixture
def held_url(engine: HeldEngine) -> Iterator[str]:
    with serving(loaded(engine), Scheduler(lane_texts=4)) as url:
        yield url
        engine.gate.set()


def test_while_the_models_load_everything_answers_at_once(connect: Connect) -> None:
    with serving(_Loaded("all-MiniLM-L6-v2", "auto")) as url:
        embed = post(f"{url}/embed", {"inputs": "x"})
        rerank = post(f"{url}/rerank", {"query": "q", "texts": ["x"]})
        health = get(f"{url}/health")
        info = connect(url).info()

    for answer in (embed, rerank):
        assert answer.status_code == 503
        assert answer.json()["error_type"] == "model_loading"
        assert "model is loading" in answer.json()["error"]
        assert int(answer.headers["Retry-After"]) >= 1
    assert health.status_code == 503
    assert health.json() == {"error": "the model is loading", "error_type": "Unhealthy"}
    assert info.is_loading
    assert (info.embedder, info.reranker) == (None, None)


def test_a_model_that_cannot_be_loaded_leaves_the_other_alone(minilm: Path, tmp_path: Path) -> None:
    models = Models(str(minilm), str(tmp_path))
    models.load()

    with serving(_Loaded("", "", embedder=models.embedder, reranker=models.reranker)) as url:
        assert get(f"{url}/health").status_code == 200
        assert post(f"{url}/embed", {"inputs": "x"}).status_code == 200
        answer = post(f"{url}/rerank", {"query": "q", "texts": ["x"]})

    assert answer.status_code == 424
    assert f"the reranker {tmp_path} cannot be loaded" in answer.json()["error"]


def test_an_embedder_that_cannot_be_loaded_makes_the_server_unhealthy() -> None:
    models = Models("/nowhere", "none")
    models.load()

    with serving(_Loaded("", "", embedder=models.embedder, reranker=models.reranker)) as url:
        health = get(f"{url}/health")
        embed = post(f"{url}/embed", {"inputs": "x"})

    assert (health.status_code, embed.status_code) == (503, 424)
    assert health.json()["error"] == embed.json()["error"] == "the folder /nowhere does not exist"


def test_a_gpu_that_failed_makes_the_server_unhealthy_until_it_is_started_again(
    connect: Connect, engine: HeldEngine
) -> None:
    scheduler = Scheduler()
    models = _Loaded("", "", embedder=Slot(engine, reason=""), reranker=Slot(None, reason="none"))  # type: ignore[arg-type]
    with serving(models, scheduler) as url:
        assert get(f"{url}/health").status_code == 200
        scheduler.lost = "the GPU no longer computes: start the model server again"
        health = get(f"{url}/health")
        with pytest.raises(InferenceUnreachable, match="no longer computes"):
            connect(url).embed(["x"])

    assert health.status_code == 503
    assert health.json() == {"error": scheduler.lost, "error_type": "Unhealthy"}


def test_a_full_queue_answers_429_and_says_when_to_return(
    connect: Connect, held_url: str, engine: HeldEngine
) -> None:
    client = connect(held_url)
    busy = [threading.Thread(target=client.embed, args=(["x"] * n,)) for n in (1, 4)]
    busy[0].start()
    assert engine.entered.wait(20)
    busy[1].start()
    while get(f"{held_url}/info").json()["queue_depth"] < 4:
        time.sleep(0.01)

    refused = post(f"{held_url}/embed", {"inputs": "x"})
    other_lane = threading.Thread(
        target=post,
        args=(f"{held_url}/embed", {"inputs": "x"}),
        kwargs={"headers": {"X-Lane": "ingestion"}},
    )
    other_lane.start()
    while get(f"{held_url}/info").json()["queue_depth"] < 5:
        time.sleep(0.01)

    assert refused.status_code == 429
    assert refused.json()["error_type"] == "Overloaded"
    assert int(refused.headers["Retry-After"]) >= 1
    engine.gate.set()
    for thread in (*busy, other_lane):
        thread.join()


def test_the_texts_of_a_caller_that_has_gone_are_never_computed(
    connect: Connect, held_url: str, engine: HeldEngine
) -> None:
    client = connect(held_url)
    first = threading.Thread(target=client.embed, args=(["x"],))
    first.start()
    assert engine.entered.wait(20)

    with pytest.raises(InferenceLate):
        client.embed(["two words", "two words"], timeout_seconds=0.3)
    time.sleep(1.0)  # the server looks four times a second
    engine.gate.set()
    first.join()
    client.embed(["three words here"])

    assert engine.batches == [[1], [3]]


def test_what_is_overdue_is_never_computed_though_its_connection_stands(
    connect: Connect, held_url: str, engine: HeldEngine
) -> None:
    """As through a proxy, which keeps the connection when its own caller has gone."""
    first = threading.Thread(target=connect(held_url).embed, args=(["x"],))
    first.start()
    assert engine.entered.wait(20)
    answers: list[httpx.Response] = []

    def ask() -> None:
        body = {"inputs": ["two words", "two words"]}
        answers.append(post(f"{held_url}/embed", body, headers={"X-Timeout-Ms": "50"}))

    late = threading.Thread(target=ask)
    late.start()
    while httpx.get(f"{held_url}/info").json()["queue_depth"] < 2:
        time.sleep(0.01)
    time.sleep(0.1)
    engine.gate.set()
    late.join()
    first.join()

    assert engine.batches == [[1]]
    assert answers[0].status_code == 504
    assert answers[0].json()["error_type"] == "Late"


@pytest.mark.parametrize("told", ["soon", "-5", "1.5", ""])
def test_how_long_a_caller_waits_is_a_number(held_url: str, told: str) -> None:
    answer = post(f"{held_url}/embed", {"inputs": "x"}, headers={"X-Timeout-Ms": told})

    assert answer.status_code == 422
    assert "`X-Timeout-Ms` must be a whole number" in answer.json()["error"]


def test_a_model_that_fails_answers_424_and_the_server_goes_on(
    held_url: str, engine: HeldEngine
) -> None:
    engine.gate.set()

    broken = post(f"{held_url}/embed", {"inputs": "x " * BREAKS})

    assert broken.status_code == 424
    assert broken.json()["error_type"] == "Backend"
    assert post(f"{held_url}/embed", {"inputs": "x"}).status_code == 200


def test_numbers_that_are_not_finite_never_leave_the_server() -> None:
    class Broken(HeldEngine):
        def compute(self, batch: Any) -> Any:
            return super().compute(batch) * np.float32("nan")

    broken = Broken()
    broken.gate.set()
    with serving(loaded(broken)) as url:
        answer = post(f"{url}/rerank", {"query": "q", "texts": ["a", "b"]})

    assert answer.status_code == 424
    assert "not finite" in answer.json()["error"]


def test_a_request_in_flight_hears_that_the_server_stops(engine: HeldEngine) -> None:
    answers: list[httpx.Response] = []
    with serving(loaded(engine)) as url:
        asked = threading.Thread(
            target=lambda: answers.append(post(f"{url}/embed", {"inputs": "x"}))
        )
        asked.start()
        assert engine.entered.wait(20)
    asked.join()
    engine.gate.set()

    assert answers[0].status_code == 503
    assert answers[0].json()["error"] == "the model server is stopping"


def test_a_hosted_reranker_answers_like_our_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from starlette.testclient import TestClient

    from inference.errors import InferenceBusy, InferenceUnreachable, NoModel
    from inference.hosted import HostedReranker
    from inference.models import Models, Slot
    from inference.server import create_app

    hosted = HostedReranker("jina:some-model", environment={"JINA_API_KEY": "k"})
    models = Models("none", "jina:some-model", reranker=Slot(hosted, reason=""))
    monkeypatch.setattr(models, "load_in_background", lambda: None)
    asked = {"query": "Where?", "texts": ["far", "near"], "raw_scores": True, "return_text": True}
    with TestClient(create_app(models)) as client:
        monkeypatch.setattr(HostedReranker, "logits", lambda *_: [-1.0, 2.0])
        found = client.post("/rerank", json=asked)
        assert found.json() == [
            {"index": 1, "score": 2.0, "truncated": False, "text": "near"},
            {"index": 0, "score": -1.0, "truncated": False, "text": "far"},
        ]
        assert client.get("/info").json()["reranker"]["model_id"] == "jina:some-model"
        for error, status in (
            (InferenceBusy("busy", retry_after_seconds=7), 429),
            (InferenceUnreachable("Jina AI cannot be reached"), 424),
            (NoModel("Jina AI refuses the key in JINA_API_KEY"), 424),
        ):

            def refusing(*_: object, error: Exception = error) -> list[float]:
                raise error

            monkeypatch.setattr(HostedReranker, "logits", refusing)
            refused = client.post("/rerank", json=asked)
            assert refused.status_code == status
            assert str(error) in refused.json()["error"]


def test_only_what_is_ingested_is_embedded_in_half_precision() -> None:
    embedder = load_embedder(DEFAULT_EMBEDDER)
    embedder.half = in_half(embedder)
    assert embedder.half is not None
    body = {"inputs": PASSAGES}

    with serving(loaded(embedder)) as url:
        asked = np.asarray(post(f"{url}/embed", body).json())
        ingested = np.asarray(post(f"{url}/embed", body, headers={"X-Lane": "ingestion"}).json())

    texts = embedder.encode(PASSAGES)
    assert asked == pytest.approx(embedder.compute(texts), abs=1e-6)
    assert ingested == pytest.approx(embedder.half.compute(texts), abs=1e-6)
    assert np.abs(asked - ingested).max() > 1e-5
