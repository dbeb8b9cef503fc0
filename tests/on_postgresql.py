"""Runs tests on a PostgreSQL server of their own: `python -m tests.on_postgresql [ARGUMENTS]`.

The arguments are pytest's. Of the tests that they name, by default of all but those below, those
run that touch the database; the others would do the same again. The cluster lives in a temporary
folder and listens on loopback alone; it gives up safety on the disk for speed. PostgreSQL refuses
to run as root, so root becomes the system's user `postgres` or `nobody` for it.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ragsite.processes import HOST, free_port

ROOT = Path(__file__).resolve().parent.parent
# Without a database of the test's own: whole sites on a fresh SQLite file, and the model server.
LEFT_OUT = ("tests/browser", "tests/faults", "tests/inference", "tests/telemetry")
TOUCHING = {"db", "transactional_db", "django_db_reset_sequences", "django_db_serialized_rollback"}
FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=120")

# psycopg minds connections that end with the thread of a test, and a server minds dropping a
# database that one of them still holds; the whole cluster goes anyway.
OPTIONS = ("-W", "ignore::pytest.PytestUnraisableExceptionWarning", "--reuse-db")


def binaries() -> Path | None:
    """The folder of PostgreSQL's programs, the newest that is installed."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if found:
        return max(found, key=lambda folder: int(folder.parent.name))
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


def _unprivileged() -> str | None:
    """The user to become for the server; None for oneself."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise SystemExit("PostgreSQL does not run as root, and there is no user to become.")


@contextlib.contextmanager
def cluster(programs: Path) -> Iterator[str]:
    """A server on a loopback port, and its DATABASE_URL; gone afterwards."""
    user, port = _unprivileged(), free_port()
    with tempfile.TemporaryDirectory(prefix="ragsite-postgresql-") as name:
        folder = Path(name)
        if user is not None:
            shutil.chown(folder, user)
        data, log = folder / "data", folder / "log"

        def run(program: str, *arguments: str) -> None:
            subprocess.run(
                [programs / program, *arguments],
                check=True,
                cwd=folder,
                user=user,
                stdout=subprocess.DEVNULL,
                timeout=120,
            )

        run(
            *("initdb", "--pgdata", str(data), "--username", "ragsite", "--auth", "trust"),
            *("--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"),
        )
        options = f"-c listen_addresses={HOST} -p {port} -k {folder} "
        options += " ".join(f"-c {setting}" for setting in FAST)
        run("pg_ctl", "start", "-D", str(data), "-l", str(log), "-w", "-o", options)
        try:
            yield f"postgres://ragsite@{HOST}:{port}/postgres"
        finally:
            run("pg_ctl", "stop", "-D", str(data), "-m", "immediate", "-w")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what touches no database. Last of all such hooks, when marks are complete."""

    def touches(item: pytest.Item) -> bool:
        names = set(getattr(item, "fixturenames", ()))
        return item.get_closest_marker("django_db") is not None or bool(names & TOUCHING)

    kept = [item for item in items if touches(item)]
    config.hook.pytest_deselected(items=[item for item in items if not touches(item)])
    items[:] = kept


def main(arguments: list[str]) -> int:
    """Run the tests; the exit status of pytest."""
    programs = binaries()
    if programs is None:
        print("No PostgreSQL server is installed: the tests ran on SQLite alone.")
        return 1 if os.environ.get("POSTGRESQL_TESTS") == "required" else 0
    with cluster(programs) as url:
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "tests.on_postgresql",
            *OPTIONS,
            *arguments,
        ]
        if not any(one.startswith("tests") for one in arguments):
            command += [f"--ignore={folder}" for folder in LEFT_OUT]
            command += ["-n", "2", "--dist", "loadfile"]
        return subprocess.run(command, cwd=ROOT, env={**os.environ, "DATABASE_URL": url}).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
