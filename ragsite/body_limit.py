"""Refuses request bodies that are too large while they arrive.

Django under ASGI spools a whole body to disk before any view runs, whatever the view allows;
so the limit has to stand in front of it. It counts bytes: a declared length may be absent or lie.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

Scope: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Mapping[str, Any]]]
Send: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


async def serve_limited(
    application: Application, scope: Scope, receive: Receive, send: Send, *, max_bytes: int
) -> None:
    """Serve one HTTP request with the application, or answer 413 beyond `max_bytes` of body.

    To the application an overlong body looks like a caller that went away, which makes
    Django drop what it has spooled.
    """
    if _declared_bytes(scope) > max_bytes:
        await _refuse(scope, send, max_bytes)
        return
    received = 0

    async def counted() -> Mapping[str, Any]:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        return {"type": "http.disconnect"} if received > max_bytes else message

    await application(scope, counted, send)
    if received > max_bytes:
        await _refuse(scope, send, max_bytes)


def _header(scope: Scope, name: bytes) -> bytes:
    values = [value for key, value in scope["headers"] if key.lower() == name]
    return bytes(values[0]) if values else b""


def _declared_bytes(scope: Scope) -> int:
    try:
        return int(_header(scope, b"content-length"))
    except ValueError:
        return 0


async def _refuse(scope: Scope, send: Send, max_bytes: int) -> None:
    """413 with a sentence, as JSON where that is asked for."""
    sentence = (
        f"The file is larger than this site accepts ({max_bytes // 2**20 - 1} MB). Split it and "
        "upload the parts."
    )
    as_json = b"application/json" in _header(scope, b"accept")
    body = json.dumps({"error": sentence}) if as_json else sentence
    kind = b"application/json" if as_json else b"text/plain; charset=utf-8"
    await send(
        {
            "type": "http.response.start",
            "status": 413,
            "headers": [(b"content-type", kind), (b"connection", b"close")],
        }
    )
    await send({"type": "http.response.body", "body": body.encode()})
