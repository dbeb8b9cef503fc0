"""Where models run, how much memory they may take, and a GPU that cannot be used."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from inference.errors import NoModel

# The NVIDIA driver lists its GPUs here, in a container too that was started without them.
DRIVER = Path("/proc/driver/nvidia/gpus")
# What a container may take, "max" where nothing limits it.
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
MEMORY_SETTING = "RERANKER_MEMORY_MB"
# Of the memory there is; states of 1,700 passages of 200 tokens at least, of 6,800 at most.
MEMORY_SHARE, MEMORY_LEAST, MEMORY_MOST = 1 / 16, 512 * 2**20, 2**31


def best_device() -> str:
    """`cuda` where torch can use a GPU, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for it; without them it is many times slower."""
    import torch

    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


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
