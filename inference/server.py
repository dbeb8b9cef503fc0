"""The HTTP API of the model server, as Text Embeddings Inference defines it.

POST /embed, /rerank; GET /info, /health, /metrics. Errors are {"error", "error_type"}.
Beyond TEI: both kinds of model in one server, `truncated` with each rerank score, `read` with
each text that was cut, the header `X-Lane: ingestion` for work that may wait, and `/info`
objects per model. POST /v1/rerank and /v2/rerank rank as the APIs of Jina AI and Cohere do, with
errors as {"message", "detail", "error_type"}.

Sources: Text Embeddings Inference, API documentation (docs/openapi.json), 1.7;
https://api.jina.ai/docs, https://docs.cohere.com/reference/rerank
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from inference.answers import Answer
from inference.errors import InferenceBusy, InferenceError, ModelLoading, NoModel
from inference.hosted import HostedReranker
from inference.metrics import Cost, Kind, Metrics
from inference.models import Models
from inference.reading import read_characters
from inference.scheduler import BATCH_TEXTS, LANE_TEXTS, Lane, Scheduler
from telemetry import requests, tracing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inference.engines import Embedder, Encoded, Reranker

MAX_CLIENT_BATCH = 256
MAX_BODY_BYTES = 2 * 1024 * 1024
GONE_CHECK_SECONDS = 0.25
# Options of TEI that have only this value here.
FIXED_OPTIONS = {
    "normalize": True,
    "prompt_name": None,
    "dimensions": None,
    "truncation_direction": "Right",
}

logger = logging.getLogger(__name__)
Handler = Callable[[Request], Awaitable[Response]]


class _Refused(Exception):
    """A request that is answered with an error of this status and type.

    cause: by which TEI counts it.
    """

    def __init__(
        self,
        status: int,
        error_type: str,
        message: str,
        *,
        cause: str = "validation",
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error_type = error_type
        self.cause = cause
        self.retry_after_seconds = retry_after_seconds


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
            Route("/v1/rerank", _answered(rank_documents, _as_rerank_apis), methods=["POST"]),
            Route("/v2/rerank", _answered(rank_documents, _as_rerank_apis), methods=["POST"]),
            Route("/info", info),
            Route("/health", health),
            Route("/metrics", metrics),
        ],
        lifespan=lifespan,
    )
    app.state.models, app.state.scheduler, app.state.metrics = models, queue, Metrics(queue)
    return app


def _as_tei(refused: _Refused) -> dict[str, str]:
    return {"error": str(refused), "error_type": refused.error_type}


def _as_rerank_apis(refused: _Refused) -> dict[str, str]:
    """Cohere's clients show `message`, Jina's `detail`; both expect a sentence."""
    words = str(refused)
    sentence = f"{words[:1].upper()}{words[1:].rstrip('.')}."
    return {"message": sentence, "detail": sentence, "error_type": refused.error_type}


def _answered(handler: Handler, told: Callable[[_Refused], dict[str, str]] = _as_tei) -> Handler:
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
                refused = _refusal(exc, path)
                metrics.failed[refused.cause] += 1
                response = _error(refused, told)
            else:
                metrics.succeeded[request.state.method] += 1
            if span is not None:
                span.set_attribute("http.response.status_code", response.status_code)
            logger.debug("%s answered %d", path, response.status_code)
        metrics.asked[request.state.method] += 1
        metrics.requests[path, response.status_code] += 1
        return response

    return answer


def _refusal(exc: Exception, path: str) -> _Refused:
    match exc:
        case _Refused():
            return exc
        case ClientDisconnect():  # before all of the body was here
            return _Refused(499, "cancelled", "the caller has gone", cause="dropped")
        case ModelLoading():
            return _Refused(
                503, "model_loading", str(exc), cause="unhealthy", retry_after_seconds=2
            )
        case NoModel():
            return _Refused(424, "no_model", str(exc), cause="model_type")
        case InferenceBusy():
            after = exc.retry_after_seconds
            return _Refused(
                429, "Overloaded", str(exc), cause="overloaded", retry_after_seconds=after
            )
        case InferenceError():  # of a service that somebody else runs
            return _Refused(424, "Backend", str(exc), cause="inference")
    logger.error("%s failed", path, exc_info=exc)
    message = "the model failed on this input; the log has the details"
    return _Refused(424, "Backend", message, cause="inference")


def _error(refused: _Refused, told: Callable[[_Refused], dict[str, str]] = _as_tei) -> Response:
    response = _json(told(refused), status=refused.status)
    if refused.retry_after_seconds is not None:
        response.headers["Retry-After"] = f"{refused.retry_after_seconds:.0f}"
    return response


async def embed(request: Request) -> Response:
    """`{"inputs": text or [texts], "truncate"?}` -> [[float]]; unit vectors."""
    body = await _body(request)
    inputs = body.get("inputs")
    if isinstance(inputs, str):
        inputs, request.state.method = [inputs], "single"
    texts = _texts(inputs, "inputs")
    truncate = _flag(body, "truncate", default=True)
    engine = request.app.state.models.embedder.get()
    cost = _begun(request, "embed", engine, texts)
    encoded = await _encoded(request, cost, engine.encode, texts)
    if not truncate and any(item.truncated for item in encoded):
        raise _Refused(413, "Validation", f"an input has more than {engine.max_tokens} tokens")
    lane = _lane(request)
    if lane == Lane.INGESTION and engine.half is not None:
        engine = engine.half
    answer = request.app.state.scheduler.submit(engine, encoded, lane=lane)
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
            raise _Refused(413, "Validation", f"a pair has more than {engine.max_tokens} tokens")
        answer = request.app.state.scheduler.submit(engine, encoded, lane=_lane(request))
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
    body = await _body(request)
    query = _query(body)
    texts = _texts(body.get("texts"), "texts")
    truncate = _flag(body, "truncate", default=True)
    raw_scores = _flag(body, "raw_scores", default=False)
    return_text = _flag(body, "return_text", default=False)
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
    body = await _body(request)
    query = _query(body)
    texts = _documents(body.get("documents"))
    top_n = body.get("top_n")
    if top_n is not None and (not isinstance(top_n, int) or isinstance(top_n, bool) or top_n < 1):
        raise _Refused(422, "Validation", "`top_n` must be a whole number, at least 1")
    by_default = request.url.path == "/v1/rerank"
    return_documents = _flag(body, "return_documents", default=by_default)
    ranking = await _ranked(request, query, texts)
    results = [
        {
            "index": n,
            "relevance_score": float(ranking.relevance[n]),
            **({"document": {"text": texts[n]}} if return_documents else {}),
        }
        for n in ranking.order[:top_n]
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
    return _json(
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
    """200 when everything has loaded and the embedder can be used, else 503 with the reason."""
    models: Models = request.app.state.models
    if models.embedder.reason:
        return _error(_Refused(503, "Unhealthy", models.embedder.reason))
    if models.reranker.is_loading:
        return _error(_Refused(503, "Unhealthy", models.reranker.reason))
    return Response(status_code=200)


async def metrics(request: Request) -> Response:
    """Counters and histograms in Prometheus's text format."""
    return Response(request.app.state.metrics.text(), media_type=CONTENT_TYPE_PLAIN_0_0_4)


async def _body(request: Request) -> Mapping[str, Any]:
    """The JSON object that was sent, if it asks for nothing that this server lacks."""
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > MAX_BODY_BYTES:
            raise _Refused(413, "Validation", f"the body has more than {MAX_BODY_BYTES} bytes")
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError as exc:
        raise _Refused(422, "Validation", f"the body is not JSON: {exc}") from exc
    if not isinstance(body, dict):
        raise _Refused(422, "Validation", "the body must be a JSON object")
    for name, only in FIXED_OPTIONS.items():
        given = body.get(name)
        if given is not None and str(given).lower() != str(only).lower():
            raise _Refused(422, "Validation", f"`{name}` cannot be {given!r} on this server")
    return body


def _query(body: Mapping[str, Any]) -> str:
    query = body.get("query")
    if not isinstance(query, str) or not query.strip():
        raise _Refused(422, "Validation", "`query` must be a text that is not empty")
    return query


def _texts(value: object, name: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise _Refused(422, "Validation", f"`{name}` must be a list of texts")
    if not value:
        raise _Refused(400, "Empty", f"`{name}` must not be empty")
    if len(value) > MAX_CLIENT_BATCH:
        most = f"batch size {len(value)} > maximum allowed batch size {MAX_CLIENT_BATCH}"
        raise _Refused(413, "Validation", most, cause="batch_size")
    return value


def _documents(value: object) -> list[str]:
    """Texts, given as such or as objects that have one."""
    if isinstance(value, list):
        value = [
            document.get("text") if isinstance(document, dict) else document for document in value
        ]
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        what = "`documents` must be a list of texts, or of objects with a `text`"
        raise _Refused(422, "Validation", what)
    if not value:
        raise _Refused(400, "Empty", "`documents` must hold at least one text")
    if len(value) > MAX_CLIENT_BATCH:
        most = f"`documents` may hold {MAX_CLIENT_BATCH} texts in a request, not {len(value)}"
        raise _Refused(413, "Validation", most, cause="batch_size")
    return value


def _flag(body: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise _Refused(422, "Validation", f"`{name}` must be true or false")
    return value


def _lane(request: Request) -> Lane:
    return Lane.INGESTION if request.headers.get("x-lane") == "ingestion" else Lane.QUESTION


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
    try:
        while not (await asyncio.wait([waiting], timeout=GONE_CHECK_SECONDS))[0]:
            if await request.is_disconnected():
                answer.cancel()
                raise _Refused(499, "cancelled", "the caller has gone", cause="dropped")
    except asyncio.CancelledError:  # uvicorn, when it stops
        answer.cancel()
        stopping = "the model server is stopping"
        raise _Refused(503, "Unhealthy", stopping, cause="unhealthy") from None
    rows = waiting.result()
    if not np.isfinite(rows).all():
        message = "the model gave numbers that are not finite"
        raise _Refused(424, "Backend", message, cause="inference")
    cost.parts = answer.parts
    return rows


def _computed(request: Request, value: object, cost: Cost) -> Response:
    """The answer of a request that the model has worked for, with TEI's headers."""
    cost.total_seconds = time.perf_counter() - cost.began
    request.app.state.metrics.end(cost)
    response = _json(value)
    response.headers.update(cost.headers())
    return response


def _json(value: object, *, status: int = 200) -> Response:
    content = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, status_code=status, media_type="application/json")
