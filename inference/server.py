"""The HTTP API of the model server, as Text Embeddings Inference defines it.

POST /embed, /rerank; GET /info, /health, /metrics. Errors are {"error", "error_type"}.
Beyond TEI: both kinds of model in one server, `truncated` with each rerank score, `read` with
each text that was cut, the header `X-Lane: ingestion` for work that may wait, and `/info`
objects per model.

Source: Text Embeddings Inference, API documentation (docs/openapi.json), 1.7
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from inference.errors import InferenceBusy, InferenceError, ModelLoading, NoModel
from inference.hosted import HostedReranker
from inference.models import Models
from inference.reading import read_characters
from inference.scheduler import BATCH_TEXTS, LANE_TEXTS, Lane, Scheduler
from telemetry import requests, tracing

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
    """A request that is answered with an error of this status and type."""

    def __init__(self, status: int, error_type: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.error_type = error_type


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
            Route("/info", info),
            Route("/health", health),
            Route("/metrics", metrics),
        ],
        lifespan=lifespan,
    )
    app.state.models, app.state.scheduler, app.state.requests = models, queue, Counter()
    return app


def _answered(handler: Handler) -> Handler:
    """Answer every error in TEI's shape, and count."""

    async def answer(request: Request) -> Response:
        path, sent = request.url.path, request.headers
        with (
            requests.under(requests.of(sent)) as number,
            tracing.span(f"{request.method} {path}", sent, request_id=number) as span,
        ):
            response = await _or_error(handler, request)
            if span is not None:
                span.set_attribute("http.response.status_code", response.status_code)
            logger.debug("%s answered %d", path, response.status_code)
        request.app.state.requests[path, response.status_code] += 1
        return response

    return answer


async def _or_error(handler: Handler, request: Request) -> Response:
    try:
        return await handler(request)
    except _Refused as exc:
        return _error(exc.status, exc.error_type, str(exc))
    except ClientDisconnect:  # before all of the body was here
        return _error(499, "cancelled", "the caller has gone")
    except ModelLoading as exc:
        return _error(503, "model_loading", str(exc), retry_after_seconds=2)
    except NoModel as exc:
        return _error(424, "no_model", str(exc))
    except InferenceBusy as exc:
        return _error(429, "Overloaded", str(exc), retry_after_seconds=exc.retry_after_seconds)
    except InferenceError as exc:  # of a service that somebody else runs
        return _error(424, "Backend", str(exc))
    except Exception:
        logger.exception("%s failed", request.url.path)
        return _error(424, "Backend", "the model failed on this input; the log has the details")


def _error(
    status: int, error_type: str, message: str, *, retry_after_seconds: float | None = None
) -> Response:
    response = _json({"error": message, "error_type": error_type}, status=status)
    if retry_after_seconds is not None:
        response.headers["Retry-After"] = f"{retry_after_seconds:.0f}"
    return response


async def embed(request: Request) -> Response:
    """`{"inputs": text or [texts], "truncate"?}` -> [[float]]; unit vectors."""
    body = await _body(request)
    inputs = body.get("inputs")
    texts = _texts([inputs] if isinstance(inputs, str) else inputs, "inputs")
    truncate = _flag(body, "truncate", default=True)
    engine = request.app.state.models.embedder.get()
    encoded = await asyncio.to_thread(engine.encode, texts)
    if not truncate and any(item.truncated for item in encoded):
        raise _Refused(413, "Validation", f"an input has more than {engine.max_tokens} tokens")
    lane = _lane(request)
    if lane == Lane.INGESTION and engine.half is not None:
        engine = engine.half
    future = request.app.state.scheduler.submit(engine, encoded, lane=lane)
    return _json(await _result(request, future))


async def rerank(request: Request) -> Response:
    """`{"query", "texts", "raw_scores"?, "return_text"?, "truncate"?}` -> scores, best first.

    Each is {"index", "score", "truncated", "text"?, "read"?}: a probability, or with `raw_scores`
    the logit; with `return_text` also how many characters of a truncated text were read.
    """
    body = await _body(request)
    query = body.get("query")
    if not isinstance(query, str) or not query.strip():
        raise _Refused(422, "Validation", "`query` must be a text that is not empty")
    texts = _texts(body.get("texts"), "texts")
    truncate = _flag(body, "truncate", default=True)
    raw_scores = _flag(body, "raw_scores", default=False)
    return_text = _flag(body, "return_text", default=False)
    engine = request.app.state.models.reranker.get()
    if isinstance(engine, HostedReranker):
        logits = await _result(request, engine.submit(query, texts))
        cut = [False] * len(texts)  # services do not tell
    else:
        encoded = await asyncio.to_thread(engine.encode, query, texts)
        cut = [item.truncated for item in encoded]
        if not truncate and any(cut):
            raise _Refused(413, "Validation", f"a pair has more than {engine.max_tokens} tokens")
        future = request.app.state.scheduler.submit(engine, encoded, lane=_lane(request))
        logits = await _result(request, future)
    calibration = engine.info.calibration
    log_odds = calibration.slope * logits.astype(np.float64) + calibration.intercept
    # The logistic function, in a form that cannot overflow.
    scores = logits if raw_scores else 0.5 + 0.5 * np.tanh(log_odds / 2)
    ranked = [
        {
            "index": n,
            "score": float(scores[n]),
            "truncated": cut[n],
            **({"text": texts[n]} if return_text else {}),
        }
        for n in np.argsort(-logits, kind="stable").tolist()
    ]
    if return_text and not isinstance(engine, HostedReranker):
        for row in ranked:
            if row["truncated"]:
                row["read"] = await asyncio.to_thread(read_characters, engine, query, row["text"])
    return _json(ranked)


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
        return _error(503, "Unhealthy", models.embedder.reason)
    if models.reranker.is_loading:
        return _error(503, "Unhealthy", models.reranker.reason)
    return Response(status_code=200)


async def metrics(request: Request) -> Response:
    """Counters in Prometheus's text format."""
    state, prefix = request.app.state, "ragsite_inference"
    lines = [f"# TYPE {prefix}_requests_total counter"]
    for (path, status), count in sorted(state.requests.items()):
        lines.append(f'{prefix}_requests_total{{path="{path}",status="{status}"}} {count}')
    for name, value in asdict(state.scheduler.counters).items():
        lines += [f"# TYPE {prefix}_{name}_total counter", f"{prefix}_{name}_total {value}"]
    lines.append(f"# TYPE {prefix}_queue_texts gauge")
    for lane in Lane:
        depth = state.scheduler.depth(lane)
        lines.append(f'{prefix}_queue_texts{{lane="{lane.name.lower()}"}} {depth}')
    lines += _by_teis_names(state.requests, state.scheduler)
    return PlainTextResponse("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")


def _by_teis_names(requests: Counter[tuple[str, int]], scheduler: Scheduler) -> list[str]:
    """What dashboards and autoscalers of TEI read; sums and counts in place of histograms."""
    done = scheduler.counters
    failed = sum(count for (_, status), count in requests.items() if status >= 400)
    counts = {
        "te_request_count": requests.total(),
        "te_request_success": requests.total() - failed,
        "te_request_failure": failed,
    }
    lines: list[str] = []
    for name, count in counts.items():
        lines += [f"# TYPE {name} counter", f"{name} {count}"]
    lines += ["# TYPE te_queue_size gauge", f"te_queue_size {scheduler.depth()}"]
    sums = {
        "te_batch_next_size": (done.texts, done.batches),
        "te_batch_next_tokens": (done.tokens, done.batches),
        "te_request_queue_duration": (done.queued_seconds, done.texts),
        "te_request_inference_duration": (done.seconds, done.batches),
    }
    for name, (total, count) in sums.items():
        lines += [f"# TYPE {name} summary", f"{name}_sum {total}", f"{name}_count {count}"]
    return lines


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


def _texts(value: object, name: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise _Refused(422, "Validation", f"`{name}` must be a list of texts")
    if not value:
        raise _Refused(400, "Empty", f"`{name}` must not be empty")
    if len(value) > MAX_CLIENT_BATCH:
        most = f"batch size {len(value)} > maximum allowed batch size {MAX_CLIENT_BATCH}"
        raise _Refused(413, "Validation", most)
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


async def _result(request: Request, future: Future[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Wait for the model; give the place in the queue up when the caller has gone."""
    waiting = asyncio.wrap_future(future)
    try:
        while not (await asyncio.wait([waiting], timeout=GONE_CHECK_SECONDS))[0]:
            if await request.is_disconnected():
                future.cancel()
                raise _Refused(499, "cancelled", "the caller has gone")
    except asyncio.CancelledError:  # uvicorn, when it stops
        future.cancel()
        raise _Refused(503, "Unhealthy", "the model server is stopping") from None
    rows = waiting.result()
    if not np.isfinite(rows).all():
        raise _Refused(424, "Backend", "the model gave numbers that are not finite")
    return rows


def _json(value: object, *, status: int = 200) -> Response:
    content = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, status_code=status, media_type="application/json")
