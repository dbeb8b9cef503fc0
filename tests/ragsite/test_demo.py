"""`manage.py demo`: the main job in a terminal, on processes that it starts and stops itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ragsite.management.commands.demo import QUESTIONS
from ragsite.processes import ROOT
from ragsite.samples import sample_files


def processes_using(folder: Path) -> list[list[str]]:
    """Command lines of the processes that have the folder among their arguments or settings."""
    found = []
    for process in psutil.process_iter():
        try:
            command, env = process.cmdline(), process.environ()
        except psutil.Error:
            continue
        if str(folder) in " ".join(command) or env.get("DATA_DIR") == str(folder):
            found.append(command)
    return found


@pytest.mark.timeout(240)
def test_the_demo_ingests_asks_answers_and_leaves_no_process_behind(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.endswith("_URL")}
    result = subprocess.run(
        [sys.executable, "manage.py", "demo"],
        cwd=ROOT,
        env={**env, "DATA_DIR": str(tmp_path), "OLLAMA_HOST": "http://127.0.0.1:1"},
        capture_output=True,
        text=True,
    )

    assert result.returncode == 0, result.stderr[-2000:]
    for path in sample_files():
        assert f"✓ {path}" in result.stdout or f"✓ {path.relative_to(ROOT)}" in result.stdout
    answers = result.stdout.split("─" * 78)[1:]
    assert len(answers) == len(QUESTIONS)
    for question, answer in zip(QUESTIONS, answers, strict=True):
        assert question in answer
        assert "no language model wrote this answer" in answer
        assert re.search(r"” \[[1-5]\]", answer)
        assert "ms" in answer
    assert "hybrid-retrieval.pdf" in answers[0]
    assert "user-guide.md" in answers[1]
    assert "troubleshooting.txt" in answers[2]
    assert processes_using(tmp_path) == []


def test_a_new_site_gets_its_administrator_and_a_misspelt_corpus_starts_nothing(
    tmp_path: Path,
) -> None:
    env = {name: value for name, value in os.environ.items() if not name.endswith("_URL")}
    env["DATA_DIR"] = str(tmp_path)

    def manage(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)

    result = manage("ask", "Why?", "--corpus", "Sampels")

    assert result.returncode == 1
    assert result.stdout == ""
    assert "“admin” was made its administrator" in result.stderr
    assert "There is no corpus called “Sampels”" in result.stderr
    assert "starting" not in result.stderr
