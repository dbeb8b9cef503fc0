"""Settings of the test run, in the environment before Django reads it (a pytest plugin)."""

import os
import tempfile

os.environ["DATA_DIR"] = tempfile.mkdtemp(prefix="ragsite-tests-")
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["HF_HUB_OFFLINE"] = "1"
# Tests ask more often than a person; tests/ragsite/test_limits.py sets its own.
for name in ("QUESTIONS", "SEARCHES", "UPLOADS", "EXPORTS"):
    os.environ[f"RATE_{name}"] = "100000"
for name in (
    *("REDIS_URL", "CHROMA_URL", "INFERENCE_URL", "EMBED_URL", "RERANK_URL"),
    *("OLLAMA_HOST", "OPENAI_BASE_URL"),
):
    os.environ.pop(name, None)
