"""The parent's side of a child: have it forked, bound it, read its answer, clean up after it."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ingestion.errors import ParseError, ParserCrashed
from ingestion.parsing import sandbox, wire
from ingestion.parsing.formats import Format
from ingestion.parsing.zygote import READ, RUN, Child, Zygote, ZygoteDied
from ingestion.types import ParsedDocument

logger = logging.getLogger(__name__)

# Threads of the web process may read at the same time; so many zygotes then wait for more.
_MOST_IDLE = 2
_ABORTED = frozenset({-signal.SIGABRT, -signal.SIGTRAP, -signal.SIGILL})
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
    arguments = [str(path.resolve()), str(format), *_arguments(limits), *drawing]
    with _answers(folder) as (answer, log), open(os.devnull, "rb") as nothing:
        end = _run(READ, arguments, limits, folder, files=(nothing, answer, log))
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
        arguments = [*_arguments(limits), *command]
        files = (source, answer, log)
        end = _run(RUN, arguments, limits, folder, files=files, environment=environment)
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
    return [str(limits.memory_bytes), str(limits.seconds)]


@contextlib.contextmanager
def _answers(folder: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Files without a name for what a child answers and what it says to its log."""
    with tempfile.TemporaryFile(dir=folder) as answer, tempfile.TemporaryFile(dir=folder) as log:
        yield answer, log


def _run(
    work: str,
    arguments: Sequence[str],
    limits: Limits,
    folder: Path,
    *,
    files: tuple[IO[bytes], IO[bytes], IO[bytes]],
    environment: Mapping[str, str] | None = None,
) -> _End:
    """Have a child do the work to its end, or to the end of its time.

    A zygote that dies is no fault of the file's: then it is done once more.

    Raises:
        ParserCrashed: two zygotes died.
    """
    given = {"TMPDIR": str(folder), "LC_ALL": "C.UTF-8", **(environment or {})}
    for _ in range(2):
        with contextlib.suppress(ZygoteDied), _zygotes.one() as zygote:
            child = zygote.fork(work, arguments, environment=given, files=files)
            return _wait(child, limits.seconds)
        _zygotes.close()  # those that wait may be dead, too
        for file in files:
            file.seek(0)
        for file in files[1:]:
            file.truncate()
    raise ParserCrashed("the process that readers are forked from died")


class _Zygotes:
    """The zygotes of this process, each lent to one thread at a time."""

    def __init__(self, start: Callable[[], Zygote] = Zygote) -> None:
        self._start = start
        self.forget()

    def forget(self) -> None:
        """In a process forked from the one that owns them: begin with none."""
        self._lock = threading.Lock()
        self._idle: list[Zygote] = []

    @contextlib.contextmanager
    def one(self) -> Iterator[Zygote]:
        """A zygote; it is ended, with its child, where the block raises."""
        with self._lock:
            found = self._idle.pop() if self._idle else None
        zygote = found or self._start()
        try:
            yield zygote
        except BaseException:
            zygote.close()
            raise
        with self._lock:
            if is_kept := len(self._idle) < _MOST_IDLE:
                self._idle.append(zygote)
        if not is_kept:
            zygote.close()

    def close(self) -> None:
        """End those that wait."""
        with self._lock:
            idle, self._idle = self._idle, []
        for zygote in idle:
            zygote.close()


_zygotes = _Zygotes()
atexit.register(_zygotes.close)
os.register_at_fork(after_in_child=_zygotes.forget)


def _wait(child: Child, timeout_seconds: int) -> _End:
    """Wait for the child and watch its memory; after the time limit kill its whole group."""
    deadline = time.monotonic() + timeout_seconds
    peak = 0
    try:
        while True:
            peak = max(peak, sandbox.peak_bytes(child.pid))
            with contextlib.suppress(subprocess.TimeoutExpired):
                return _End(child.wait(timeout=_POLL_SECONDS), peak, timed_out=False)
            if time.monotonic() > deadline:
                _kill_group(child.pid)
                return _End(child.wait(), peak, timed_out=True)
    except BaseException:
        _kill_group(child.pid)
        raise


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _result(end: _End, answer: IO[bytes], log: IO[bytes], memory_bytes: int) -> ParsedDocument:
    if end.timed_out or end.status == -signal.SIGXCPU:
        raise ParseError("time limit reached", code="too_slow")
    if end.status != 0:
        aborted = end.status in _ABORTED
        if sandbox.is_exhausted(end.peak_bytes, memory_bytes, aborted=aborted):
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
