"""The ASGI application that uvicorn serves: Django, and what is done at start and end."""

from __future__ import annotations

import logging
import os
import threading
from contextlib import suppress

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.db import DatabaseError

from ragsite.body_limit import Receive, Scope, Send, serve_limited
from telemetry import tracing

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ragsite.settings")
tracing.become("web")
_django = get_asgi_application()

logger = logging.getLogger(__name__)


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Requests go to Django; the lifespan protocol, which Django does not know, is ours."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    else:
        # One file and the fields around it.
        max_bytes = (settings.UPLOAD_MAX_MB + 1) * 2**20
        await serve_limited(_django, scope, receive, send, max_bytes=max_bytes)


def _load_search_client() -> None:
    """Import the vector store's client and say hello to the store, if it is there."""
    from ingestion.conf import ingestion_settings
    from ingestion.errors import VectorStoreError
    from ingestion.vectors import shared_store

    given = ingestion_settings()
    with suppress(VectorStoreError):
        shared_store(given).heartbeat()


async def _lifespan(receive: Receive, send: Send) -> None:
    """End what an earlier process left unfinished; at the end, finish what is running."""
    from chat import pulls, turns
    from chat.threads import in_thread

    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            try:
                await in_thread(turns.reap)
            except DatabaseError:
                logger.exception("unfinished answers could not be ended")
            # Chroma's client takes seconds to import; the first question should not wait for it.
            threading.Thread(target=_load_search_client, name="warm-up", daemon=True).start()
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await turns.shutdown()
            await pulls.shutdown()
            await in_thread(tracing.flush)
            await send({"type": "lifespan.shutdown.complete"})
            return
