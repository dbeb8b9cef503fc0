"""The process that children are forked from, and its owner's side of it.

A zygote has the parsers imported that were asked for so far, nothing of the site in its
environment, and opens no stranger's file. So a child costs a fork and not the start of an
interpreter and the import of a parser, and is thrown away after one file all the same. A request
on the zygote's standard input, a socket, is JSON with three open files: what becomes the child's
standard input, output and error. The zygote answers with the child's process id, and with its
exit status when it has ended. One at a time; when the owner goes, both go.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import traceback
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, NoReturn, Protocol

_PROJECT = Path(__file__).resolve().parents[2]
_NUMBER = struct.Struct("=i")
_REQUEST_BYTES = 64 * 1024
# The zygote does nothing that takes longer; a child's end is waited for apart.
_ANSWER_SECONDS = 60.0
_CLOSE_SECONDS = 5.0
_ZYGOTE = ("-c", "from ingestion.parsing import zygote; zygote.main()")
READ, RUN = "read", "run"


class ZygoteDied(Exception):
    """The zygote is gone, and with it the child, if there was one."""


class Work(Protocol):
    """What a child does; it ends with it."""

    def __call__(self, arguments: list[str], *, parent: int) -> None:
        """Work; `parent` is the process to die with."""


class Child:
    """A process that a zygote has forked, with as much of `Popen` as there is use for."""

    def __init__(self, pid: int, control: socket.socket) -> None:
        self.pid = pid
        self.returncode = 0
        self._control = control

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, negative for a signal.

        Raises:
            subprocess.TimeoutExpired: it has not ended by then.
            ZygoteDied: nobody knows how it ended.
        """
        if not select.select([self._control], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("child", timeout or 0.0)
        self.returncode = _number_from(self._control)
        return self.returncode


class Zygote:
    """The owner's side: starts the zygote, and asks it for one child at a time."""

    def __init__(self, command: Sequence[str] = _ZYGOTE) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-s", *command],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                cwd=_PROJECT,
                # A parser's numpy would start a thread for each core, with memory of its own.
                env={"LC_ALL": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1"},
                start_new_session=True,
            )
        self._control.settimeout(_ANSWER_SECONDS)
        _owned.add(self)

    def fork(
        self,
        work: str,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        files: Sequence[IO[bytes]],
    ) -> Child:
        """Have a child begin.

        Args:
            work: READ (the arguments of `child.main`) or RUN (those of `sandbox.main`).
            arguments: for the work.
            environment: all of the child's.
            files: its standard input, output and error.

        Raises:
            ZygoteDied: there is no child.
        """
        request = json.dumps([work, list(arguments), dict(environment)]).encode()
        try:
            socket.send_fds(self._control, [request], [file.fileno() for file in files])
        except OSError as exc:
            raise ZygoteDied(str(exc)) from exc
        return Child(_number_from(self._control), self._control)

    def close(self) -> None:
        """End the zygote, with its child if there is one."""
        self._control.close()
        try:
            self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def forget(self) -> None:
        """In a process that was forked from the owner: leave it to that."""
        self._control.close()
        self._process.returncode = 0


_owned: weakref.WeakSet[Zygote] = weakref.WeakSet()


def _forget_all() -> None:
    for zygote in list(_owned):
        zygote.forget()


os.register_at_fork(after_in_child=_forget_all)


def _number_from(control: socket.socket) -> int:
    try:
        answer = control.recv(_NUMBER.size)
    except OSError as exc:
        raise ZygoteDied(str(exc)) from exc
    if len(answer) < _NUMBER.size:
        raise ZygoteDied("no answer")
    return int(_NUMBER.unpack(answer)[0])


def serve(works: Mapping[str, Work], prepare: Callable[[str, list[str]], None]) -> None:
    """Fork a child for each request until the owner goes.

    Args:
        works: what children do, by name.
        prepare: imports beforehand what a work with these arguments needs.
    """
    control = socket.socket(fileno=os.dup(0))
    woken, wakes = socket.socketpair()
    for end in (woken, wakes):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes.fileno())
    zygote = os.getpid()
    while True:
        message, files, _, _ = socket.recv_fds(control, _REQUEST_BYTES, 3)
        if not message:
            return
        name, arguments, environment = json.loads(message)
        prepare(name, arguments)
        gc.freeze()  # pages of what stays are shared with the children
        pid = os.fork()
        if pid == 0:
            for end in (control, woken, wakes):
                end.close()
            _be_child(works[name], arguments, environment, files, parent=zygote)
        for file in files:
            os.close(file)
        status = None
        with contextlib.suppress(BrokenPipeError):
            control.send(_NUMBER.pack(pid))
            status = _end_of(pid, control, woken)
        if status is None:
            _kill(pid)
            return
        control.send(_NUMBER.pack(status))


def _end_of(pid: int, control: socket.socket, woken: socket.socket) -> int | None:
    """The child's exit status; None if the owner went before."""
    while True:
        ready, _, _ = select.select([control, woken], [], [])
        if woken in ready:
            woken.recv(512)
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if control in ready:  # nobody asks while a child works
            return None


def _kill(pid: int) -> None:
    for kill in (os.killpg, os.kill):  # a child that has just begun has no group yet
        with contextlib.suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)


def _be_child(
    work: Work,
    arguments: list[str],
    environment: dict[str, str],
    files: Sequence[int],
    *,
    parent: int,
) -> NoReturn:
    """Leave everything of the zygote's but its modules, work, and end."""
    status = 1
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for target, file in enumerate(files):
            os.dup2(file, target)
            os.close(file)
        os.environ.clear()
        os.environ.update(environment)
        tempfile.tempdir = None
        work(arguments, parent=parent)
        status = 0
    except SystemExit as exc:
        status = exc.code if isinstance(exc.code, int) else 1
    except BaseException:  # noqa: BLE001 (a child must not go on as a second zygote)
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def main() -> None:
    """Serve readers of files and programs under limits."""
    from ingestion.parsing import child, sandbox

    def prepare(name: str, arguments: list[str]) -> None:
        if name == READ:
            child.prepare(arguments)

    serve({READ: child.main, RUN: sandbox.main}, prepare)
