"""`/v1/rerank` and `/v2/rerank`: what clients of Jina AI's and Cohere's APIs send and read."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from inference.errors import NoModel
from inference.hosted import SERVICES, HostedReranker
from inference.models import Slot
from inference.protocol import MAX_CLIENT_BATCH
from tests.inference.stand_ins import HeldEngine, serving
from tests.inference.test_engines import plain_logits
from tests.inference.test_server import PASSAGES, _Loaded, post

QUESTION = "Where is the lighthouse?"


def test_documents_are_ranked_as_by_rerank(rerank_url: str, cross_encoder: Path) -> None:
    # What Open WebUI sends; it sorts by `index` and reads `relevance_score`.
    asked = {"model": "any", "query": QUESTION, "documents": PASSAGES, "top_n": len(PASSAGES)}

    answer = post(f"{rerank_url}/v1/rerank", asked, headers={"Authorization": "Bearer none"})
    ranked = post(f"{rerank_url}/rerank", {"query": QUESTION, "texts": PASSAGES})

    told = answer.json()
    assert set(told) == {"model", "results", "usage"}
    assert told["model"] == str(cross_encoder)
    assert [(row["index"], row["relevance_score"]) for row in told["results"]] == [
        (row["index"], pytest.approx(row["score"], abs=1e-6)) for row in ranked.json()
    ]
    assert all(row["document"] == {"text": PASSAGES[row["index"]]} for row in told["results"])
    assert told["usage"] == {"total_tokens": int(ranked.headers["x-compute-tokens"])}
    assert answer.headers["x-compute-tokens"] == ranked.headers["x-compute-tokens"]


def test_the_relevance_is_calibrated(inference_url: str) -> None:
    query, passages = "Who wrote Hamlet?", ["Two eggs.", "Hamlet is a play by Shakespeare."]

    told = post(f"{inference_url}/v1/rerank", {"query": query, "documents": passages}).json()
    ranked = post(f"{inference_url}/rerank", {"query": query, "texts": passages}).json()

    assert told["model"] == "bundled"
    assert [row["index"] for row in told["results"]] == [1, 0]
    scores = [row["relevance_score"] for row in told["results"]]
    assert scores == pytest.approx([row["score"] for row in ranked], abs=0.01)
    assert 0 < scores[1] < scores[0] < 1


@pytest.mark.parametrize(("path", "has_texts"), [("v1", True), ("v2", False)])
def test_documents_may_be_objects_and_the_best_alone_come_back(
    rerank_url: str, path: str, has_texts: bool
) -> None:
    documents = [{"text": text, "title": "unread"} for text in PASSAGES]
    url, asked = f"{rerank_url}/{path}/rerank", {"query": QUESTION, "documents": documents}

    everything = post(url, {**asked, "top_n": 100}).json()["results"]
    best = post(url, {**asked, "top_n": 2}).json()["results"]
    with_texts = post(url, {**asked, "return_documents": True}).json()["results"]
    without = post(url, {**asked, "return_documents": False}).json()["results"]

    assert len(everything) == 4
    assert [row["index"] for row in best] == [row["index"] for row in everything[:2]]
    assert ["document" in row for row in best] == [has_texts] * 2
    assert [row["document"]["text"] for row in with_texts] == [
        PASSAGES[row["index"]] for row in everything
    ]
    assert [set(row) for row in without] == [{"index", "relevance_score"}] * 4


@pytest.mark.parametrize(
    ("more", "status", "error_type"),
    [
        (b"{not json", 422, "Validation"),
        ({"query": " "}, 422, "Validation"),
        ({"documents": None}, 422, "Validation"),
        ({"documents": "one text"}, 422, "Validation"),
        ({"documents": ["fine", {"title": "no text"}]}, 422, "Validation"),
        ({"documents": []}, 400, "Empty"),
        ({"documents": ["x"] * (MAX_CLIENT_BATCH + 1)}, 413, "Validation"),
        ({"top_n": 0}, 422, "Validation"),
        ({"top_n": True}, 422, "Validation"),
        ({"top_n": "3"}, 422, "Validation"),
        ({"return_documents": "no"}, 422, "Validation"),
    ],
)
def test_an_error_is_a_sentence_where_clients_look_for_it(
    rerank_url: str, more: Any, status: int, error_type: str
) -> None:
    body = more if isinstance(more, bytes) else {"query": "q", "documents": ["a"], **more}

    answer = post(f"{rerank_url}/v1/rerank", body)

    told = answer.json()
    assert (answer.status_code, told["error_type"]) == (status, error_type)
    assert set(told) == {"message", "detail", "error_type"}
    assert told["message"] == told["detail"]
    assert told["message"][0] in "`T"
    assert told["message"].endswith(".")


def test_without_a_reranker_the_reason_is_said() -> None:
    engine: Any = HeldEngine()
    models = _Loaded("held", "none", embedder=Slot(engine, ""), reranker=Slot())
    asked = {"query": "q", "documents": ["a"]}

    with serving(models) as url:
        loading = post(f"{url}/v1/rerank", asked)
        models.reranker = Slot(None, "reranking is switched off (RERANKER=none)")
        none = post(f"{url}/v2/rerank", asked)

    assert (loading.status_code, none.status_code) == (503, 424)
    assert loading.json()["message"] == "The model is loading."
    assert int(loading.headers["Retry-After"]) >= 1
    assert none.json()["detail"] == "Reranking is switched off (RERANKER=none)."


@pytest.mark.parametrize(("service", "path"), [("jina", "v1"), ("cohere", "v2"), ("cohere", "v1")])
def test_our_own_clients_of_these_apis_understand_it(
    rerank_url: str, cross_encoder: Path, service: str, path: str
) -> None:
    client = HostedReranker(
        f"{service}:any",
        environment={SERVICES[service].key: "unread"},
        url=f"{rerank_url}/{path}/rerank",
    )

    with closing(client):
        logits = client.logits(QUESTION, PASSAGES)
        with pytest.raises(NoModel, match=r"\(413\): `documents` may hold 256 texts in a request"):
            client.logits(QUESTION, ["x"] * 300)

    assert logits == pytest.approx(plain_logits(cross_encoder, QUESTION, PASSAGES), abs=1e-3)
