"""The HTTP API of the model server, as Text Embeddings Inference defines it.

POST /embed, /rerank; GET /info, /health, /metrics. Errors are {"error", "error_type"}.
Beyond TEI: both kinds of model in one server, `truncated` with each rerank score, the
header `X-Lane: ingestion` for work that may wait, and `/info` objects per model.

Source: Text Embeddings Inference, API documentation (docs/openapi.json), 1.9
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from inference.errors import InferenceBusy, InferenceError, ModelLoading, NoModel
from inference.models import Models
from inference.scheduler import Lane, Scheduler

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_CLIENT_BATCH = 256
MAX_BODY_BYTES = 20 * 1024 * 1024
GONE_CHECK_SECONDS = 0.25

logger = logging.getLogger(__name__)


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

    app = Starlette(
        routes=[
            Route("/embed", _guarded(embed), methods=["POST"]),
            Route("/rerank", _guarded(rerank), methods=["POST"]),
            Route("/info", info),
            Route("/health", health),
            Route("/metrics", metrics),
        ],
        lifespan=lifespan,
    )
    app.state.models, app.state.scheduler = models, queue
    return app


Handler = Callable[[Request], Awaitable[Response]]


def _guarded(handler: Handler) -> Handler:
    """Answer every error in TEI's shape."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except _Refused as exc:
            return _error(exc.status, exc.error_type, str(exc))
        except ModelLoading as exc:
            return _error(503, "model_loading", str(exc), retry_after=2)
        except NoModel as exc:
            return _error(424, "no_model", str(exc))
        except InferenceBusy as exc:
            return _error(429, "overloaded", str(exc), retry_after=exc.retry_after_seconds)
        except InferenceError as exc:
            return _error(500, "backend", str(exc))
        except Exception:
            logger.exception("%s failed", request.url.path)
            return _error(500, "backend", "the model failed on this input; the log has the details")

    return answer


def _error(
    status: int, error_type: str, message: str, *, retry_after: float | None = None
) -> Response:
    headers = {"Retry-After": f"{retry_after:.0f}"} if retry_after is not None else None
    return JSONResponse(
        {"error": message, "error_type": error_type}, status_code=status, headers=headers
    )


async def embed(request: Request) -> Response:
    """`{"inputs": text or [texts]}` -> [[float]]; unit vectors."""
    models: Models = request.app.state.models
    body = await _body(request)
    inputs = body.get("inputs")
    texts = _texts([inputs] if isinstance(inputs, str) else inputs, "inputs")
    engine = models.embedder
    encoded = await asyncio.to_thread(engine.encode, texts)
    if body.get("truncate", True) is False and any(item.truncated for item in encoded):
        raise _Refused(413, "validation", f"an input exceeds {engine.info.max_tokens} tokens")
    future = request.app.state.scheduler.submit(engine, encoded, lane=_lane(request))
    vectors = await _result(request, future)
    return Response(_json(vectors.tolist()), media_type="application/json")


async def rerank(request: Request) -> Response:
    """`{"query", "texts", "raw_scores"?, "return_text"?}` -> [{"index", "score"}], best first."""
    models: Models = request.app.state.models
    body = await _body(request)
    query = body.get("query")
    if not isinstance(query, str) or not query.strip():
        raise _Refused(422, "validation", "`query` must be a text that is not empty")
    texts = _texts(body.get("texts"), "texts")
    engine = models.reranker
    encoded = await asyncio.to_thread(engine.encode, query, texts)
    if body.get("truncate", True) is False and any(item.truncated for item in encoded):
        raise _Refused(413, "validation", f"a pair exceeds {engine.info.max_tokens} tokens")
    future = request.app.state.scheduler.submit(engine, encoded, lane=_lane(request))
    logits = await _result(request, future)
    scores = logits if body.get("raw_scores") else 1 / (1 + np.exp(-logits.astype(np.float64)))
    order = np.argsort(-logits, kind="stable").tolist()
    ranked = [
        {
            "index": n,
            "score": float(scores[n]),
            "truncated": encoded[n].truncated,
            **({"text": texts[n]} if body.get("return_text") else {}),
        }
        for n in order
    ]
    return Response(_json(ranked), media_type="application/json")


async def info(request: Request) -> Response:
    """What this server has, in TEI's fields and in ours."""
    models: Models = request.app.state.models
    scheduler: Scheduler = request.app.state.scheduler
    embedder = None if models.reasons["embedder"] else models.embedder.info
    reranker = None if models.reasons["reranker"] else models.reranker.info
    main = embedder or reranker
    return JSONResponse(
        {
            "model_id": main.model_id if main else models.embedding_model,
            "model_sha": main.revision if main else None,
            "model_dtype": main.dtype if main else "",
            "max_input_length": main.max_tokens if main else 0,
            "max_client_batch_size": MAX_CLIENT_BATCH,
            "version": version("sentence-transformers"),
            "embedder": asdict(embedder) if embedder else None,
            "embedder_reason": models.reasons["embedder"],
            "reranker": asdict(reranker) if reranker else None,
            "reranker_reason": models.reasons["reranker"],
            "queue_depth": scheduler.depth(),
        }
    )


async def health(request: Request) -> Response:
    """200 when the embedder can be used, 503 with the reason before."""
    models: Models = request.app.state.models
    if reason := models.reasons["embedder"] or (models.is_loading and "model is loading"):
        return _error(503, "unhealthy", str(reason))
    return Response(status_code=200)


async def metrics(request: Request) -> Response:
    """Counters in Prometheus's text format."""
    scheduler: Scheduler = request.app.state.scheduler
    lines = [
        f"# TYPE ragsite_inference_{name}_total counter\nragsite_inference_{name}_total {value}"
        for name, value in asdict(scheduler.counters).items()
    ]
    lines.append(
        "# TYPE ragsite_inference_queue_texts gauge\n"
        f"ragsite_inference_queue_texts {scheduler.depth()}"
    )
    return PlainTextResponse("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")


async def _body(request: Request) -> dict[str, Any]:
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > MAX_BODY_BYTES:
            raise _Refused(413, "validation", f"the body exceeds {MAX_BODY_BYTES} bytes")
    try:
        body = json.loads(content)
    except ValueError as exc:
        raise _Refused(422, "validation", f"the body is not JSON: {exc}") from exc
    if not isinstance(body, dict):
        raise _Refused(422, "validation", "the body must be a JSON object")
    return body


def _texts(value: object, name: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise _Refused(422, "validation", f"`{name}` must be a list of texts")
    if not value:
        raise _Refused(422, "empty", f"`{name}` must not be empty")
    if len(value) > MAX_CLIENT_BATCH:
        raise _Refused(
            413, "validation", f"`{name}` holds {len(value)} texts, at most {MAX_CLIENT_BATCH}"
        )
    return value


def _lane(request: Request) -> Lane:
    return Lane.INGESTION if request.headers.get("x-lane") == "ingestion" else Lane.QUESTION


async def _result(request: Request, future: Future[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Wait for the model; give the place in the queue up when the caller has gone."""
    waiting = asyncio.wrap_future(future)
    while True:
        done, _ = await asyncio.wait([waiting], timeout=GONE_CHECK_SECONDS)
        if done:
            return waiting.result()
        if await request.is_disconnected():
            future.cancel()
            raise _Refused(499, "cancelled", "the caller has gone")


def _json(value: Sequence[Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
