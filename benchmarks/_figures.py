"""What the scripts for the CPU print and keep in one manner: machine, versions, seconds, spread."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

import psutil
import torch

from inference.devices import multiplies_bfloat16

READERS = ("torch", "transformers", "tokenizers", "sentence-transformers", "numpy")

Found = TypeVar("Found")


@dataclass
class Spent:
    """What one arm took, a number for each round: by the clock, and of all cores together."""

    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)

    def measure(self, call: Callable[[], Found]) -> Found:
        """Add a round, and return what was found in it."""
        wall, cpu = time.perf_counter(), time.process_time()
        found = call()
        self.seconds.append(time.perf_counter() - wall)
        self.cpu_seconds.append(time.process_time() - cpu)
        return found


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median and, in brackets, least and most."""
    middle, least, most = (
        f"{n:.{digits}f}" for n in (statistics.median(values), min(values), max(values))
    )
    return f"{middle} [{least}, {most}]"


def versions(packages: Iterable[str] = ()) -> dict[str, str]:
    """Of Python, of what every script uses, and of those of `packages` that are installed."""
    found = {"python": platform.python_version()}
    for name in (*READERS, *packages):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """The processor, what of it is used, and how busy it is with other work."""
    return {
        "processor": torch.cpu.get_capabilities().get("cpu_name") or platform.processor(),
        "threads": torch.get_num_threads(),
        "multiplies bfloat16": multiplies_bfloat16(),
        "load": round(psutil.getloadavg()[0], 1),
    }


def told(facts: dict[str, Any]) -> str:
    """Facts on one line."""
    return ", ".join(f"{name} {value}" for name, value in facts.items())
