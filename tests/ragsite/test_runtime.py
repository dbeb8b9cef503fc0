"""Where commands find the running processes."""

import os
import subprocess
import sys
from pathlib import Path

from ragsite.runtime import running_services, services_file, write_services

URLS = {"REDIS_URL": "redis://127.0.0.1:1/0", "WEB_URL": "http://127.0.0.1:2"}


def test_addresses_of_a_living_supervisor_are_found(tmp_path: Path) -> None:
    write_services(tmp_path, URLS)

    assert running_services(tmp_path) == URLS


def test_a_file_left_by_a_dead_supervisor_counts_as_none(tmp_path: Path) -> None:
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True
    )
    write_services(tmp_path, URLS)
    path = services_file(tmp_path)
    path.write_text(path.read_text().replace(str(os.getpid()), dead.stdout.decode().strip()))

    assert running_services(tmp_path) == {}


def test_a_half_written_file_counts_as_none(tmp_path: Path) -> None:
    write_services(tmp_path, URLS)
    path = services_file(tmp_path)
    path.write_text(path.read_text()[:20])

    assert running_services(tmp_path) == {}
    assert running_services(tmp_path / "nowhere") == {}
