"""What is read from requests to the model server, and how they are refused.

The words and types of errors are TEI's, and ours where it has none. Whatever reads a part of a
request raises `Refused` where that part is not as it must be.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from inference.errors import (
    DeviceLost,
    InferenceBusy,
    InferenceError,
    InferenceLate,
    ModelLoading,
    NoModel,
)

MAX_CLIENT_BATCH = 256
MAX_BODY_BYTES = 2 * 1024 * 1024
# Options of TEI that have only this value here.
FIXED_OPTIONS = {
    "normalize": True,
    "prompt_name": None,
    "dimensions": None,
    "truncation_direction": "Right",
}

logger = logging.getLogger(__name__)


class Refused(Exception):
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


def as_tei(refused: Refused) -> dict[str, str]:
    """The body of TEI's errors."""
    return {"error": str(refused), "error_type": refused.error_type}


def as_rerank_apis(refused: Refused) -> dict[str, str]:
    """The same in a sentence, where clients of Cohere's API look for it, and those of Jina's."""
    words = str(refused)
    sentence = f"{words[:1].upper()}{words[1:].rstrip('.')}."
    return {"message": sentence, "detail": sentence, "error_type": refused.error_type}


def refusal(exc: Exception, path: str) -> Refused:
    """How a request ends that raised this; what nobody expected is logged."""
    match exc:
        case Refused():
            return exc
        case HTTPException(status_code=405):
            allowed = (exc.headers or {}).get("Allow", "")
            return Refused(405, "Validation", f"`{path}` takes {allowed} alone")
        case HTTPException():
            return Refused(exc.status_code, "Validation", f"there is no `{path}` here; see `/info`")
        case ClientDisconnect():  # before all of the body was here
            return Refused(499, "cancelled", "the caller has gone", cause="dropped")
        case ModelLoading():
            return Refused(503, "model_loading", str(exc), cause="unhealthy", retry_after_seconds=2)
        case DeviceLost():
            return Refused(503, "Unhealthy", str(exc), cause="unhealthy")
        case NoModel():
            return Refused(424, "no_model", str(exc), cause="model_type")
        case InferenceBusy():
            after = exc.retry_after_seconds
            return Refused(
                429, "Overloaded", str(exc), cause="overloaded", retry_after_seconds=after
            )
        case InferenceLate():
            return Refused(504, "Late", str(exc), cause="overloaded")
        case InferenceError():  # of a service that somebody else runs
            return Refused(424, "Backend", str(exc), cause="inference")
    logger.error("%s failed", path, exc_info=exc)
    message = "the model failed on this input; the log has the details"
    return Refused(424, "Backend", message, cause="inference")


def error_response(
    refused: Refused, told: Callable[[Refused], dict[str, str]] = as_tei
) -> Response:
    """The answer to a request that is refused."""
    response = json_response(told(refused), status=refused.status)
    if refused.retry_after_seconds is not None:
        response.headers["Retry-After"] = f"{refused.retry_after_seconds:.0f}"
    return response


async def read_body(request: Request) -> Mapping[str, Any]:
    """The JSON object that was sent, if it asks for nothing that this server lacks."""
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > MAX_BODY_BYTES:
            raise Refused(413, "Validation", f"the body has more than {MAX_BODY_BYTES} bytes")
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError as exc:
        raise Refused(422, "Validation", f"the body is not JSON: {exc}") from exc
    if not isinstance(body, dict):
        raise Refused(422, "Validation", "the body must be a JSON object")
    for name, only in FIXED_OPTIONS.items():
        given = body.get(name)
        if given is not None and str(given).lower() != str(only).lower():
            value = orjson.dumps(given).decode()
            raise Refused(422, "Validation", f"`{name}` cannot be {value} on this server")
    return body


def query_of(body: Mapping[str, Any]) -> str:
    """The question."""
    query = body.get("query")
    if not isinstance(query, str) or not query.strip():
        raise Refused(422, "Validation", "`query` must be a text that is not empty")
    return query


def texts_of(value: object, name: str) -> list[str]:
    """(n,) texts, 1 <= n <= MAX_CLIENT_BATCH."""
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise Refused(422, "Validation", f"`{name}` must be a list of texts")
    if not value:
        raise Refused(400, "Empty", f"`{name}` must not be empty")
    if len(value) > MAX_CLIENT_BATCH:
        most = f"batch size {len(value)} > maximum allowed batch size {MAX_CLIENT_BATCH}"
        raise Refused(413, "Validation", most, cause="batch_size")
    return value


def documents_of(value: object) -> list[str]:
    """(n,) texts, likewise, given as such or as objects that have one."""
    if isinstance(value, list):
        value = [
            document.get("text") if isinstance(document, dict) else document for document in value
        ]
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        what = "`documents` must be a list of texts, or of objects with a `text`"
        raise Refused(422, "Validation", what)
    if not value:
        raise Refused(400, "Empty", "`documents` must hold at least one text")
    if len(value) > MAX_CLIENT_BATCH:
        most = f"`documents` may hold {MAX_CLIENT_BATCH} texts in a request, not {len(value)}"
        raise Refused(413, "Validation", most, cause="batch_size")
    return value


def flag(body: Mapping[str, Any], name: str, *, default: bool) -> bool:
    """What is true or false; the default where it is missing or null."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise Refused(422, "Validation", f"`{name}` must be true or false")
    return value


def top_n(body: Mapping[str, Any]) -> int | None:
    """How many results are wanted; all, where it does not say."""
    value = body.get("top_n")
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise Refused(422, "Validation", "`top_n` must be a whole number, at least 1")
    return value


def json_response(value: object, *, status: int = 200) -> Response:
    """An answer in JSON; arrays of numpy as lists."""
    content = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, status_code=status, media_type="application/json")
