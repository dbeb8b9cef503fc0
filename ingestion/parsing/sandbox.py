"""Limits that a process puts on itself before it touches a stranger's file. Linux; POSIX in part.

Memory, CPU time, file size and forks are limited everywhere; the network is taken away and
the death of the parent is followed where the kernel allows it, and silently not where it
does not. `main` limits the process and makes a program of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import resource
import signal
import sys
from pathlib import Path

MAX_WRITTEN_BYTES = 200 * 1024 * 1024
_MAX_OPEN_FILES = 64
# Of the address space; the rest is code, and memory that was asked for but never touched.
_EXHAUSTED_SHARE = 0.7
# What grows by doubling is refused the next step when it holds a third.
_REFUSED_SHARE = 0.3
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38


def enter(*, memory_bytes: int, cpu_seconds: int, parent: int) -> None:
    """Limit this process for good. Call before opening a file.

    Args:
        memory_bytes: of address space.
        cpu_seconds: then SIGXCPU, two seconds later SIGKILL.
        parent: process id whose death ends this one.
    """
    _leave_the_network()
    _die_with(parent)
    _limit(resource.RLIMIT_AS, memory_bytes)
    _limit(resource.RLIMIT_CPU, cpu_seconds, cpu_seconds + 2)
    _limit(resource.RLIMIT_FSIZE, MAX_WRITTEN_BYTES)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, _MAX_OPEN_FILES)
    # The kernel counts all processes of the user but asks only when this one forks.
    _limit(resource.RLIMIT_NPROC, 0)


def is_exhausted(peak: int, memory_bytes: int, *, aborted: bool = False) -> bool:
    """Whether a process that ended with this peak of resident memory had run out of it.

    One that ended itself, as programs in C++ do where memory is refused, had less in use.
    """
    return peak > (_REFUSED_SHARE if aborted else _EXHAUSTED_SHARE) * memory_bytes


def peak_bytes(pid: int | None = None) -> int:
    """Peak of resident memory of this process, or of a living one; 0 where it is not known.

    Not `ru_maxrss` on Linux: there a child is born with the peak of its parent, so that a
    file would be blamed for the size of the worker that reads it.
    """
    try:
        status = Path(f"/proc/{pid or 'self'}/status").read_text()
    except OSError:  # no /proc
        unit = 1 if sys.platform == "darwin" else 1024
        return 0 if pid else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    found = re.search(r"VmHWM:\s+(\d+) kB", status)  # none in a process that has just died
    return int(found[1]) * 1024 if found else 0


def _limit(which: int, soft: int, hard: int | None = None) -> None:
    _, allowed = resource.getrlimit(which)
    hard = soft if hard is None else hard
    if allowed != resource.RLIM_INFINITY:
        soft, hard = min(soft, allowed), min(hard, allowed)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(which, (soft, hard))


def _leave_the_network() -> None:
    """Move to a network namespace that holds nothing."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
            libc.unshare(_CLONE_NEWNET)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _die_with(parent: int) -> None:
    # After unshare, which makes the kernel forget the signal.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def main(arguments: list[str], *, parent: int) -> None:
    """Limit this process and become a program.

    Args:
        arguments: bytes of memory, seconds of CPU time, the program's path, its arguments.
        parent: process id whose death ends this one.
    """
    memory_bytes, cpu_seconds, *command = arguments
    enter(memory_bytes=int(memory_bytes), cpu_seconds=int(cpu_seconds), parent=parent)
    os.execv(command[0], command)  # noqa: S606 (no shell: the command is a list)
