"""A whole run of the site, watched from outside: where it connects, what it logs, what it traces.

`strace` sees every connection of every process, Python or not. The documents, the file's name and
the question hold words that must stand in no log, trace or metric.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from ragsite.processes import ROOT, free_port

pytestmark = pytest.mark.services
IN_TEXT, IN_QUESTION, IN_NAME = "Quellwolkenharfe", "Nebelkraehenuhr", "Schachtelhalmbrief"
CONNECTED = re.compile(
    r"connect\(\d+, \{sa_family=AF_INET6?, .*?(?:inet_addr\(\"|inet_pton\(AF_INET6, \")([^\"]+)"
)
LOOPBACK = re.compile(r"127\.|::1$|::ffff:127\.")


@dataclass
class Collector:
    """What an OpenTelemetry collector would be sent."""

    url: str = ""
    bodies: list[bytes] = field(default_factory=list)

    def spans(self) -> dict[str, set[tuple[str, str]]]:
        """By trace, the services and names of its spans."""
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceRequest,
        )

        found: dict[str, set[tuple[str, str]]] = {}
        for body in list(self.bodies):
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                named = {a.key: a.value.string_value for a in resource.resource.attributes}
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        about = (named["service.name"], span.name)
                        found.setdefault(span.trace_id.hex(), set()).add(about)
        return found


@pytest.fixture
def collector() -> Iterator[Collector]:
    collected = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collected.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    collected.url = f"http://127.0.0.1:{server.server_port}"
    yield collected
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Site:
    """A running site and its one-time link."""

    url: str
    link: str
    data: Path
    trace: Path

    def logs(self) -> str:
        """All lines of all processes."""
        return "\n".join(path.read_text() for path in (self.data / "logs").glob("*.log"))


@pytest.fixture
def site(tmp_path: Path, collector: Collector) -> Iterator[Site]:
    trace, log, port = tmp_path / "connects", tmp_path / "up.log", free_port()
    watch = ["strace", "-f", "--seccomp-bpf", "-q", "-e", "trace=connect", "-e", "signal=none"]
    watch += ["-o", str(trace)]
    data = tmp_path / "data"
    env = {k: v for k, v in os.environ.items() if not k.endswith("_URL")}
    env |= {
        "DATA_DIR": str(data),
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "DEBUG",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "300",
    }
    with log.open("wb") as output:
        up = subprocess.Popen(
            [
                *(watch if shutil.which("strace") else []),
                *(sys.executable, "manage.py", "up", f"--port={port}"),
                *("--no-browser", "--no-samples"),
            ],
            cwd=ROOT,
            env=env,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 90
        while not (found := re.search(r"http://\S+token=\S+", log.read_text())):
            assert time.monotonic() < deadline, log.read_text()
            assert up.poll() is None, log.read_text()
            time.sleep(0.1)
        yield Site(f"http://127.0.0.1:{port}", found[0], data, trace)
    finally:
        os.killpg(up.pid, signal.SIGINT)
        try:
            up.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(up.pid, signal.SIGKILL)
            up.wait()


def test_a_whole_run_stays_on_the_machine_and_tells_nothing_of_what_is_read(
    site: Site, collector: Collector
) -> None:
    with httpx.Client(base_url=site.url, follow_redirects=True, trust_env=False) as browser:
        browser.get(site.link)
        browser.headers["X-CSRFToken"] = browser.cookies["csrftoken"]
        made = browser.post("/corpora/new/", data={"name": "Notes", "visibility": "private"})
        corpus = re.search(r"/corpora/(\d+)/", str(made.url))
        assert corpus is not None
        text = f"The {IN_TEXT} was tuned in Ghent in 1911 by Mrs Doe. " * 5
        taken = browser.post(
            f"/corpora/{corpus[1]}/documents/",
            files={"file": (f"{IN_NAME}.txt", text)},
            headers={"Accept": "application/json", "X-Request-ID": "upload-0001"},
        )
        assert taken.status_code == 201, taken.text
        eventually(lambda: "ready: 1 passages" in site.logs(), site)
        asked = browser.post(
            "/chat/turns/",
            data={"question": f"Where was the {IN_QUESTION} tuned?", "corpora": corpus[1]},
            headers={"X-Request-ID": "question-0001"},
        )
        assert asked.status_code == 200, asked.text
        turn = re.search(r"/chat/turns/(\d+)/", asked.text)
        assert turn is not None
        streamed = browser.get(f"/chat/turns/{turn[1]}/stream/", timeout=60).text
        assert "event: end" in streamed
        metrics = browser.get("/metrics").text
    # One trace through web, worker and model server.
    whole = {"ragsite-web", "ragsite-worker", "ragsite-inference"}
    eventually(lambda: any(whole <= set(dict(s)) for s in collector.spans().values()), site)

    # Figures of web and worker, in one place.
    assert re.search(r'ragsite_documents_ended_total\{outcome="ready"\} 1\.0', metrics)
    assert re.search(r'ragsite_turns_total\{state="done"\} 1\.0', metrics)
    assert 'ragsite_task_seconds_count{state="SUCCESS",task="ingestion.tasks.ingest' in metrics

    # One id through web, worker and model server.
    by_request: dict[str, set[str]] = {}
    for line in site.logs().splitlines():
        if line.startswith("{"):
            parsed = json.loads(line)
            by_request.setdefault(parsed["request_id"], set()).add(parsed["process"])
    assert {"worker", "inference"} <= by_request["upload-0001"], by_request
    assert {"inference"} <= by_request["question-0001"], by_request

    # Nothing of what was read.
    told = site.logs() + metrics + b"".join(collector.bodies).decode("latin-1")
    for word in (IN_TEXT, IN_QUESTION, IN_NAME):
        assert word not in told, [line for line in told.splitlines() if word in line][:3]

    # Nowhere but this machine.
    if site.trace.exists():
        places = set(CONNECTED.findall(site.trace.read_text()))
        assert places
        assert {place for place in places if not LOOPBACK.match(place)} == set()
    else:
        pytest.skip("strace is not installed: where the processes connect was not watched")


def eventually(met: Callable[[], bool], site: Site, seconds: float = 60) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, site.logs()[-6000:]
        time.sleep(0.2)
