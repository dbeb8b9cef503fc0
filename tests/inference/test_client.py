"""The client against a server that speaks Text Embeddings Inference's API, and its errors."""

from __future__ import annotations

import time

import pytest

from inference.client import shared_client
from inference.errors import (
    InferenceBusy,
    InferenceLate,
    InferenceRejected,
    InferenceTransientError,
    InferenceUnreachable,
    ModelLoading,
    NoModel,
)
from ragsite import processes
from tests.inference.conftest import Connect
from tests.inference.stand_ins import tei

TEXTS = ["x" * n for n in range(1, 101)]
NOBODY = "http://127.0.0.1:9"


def test_long_lists_go_in_the_batch_size_that_the_server_tells(connect: Connect) -> None:
    with tei(max_batch=30) as server:
        vectors = connect(server.url).embed(TEXTS)

    assert [len(body["inputs"]) for body in server.asked] == [30, 30, 30, 10]
    assert vectors[:, 0].tolist() == list(range(1, 101))


def test_a_batch_that_is_too_large_is_halved_and_keeps_its_order(connect: Connect) -> None:
    with tei(max_batch=5) as server:
        vectors = connect(server.url).embed(TEXTS[:20])

    assert vectors[:, 0].tolist() == list(range(1, 21))
    assert [len(body["inputs"]) for body in server.asked] == [20, 10, 5, 5, 10, 5, 5]


def test_scores_of_several_halved_batches_come_in_the_order_of_the_texts(connect: Connect) -> None:
    with tei(kind="reranker", max_batch=3) as server:
        scores = connect(NOBODY, server.url).rerank("q", TEXTS[:31])

    assert [score.index for score in scores] == list(range(31))
    assert [score.logit for score in scores] == list(range(1, 32))
    assert not any(score.truncated for score in scores)
    assert all(body["raw_scores"] for body in server.asked)


def test_scores_of_several_batches_come_in_the_order_of_the_texts(connect: Connect) -> None:
    with tei(kind="reranker", max_batch=30) as server:
        scores = connect(server.url).rerank("q", TEXTS)

    assert [len(body["texts"]) for body in server.asked] == [30, 30, 30, 10]
    assert [score.index for score in scores] == list(range(100))
    assert [score.logit for score in scores] == list(range(1, 101))


def test_a_text_that_is_too_long_is_cut_by_the_server_instead_of_refused(connect: Connect) -> None:
    with tei() as server:
        client = connect(server.url)

        assert client.embed(["word " * 600]).shape == (1, 2)


def test_one_text_that_the_server_finds_too_large_is_rejected(connect: Connect) -> None:
    with (
        tei(status=413, error={"error": "payload too large", "error_type": "Validation"}) as server,
        pytest.raises(InferenceRejected, match="413 payload too large"),
    ):
        connect(server.url).embed(["x", "y"])


def test_no_texts_need_no_server(connect: Connect) -> None:
    client = connect(NOBODY)

    assert client.embed([]).shape == (0, 0)
    assert client.rerank("q", []) == []


def test_a_busy_server_is_asked_again(connect: Connect) -> None:
    with tei(overloaded=1) as server:
        vectors = connect(server.url).embed(["xyz"], timeout_seconds=20)

    assert vectors[0, 0] == 3
    assert len(server.asked) == 2


def test_a_busy_server_is_not_waited_for_beyond_the_time_allowed(connect: Connect) -> None:
    started = time.monotonic()

    with tei(overloaded=100) as server, pytest.raises(InferenceBusy) as busy:
        connect(server.url).embed(["x"], timeout_seconds=0.5)

    assert busy.value.retry_after_seconds == 1.0
    assert time.monotonic() - started < 5


def test_the_info_of_a_tei_embedder(connect: Connect) -> None:
    with tei() as server:
        info = connect(server.url).info()

    assert info.embedder is not None
    assert info.embedder.model_id == "BAAI/bge-reranker-base"
    assert info.embedder.revision == "2cfc18c9415c912f9d8155881c133215df768a70"
    assert (info.embedder.max_tokens, info.embedder.dtype) == (512, "float16")
    assert (info.reranker, info.reranker_reason) == (None, "no reranker is installed")
    assert not info.is_loading


def test_embedder_and_reranker_may_be_different_servers(connect: Connect) -> None:
    with tei() as first, tei(kind="reranker") as second:
        client = connect(first.url, second.url)
        info = client.info()
        client.embed(["x"])
        client.rerank("q", ["x"])

    assert info.embedder is not None
    assert info.reranker is not None
    assert info.reranker_reason == ""
    assert ("inputs" in first.asked[0], "texts" in second.asked[0]) == (True, True)


def test_a_reranking_server_that_is_away_does_not_hide_the_embedder(connect: Connect) -> None:
    with tei() as server:
        info = connect(server.url, NOBODY).info()

    assert info.embedder is not None
    assert (info.reranker, info.reranker_reason) == (
        None,
        "the server of the reranker does not answer",
    )


def test_a_newer_server_may_tell_more_of_its_models(connect: Connect) -> None:
    with tei() as server:
        server.status, server.error = (
            200,
            {
                "embedder": {
                    "model_id": "m",
                    "revision": "r",
                    "device": "cuda",
                    "dtype": "float16",
                    "max_tokens": 8192,
                    "colour": "blue",
                },
                "reranker": None,
                "reranker_reason": "it is being trained",
            },
        )
        info = connect(server.url).info()

    assert info.embedder is not None
    assert (info.embedder.device, info.embedder.max_tokens) == ("cuda", 8192)
    assert info.reranker_reason == "it is being trained"


def test_the_model_server_of_another_kind_has_no_model(connect: Connect) -> None:
    with tei() as server, pytest.raises(NoModel, match="not a re-ranker model"):
        connect(server.url).rerank("q", ["x"])


@pytest.mark.parametrize(
    ("status", "error", "error_type", "expected"),
    [
        (503, "the model is loading", "model_loading", ModelLoading),
        (503, "upstream connect error", "", InferenceUnreachable),
        (424, "no reranker is installed", "no_model", NoModel),
        (424, "Inference failed", "Backend", InferenceTransientError),
        (502, "bad gateway", "", InferenceTransientError),
        (422, "Tokenization error", "Tokenizer", InferenceRejected),
        (400, "`inputs` cannot be empty", "Empty", InferenceRejected),
        (404, "not found", "", InferenceRejected),
    ],
)
def test_each_error_of_the_server_has_its_own_kind(
    connect: Connect, status: int, error: str, error_type: str, expected: type[Exception]
) -> None:
    told = {"error": error, "error_type": error_type}
    with tei(status=status, error=told) as server, pytest.raises(expected) as raised:
        connect(server.url).embed(["x"])

    assert type(raised.value) is expected
    assert error in str(raised.value)


@pytest.mark.parametrize(
    "answer",
    [
        {"vectors": []},
        [[1.0, 2.0]],
        [[1.0, 2.0], [1.0]],
        [["a"], ["b"]],
        "<html>welcome</html>",
    ],
)
def test_an_answer_that_is_no_vectors_is_rejected(connect: Connect, answer: object) -> None:
    with tei(answer=answer) as server, pytest.raises(InferenceRejected):
        connect(server.url).embed(["x", "y"])


@pytest.mark.parametrize(
    "answer",
    [
        [{"index": 0, "score": 1.0}, {"index": 0, "score": 2.0}],
        [{"index": 0, "score": 1.0}],
        [{"index": 0, "score": None}, {"index": 1, "score": 1.0}],
        [1.0, 2.0],
        {"scores": [1.0, 2.0]},
    ],
)
def test_an_answer_that_does_not_score_each_text_once_is_rejected(
    connect: Connect, answer: object
) -> None:
    with tei(kind="reranker", answer=answer) as server, pytest.raises(InferenceRejected):
        connect(server.url).rerank("q", ["x", "y"])


@pytest.mark.parametrize("answer", [["no object"], {"embedder": {"colour": "blue"}}])
def test_an_address_of_another_kind_of_server_is_rejected(connect: Connect, answer: object) -> None:
    with tei(status=200, error=answer) as server, pytest.raises(InferenceRejected):
        connect(server.url).info()


def test_a_text_that_is_not_unicode_is_rejected(connect: Connect) -> None:
    with tei() as server, pytest.raises(InferenceRejected, match="not valid Unicode"):
        connect(server.url).embed(["\ud800"])


def test_a_server_that_is_not_there_is_unreachable(connect: Connect) -> None:
    client = connect(f"http://127.0.0.1:{processes.free_port()}")

    with pytest.raises(InferenceUnreachable):
        client.embed(["x"])
    with pytest.raises(InferenceUnreachable):
        client.info()


@pytest.mark.parametrize("address", ["http://[", "ftp://host", "nonsense"])
def test_an_address_that_is_none_is_unreachable(connect: Connect, address: str) -> None:
    with pytest.raises(InferenceUnreachable):
        connect(address).embed(["x"])


def test_an_answer_that_only_trickles_in_is_late(connect: Connect) -> None:
    started = time.monotonic()

    with tei(trickle_seconds=0.1) as server, pytest.raises(InferenceLate):
        connect(server.url).embed(["x"] * 4, timeout_seconds=0.5)

    assert time.monotonic() - started < 5


def test_a_process_has_one_client_of_an_address() -> None:
    assert shared_client("http://a", "") is shared_client("http://a", "")
    assert shared_client("http://a", "") is not shared_client("http://b", "")


@pytest.mark.parametrize("answer", [[[None, 1.0]], [[float("nan"), 1.0]], [[]]])
def test_vectors_that_are_not_all_numbers_are_rejected(connect: Connect, answer: object) -> None:
    with tei(answer=answer) as server, pytest.raises(InferenceRejected, match="not all numbers"):
        connect(server.url).embed(["x"])


def test_a_score_that_is_no_number_is_rejected(connect: Connect) -> None:
    answer = [{"index": 0, "score": float("nan")}]

    with tei(kind="reranker", answer=answer) as server, pytest.raises(InferenceRejected):
        connect(server.url).rerank("q", ["x"])


@pytest.mark.parametrize("size", ["many", [1], -3])
def test_a_server_that_tells_no_usable_batch_size_is_rejected(
    connect: Connect, size: object
) -> None:
    with tei(max_batch=size) as server, pytest.raises(InferenceRejected, match="batch"):
        connect(server.url).embed(TEXTS)


def test_a_server_whose_queue_has_no_length_is_rejected(connect: Connect) -> None:
    told = {"embedder": None, "queue_depth": "long"}

    with tei(status=200, error=told) as server, pytest.raises(InferenceRejected):
        connect(server.url).info()
