"""Runs tests on a PostgreSQL server of their own: `python -m tests.on_postgresql [ARGUMENTS]`.

The arguments are pytest's. Where they name no tests, those that lean on SQL run: leases, the
reconciler, deletion, scoping, generations, versions, turns. The cluster lives in a temporary
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

from ragsite.processes import HOST, free_port

ROOT = Path(__file__).resolve().parent.parent
CHOSEN = (
    *("tests/ingestion/test_services.py", "tests/ingestion/test_tasks.py"),
    *("tests/ingestion/test_versions.py", "tests/ingestion/test_deletions.py"),
    *("tests/ingestion/test_sharing.py", "tests/ingestion/test_rebuild.py"),
    *("tests/search/test_labels.py", "tests/search/test_generations.py"),
    *("tests/chat/test_turns.py", "tests/chat/test_branches.py"),
)
FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=60")

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


def main(arguments: list[str]) -> int:
    """Run the tests; the exit status of pytest."""
    programs = binaries()
    if programs is None:
        print("No PostgreSQL server is installed: the tests ran on SQLite alone.")
        return 1 if os.environ.get("POSTGRESQL_TESTS") == "required" else 0
    with cluster(programs) as url:
        paths = () if any(one.startswith("tests") for one in arguments) else CHOSEN
        command = [sys.executable, "-m", "pytest", *OPTIONS, *arguments, *paths]
        return subprocess.run(command, cwd=ROOT, env={**os.environ, "DATABASE_URL": url}).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
