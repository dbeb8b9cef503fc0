"""What the model server tells of a request in TEI's headers, and of all of them in `/metrics`."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from inference.metrics import Histogram
from inference.models import Slot
from inference.protocol import MAX_CLIENT_BATCH
from inference.scheduler import Scheduler
from tests.inference.stand_ins import BREAKS, HeldEngine, serving
from tests.inference.test_server import _Loaded, get, loaded, post

TIMES = ("x-compute-time", "x-total-time", "x-tokenization-time", "x-queue-time")
HEADERS = {*TIMES, "x-inference-time", "x-compute-type", "x-compute-characters", "x-compute-tokens"}


def told(url: str) -> dict[str, float]:
    """Each sample of `/metrics` by its name and labels, as they stand there."""
    lines = get(f"{url}/metrics").text.splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    return {name: float(value) for name, value in pairs}


def grown(url: str, before: dict[str, float]) -> dict[str, float]:
    """What was counted since."""
    return {name: value - before.get(name, 0) for name, value in told(url).items()}


def test_an_answer_says_in_headers_what_it_cost(rerank_url: str) -> None:
    texts = ["because", "so it is"]

    answer = post(f"{rerank_url}/rerank", {"query": "why", "texts": texts})
    single = post(f"{rerank_url}/embed", {"inputs": "größer"})
    refused = post(f"{rerank_url}/embed", {"inputs": []})

    headers = answer.headers
    assert set(headers) >= HEADERS
    assert headers["x-compute-type"] == "cpu+optimized"
    assert int(headers["x-compute-characters"]) == 2 * len("why") + len("because") + len("so it is")
    assert int(headers["x-compute-tokens"]) == 5 + 7  # with three marks each
    total = int(headers["x-total-time"])
    assert headers["x-compute-time"] == headers["x-total-time"]
    parts = ("x-tokenization-time", "x-queue-time", "x-inference-time")
    assert 0 <= sum(int(headers[name]) for name in parts) <= total
    assert single.headers["x-compute-characters"] == "6"
    assert not HEADERS & set(refused.headers)


def test_waiting_and_computing_are_told_apart() -> None:
    engine = HeldEngine()
    answers: dict[str, Any] = {}

    def ask(text: str) -> None:
        answers[text] = post(f"{url}/embed", {"inputs": [text]})

    with serving(loaded(engine)) as url:
        asking = [threading.Thread(target=ask, args=(text,)) for text in ("first", "second one")]
        asking[0].start()
        assert engine.entered.wait(20)
        asking[1].start()
        while get(f"{url}/info").json()["queue_depth"] < 1:
            time.sleep(0.01)
        time.sleep(0.3)
        engine.gate.set()
        for thread in asking:
            thread.join()
        seen = told(url)

    first, second = answers["first"].headers, answers["second one"].headers
    assert int(first["x-inference-time"]) >= 300
    assert int(first["x-queue-time"]) < int(first["x-inference-time"])
    assert int(second["x-queue-time"]) >= 300
    assert int(second["x-inference-time"]) < int(second["x-queue-time"])
    assert int(second["x-total-time"]) >= int(second["x-queue-time"])
    assert second["x-compute-tokens"] == "2"
    for of in ("request", "embed"):
        assert seen[f"te_{of}_queue_duration_sum"] >= 0.3
        assert seen[f"te_{of}_inference_duration_sum"] >= 0.3
        assert seen[f"te_{of}_queue_duration_count"] == 2
        assert seen[f'te_{of}_queue_duration_bucket{{le="0.25251168294042353"}}'] == 1


def test_metrics_count_requests_and_texts(rerank_url: str) -> None:
    before = told(rerank_url)
    post(f"{rerank_url}/embed", {"inputs": ["one", "two", "three"]})
    more = grown(rerank_url, before)

    assert more['ragsite_inference_requests_total{path="/embed",status="200"}'] == 1
    assert more["ragsite_inference_texts_total"] == 3
    assert more["ragsite_inference_pairs_total"] == 0
    assert more["ragsite_inference_seconds_total"] > 0
    assert told(rerank_url)['ragsite_inference_queue_texts{lane="ingestion"}'] == 0


def test_dashboards_of_tei_find_its_names(rerank_url: str) -> None:
    before = told(rerank_url)
    post(f"{rerank_url}/rerank", {"query": "why", "texts": ["because", "so"]})
    post(f"{rerank_url}/rerank", {"query": "why", "texts": []})
    post(f"{rerank_url}/embed", {"inputs": "alone"})
    more = grown(rerank_url, before)

    assert more['te_request_count{method="batch"}'] == 2
    assert (
        more['te_request_success{method="batch"}']
        == more['te_request_failure{err="validation"}']
        == 1
    )
    assert (
        more['te_request_count{method="single"}']
        == more['te_request_success{method="single"}']
        == 1
    )
    assert (more["te_predict_count"], more["te_predict_success"]) == (2, 2)
    assert (more["te_embed_count"], more["te_embed_success"]) == (1, 1)
    assert (more["te_batch_next_size_sum"], more["te_batch_next_size_count"]) == (3, 2)
    assert more['te_batch_next_size_bucket{le="1.0"}'] == 1
    assert more["te_batch_next_tokens_sum"] == more["te_request_input_length_sum"] == 13
    assert more['te_batch_next_tokens_bucket{le="4.0"}'] == 1
    assert more['te_request_input_length_bucket{le="8.0"}'] == 3
    assert more["te_request_duration_count"] == 2
    assert more["te_predict_duration_count"] == 2
    assert more["te_request_inference_duration_sum"] > 0
    assert more["te_request_tokenization_duration_sum"] > 0
    assert told(rerank_url)["te_queue_size"] == 0


def test_histograms_have_the_bounds_of_tei(rerank_url: str) -> None:
    families = {
        family.name: family
        for family in text_string_to_metric_families(get(f"{rerank_url}/metrics").text)
    }

    durations = [
        f"te_{of}{stage}_duration"
        for of in ("request", "embed", "predict")
        for stage in ("", "_tokenization", "_queue", "_inference")
    ]
    counts = {"te_batch_next_size": 12, "te_batch_next_tokens": 20, "te_request_input_length": 13}
    for name in (*durations, *counts):
        assert families[name].type == "histogram"
        buckets = [sample for sample in families[name].samples if sample.name.endswith("_bucket")]
        bounds = [float(sample.labels["le"]) for sample in buckets]
        upto = [sample.value for sample in buckets]
        ends = [1.5e-5 * 1.5**n for n in range(35)]
        if name in counts:
            ends = [2**n for n in range(counts[name] + 1)]
        assert bounds == pytest.approx([*ends, float("inf")])
        assert upto == sorted(upto)
        (count,) = (s.value for s in families[name].samples if s.name.endswith("_count"))
        assert upto[-1] == count
    for name in ("te_request_count", "te_request_success", "te_embed_count"):
        assert families[name].type == "counter"
    assert families["te_queue_size"].type == "gauge"


def test_a_value_counts_at_its_bound_and_all_above() -> None:
    histogram = Histogram("lengths", "Of something.", (1.0, 2.0, 4.0))

    for value, times in ((1.0, 1), (1.5, 2), (4.0, 1), (5.0, 3)):
        histogram.observe(value, times=times)

    samples = {(s.name, s.labels.get("le")): s.value for s in histogram.family().samples}
    upto = [samples["lengths_bucket", bound] for bound in ("1.0", "2.0", "4.0", "+Inf")]
    assert upto == [1, 3, 4, 7]
    assert samples["lengths_sum", None] == 1 + 3 + 4 + 15


def test_failures_are_counted_by_their_cause() -> None:
    engine = HeldEngine()
    engine.gate.set()
    models = loaded(engine)

    with serving(models) as url:
        embed = f"{url}/embed"
        post(embed, b"{not json")
        post(embed, {"inputs": ["x"] * (MAX_CLIENT_BATCH + 1)})
        post(embed, {"inputs": "x " * BREAKS})
        models.reranker = Slot(None, "there is none")
        post(f"{url}/rerank", {"query": "q", "texts": ["a"]})
        models.embedder = Slot()
        post(embed, {"inputs": "x"})
        seen = told(url)
    with serving(loaded(engine), Scheduler(lane_texts=0)) as url:
        post(f"{url}/embed", {"inputs": "x"})
        full = told(url)

    causes = {name: n for name, n in seen.items() if name.startswith("te_request_failure")}
    assert causes == {
        f'te_request_failure{{err="{cause}"}}': 1
        for cause in ("validation", "batch_size", "inference", "model_type", "unhealthy")
    }
    assert full['te_request_failure{err="overloaded"}'] == 1
    assert (full["te_embed_count"], full["te_embed_success"]) == (1, 0)


def test_a_caller_that_has_gone_is_counted_as_dropped() -> None:
    import httpx

    engine = HeldEngine()
    with serving(_Loaded("", "", embedder=Slot(engine, ""))) as url:  # type: ignore[arg-type]
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/embed", json={"inputs": "x"}, timeout=0.3, trust_env=False)
        while 'te_request_failure{err="dropped"}' not in told(url):
            time.sleep(0.05)
        engine.gate.set()
