"""`python -m inference --host H --port N`: run the model server.

EMBEDDING_MODEL and RERANKER say which models; `docs/inference.md` has the rest.
"""

from __future__ import annotations

import argparse
import logging.config
import os
import sys
from functools import partial

import uvicorn

from inference.devices import keep_freed_memory
from inference.models_on_disk import DEFAULT_EMBEDDER
from telemetry import logs, tracing

# Read by libraries when they are imported; what the operator sets stands.
ENVIRONMENT = {
    # Idle threads that spin take 700 ms from a neighbour's 29 ms.
    "OMP_WAIT_POLICY": "PASSIVE",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",  # it tells each of its attempts, twice
}
STOP_SECONDS = 2
# Longer than our client keeps an idle connection: one that the server closes at the moment it
# is used again fails that request.
KEEP_ALIVE_SECONDS = 75


def main() -> None:
    """Serve until SIGTERM, or until a GPU computes nothing more: a new process can begin anew."""
    parser = argparse.ArgumentParser(prog="python -m inference", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8002)
    options = parser.parse_args()
    embedding_model = os.environ.get("EMBEDDING_MODEL") or DEFAULT_EMBEDDER
    reranker = os.environ.get("RERANKER") or "auto"
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    keep_freed_memory()
    logging.config.dictConfig(logs.from_environment())
    tracing.become("inference")

    from inference.models import Models
    from inference.precision import Options
    from inference.server import create_app

    try:
        asked = Options.from_environment(os.environ)
    except ValueError as exc:
        sys.exit(str(exc))
    app = create_app(Models(embedding_model, reranker, asked))
    config = uvicorn.Config(
        app,
        host=options.host,
        port=options.port,
        log_level="warning",
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    server, queue = uvicorn.Server(config), app.state.scheduler
    queue.when_lost = partial(setattr, server, "should_exit", True)
    server.run()
    if queue.lost:
        sys.exit(queue.lost)


if __name__ == "__main__":
    main()
