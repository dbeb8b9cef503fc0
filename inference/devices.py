"""Where models run, and a GPU that is there but cannot be used."""

from __future__ import annotations

from pathlib import Path

# The NVIDIA driver lists its GPUs here, in a container too that was started without them.
DRIVER = Path("/proc/driver/nvidia/gpus")


def best_device() -> str:
    """`cuda` where torch can use a GPU, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


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
