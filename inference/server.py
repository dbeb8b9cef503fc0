"""The HTTP API of the model server, as Text Embeddings Inference defines it.

POST /embed, /rerank; GET /info, /health, /metrics. Errors are {"error", "error_type"}.
Beyond TEI: both kinds of model in one server, `truncated` with each rerank score, `read` with
each text that was cut, the headers `X-Lane: ingestion` for work that may wait and `X-Timeout-Ms`
for how long the caller does, and `/info` objects per model. POST /v1/rerank and /v2/rerank rank
as the APIs of Jina AI and Cohere do, with errors as {"message", "detail", "error_type"}.

Sources: Text Embeddings Inference, API documentation (docs/openapi.json), 1.7;
https://api.jina.ai/docs, https://docs.cohere.com/reference/rerank
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from inference.answers import Answer
from inference.hosted import HostedReranker
from inference.metrics import Cost, Kind, Metrics
from inference.models import Models
from inference.protocol import (
    MAX_CLIENT_BATCH,
    Refused,
    as_rerank_apis,
    as_tei,
    documents_of,
    error_response,
    flag,
    json_response,
    query_of,
    read_body,
    refusal,
    texts_of,
    top_n,
)
from inference.reading import read_characters
from inference.scheduler import BATCH_TEXTS, LANE_TEXTS, Lane, Scheduler
from telemetry import requests, tracing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inference.engines import Embedder, Encoded, Reranker

GONE_CHECK_SECONDS = 0.25

logger = logging.getLogger(__name__)
Handler = Callable[[Request], Awaitable[Response]]


def create_app(models: Models, scheduler: Scheduler | None = None) -> Starlette:
    """The ASGI application; begins to load the models when it starts."""
    queue = scheduler or Scheduler()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        models.load_in_background()
        yield
        queue.close()
        if isinstance(models.reranker.engine, HostedReranker):
            models.reranker.engine.close()

    app = Starlette(
        routes=[
            Route("/embed", _answered(embed), methods=["POST"]),
            Route("/rerank", _answered(rerank), methods=["POST"]),
            Route("/v1/rerank", _answered(rank_documents, as_rerank_apis), methods=["POST"]),
            Route("/v2/rerank", _answered(rank_documents, as_rerank_apis), methods=["POST"]),
            Route("/info", info),
            Route("/health", health),
            Route("/metrics", metrics),
        ],
        lifespan=lifespan,
        exception_handlers={HTTPException: _no_such_route},
    )
    app.state.models, app.state.scheduler, app.state.metrics = models, queue, Metrics(queue)
    return app


def _answered(handler: Handler, told: Callable[[Refused], dict[str, str]] = as_tei) -> Handler:
    """Answer every error in the API's shape, and count."""

    async def answer(request: Request) -> Response:
        path, sent = request.url.path, request.headers
        metrics: Metrics = request.app.state.metrics
        request.state.method = "batch"
        with (
            requests.under(requests.of(sent)) as number,
            tracing.span(f"{request.method} {path}", sent, request_id=number) as span,
        ):
            try:
                response = await handler(request)
            except Exception as exc:  # noqa: BLE001 (one of them is logged, all are told)
                refused = refusal(exc, path)
                metrics.failed[refused.cause] += 1
                response = error_response(refused, told)
            else:
                metrics.succeeded[request.state.method] += 1
            if span is not None:
                span.set_attribute("http.response.status_code", response.status_code)
            logger.debug("%s answered %d", path, response.status_code)
        metrics.asked[request.state.method] += 1
        metrics.requests[path, response.status_code] += 1
        return response

    return answer


async def _no_such_route(request: Request, exc: Exception) -> Response:
    """What no route takes, in the shape of the API that was meant."""
    path = request.url.path
    told = as_rerank_apis if path in ("/v1/rerank", "/v2/rerank") else as_tei
    response = error_response(refusal(exc, path), told)
    if isinstance(exc, HTTPException) and exc.headers:
        response.headers.update(exc.headers)
    return response


async def embed(request: Request) -> Response:
    """`{"inputs": text or [texts], "truncate"?}` -> [[float]]; unit vectors."""
    body = await read_body(request)
    inputs = body.get("inputs")
    if isinstance(inputs, str):
        inputs, request.state.method = [inputs], "single"
    texts = texts_of(inputs, "inputs")
    truncate = flag(body, "truncate", default=True)
    engine = request.app.state.models.embedder.get()
    cost = _begun(request, "embed", engine, texts)
    encoded = await _encoded(request, cost, engine.encode, texts)
    if not truncate and any(item.truncated for item in encoded):
        raise Refused(413, "Validation", f"an input has more than {engine.max_tokens} tokens")
    lane = _lane(request)
    if lane == Lane.INGESTION and engine.half is not None:
        engine = engine.half
    answer = request.app.state.scheduler.submit(
        engine, encoded, lane=lane, seconds=_seconds(request)
    )
    vectors = await _result(request, answer, cost)
    return _computed(request, vectors, cost)


@dataclass(frozen=True, slots=True)
class _Ranking:
    """Texts in the order that the reranker gave them.

    logits, relevance: (n,) in the order of the request; the latter calibrated, 0 to 1.
    order: places in the request, best first. truncated: whether a pair was cut.
    """

    engine: Reranker | HostedReranker
    logits: NDArray[np.float32]
    relevance: NDArray[np.float64]
    order: list[int]
    truncated: list[bool]
    cost: Cost


async def _ranked(
    request: Request, query: str, texts: list[str], *, truncate: bool = True
) -> _Ranking:
    """Let the reranker of this server, or the service it asks, score texts."""
    engine = request.app.state.models.reranker.get()
    cost = _begun(request, "predict", engine, texts, question=query)
    if isinstance(engine, HostedReranker):
        answer = engine.submit(query, texts)
        cut = [False] * len(texts)  # services do not tell
    else:
        encoded = await _encoded(request, cost, engine.encode, query, texts)
        cut = [item.truncated for item in encoded]
        if not truncate and any(cut):
            raise Refused(413, "Validation", f"a pair has more than {engine.max_tokens} tokens")
        answer = request.app.state.scheduler.submit(
            engine, encoded, lane=_lane(request), seconds=_seconds(request)
        )
    logits = await _result(request, answer, cost)
    calibration = engine.info.calibration
    log_odds = calibration.slope * logits.astype(np.float64) + calibration.intercept
    # The logistic function, in a form that cannot overflow.
    relevance = 0.5 + 0.5 * np.tanh(log_odds / 2)
    order: list[int] = np.argsort(-logits, kind="stable").tolist()
    return _Ranking(engine, logits, relevance, order, cut, cost)


async def rerank(request: Request) -> Response:
    """`{"query", "texts", "raw_scores"?, "return_text"?, "truncate"?}` -> scores, best first.

    Each is {"index", "score", "truncated", "text"?, "read"?}: a probability, or with `raw_scores`
    the logit; with `return_text` also how many characters of a truncated text were read.
    """
    body = await read_body(request)
    query = query_of(body)
    texts = texts_of(body.get("texts"), "texts")
    truncate = flag(body, "truncate", default=True)
    raw_scores = flag(body, "raw_scores", default=False)
    return_text = flag(body, "return_text", default=False)
    ranking = await _ranked(request, query, texts, truncate=truncate)
    scores = ranking.logits if raw_scores else ranking.relevance
    rows: list[dict[str, Any]] = [
        {
            "index": n,
            "score": float(scores[n]),
            "truncated": ranking.truncated[n],
            **({"text": texts[n]} if return_text else {}),
        }
        for n in ranking.order
    ]
    if return_text and not isinstance(ranking.engine, HostedReranker):
        for row in rows:
            if row["truncated"]:
                row["read"] = await asyncio.to_thread(
                    read_characters, ranking.engine, query, row["text"]
                )
    return _computed(request, rows, ranking.cost)


async def rank_documents(request: Request) -> Response:
    """`{"model"?, "query", "documents", "top_n"?, "return_documents"?}` -> {"model", "results"}.

    A document is a text or {"text"}. Best first, each result is {"index", "relevance_score",
    "document"?}. Whatever `model` is asked for, the one that this server has scores and is named.
    Texts come back unless `return_documents` forbids it, as from Jina AI; in version 2, which is
    Cohere's alone, only where it asks for them.
    """
    body = await read_body(request)
    query = query_of(body)
    texts = documents_of(body.get("documents"))
    most = top_n(body)
    by_default = request.url.path == "/v1/rerank"
    return_documents = flag(body, "return_documents", default=by_default)
    ranking = await _ranked(request, query, texts)
    results = [
        {
            "index": n,
            "relevance_score": float(ranking.relevance[n]),
            **({"document": {"text": texts[n]}} if return_documents else {}),
        }
        for n in ranking.order[:most]
    ]
    tokens = ranking.cost.tokens
    usage = {} if tokens is None else {"usage": {"total_tokens": tokens}}
    told = {"model": ranking.engine.info.model_id, "results": results, **usage}
    return _computed(request, told, ranking.cost)


async def info(request: Request) -> Response:
    """What this server has, in TEI's fields and in ours."""
    models: Models = request.app.state.models
    embedder, reranker = models.embedder.engine, models.reranker.engine
    main = embedder or reranker
    about = main.info if main else None
    if embedder is None and reranker is not None:
        kind: dict[str, Any] = {
            "reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
        }
    else:
        kind = {"embedding": {"pooling": embedder.pooling if embedder else ""}}
    return json_response(
        {
            "model_id": about.model_id if about else models.embedding_model,
            "model_sha": about.revision if about else None,
            "model_dtype": about.dtype if about else "",
            "model_type": kind,
            "max_concurrent_requests": LANE_TEXTS,
            "max_input_length": about.max_tokens if about else 0,
            "max_batch_tokens": main.batch_tokens if main else 0,
            "max_batch_requests": BATCH_TEXTS,
            "max_client_batch_size": MAX_CLIENT_BATCH,
            "auto_truncate": True,
            "tokenization_workers": 1,
            "version": version("sentence-transformers"),
            "sha": None,
            "docker_label": None,
            "embedder": asdict(embedder.info) if embedder else None,
            "embedder_reason": models.reason("embedder"),
            "reranker": asdict(reranker.info) if reranker else None,
            "reranker_reason": models.reason("reranker"),
            "queue_depth": request.app.state.scheduler.depth(),
            "unused_gpu": models.unused_gpu,
            "out_of_memory": request.app.state.scheduler.counters.out_of_memory,
        }
    )


async def health(request: Request) -> Response:
    """200 when everything has loaded and can be used, save for the reranker; else 503 and why."""
    models: Models = request.app.state.models
    if lost := request.app.state.scheduler.lost:
        return error_response(Refused(503, "Unhealthy", lost))
    if models.embedder.reason:
        return error_response(Refused(503, "Unhealthy", models.embedder.reason))
    if models.reranker.is_loading:
        return error_response(Refused(503, "Unhealthy", models.reranker.reason))
    return Response(status_code=200)


async def metrics(request: Request) -> Response:
    """Counters and histograms in Prometheus's text format."""
    return Response(request.app.state.metrics.text(), media_type=CONTENT_TYPE_PLAIN_0_0_4)


def _lane(request: Request) -> Lane:
    return Lane.INGESTION if request.headers.get("x-lane") == "ingestion" else Lane.QUESTION


def _seconds(request: Request) -> float:
    """How long the caller waits, by the header `X-Timeout-Ms`; for ever where there is none."""
    told = request.headers.get("x-timeout-ms")
    if told is None:
        return math.inf
    if not (told.isascii() and told.isdecimal()):
        raise Refused(422, "Validation", "`X-Timeout-Ms` must be a whole number of milliseconds")
    return float(told) / 1000


def _begun(
    request: Request,
    kind: Kind,
    engine: Embedder | Reranker | HostedReranker,
    texts: Sequence[str],
    *,
    question: str = "",
) -> Cost:
    """Begin to count what a request costs; TEI counts the question with each text."""
    characters = sum(map(len, texts)) + len(question) * len(texts)
    cost = Cost(kind, engine.info.device, len(texts), characters)
    request.app.state.metrics.begin(cost)
    return cost


async def _encoded(
    request: Request, cost: Cost, encode: Callable[..., list[Encoded]], *texts: str | list[str]
) -> list[Encoded]:
    """Tokenise beside the event loop."""
    began = time.perf_counter()
    encoded = await asyncio.to_thread(encode, *texts)
    cost.tokenization_seconds = time.perf_counter() - began
    cost.tokens = sum(item.tokens for item in encoded)
    for item in encoded:
        request.app.state.metrics.input_tokens.observe(item.tokens)
    return encoded


async def _result(request: Request, answer: Answer, cost: Cost) -> NDArray[np.float32]:
    """Wait for the model; give the place in the queue up when the caller has gone."""
    waiting = asyncio.wrap_future(answer)
    # The error of a caller that has gone is nobody's, and asyncio would log it.
    waiting.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    try:
        while not (await asyncio.wait([waiting], timeout=GONE_CHECK_SECONDS))[0]:
            if await request.is_disconnected():
                answer.cancel()
                raise Refused(499, "cancelled", "the caller has gone", cause="dropped")
    except asyncio.CancelledError:  # uvicorn, when it stops
        answer.cancel()
        stopping = "the model server is stopping"
        raise Refused(503, "Unhealthy", stopping, cause="unhealthy") from None
    rows = waiting.result()
    if not np.isfinite(rows).all():
        message = "the model gave numbers that are not finite"
        raise Refused(424, "Backend", message, cause="inference")
    cost.parts = answer.parts
    return rows


def _computed(request: Request, value: object, cost: Cost) -> Response:
    """The answer of a request that the model has worked for, with TEI's headers."""
    cost.total_seconds = time.perf_counter() - cost.began
    request.app.state.metrics.end(cost)
    response = json_response(value)
    response.headers.update(cost.headers())
    return response
