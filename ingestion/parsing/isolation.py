"""The parent's side of a parse: start the child, bound it, read its answer, clean up after it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ingestion.errors import ParseError, ParserCrashed
from ingestion.parsing import sandbox, wire
from ingestion.parsing.formats import Format
from ingestion.types import ParsedDocument

_PROJECT = Path(__file__).resolve().parents[2]
_CHILD = ("-m", "ingestion.parsing.child")
_POLL_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class _End:
    """How the child ended: exit status (negative = signal), peak memory, whether it was killed."""

    status: int
    peak_bytes: int
    timed_out: bool


def parse_in_child(
    path: Path,
    *,
    format: Format,
    timeout_seconds: int,
    memory_bytes: int,
    workdir: Path,
) -> ParsedDocument:
    """Read a file in a process of its own that cannot harm this one.

    The child has limited memory, CPU time, written bytes and no network, environment or
    forks; after `timeout_seconds` of wall-clock time its process group is killed.

    Args:
        path: the file.
        format: what `sniff` said.
        timeout_seconds: of wall-clock and of CPU time.
        memory_bytes: of the child's address space.
        workdir: an existing folder for the child's temporary folder, removed afterwards.

    Raises:
        ParseError: the file cannot be read; also `too_slow` and `too_large` for the limits.
        ParserCrashed: the child died or answered nonsense.
    """
    folder = Path(tempfile.mkdtemp(prefix="parse-", dir=workdir))
    try:
        with (
            tempfile.TemporaryFile(dir=folder) as answer,
            tempfile.TemporaryFile(dir=folder) as log,
        ):
            command = [sys.executable, "-s", "-B", *_CHILD]
            limits = [str(memory_bytes), str(timeout_seconds), str(os.getpid())]
            child = subprocess.Popen(
                [*command, str(path.resolve()), str(format), *limits],
                stdin=subprocess.DEVNULL,
                stdout=answer,
                stderr=log,
                cwd=_PROJECT,
                env={"TMPDIR": str(folder), "LC_ALL": "C.UTF-8"},
                start_new_session=True,
            )
            end = _wait(child, timeout_seconds)
            return _result(end, answer, log, memory_bytes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(child: subprocess.Popen[bytes], timeout_seconds: int) -> _End:
    """Wait for the child and watch its memory; after the time limit kill its whole group."""
    deadline = time.monotonic() + timeout_seconds
    timed_out = False
    peak = 0
    try:
        while child.poll() is None:
            peak = max(peak, sandbox.peak_bytes(child.pid))
            if time.monotonic() > deadline:
                timed_out = True
                _kill_group(child.pid)
                child.wait()
                break
            time.sleep(_POLL_SECONDS)
    except BaseException:
        _kill_group(child.pid)
        child.wait()
        raise
    return _End(child.returncode, peak, timed_out)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _result(end: _End, answer: IO[bytes], log: IO[bytes], memory_bytes: int) -> ParsedDocument:
    if end.timed_out or end.status == -signal.SIGXCPU:
        raise ParseError("time limit reached", code="too_slow")
    if end.status != 0:
        if sandbox.is_exhausted(end.peak_bytes, memory_bytes):
            raise ParseError(f"died with {end.peak_bytes} bytes in memory", code="too_large")
        raise ParserCrashed(f"parser ended with status {end.status}: {_last_lines(log)}")
    if answer.seek(0, os.SEEK_END) >= sandbox.MAX_WRITTEN_BYTES:
        raise ParseError("answer over the limit", code="too_large")
    answer.seek(0)
    try:
        return wire.decode_answer(answer.read())
    except ValueError as exc:
        raise ParserCrashed(f"parser gave no usable answer: {exc}") from exc


def _last_lines(log: IO[bytes]) -> str:
    size = log.seek(0, os.SEEK_END)
    log.seek(max(0, size - 1500))
    return log.read().decode("utf-8", "replace").strip()
