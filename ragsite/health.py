"""Whether each process of the site is up, asked at once and within a short time.

Every check is a function that asks one process and returns a frozen `Check`; it never
raises. The status page, `/readyz` and `manage.py status` show the same checks.
"""

from __future__ import annotations

import asyncio
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import django
import httpx
import redis
from django.conf import settings
from django.core.cache import caches
from django.db import DatabaseError, connection
from django.utils.formats import date_format
from django.utils.timezone import localtime

from chat.conf import generation_settings
from chat.diagnosis import Finding, diagnose
from chat.errors import GeneratorUnreachable
from chat.generation import available
from chat.ollama_api import base_url
from inference.client import RERANKER_AWAY, shared_client
from inference.errors import InferenceError, ModelLoading
from inference.types import ModelInfo
from ingestion.models import IndexGeneration, Verification
from ingestion.nudges import BROKER_ERRORS, messages_waiting

ANSWER_SECONDS = 1.5
TOGETHER_SECONDS = 3.0
FINDINGS_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Check:
    """What one process answered.

    required: whether the site lacks something people need while this is down; the language
        model and the reranker are not, since answers are given without them, and say so.
    reason: one clause ("not reachable"), empty when up. is_loading: it will be up by itself.
    advice: what to do about it, one full sentence, empty when there is nothing to do.
    facts: what it says of itself, by short names ("version", "device").
    """

    name: str
    title: str
    up: bool
    ms: float = 0.0
    required: bool = True
    reason: str = ""
    advice: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, ModelInfo | None] = field(default_factory=dict)
    is_loading: bool = False


@dataclass(frozen=True, slots=True)
class SiteHealth:
    """All checks of one moment."""

    checks: tuple[Check, ...]

    @property
    def is_up(self) -> bool:
        """Whether everything required is up."""
        return all(check.up for check in self.checks if check.required)

    @property
    def down(self) -> tuple[Check, ...]:
        """What is not up, required or not."""
        return tuple(check for check in self.checks if not check.up)

    def check(self, name: str) -> Check:
        """The check of this name. Raises KeyError when there is none."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(name)


def examine() -> SiteHealth:
    """Ask every process of the configured site, concurrently, in at most about 3 seconds."""
    data_dir, floor_bytes = settings.DATA_DIR, settings.DISK_FLOOR_MB * 2**20
    probes: dict[str, Callable[[], Check]] = {
        "database": check_database,
        "redis": lambda: check_redis(settings.REDIS_URL),
        "worker": check_worker,
        "chroma": lambda: check_chroma(settings.CHROMA_URL, token=settings.CHROMA_TOKEN),
        "inference": lambda: check_inference(settings.EMBED_URL, settings.RERANK_URL),
        "ollama": check_language_model,
        "disk": lambda: check_disk(data_dir, floor_bytes=floor_bytes),
        "stores": check_stores,
    }
    pool = ThreadPoolExecutor(max_workers=len(probes), thread_name_prefix="health")
    futures = {name: pool.submit(_timed, probe) for name, probe in probes.items()}
    wait_for(futures.values(), timeout=TOGETHER_SECONDS)
    pool.shutdown(wait=False, cancel_futures=True)
    return SiteHealth(tuple(_answer(name, future) for name, future in futures.items()))


def _timed(probe: Callable[[], Check]) -> tuple[Check, float]:
    start = time.perf_counter()
    check = probe()
    return check, (time.perf_counter() - start) * 1000


def _answer(name: str, future: Future[tuple[Check, float]]) -> Check:
    if not future.done() or future.cancelled():
        return _down(name, f"no answer within {TOGETHER_SECONDS:.0f} seconds", TOGETHER_SECONDS)
    check, ms = future.result()
    return replace(check, ms=round(ms, 1))


TITLES = {
    "database": "Database",
    "redis": "Redis",
    "worker": "Worker",
    "chroma": "Chroma",
    "inference": "Model server",
    "ollama": "Language model",
    "disk": "Disk",
    "stores": "Agreement of the stores",
}
ADVICE = {
    "database": "Check DATABASE_URL and that the database server runs; nothing works without it.",
    "redis": "Start Redis, or set REDIS_URL to where it runs. Uploads are kept and wait.",
    "worker": "Start it with: celery --app ragsite worker --beat. Uploads are kept and wait.",
    "chroma": "Start Chroma, or set CHROMA_URL to where it runs. Until then questions are answered "
    "by keyword search alone.",
    "inference": "Start it with: python -m inference, or set INFERENCE_URL to where it runs. "
    "Until then questions are answered by keyword search alone and uploads wait.",
    "ollama": "Start Ollama, or set OLLAMA_HOST to where it runs. Until then the best passages are "
    "quoted instead of an answer.",
    "disk": "Free some space on the disk of DATA_DIR; uploads are refused until then.",
    "stores": "Run: manage.py verify --repair – it names what differs and copies it from SQL.",
}


def _down(name: str, reason: str, seconds: float = 0.0, *, advice: str = "") -> Check:
    return Check(
        name=name,
        title=TITLES[name],
        up=False,
        ms=seconds * 1000,
        required=name not in ("ollama", "stores"),
        reason=reason,
        advice=advice or ADVICE[name],
    )


def check_database() -> Check:
    """Whether the database answers a query."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchone()
        version = ".".join(str(part) for part in connection.get_database_version())
    except DatabaseError:
        return _down("database", "no answer")
    finally:
        connection.close()  # this thread's own
    facts = {"engine": connection.display_name, "version": version}
    return Check("database", TITLES["database"], up=True, facts=facts)


def check_redis(url: str) -> Check:
    """Whether a Redis-compatible server answers."""
    client = redis.Redis.from_url(
        url, socket_connect_timeout=ANSWER_SECONDS, socket_timeout=ANSWER_SECONDS
    )
    try:
        about: dict[str, Any] = client.info("server")
    except (redis.RedisError, OSError):
        return _down("redis", "not reachable")
    finally:
        client.close()
    version = str(about.get("valkey_version") or about.get("redis_version", ""))
    return Check("redis", TITLES["redis"], up=True, facts={"version": version})


def check_worker() -> Check:
    """Whether a worker replies to a ping; the documents that wait for one."""
    from ragsite.celery import app

    try:
        replies = [
            reply
            for reply in app.control.ping(timeout=1.0, limit=None) or []
            if not all(name.startswith("upkeep@") for name in reply)
        ]
    except Exception:  # noqa: BLE001 (whatever the broker's transport raises means: nobody)
        return _down("worker", "cannot be asked while Redis is away")
    if not replies:
        return _down("worker", "none replied")
    facts = {"workers": str(len(replies)), "messages": _waiting()}
    return Check("worker", TITLES["worker"], up=True, facts=facts)


def _waiting() -> str:
    try:
        return str(messages_waiting())
    except BROKER_ERRORS:
        return ""


def check_chroma(url: str, *, token: str = "") -> Check:
    """Whether the vector store answers."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with httpx.Client(timeout=ANSWER_SECONDS, trust_env=False, headers=headers) as client:
            client.get(f"{url}/api/v2/heartbeat").raise_for_status()
            version = str(client.get(f"{url}/api/v2/version").json())
    except (httpx.HTTPError, ValueError):
        return _down("chroma", "not reachable")
    return Check("chroma", TITLES["chroma"], up=True, facts={"version": version})


def check_inference(embed_url: str, rerank_url: str) -> Check:
    """Whether the model server answers, and which models it has where."""
    client = shared_client(embed_url, rerank_url)
    try:
        info = client.info(timeout_seconds=ANSWER_SECONDS)
    except ModelLoading:
        return _loading()
    except InferenceError:
        return _down("inference", "not reachable")
    if info.embedder is None and info.is_loading:
        return _loading(info.embedder_reason)
    models = {"embedder": info.embedder, "reranker": info.reranker}
    facts = {"version": info.version, "queue": str(info.queue_depth)}
    if info.embedder is None:
        advice = "Set EMBEDDING_MODEL to an embedding model that is installed there."
        return _down("inference", f"cannot embed: {info.embedder_reason}", advice=advice)
    advice = ""
    if info.reranker is None:
        reason = info.reranker_reason or "no reranker is installed"
        remedy = "Set RERANKER to one that is installed there."
        if rerank_url != embed_url:
            remedy = "Set RERANKER there to one that is installed, or RERANK_URL to another server."
            if reason == RERANKER_AWAY:
                remedy = "Start it, or set RERANK_URL to where it runs."
        advice = f"Not reranked: {reason}. {remedy}"
        if info.is_loading:
            advice = f"Not reranked yet: {reason}. Answers come in fused order meanwhile."
    if client.away:
        facts["away"] = ", ".join(client.away)
        one, them = ("its", "it") if len(client.away) == 1 else ("their", "them")
        advice = advice or f"The other servers do {one} work; start {them} again."
    return Check(
        "inference", TITLES["inference"], up=True, advice=advice, facts=facts, models=models
    )


def _loading(how_far: str = "") -> Check:
    advice = "Wait a minute: the models are being loaded. Nothing else is to be done."
    reason = f"loading its models ({how_far})" if how_far else "loading its models"
    return replace(_down("inference", reason, advice=advice), is_loading=True)


def check_language_model() -> Check:
    """Whether the server that writes the answers can, whichever kind it is."""
    if not settings.OPENAI_BASE_URL:
        return check_ollama(settings.OLLAMA_HOST, model=settings.OLLAMA_MODEL)
    status = asyncio.run(available(generation_settings()))
    if status.problem is not None:
        return _down("ollama", "cannot answer", advice=status.problem.sentence)
    facts = {"address": settings.OPENAI_BASE_URL, "model": status.model}
    return Check("ollama", TITLES["ollama"], up=True, required=False, facts=facts)


def check_ollama(host: str, *, model: str) -> Check:
    """Whether Ollama answers and has the model; the line that fetches it where not."""
    try:
        host = base_url(host)
        with httpx.Client(timeout=ANSWER_SECONDS, trust_env=False) as client:
            version = str(client.get(f"{host}/api/version").raise_for_status().json()["version"])
            listed = client.get(f"{host}/api/tags").raise_for_status().json()["models"]
            names = {str(entry["name"]) for entry in listed}
    except (
        GeneratorUnreachable,
        httpx.HTTPError,
        httpx.InvalidURL,
        ValueError,
        KeyError,
        TypeError,
    ):
        return _down("ollama", "not reachable")
    if not {model, f"{model}:latest"} & names:
        advice = f"Install it with: ollama pull {model} – until then passages are quoted."
        return _down("ollama", f"lacks the model {model}", advice=advice)
    facts = {"version": version, "model": model}
    return Check("ollama", TITLES["ollama"], up=True, required=False, facts=facts)


def check_disk(folder: Path, *, floor_bytes: int) -> Check:
    """Whether the disk of the data has more room than the floor below which uploads stop."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return _down("disk", "the data folder cannot be read")
    facts = {"free": f"{usage.free / 2**30:.1f} GB", "of": f"{usage.total / 2**30:.1f} GB"}
    if usage.free < floor_bytes:
        return _down("disk", f"only {usage.free // 2**20} MB are free")
    return Check("disk", TITLES["disk"], up=True, facts=facts)


def check_stores() -> Check:
    """Whether the last comparison of all stores found them alike, and each collection answers."""
    try:
        failing = IndexGeneration.objects.in_use().exclude(failing_since=None)
        names = list(failing.values_list("corpus__name", flat=True))
        last = Verification.objects.exclude(ended_at=None).first()
    except DatabaseError:
        return _down("stores", "cannot be asked while the database is away")
    finally:
        connection.close()  # this thread's own
    if names:
        listed = ", ".join(f"“{name}”" for name in names[:3])
        advice = "Until it is filled anew, by itself, those corpora are answered by keywords alone."
        return _down("stores", f"Chroma fails on {listed}", advice=advice)
    if last is None or last.ended_at is None:
        facts = {"compared": "not yet, every night"}
        return Check("stores", TITLES["stores"], up=True, required=False, facts=facts)
    facts = {
        "compared": date_format(localtime(last.ended_at), "j M Y, H:i"),
        "differences": str(len(last.findings)),
    }
    if last.unrepaired:
        return replace(_down("stores", f"{last.unrepaired} not repaired"), facts=facts)
    return Check("stores", TITLES["stores"], up=True, required=False, facts=facts)


def reranking() -> list[Finding]:
    """What is wrong with reranking, by the site's own answers; kept for FINDINGS_SECONDS."""
    found: list[Finding] | None = caches["here"].get("reranking")
    if found is None:
        try:
            info = shared_client(settings.EMBED_URL, settings.RERANK_URL).info(ANSWER_SECONDS)
        except InferenceError:
            info = None
        try:
            found = diagnose(info)
        except DatabaseError:  # its own check says so
            return []
        caches["here"].set("reranking", found, FINDINGS_SECONDS)
    return found


def versions() -> dict[str, str]:
    """Versions of what this process itself runs on."""
    return {"python": platform.python_version(), "django": django.get_version()}
