"""Runs all processes of one machine together, and ends them together.

Addresses given by the environment (REDIS_URL, CHROMA_URL, INFERENCE_URL) are used as they
are; what is not given is started on a free loopback port. A process that dies is started
again, at growing intervals; one that keeps dying is left down and the site goes on without
it, save for the web process, without which there is no site.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO

from django.conf import settings

from ragsite import processes
from ragsite.processes import Process, Service
from ragsite.runtime import services_file, write_services

LOG_KEEP_BYTES = 10 * 1024 * 1024
RESTART_PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)
STEADY_SECONDS = 60.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class CannotStart(Exception):
    """The site cannot start; the text is the sentence for the person who tried."""


def use_address(name: str, url: str) -> None:
    """Let this process and its children find a service at `url`."""
    os.environ[name] = url
    setattr(settings, name, url)
    if name == "INFERENCE_URL":
        settings.EMBED_URL = os.environ.get("EMBED_URL") or url
        settings.RERANK_URL = os.environ.get("RERANK_URL") or url
    if name == "REDIS_URL":
        from ragsite.celery import app

        settings.CELERY_BROKER_URL = url
        app.conf.update(broker_url=url)
        app.set_current()


def worker_answers() -> bool:
    """Whether a worker replies to a ping within a second."""
    from ragsite.celery import app

    try:
        replies = app.control.ping(timeout=1.0)
        return any(not name.startswith("upkeep@") for reply in replies or [] for name in reply)
    except Exception:  # noqa: BLE001 (any broker or transport fault means: not now)
        return False


def is_given(variable: str) -> bool:
    """Whether the environment names a service itself, or a file that does."""
    return bool(os.environ.get(variable) or os.environ.get(f"{variable}_FILE"))


def backing_services(data_dir: Path, *, wanted: set[str]) -> list[Service]:
    """The services behind the site that the environment does not give; their addresses are set."""
    services = []
    for name, variable, scheme, path in (
        ("redis", "REDIS_URL", "redis", "/0"),
        ("chroma", "CHROMA_URL", "http", ""),
        ("inference", "INFERENCE_URL", "http", ""),
    ):
        if name not in wanted or is_given(variable):
            continue
        port = processes.free_port()
        use_address(variable, f"{scheme}://{processes.HOST}:{port}{path}")
        if name == "redis":
            services.append(processes.redis_service(port, data_dir / "redis"))
        elif name == "chroma":
            services.append(processes.chroma_service(port, data_dir / "chroma"))
        else:
            services.append(processes.inference_service(port))
    return services


@contextmanager
def only_one(data_dir: Path) -> Iterator[None]:
    """Hold the data folder for this supervisor. Raises CannotStart if another one has it."""
    path = data_dir / "run" / "up.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as lock:
        if not _lock(lock):
            raise CannotStart(
                f"ragsite is already running on the data in {data_dir} "
                f"(its address is {settings.WEB_URL}). Open it, or stop it first with Ctrl-C, or "
                "choose another folder with DATA_DIR=… and another port with PORT=…."
            )
        yield


def _lock(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def check_room(data_dir: Path, *, floor_bytes: int) -> None:
    """Raise CannotStart when the disk of the data folder is nearly full."""
    free = shutil.disk_usage(data_dir).free
    if free < floor_bytes:
        raise CannotStart(
            f"The disk that holds {data_dir} has only {free // 2**20} MB left and ragsite keeps "
            f"{floor_bytes // 2**20} MB free. Free some space, or choose a folder on another disk "
            "with DATA_DIR=…."
        )


def check_port(port: int) -> None:
    """Raise CannotStart when something listens on the port of the site already."""
    if processes.port_is_taken(port):
        raise CannotStart(
            f"Port {port} is already in use by another program. Choose another one: "
            f"make run PORT={port + 10}"
        )


def where_to_look(process: Process) -> str:
    """What a process that ended by itself said at last, and where the rest of it stands."""
    said = process.last_words() if (process.exit_status() or 0) > 0 else ""
    quoted = f"It said: “{said}”. " if said else ""
    return f"{quoted}Its log: {process.log}"


@dataclass
class _Child:
    """A service, its process now, and how it has fared."""

    service: Service
    process: Process
    deaths: int = 0
    restart_at: float | None = None


@dataclass
class Supervisor:
    """Starts services, restarts what dies, stops all. `say` prints one line to the person."""

    data_dir: Path
    say: Callable[[str], None]
    _children: list[_Child] = field(default_factory=list)
    _stopping: bool = False

    def listen_to_signals(self) -> None:
        """From now on Ctrl-C, SIGTERM and a closed terminal end `watch`."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    @property
    def stopping(self) -> bool:
        """Whether somebody asked for the end."""
        return self._stopping

    def start(self, service: Service) -> Process:
        """Start a service and keep it running from now on."""
        process = self._spawn(service)
        self._children.append(_Child(service, process))
        return process

    def _spawn(self, service: Service) -> Process:
        log = self.data_dir / "logs" / f"{service.name}.log"
        with suppress(OSError):
            if log.stat().st_size > LOG_KEEP_BYTES:
                log.replace(log.with_suffix(".log.1"))
        return Process(service, env={"DATA_DIR": str(self.data_dir)}, log=log)

    def announce(self, **urls: str) -> None:
        """Leave the addresses where commands in other terminals find them."""
        write_services(self.data_dir, urls)

    def wait_for(self, process: Process, *, timeout_seconds: float) -> bool:
        """Whether the process became healthy before the time, its death or a stop."""
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline and not self._stopping:
            if process.exit_status() is not None:
                return False
            if process.service.is_healthy():
                return True
            time.sleep(0.05)
        return False

    def watch(self) -> int:
        """Restart what dies until told to stop. Returns an exit status: 1 if the site is lost."""
        while not self._stopping:
            for child in self._children:
                if not self._tend(child):
                    return 1
            time.sleep(0.2)
        return 0

    def _tend(self, child: _Child) -> bool:
        """Look after one child. False when the site cannot go on without it."""
        now = time.monotonic()
        if child.restart_at is not None:
            if now >= child.restart_at:
                child.restart_at = None
                child.process = self._spawn(child.service)
            return True
        status = child.process.exit_status()
        if status is None or child.deaths > len(RESTART_PAUSES_SECONDS):
            return True
        if now - child.process.started_at > STEADY_SECONDS:
            child.deaths = 0
        child.deaths += 1
        name = child.service.name
        child.process.stop()  # whatever it left behind in its group
        where = where_to_look(child.process)
        if child.deaths > len(RESTART_PAUSES_SECONDS):
            self.say(f"{name} keeps stopping and stays down. {child.service.advice} {where}")
            return name != "web"
        pause = RESTART_PAUSES_SECONDS[child.deaths - 1]
        self.say(f"{name} stopped ({_cause(status)}) and is being started again. {where}")
        child.restart_at = now + pause
        return True

    def stop(self) -> None:
        """End every process and take back the addresses."""
        processes.stop_all([child.process for child in self._children])
        self._children.clear()
        services_file(self.data_dir).unlink(missing_ok=True)


def _cause(status: int) -> str:
    """How a process ended, in words."""
    if status < 0:
        return f"signal {signal.Signals(-status).name}"
    return f"exit status {status}"
