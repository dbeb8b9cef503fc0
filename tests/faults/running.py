"""A whole site of processes that may be killed, on the test's database, and people who use it."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
from django.conf import settings as site
from django.contrib.auth.models import User
from django.test import Client

from ingestion import nudges
from ingestion.models import Corpus, Document
from ragsite import processes
from ragsite.celery import app
from search.conf import retrieval_settings, search_services
from search.pipeline import retrieve
from tests.database import database_url

LEASE_SECONDS = 5
RESTART_PAUSE_SECONDS = 0.3


@dataclass
class Site:
    """Processes by name, each started again with the same command when it was killed."""

    data: Path
    running: dict[str, processes.Process] = field(default_factory=dict)
    services: dict[str, processes.Service] = field(default_factory=dict)
    kills: dict[str, int] = field(default_factory=dict)

    def start(self, service: processes.Service, *, wait_seconds: float = 90) -> None:
        self.services[service.name] = service
        self._begin(service.name)
        assert self.running[service.name].wait_until_healthy(wait_seconds), self.log(service.name)

    def log(self, name: str) -> str:
        return (self.data / f"{name}.log").read_text(errors="replace")[-3000:]

    def kill(self, name: str, *, down_seconds: float = RESTART_PAUSE_SECONDS) -> None:
        """SIGKILL to a process with its whole group; it is started again a moment later."""
        process = self.running[name]
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.stop()
        self.kills[name] = self.kills.get(name, 0) + 1
        time.sleep(down_seconds)
        self._begin(name)

    def kill_child(self, chance: random.Random) -> bool:
        """SIGKILL to one process below the worker: of its pool, or one that reads a file."""
        with suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.running["worker"].pid).children(recursive=True)
            if children:
                chance.choice(children).kill()
                self.kills["child"] = self.kills.get("child", 0) + 1
                return True
        return False

    def stop(self) -> None:
        processes.stop_all(list(self.running.values()))

    def _begin(self, name: str) -> None:
        environment = {
            "DATABASE_URL": database_url(),
            "DATA_DIR": str(self.data),
            "SECRET_KEY": site.SECRET_KEY,
            "REDIS_URL": site.REDIS_URL,
            "CHROMA_URL": site.CHROMA_URL,
            "CHROMA_DIR": str(site.CHROMA_DIR),
            "INFERENCE_URL": site.INFERENCE_URL,
            "INGEST_LEASE_SECONDS": str(LEASE_SECONDS),
        }
        log = self.data / f"{name}.log"
        self.running[name] = processes.Process(self.services[name], env=environment, log=log)


def use_redis(url: str) -> None:
    """Have this process speak to that broker."""
    site.REDIS_URL = site.CELERY_BROKER_URL = url
    app.conf.update(broker_url=url)
    app._after_fork()  # type: ignore[attr-defined]  # forgets its connections elsewhere


@contextmanager
def running_site(data: Path, *, own: Iterable[str] = ()) -> Iterator[Site]:
    """A worker, and own processes of these names: redis, chroma, inference, web.

    What is not the test's own is the session's, and nobody kills it.
    """
    former = {name: getattr(site, name) for name in ("REDIS_URL", "CHROMA_URL", "CHROMA_DIR")}
    inference = site.INFERENCE_URL
    found = Site(data)
    port = processes.free_port
    try:
        if "redis" in own:
            number = port()
            found.start(processes.redis_service(number, data / "redis"))
            use_redis(f"redis://127.0.0.1:{number}/0")
        if "chroma" in own:
            number = port()
            found.start(processes.chroma_service(number, data / "chroma"))
            site.CHROMA_URL = f"http://127.0.0.1:{number}"
            site.CHROMA_DIR = data / "chroma"
        if "inference" in own:
            number = port()
            found.start(processes.inference_service(number))
            site.INFERENCE_URL = site.EMBED_URL = site.RERANK_URL = f"http://127.0.0.1:{number}"
        if "web" in own:
            found.start(processes.web_service(port()))
        answers = lambda: nudges.worker_answers(1.0)  # noqa: E731
        found.start(processes.worker_service(is_healthy=answers))
        found.start(processes.upkeep_service(is_healthy=answers))
        found.start(processes.beat_service(data / "run"))
        yield found
    finally:
        found.stop()
        site.CHROMA_URL, site.CHROMA_DIR = former["CHROMA_URL"], former["CHROMA_DIR"]
        site.INFERENCE_URL = site.EMBED_URL = site.RERANK_URL = inference
        use_redis(former["REDIS_URL"])


class Uploader:
    """A person's browser that uploads, and tries again when nobody answers."""

    def __init__(self, found: Site, person: User, corpus: Corpus) -> None:
        argv = found.services["web"].argv
        self._base = f"http://127.0.0.1:{argv[argv.index('--port') + 1]}"
        client = Client()
        client.force_login(person)
        cookies = {site.SESSION_COOKIE_NAME: client.cookies[site.SESSION_COOKIE_NAME].value}
        cookies[site.CSRF_COOKIE_NAME] = self._token = "f" * 32
        self._cookies = cookies
        self._address = f"{self._base}/corpora/{corpus.pk}/documents/"
        self.accepted: list[str] = []
        self.tries = 0

    def upload(self, name: str, content: bytes) -> None:
        """Upload until it is accepted; a repeat that was accepted before is a duplicate."""
        until = time.monotonic() + 120
        while time.monotonic() < until:
            self.tries += 1
            try:
                answer = httpx.post(
                    self._address,
                    files={"file": (name, content)},
                    cookies=self._cookies,
                    headers={"X-CSRFToken": self._token, "Accept": "application/json"},
                    timeout=20,
                    trust_env=False,
                )
            except httpx.HTTPError:
                time.sleep(0.3)
                continue
            assert answer.status_code in (201, 409), (answer.status_code, answer.text[:500])
            self.accepted.append(name)
            return
        raise AssertionError(f"{name} was never accepted")


def unfinished(corpus: Corpus) -> int:
    """How many documents still have work to be done on them."""
    return Document.objects.filter(corpus=corpus).unfinished().count()


def wait_until_finished(corpus: Corpus, *, seconds: float) -> None:
    """Return when every document is ready, failed or set aside."""
    until = time.monotonic() + seconds
    while unfinished(corpus):
        left = Document.objects.filter(corpus=corpus).unfinished()
        assert time.monotonic() < until, list(
            left.values_list("name", "state", "error_code", "error_detail", "lease_until")
        )
        time.sleep(0.2)


def ask(corpus: Corpus, question: str = "Where is the harbour?") -> tuple[int, list[str]]:
    """How many candidates a question finds now, and what was missing meanwhile."""
    trace = retrieve(
        question, corpora=[corpus], settings=retrieval_settings(), services=search_services()
    )
    return len(trace.candidates), [str(problem.code) for problem in trace.degraded]
