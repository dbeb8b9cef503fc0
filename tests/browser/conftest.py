"""A real site for the browser: `manage.py up` on a fresh data folder, and Debian's Chromium.

No test here touches the database: everything goes through the pages, as a person would go.
Every page is watched: an error in the console, a script that fails, a breach of the content
policy or a server error fails the test, unless the test has said that it expects it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from ragsite.processes import ROOT, free_port
from tests.ollama_server import MODEL, Mode, OllamaServer

ARTIFACTS = Path(__file__).parent / "artifacts"
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
START_SECONDS = 90
STOP_SECONDS = 15
PATIENCE_MS = 20_000


class Ollama:
    """The stand-in for Ollama at one address, present or away."""

    def __init__(self) -> None:
        self._server = OllamaServer().start()
        self.url = self._server.url

    def says(self, answer: str, *, pause_seconds: float = 0.005) -> None:
        """What it answers from now on, with a pause before each word."""
        self._server.mode = Mode.NORMAL
        self._server.answer = answer
        self._server.token_seconds = pause_seconds

    def has(self, *models: str) -> None:
        """What it has besides the model of the site."""
        self._server.models = [MODEL, *models]

    def fetches(self, *, steps: int, seconds: float) -> None:
        """In how many steps, and with what pause, it fetches models from now on."""
        self._server.pull_steps, self._server.pull_seconds = steps, seconds

    @property
    def last_model(self) -> str:
        """The model that was last asked for an answer."""
        return str(self._server.answers[-1].body["model"])

    def stop(self) -> None:
        """Nothing listens at its address any more."""
        self._server.stop()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Inside the block it is not running."""
        self.stop()
        yield
        self._server = OllamaServer(port=int(self.url.rpartition(":")[2])).start()

    @contextmanager
    def without_model(self) -> Iterator[None]:
        """Inside the block it runs and lacks the model."""
        self._server.mode = Mode.MISSING
        yield
        self._server.mode = Mode.NORMAL

    def noticed_that_the_client_left(self, timeout_seconds: float) -> bool:
        """Whether the last answer was cut short from the other side."""
        return self._server.answers[-1].client_left.wait(timeout_seconds)


@dataclass(frozen=True, slots=True)
class Site:
    """A running site: its address, the link that signs in once, its stand-in for Ollama."""

    url: str
    link: str
    ollama: Ollama


def _wait_for(process: subprocess.Popen[bytes], printed: Path, pattern: str) -> re.Match[str]:
    """Wait until what the process printed matches."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(pattern, printed.read_text()):
            return found
        time.sleep(0.1)
    pytest.fail(f"the site did not start; it said:\n{printed.read_text()}")


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """All processes of the site, started by the command that people use."""
    data_dir = tmp_path_factory.mktemp("site")
    port = free_port()
    env = {k: v for k, v in os.environ.items() if not k.endswith("_URL")}
    ollama = Ollama()
    printed = data_dir / "printed.txt"
    with printed.open("wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "manage.py", "up", "--no-browser", "--no-samples"),
                *("--port", str(port)),
            ],
            cwd=ROOT,
            env={
                **env,
                "DATA_DIR": str(data_dir),
                "OLLAMA_HOST": ollama.url,
                "OLLAMA_MODEL": MODEL,
            },
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        found = _wait_for(process, printed, r"http://\S+/sign-in/\?token=\S+")
        yield Site(f"http://127.0.0.1:{port}", found[0], ollama)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        ollama.stop()


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, headless."""
    path = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if path is None:
        pytest.fail("No Chromium is installed. Run tests/install-tools.sh first.")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def signed_in(site: Site, chromium: Browser) -> Any:
    """The cookies of a person who has used the one-time link."""
    with chromium.new_context() as context:
        page = context.new_page()
        page.goto(site.link)
        assert page.url == f"{site.url}/chat/"
        return context.storage_state()


@dataclass(slots=True)
class Watch:
    """What went wrong on the pages of one test, less what the test expects."""

    troubles: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def expect(self, pattern: str) -> None:
        """From now on troubles that match `pattern` are part of the test."""
        self.expected.append(pattern)

    def follow(self, page: Page) -> None:
        """Take note of everything that goes wrong on this page."""
        page.on("pageerror", lambda error: self.troubles.append(f"script: {error}"))
        page.on(
            "console",
            lambda message: (
                self.troubles.append(f"console: {message.text} at {page.url}")
                if message.type == "error"
                else None
            ),
        )
        page.on(
            "response",
            lambda response: (
                self.troubles.append(f"response: {response.status} {response.url}")
                if response.status >= 400
                else None
            ),
        )
        page.on("dialog", lambda dialog: self.troubles.append(f"dialog: {dialog.message}"))

    def unexpected(self) -> list[str]:
        """The troubles that no test expected."""
        return [
            trouble
            for trouble in self.troubles
            if not any(re.search(pattern, trouble) for pattern in self.expected)
        ]


@pytest.fixture
def watch() -> Watch:
    """The list of what goes wrong in this test; checked when it ends."""
    return Watch()


@pytest.fixture
def open_page(
    site: Site, chromium: Browser, signed_in: Any, watch: Watch
) -> Iterator[Callable[..., Page]]:
    """Open a page in a window of its own, signed in: `open_page(width=390, scheme="dark")`."""
    contexts: list[BrowserContext] = []

    def opened(
        *, width: int = 1440, height: int = 900, scheme: Any = "light", motion: Any = None
    ) -> Page:
        context = chromium.new_context(
            base_url=site.url,
            storage_state=signed_in,
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            reduced_motion=motion,
        )
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        watch.follow(page)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert watch.unexpected() == []


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    """A wide window, light."""
    return open_page()


@pytest.fixture
def shot(request: pytest.FixtureRequest) -> Callable[[Page, str], None]:
    """Keep a picture of the page for a person to look at: `shot(page, "answer")`."""
    ARTIFACTS.mkdir(exist_ok=True)

    def taken(page: Page, name: str) -> None:
        # "initial": hiding the caret would leave style attributes on the page.
        page.screenshot(path=ARTIFACTS / f"{name}.png", caret="initial")

    return taken
