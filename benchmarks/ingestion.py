"""How long until a mixed folder can be searched? Ours against LangChain's pieces and txtai.

    python benchmarks/ingestion.py [FOLDER] [--documents 120] [--rounds 3] [--arms …] [--others DIR]

Without FOLDER, files of ten kinds with made-up text are written for it. Ours is a whole site by
`manage.py up` (web, workers, model server, Chroma, Redis) that is given the folder by `manage.py
ingest`; the others are scripts as their documentation shows them, with the same embedding model
(`_ingestion_arms.py`). They live in a virtual environment of their own, made in DIR beside ours
without a second torch. Ways take turns, each starts from nothing, medians are printed: seconds
to searchable, documents and chunks a second, tokens embedded, peak memory of the whole process
tree (proportional share), documents of which nothing is found, and the share of the
floating-point peak of a matrix product on this machine that embedding alone would need.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psutil

from ragsite.processes import answers, free_port

ROOT = Path(__file__).resolve().parent.parent
SEED = 17
OTHERS = (
    *("langchain-community==0.4.2", "langchain-text-splitters==1.1.3", "langchain-chroma==1.1.0"),
    *("langchain-huggingface==1.2.3", "docx2txt==0.9", "txtai==9.14.0"),
    *("pypdf==7.1.0", "chardet==7.7.0"),
)
SAMPLE_SECONDS = 0.5
WIDTH, INNER, LAYERS = 384, 1536, 6
PEAK = """
import statistics, time, torch
for kind in (torch.float32, torch.bfloat16):
    a, times = torch.randn(2048, 2048).to(kind), []
    for _ in range(10):
        began = time.perf_counter(); a @ a; times.append(time.perf_counter() - began)
    print(2 * 2048**3 / statistics.median(times[2:]))
"""


def write_folder(folder: Path, count: int, times: int) -> None:
    """Files of ten kinds in turn, the same for the same numbers."""
    from tests.faults.mixed import documents

    for name, content in documents(count, seed=SEED, times=times):
        (folder / name).write_bytes(content)


def environment_of_others(folder: Path) -> Path:
    """The Python of a virtual environment that has the others beside all that ours has."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        (packages,) = folder.glob("lib/python*/site-packages")
        (packages / "ours.pth").write_text(f"{Path(psutil.__file__).parent.parent}\n")
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", *OTHERS]
    subprocess.run(command, check=True)
    return python


class Memory:
    """Watches a process with all below it; `peak` is the most bytes they had together."""

    def __init__(self, pid: int) -> None:
        self.peak = 0
        self._pid = pid
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            self.peak = max(self.peak, _bytes_below(self._pid))


def _bytes_below(pid: int) -> int:
    """Proportional memory of a process and its descendants; what they share counts once."""
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            try:
                total += process.memory_full_info().pss
            except psutil.Error:
                continue
    except psutil.NoSuchProcess:
        return total
    return total


@contextmanager
def site(data: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A site of its own on this folder, up and with its model loaded."""
    port = free_port()
    command = [sys.executable, "manage.py", "up", "--no-browser", "--no-samples", "--port"]
    environment = {**os.environ, "DATA_DIR": str(data)}
    for name in ("REDIS_URL", "CHROMA_URL", "INFERENCE_URL", "DATABASE_URL"):
        environment.pop(name, None)
    with (data / "up.log").open("wb") as log:
        running = subprocess.Popen(
            [*command, str(port)], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
        try:
            until = time.monotonic() + 180
            while not _is_up(data, port):
                if running.poll() is not None or time.monotonic() > until:
                    raise SystemExit((data / "up.log").read_text())
                time.sleep(0.5)
            yield running
        finally:
            running.send_signal(signal.SIGINT)
            running.wait(60)


def _is_up(data: Path, port: int) -> bool:
    found = data / "run" / "services.json"
    if not found.is_file() or not answers(f"http://127.0.0.1:{port}/healthz"):
        return False
    return answers(f"{json.loads(found.read_text())['INFERENCE_URL']}/health")


def run(arm: str, folder: Path, python: Path) -> dict[str, Any]:
    """One way, once, from nothing."""
    with tempfile.TemporaryDirectory() as name:
        data = Path(name)
        command = [str(python), str(ROOT / "benchmarks/_ingestion_arms.py"), arm, str(folder), name]
        if arm != "ours":
            return _measured(command)
        with site(data) as running:
            memory, before = Memory(running.pid), _seconds_of(running.pid)
            found = _measured(command)
            memory.stop()
            after = _seconds_of(running.pid)
            found["peak"] += memory.peak
            found["parts"] = {name: after[name] - before.get(name, 0) for name in after}
            found["cpu"] += sum(found["parts"].values())
            return found


def _seconds_of(pid: int) -> dict[str, float]:
    """CPU seconds of each process of a site with what it started, by what it runs."""
    found: dict[str, float] = {}
    for process in psutil.Process(pid).children():
        words = " ".join(process.cmdline())
        kinds = ("inference", "chroma", "valkey", "upkeep", "beat", "uvicorn", "worker")
        kind = next((kind for kind in kinds if kind in words), "other")
        below = process.children(recursive=True)
        times = [process.cpu_times(), *(child.cpu_times() for child in below)]
        found[kind] = sum(t.user + t.system + t.children_user + t.children_system for t in times)
    return found


def _measured(command: list[str]) -> dict[str, Any]:
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    memory = Memory(running.pid)
    out, err = running.communicate()
    memory.stop()
    if running.returncode:
        raise SystemExit(err.decode(errors="replace")[-3000:])
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found | {"peak": memory.peak}


def work(tokens: list[int]) -> float:
    """Floating-point operations that embedding texts of these lengths takes."""
    weights = LAYERS * (4 * WIDTH**2 + 2 * WIDTH * INNER)
    return sum(2.0 * weights * t + 4.0 * LAYERS * WIDTH * t * t for t in tokens)


def main() -> None:
    """All ways in turns, then the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--documents", type=int, default=120)
    parser.add_argument("--times", type=int, default=3, help="length of the files that are made")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--arms", default="ours,langchain,txtai")
    parser.add_argument("--others", type=Path, default=Path(tempfile.gettempdir(), "others-venv"))
    options = parser.parse_args()
    arms = options.arms.split(",")
    others = environment_of_others(options.others) if arms != ["ours"] else Path(sys.executable)
    with tempfile.TemporaryDirectory() as made:
        folder = options.folder or Path(made)
        if options.folder is None:
            write_folder(folder, options.documents, options.times)
        print(
            f"{psutil.cpu_count()} cores, load {psutil.getloadavg()[0]:.1f}, "
            + ", ".join(f"{n} {version(n)}" for n in ("torch", "chromadb", "sentence-transformers"))
            + f", {', '.join(OTHERS)}"
        )
        found: dict[str, list[dict[str, Any]]] = {arm: [] for arm in arms}
        peaks: list[list[float]] = []
        for number in range(options.rounds):
            told = subprocess.run([sys.executable, "-c", PEAK], check=True, capture_output=True)
            peaks.append([float(line) for line in told.stdout.split()])
            for arm in arms:
                python = Path(sys.executable) if arm == "ours" else others
                found[arm].append(run(arm, folder, python))
                last = found[arm][-1]
                spent = {name: round(s, 1) for name, s in last.get("parts", {}).items()}
                print(
                    f"round {number + 1}, {arm}: {last['seconds']:.1f} s, "
                    f"{last['cpu']:.1f} s of CPU {spent or ''}",
                    flush=True,
                )
    single, half = (statistics.median(column) for column in zip(*peaks, strict=True))
    print(f"\npeak {single / 1e9:.0f} GFLOP/s in float32, {half / 1e9:.0f} in bfloat16")
    print("load at the end " + f"{psutil.getloadavg()[0]:.1f}\n")
    print(
        "| way | seconds | CPU s | documents/s | chunks/s | tokens/s | tokens per CPU s "
        "| share of float32 peak | peak memory MiB | lost | tokens/s, times LangChain |\n"
        + "| --- " * 11
        + "|"
    )
    plain = found.get("langchain", found[arms[0]])
    base = sum(plain[-1]["tokens"]) / statistics.median(r["seconds"] for r in plain)
    for arm, rounds in found.items():
        seconds, last = statistics.median(r["seconds"] for r in rounds), rounds[-1]
        there = last["documents"] - len(last["lost"])
        cpu = statistics.median(r["cpu"] for r in rounds)
        share, chunks = work(last["tokens"]) / seconds / single, len(last["tokens"])
        tokens = sum(last["tokens"])
        print(
            f"| {arm} | {seconds:.1f} | {cpu:.1f} | {there / seconds:.2f} | {chunks / seconds:.1f} "
            f"| {tokens / seconds:.0f} | {tokens / cpu:.0f} | {share:.0%} "
            f"| {max(r['peak'] for r in rounds) / 2**20:.0f} "
            f"| {len(last['lost'])} of {last['documents']} | {tokens / seconds / base:.2f} |"
        )
    for arm, rounds in found.items():
        if lost := rounds[-1]["lost"]:
            print(f"lost by {arm}: {', '.join(lost[:20])}")


if __name__ == "__main__":
    main()
