"""Many chats at once against the whole site, with open streams beside them.

    python benchmarks/chats.py [--chats 50] [--idle 500] [--parallel 4] [--over-seconds 0,60]

Starts `manage.py up` on a fresh data folder with the sample corpus, and the stand-in for Ollama
(20 ms a word). Each chat is a person of their own who asks one of the sample questions on the page:
the POST, then the event stream. They come all at once, or spread over a time. The idle streams
follow answers of which a word comes every ten seconds. Printed are milliseconds from the sending of
the POST to the first event, the sources, the first word and the end (median, 95 %, 99 %), the
longest line for the model, and the memory of the web process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 180
SLOW_WORD = "unhurriedly"
IDLE_TURNS = 10
WORD_SECONDS = 0.02

# Run by `manage.py shell` on the site's own data: people with a session each.
MAKE_PEOPLE = """
import json
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from ingestion.models import Corpus
keys = []
for number in range({count}):
    browser = Client()
    browser.force_login(User.objects.create_user(f"person-{{number}}"))
    keys.append(browser.cookies[settings.SESSION_COOKIE_NAME].value)
print("PEOPLE " + json.dumps({{
    "sessions": keys, "cookie": settings.SESSION_COOKIE_NAME, "corpus": Corpus.objects.get().pk
}}))
"""


@dataclass
class Chat:
    """What one person waited for, in milliseconds; absent where it did not come."""

    ms: dict[str, float] = field(default_factory=dict)
    longest_line: int = 0
    state: str = ""


class Person:
    """Somebody signed in."""

    def __init__(self, url: str, cookies: dict[str, str]) -> None:
        self._http = httpx.AsyncClient(
            base_url=url,
            cookies=cookies,
            timeout=httpx.Timeout(None, connect=30),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=2),
            trust_env=False,
        )

    async def open_page(self) -> None:
        """The chat page, as it is before the first question."""
        (await self._http.get("/chat/")).raise_for_status()

    async def ask(self, question: str, corpus: int) -> int:
        """The number of the turn that a question became."""
        answer = await self._http.post(
            "/chat/turns/",
            data={"question": question, "corpora": str(corpus)},
            headers={"X-CSRFToken": self._http.cookies["csrftoken"]},
        )
        found = re.search(r"#turn-(\d+)$", answer.headers.get("Location", ""))
        if found is None:
            raise RuntimeError(f"the question was not taken: {answer.status_code}")
        return int(found[1])

    async def follow(self, turn: int) -> AsyncGenerator[tuple[str, str]]:
        """The events of a turn: name and data."""
        async with self._http.stream("GET", f"/chat/turns/{turn}/stream/") as answer:
            name, data = "", ""
            async for line in answer.aiter_lines():
                if line.startswith("event: "):
                    name = line[7:]
                elif line.startswith("data: "):
                    data += line[6:]
                elif not line and name:
                    yield name, data
                    name, data = "", ""

    async def chat(self, question: str, corpus: int) -> Chat:
        """Ask and read to the end."""
        chat, began = Chat(), time.perf_counter()

        def note(what: str) -> None:
            chat.ms.setdefault(what, (time.perf_counter() - began) * 1000)

        turn = await self.ask(question, corpus)
        note("question taken")
        async for name, data in self.follow(turn):
            note("first event")
            if name == "stage":
                note("first stage line")
                if place := re.search(r"(\d+)(?:st|nd|rd|th) in line", data):
                    chat.longest_line = max(chat.longest_line, int(place[1]))
            elif name == "sources":
                note("sources")
            elif name in ("tail", "block"):
                note("first word")
            elif name == "end":
                note("end")
                chat.state = "broken" if "data-tone" in data else "done"
                break
        return chat

    async def close(self) -> None:
        """End the connections."""
        await self._http.aclose()


@contextmanager
def running(command: Sequence[str], *, log: Path, env: dict[str, str]) -> Iterator[None]:
    """A process and its children, ended afterwards."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()


def wait_for(log: Path, pattern: str) -> re.Match[str]:
    """Wait until what a process printed matches."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if log.exists() and (found := re.search(pattern, log.read_text())):
            return found
        time.sleep(0.2)
    sys.exit(f"It did not start; it said:\n{log.read_text()}")


def manage(env: dict[str, str], *command: str) -> str:
    """What a `manage.py` command prints."""
    return subprocess.run(
        [sys.executable, "manage.py", *command],
        cwd=ROOT,
        env=env,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def listener(port: int) -> psutil.Process:
    """The process that listens on a port."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            for connection in process.net_connections("tcp"):
                if connection.status == "LISTEN" and connection.laddr.port == port:
                    return process
    sys.exit(f"Nothing listens on port {port}.")


def megabytes(process: psutil.Process) -> float:
    """Resident memory."""
    return float(process.memory_info().rss) / 2**20


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share of them lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def rounds(url: str, people: dict[str, object], options: argparse.Namespace) -> None:
    """Measure, and print."""
    questions = [
        one["question"]
        for one in json.loads((ROOT / "samples" / "questions.json").read_text())["questions"]
    ]
    sessions, corpus = people["sessions"], people["corpus"]
    assert isinstance(sessions, list)
    assert isinstance(corpus, int)
    crowd = [Person(url, {str(people["cookie"]): session}) for session in sessions]
    for person in crowd:
        await person.open_page()
    web = listener(int(url.rpartition(":")[2]))
    print(f"web process at rest: {megabytes(web):.0f} MB")
    await crowd[0].chat(questions[0], corpus)  # everything loaded

    waiting: list[asyncio.Task[None]] = []
    counts = {"open": 0, "ended": 0}
    if options.idle:
        host = crowd[-1]
        turns = [await host.ask(f"{q} Say it {SLOW_WORD}.", corpus) for q in questions[:IDLE_TURNS]]

        async def stay(turn: int) -> None:
            is_first = True
            async for _ in host.follow(turn):
                counts["open"] += is_first
                is_first = False
            counts["ended"] += 1

        before = megabytes(web)
        waiting = [asyncio.create_task(stay(turns[n % IDLE_TURNS])) for n in range(options.idle)]
        while counts["open"] < options.idle:  # noqa: ASYNC110 (it counts what many tasks see)
            await asyncio.sleep(0.1)
        await asyncio.sleep(5)
        after = megabytes(web)
        print(f"with {options.idle} streams open: {after:.0f} MB ({after - before:+.0f})")
        await asyncio.sleep(10)
        share = web.cpu_percent(interval=None)
        await asyncio.sleep(20)
        share = web.cpu_percent(interval=None)
        print(f"the web process then takes {share:.0f} % of one core")

    for over in options.over_seconds:
        peak = megabytes(web)

        async def late(n: int, over: float = over) -> Chat:
            await asyncio.sleep(over * n / options.chats)
            return await crowd[n].chat(f"{questions[n % len(questions)]} ({over:.0f})", corpus)

        load = os.getloadavg()[0]
        jobs = [asyncio.create_task(late(n)) for n in range(options.chats)]
        while not all(job.done() for job in jobs):
            await asyncio.sleep(0.2)
            peak = max(peak, megabytes(web))
        chats = [job.result() for job in jobs]
        done = sum(chat.state == "done" for chat in chats)
        how = f"spread over {over:.0f} s" if over else "all at once"
        print(f"\n{options.chats} chats, {how}: {done} answered, {options.chats - done} broken off")
        print(f"{'ms from the POST to':<22}{'median':>9}{'95 %':>9}{'99 %':>9}")
        for name in ("question taken", "first event", "first stage line", "sources", "first word",
                     "end"):  # fmt: skip
            found = [chat.ms[name] for chat in chats if name in chat.ms]
            if found:
                shown = (statistics.median(found), percentile(found, 0.95), percentile(found, 0.99))
                print(f"{name:<22}" + "".join(f"{ms:>9.0f}" for ms in shown))
        print(f"longest line: {max(chat.longest_line for chat in chats)}; "
              f"web process at most {peak:.0f} MB; load of the machine before {load:.1f}, "
              f"after {os.getloadavg()[0]:.1f}")  # fmt: skip
        print(f"idle streams that ended meanwhile: {counts['ended']}")
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    for person in crowd:
        await person.close()


def main() -> None:
    """Start everything, measure, stop everything."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chats", type=int, default=50)
    parser.add_argument("--idle", type=int, default=500)
    parser.add_argument("--parallel", type=int, default=4, help="answers at a time")
    parser.add_argument(
        "--over-seconds",
        type=lambda text: [float(one) for one in text.split(",")],
        default=[0.0, 60.0],
        help="rounds: over how long the questions are spread",
    )
    parser.add_argument("--port", type=int, default=8791)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ragsite-chats-") as folder:
        data_dir = Path(folder)
        env = {k: v for k, v in os.environ.items() if not k.endswith("_URL")}
        env |= {
            "DATA_DIR": folder,
            "OLLAMA_HOST": f"http://127.0.0.1:{options.port + 1}",
            "OLLAMA_PARALLEL": str(options.parallel + (IDLE_TURNS if options.idle else 0)),
        }
        ollama = [sys.executable, "-m", "tests.ollama_server", "--port", str(options.port + 1)]
        ollama += ["--token-seconds", str(WORD_SECONDS), "--slow-word", SLOW_WORD]
        site = [sys.executable, "manage.py", "up", "--no-browser", "--port", str(options.port)]
        with (
            running(ollama, log=data_dir / "ollama.txt", env=env),
            running(site, log=data_dir / "up.txt", env=env),
        ):
            wait_for(data_dir / "ollama.txt", "Ctrl-C")
            wait_for(data_dir / "up.txt", r"sign-in/\?token=")
            made = manage(env, "shell", "-c", MAKE_PEOPLE.format(count=options.chats + 1))
            people = json.loads(made.partition("PEOPLE ")[2])
            while manage(env, "shell", "-c", "from ingestion.models import Document as D; "
                         "print('WAIT', D.objects.exclude(state='ready').count())"
                         ).split()[-1] != "0":  # fmt: skip
                time.sleep(2)
            url = f"http://127.0.0.1:{options.port}"
            asyncio.run(rounds(url, people, options))


if __name__ == "__main__":
    main()
