"""Metrics of several processes: added up, and in as few files as there are processes at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

COUNT = """
import sys
from telemetry import metrics
metrics.TURNS.labels("done").inc(int(sys.argv[1]))
print("counted", flush=True)
sys.stdin.read()
"""
READ = """
from prometheus_client import generate_latest
from telemetry.metrics import registry
print(generate_latest(registry()).decode())
"""


def start(folder: Path, code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={"PROMETHEUS_MULTIPROC_DIR": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_processes_at_a_time_and_one_after_another_are_added_up(tmp_path: Path) -> None:
    together = [start(tmp_path, COUNT, "1"), start(tmp_path, COUNT, "2")]
    for process in together:
        assert process.stdout is not None
        process.stdout.readline()
    for process in together:
        process.communicate()
    for _ in range(3):  # each takes over the files of one that is gone
        start(tmp_path, COUNT, "10").communicate()

    read, _ = start(tmp_path, READ).communicate()

    assert 'ragsite_turns_total{state="done"} 33.0' in read
    assert len(list(tmp_path.glob("counter_*.db"))) == 2


def test_a_child_of_a_fork_counts_for_itself(tmp_path: Path) -> None:
    forking = """
import os
from telemetry import metrics
metrics.TURNS.labels("done").inc()
for _ in range(4):
    if os.fork() == 0:
        for _ in range(100):
            metrics.TURNS.labels("done").inc()
        os._exit(0)
for _ in range(4):
    os.wait()
"""
    start(tmp_path, forking).communicate()

    read, _ = start(tmp_path, READ).communicate()

    assert 'ragsite_turns_total{state="done"} 401.0' in read


def test_a_folder_that_cannot_be_written_does_not_stop_a_process(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    read, _ = start(tmp_path / "file" / "metrics", COUNT, "1").communicate()

    assert read == "counted\n"
