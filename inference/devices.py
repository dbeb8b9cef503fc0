"""Where models run, how much memory they may take, and a GPU that cannot be used."""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

from inference.errors import NoModel, first_line

logger = logging.getLogger(__name__)
# The NVIDIA driver lists its GPUs here, in a container too that was started without them.
DRIVER = Path("/proc/driver/nvidia/gpus")
# What a container may take, "max" where nothing limits it.
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
MEMORY_SETTING = "RERANKER_MEMORY_MB"
# Of glibc: what one allocation may have without a mapping of its own, and how much freed memory is
# kept for the next. The first is the most that it allows.
MALLOC_OPTIONS = {"M_MMAP_THRESHOLD": (-3, 32 * 2**20), "M_TRIM_THRESHOLD": (-1, 128 * 2**20)}
# The first GPUs that multiply bfloat16, and that torch attends to packs on, are of this generation.
AMPERE = (8, 0)
# Of the memory there is; states of 1,700 passages of 200 tokens at least, of 6,800 at most.
MEMORY_SHARE, MEMORY_LEAST, MEMORY_MOST = 1 / 16, 512 * 2**20, 2**31


def best_device() -> str:
    """`cuda` where torch can use a GPU, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() and not _fault_at_first("cuda") else "cpu"


def fault(device: str) -> str:
    """Why a device does not compute, tried now; empty where it does.

    A GPU may be there and be of a generation that this torch has no kernels for, or full, or
    another process's alone. After some errors it computes nothing more for this process.
    """
    import torch

    try:
        torch.ones(16, 16, device=device).square().sum().item()
    except (AssertionError, RuntimeError) as exc:  # the former where torch was built without it
        return first_line(exc) or type(exc).__name__
    return ""


@cache
def _fault_at_first(device: str) -> str:
    found = fault(device)
    if found:
        logger.error("%s is there and cannot be used: %s", device, found)
    return found


def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for it; without them it is many times slower."""
    import torch

    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def is_ampere() -> bool:
    """Whether the GPU is of the Ampere generation or later.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.attention.varlen.varlen_attn.html
    """
    import torch

    return bool(torch.cuda.get_device_capability() >= AMPERE)


def half_type(device: str) -> str:
    """The type of half the bits that is quick there: bfloat16, on an older GPU float16."""
    return "bfloat16" if device == "cpu" or is_ampere() else "float16"


def keep_freed_memory() -> bool:
    """Let what a batch frees be there for the next one. Returns whether the C library was told.

    By itself glibc gives megabytes back to the system and asks for them again, and each page of
    them costs a fault: 58,000 for 100 passages, 7 % of the time.

    Source: mallopt(3), https://man7.org/linux/man-pages/man3/mallopt.3.html
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    return all(mallopt(option, value) for option, value in MALLOC_OPTIONS.values())


def unused_gpu(driver: Path = DRIVER) -> str:
    """The name of a GPU that the driver has and torch cannot use; empty where there is none.

    Source: https://download.nvidia.com/XFree86/Linux-x86_64/550.54.14/README/procinterface.html
    """
    if best_device() == "cuda":
        return ""
    try:
        for about in sorted(driver.glob("*/information")):
            lines = dict(line.partition(":")[::2] for line in about.read_text().splitlines())
            return lines.get("Model", "").strip() or "GPU"
    except OSError:  # a driver that is there for others
        return ""
    return ""


def memory_for_states(
    environment: Mapping[str, str] = os.environ, limit: Path = CONTAINER_LIMIT
) -> int:
    """Bytes that what a reranker has read may take on a CPU: RERANKER_MEMORY_MB, or a share.

    Raises:
        NoModel: the setting is no number.

    Source: https://docs.kernel.org/admin-guide/cgroup-v2.html (memory.max)
    """
    wanted = environment.get(MEMORY_SETTING, "")
    if wanted:
        if not wanted.isdecimal():
            raise NoModel(f"{MEMORY_SETTING} is {wanted}, and must be a number of MB, or empty")
        return int(wanted) * 2**20
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # where nothing limits it
        there = min(there, int(limit.read_text()))
    return int(min(MEMORY_MOST, max(MEMORY_LEAST, there * MEMORY_SHARE)))
