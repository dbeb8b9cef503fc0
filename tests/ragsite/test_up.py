"""`manage.py up` as a person meets it: real processes, real signals, real ports."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from ragsite.processes import ROOT, free_port
from ragsite.runtime import services_file

START_SECONDS = 60
STOP_SECONDS = 10


@dataclass
class Site:
    """A running `manage.py up` and what it printed so far."""

    popen: subprocess.Popen[bytes]
    data_dir: Path
    port: int
    log: Path

    @property
    def output(self) -> str:
        """What it printed so far."""
        return self.log.read_text()

    def read_until(self, pattern: str) -> re.Match[str]:
        """Read its output until `pattern` matches; fail when it ends or time runs out."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if match := re.search(pattern, self.output):
                return match
            if self.popen.poll() is not None:
                break
            time.sleep(0.05)
        pytest.fail(f"never printed {pattern!r}; it printed:\n{self.output}")

    def members(self) -> list[psutil.Process]:
        """Every process that belongs to it now."""
        top = psutil.Process(self.popen.pid)
        return [top, *top.children(recursive=True)]


def start(data_dir: Path, port: int | None = None, **settings: str) -> Site:
    """Start a site on an empty or used data folder, without the samples."""
    port = port or free_port()
    env = {k: v for k, v in os.environ.items() if not k.endswith("_URL")}
    log = data_dir / f"up-{port}.log"
    with log.open("wb") as output:
        popen = subprocess.Popen(
            [sys.executable, "manage.py", "up", f"--port={port}", "--no-browser", "--no-samples"],
            cwd=ROOT,
            env={**env, "DATA_DIR": str(data_dir), **settings},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Site(popen, data_dir, port, log)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    running = start(tmp_path)
    running.read_until(r"sign-in/\?token=\S+")
    yield running
    if running.popen.poll() is None:
        running.popen.send_signal(signal.SIGTERM)
        running.popen.wait(STOP_SECONDS)


def assert_all_gone(members: list[psutil.Process], since: float) -> None:
    gone, alive = psutil.wait_procs(
        members, timeout=max(0, STOP_SECONDS - time.monotonic() + since)
    )
    assert not alive, [process.cmdline() for process in alive]
    assert len(gone) >= 5  # supervisor, redis, chroma, inference, web, worker with its children


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_way_of_stopping_ends_every_process(tmp_path: Path, number: signal.Signals) -> None:
    site = start(tmp_path)
    site.read_until(r"sign-in/\?token=\S+")
    members = site.members()

    since = time.monotonic()
    site.popen.send_signal(number)

    assert_all_gone(members, since)
    assert site.popen.wait() == 0
    assert not services_file(tmp_path).exists()


def test_a_killed_supervisor_leaves_nothing_behind(tmp_path: Path) -> None:
    site = start(tmp_path)
    site.read_until(r"sign-in/\?token=\S+")
    members = site.members()

    since = time.monotonic()
    site.popen.kill()
    site.popen.wait()

    assert_all_gone(members, since)


def test_the_one_time_link_signs_in_once(site: Site) -> None:
    link = site.read_until(r"http://\S+token=\S+")[0]

    with httpx.Client(follow_redirects=True, trust_env=False) as browser:
        assert browser.get(link).url.path.startswith("/chat")
    with httpx.Client(follow_redirects=True, trust_env=False) as stranger:
        answer = stranger.get(link)
        assert not answer.url.path.startswith("/chat")
        assert "sign_in_link" in answer.text


def test_a_process_that_dies_is_started_again_and_named(site: Site) -> None:
    web = next(p for p in site.members() if "uvicorn" in p.cmdline())
    web.kill()

    site.read_until(r"web stopped \(signal SIGKILL\) and is being started again\. Its log: \S+")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"http://127.0.0.1:{site.port}/healthz", trust_env=False).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    pytest.fail("the web process did not come back")


def test_a_model_server_that_ends_for_a_wrong_setting_is_quoted(tmp_path: Path) -> None:
    site = start(tmp_path, RERANKER_DTYPE="float64")

    try:
        said = site.read_until(r"inference stopped \(exit status 1\) and is being .* said: “(.+)”")
    finally:
        site.popen.send_signal(signal.SIGTERM)
        site.popen.wait(STOP_SECONDS)
    assert said[1].startswith("RERANKER_DTYPE must be one of auto, float32")
    assert said[1].endswith("not float64.")


def test_a_second_site_on_the_same_data_is_refused_in_one_sentence(site: Site) -> None:
    second = start(site.data_dir)

    assert second.popen.wait(START_SECONDS) == 1
    assert "already running" in second.output
    assert f"127.0.0.1:{site.port}" in second.output
    assert "Traceback" not in second.output


def test_a_taken_port_is_named_with_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        site = start(tmp_path, port)
        assert site.popen.wait(START_SECONDS) == 1

    assert f"Port {port} is already in use" in site.output
    assert "PORT=" in site.output
    assert "Traceback" not in site.output


def test_a_full_disk_is_named_with_what_to_do(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "manage.py", "up", "--no-browser", "--port", str(free_port())],
        cwd=ROOT,
        env={**os.environ, "DATA_DIR": str(tmp_path), "DISK_FLOOR_MB": str(10**9)},
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
    )

    assert result.returncode == 1
    assert "Free some space" in result.stderr
    assert "Traceback" not in result.stderr
