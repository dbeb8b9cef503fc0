"""Which reranker RERANKER=auto is: the best that can be had here, and why it is that one.

CUDA: bge-reranker-v2-m3. A CPU: ettin-reranker-17m. Either only if it lies in the hub's cache or
the hub can be reached; otherwise the bundled one, which is always there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from inference.catalogue import BUNDLED, WITH_CUDA, WITH_NETWORK
from inference.errors import NoModel

AUTO, NONE = "auto", "none"
# How names of folders begin, and none of the hub's.
PATHS = ("/", ".", "~")
REACH_SECONDS = 3.0
# For a model that the operator named: a slow way to the hub is none the worse.
PATIENT_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Choice:
    """A reranker's name, and why it was picked; no reason where the operator named it."""

    name: str
    why: str = ""


def choose(wanted: str, *, has_cuda: bool, environment: Mapping[str, str] = os.environ) -> Choice:
    """Turn `auto` into a name; every other name stays. Words of ours may have capitals.

    Asks the hub for one small file, unless HF_HUB_OFFLINE forbids it or the model is cached.
    """
    word = wanted.strip().lower()
    if word != AUTO:
        return Choice(word if word in (BUNDLED, NONE) else wanted)
    best = WITH_CUDA if has_cuda else WITH_NETWORK
    place = "a GPU is here" if has_cuda else "there is no GPU"
    if is_cached(best, environment):
        return Choice(best, f"picked by itself: {place}, and it lies in the cache of models")
    if _hub_has(best, environment):
        return Choice(best, f"picked by itself: {place}, and the model hub can be reached")
    return Choice(BUNDLED, f"picked by itself: {place}, and no model hub can be reached")


def is_cached(model: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether all of a model of the hub has been fetched before, by the hub's own folder names.

    One whose fetching was interrupted is not: it would be loaded without the hub, and fail.

    Source: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
    """
    return any(map(_is_whole, (_kept(model, environment) / "snapshots").glob("*")))


def _is_whole(snapshot: Path) -> bool:
    """Whether a fetched version has weights, tokenizer and, if it is made of several, all parts."""
    needed = {"config.json", "tokenizer_config.json"}
    try:
        index = snapshot / "model.safetensors.index.json"
        if index.is_file():
            needed |= set(json.loads(index.read_text())["weight_map"].values())
        else:
            needed.add("model.safetensors")
        modules = snapshot / "modules.json"
        if modules.is_file():
            needed |= {part["path"] for part in json.loads(modules.read_text())}
    except (OSError, ValueError, KeyError):
        return False
    return all((snapshot / name).exists() for name in needed)


def fetched_bytes(model: str, environment: Mapping[str, str] = os.environ) -> int:
    """How much of a model of the hub lies in the cache, half-fetched files counted in."""
    total = 0
    for path in (_kept(model, environment) / "blobs").glob("*"):
        try:
            total += path.stat().st_size
        except OSError:  # renamed when it was complete
            continue
    return total


def fetched_commit(model: str, environment: Mapping[str, str] = os.environ) -> str:
    """Which commit of a model of the hub was fetched last; empty where none was.

    Asked of the cache because loaded models do not tell.
    """
    try:
        return (_kept(model, environment) / "refs" / "main").read_text().strip()
    except OSError:
        return ""


def _kept(model: str, environment: Mapping[str, str]) -> Path:
    home = environment.get("HF_HOME") or Path(
        environment.get("XDG_CACHE_HOME") or Path.home() / ".cache", "huggingface"
    )
    hub = Path(environment.get("HF_HUB_CACHE") or Path(home, "hub"))
    return hub / f"models--{model.replace('/', '--')}"


def check_reachable(model: str, environment: Mapping[str, str] = os.environ) -> None:
    """Refuse at once a model that was never fetched while no hub can be reached.

    The hub's own library would try it for a minute.

    Raises:
        NoModel: it is that; one clause for people.
    """
    is_path = model.startswith(PATHS) or Path(model).exists()
    if is_path or _kept(model, environment).is_dir() or is_offline(environment):
        return
    hub = _hub(environment)
    try:
        httpx.head(hub, timeout=PATIENT_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise NoModel(
            f"{model} is neither a folder nor in the cache of models, and the model hub {hub} "
            "cannot be reached"
        ) from exc


def is_offline(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the operator has switched the hub off."""
    return environment.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")


def _hub_has(model: str, environment: Mapping[str, str]) -> bool:
    if is_offline(environment):
        return False
    url = f"{_hub(environment)}/{model}/resolve/main/config.json"
    try:
        reply = httpx.head(url, timeout=REACH_SECONDS, follow_redirects=True)
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
    return reply.is_success


def _hub(environment: Mapping[str, str]) -> str:
    return (environment.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
