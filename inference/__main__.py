"""`python -m inference --host H --port N`: run the model server."""

from __future__ import annotations

import argparse
import logging
import os

import uvicorn


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m inference", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8002)
    options = parser.parse_args()
    # Before torch loads: idle threads that spin take 700 ms from a neighbour's 29 ms.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    embedding_model = os.environ.get("EMBEDDING_MODEL") or "all-MiniLM-L6-v2"
    reranker = os.environ.get("RERANKER") or "auto"
    if _all_local(embedding_model, reranker):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )

    from inference.models import Models
    from inference.server import create_app

    app = create_app(Models(embedding_model, reranker))
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning", access_log=False)


def _all_local(embedding_model: str, reranker: str) -> bool:
    """Whether no model needs the hub."""
    packaged = ("all-MiniLM-L6-v2", "auto", "bundled", "none")
    return all(name in packaged or os.path.isdir(name) for name in (embedding_model, reranker))


if __name__ == "__main__":
    main()
