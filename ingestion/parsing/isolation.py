"""The parent's side of a child: start it, bound it, read its answer, clean up after it."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ingestion.errors import ParseError, ParserCrashed
from ingestion.parsing import sandbox, wire
from ingestion.parsing.formats import Format
from ingestion.types import ParsedDocument

logger = logging.getLogger(__name__)

_PROJECT = Path(__file__).resolve().parents[2]
_CHILD = ("-m", "ingestion.parsing.child")
_LIMITED = ("-m", "ingestion.parsing.sandbox")
_POLL_SECONDS = 0.01
_MAX_OUTPUT_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What one child may use.

    seconds: of wall-clock and of CPU time.
    memory_bytes: of address space.
    """

    seconds: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class _End:
    """How the child ended: exit status (negative = signal), peak memory, whether it was killed."""

    status: int
    peak_bytes: int
    timed_out: bool


def parsed_by_child(
    path: Path, format: Format, limits: Limits, folder: Path, *drawing: str
) -> ParsedDocument:
    """Have a child read the file, or draw pages of it into the folder.

    Args:
        path: the file.
        format: what `sniff` said.
        limits: of the child; after their seconds its process group is killed.
        folder: the child's temporary folder.
        drawing: for drawing, the pages joined by commas and the degrees of the turn.

    Raises:
        ParseError: the file cannot be read; also `too_slow` and `too_large` for the limits.
        ParserCrashed: the child died or answered nonsense.
    """
    command = [*_CHILD, str(path.resolve()), str(format), *_arguments(limits), *drawing]
    with _answers(folder) as (answer, log):
        end = _run(command, limits, folder, answer=answer, log=log)
        return _result(end, answer, log, limits.memory_bytes)


def output_of(
    command: Sequence[str],
    limits: Limits,
    folder: Path,
    *,
    source: IO[bytes],
    environment: Mapping[str, str],
) -> bytes | None:
    """What a program writes under the limits; None if it fails, which is logged.

    Args:
        command: the program's path and its arguments.
        limits: of the program.
        folder: its temporary folder.
        source: its standard input.
        environment: beside the folder and the locale.
    """
    with _answers(folder) as (answer, log):
        limited = [*_LIMITED, *_arguments(limits), *command]
        end = _run(
            limited, limits, folder, answer=answer, log=log, source=source, extra=environment
        )
        if end.status != 0:
            logger.info("%s ended with %d: %s", command[0], end.status, _last_lines(log))
            return None
        answer.seek(0)
        return answer.read(_MAX_OUTPUT_BYTES)


@contextlib.contextmanager
def temporary_folder(workdir: Path) -> Iterator[Path]:
    """A temporary folder for one child, gone with it."""
    folder = Path(tempfile.mkdtemp(prefix="parse-", dir=workdir))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _arguments(limits: Limits) -> list[str]:
    return [str(limits.memory_bytes), str(limits.seconds), str(os.getpid())]


@contextlib.contextmanager
def _answers(folder: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Files without a name for what a child answers and what it says to its log."""
    with tempfile.TemporaryFile(dir=folder) as answer, tempfile.TemporaryFile(dir=folder) as log:
        yield answer, log


def _run(
    command: Sequence[str],
    limits: Limits,
    folder: Path,
    *,
    answer: IO[bytes],
    log: IO[bytes],
    source: IO[bytes] | int = subprocess.DEVNULL,
    extra: Mapping[str, str] | None = None,
) -> _End:
    """Run one of our modules to its end, or to the end of its time."""
    child = subprocess.Popen(
        [sys.executable, "-s", *command],
        stdin=source,
        stdout=answer,
        stderr=log,
        cwd=_PROJECT,
        env={"TMPDIR": str(folder), "LC_ALL": "C.UTF-8", **(extra or {})},
        start_new_session=True,
    )
    return _wait(child, limits.seconds)


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
