"""What `benchmarks/rerank_gpu.py` says: tables as they come, all of it as JSON, and the machine."""

from __future__ import annotations

import json
import math
import platform
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("sentence-transformers", "transformers", "numpy")
# As `nvidia-smi --help-query-gpu` names them.
CARD = (
    "name",
    "driver_version",
    "clocks.sm",
    "clocks.max.sm",
    "clocks.mem",
    "temperature.gpu",
    "power.draw",
    "power.limit",
)
PRODUCTS_WHILE_LOOKING = 400

Cell = str | float | int


@dataclass
class Report:
    """Prints Markdown and keeps everything in a file, which is written anew after each table.

    limit_seconds: after which `is_over`: what has not begun by then is left out and said to be.
    """

    out: Path | None = None
    limit_seconds: float = math.inf
    kept: dict[str, Any] = field(default_factory=dict)
    _began: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.perf_counter() - self._began

    @property
    def is_over(self) -> bool:
        """Whether the time is up."""
        return self.seconds > self.limit_seconds

    def say(self, name: str, value: Any) -> None:
        """Keep a fact and print it."""
        print(f"{name}: {value if isinstance(value, str) else json.dumps(value)}", flush=True)
        self._keep(name, value)

    def table(self, part: str, title: str, rows: Sequence[dict[str, Cell]]) -> None:
        """Print rows of the same columns; in the file they stand under the part."""
        print(f"\n{title}")
        print("| " + " | ".join(rows[0]) + " |")
        print("| " + " | ".join("---" for _ in rows[0]) + " |")
        for row in rows:
            print("| " + " | ".join(_shown(cell) for cell in row.values()) + " |", flush=True)
        tables = self.kept.setdefault("parts", {}).setdefault(part, [])
        tables.append({"title": title, "rows": [_plain(row) for row in rows]})
        self._keep("seconds", round(self.seconds, 1))

    def leave_out(self, what: str) -> None:
        """Say that the time did not suffice for it."""
        print(f"\nLeft out, for the time is up (--limit): {what}", flush=True)
        self._keep("left out", [*self.kept.get("left out", []), what])

    def _keep(self, name: str, value: Any) -> None:
        self.kept[name] = value
        if self.out is not None:
            self.out.write_text(json.dumps(self.kept, indent=1) + "\n", "utf-8")


def _shown(cell: Cell) -> str:
    if isinstance(cell, str | int):
        return str(cell)
    return "never" if math.isinf(cell) else f"{cell:.4g}"


def _plain(row: dict[str, Cell]) -> dict[str, Cell | None]:
    """Without infinity, which JSON does not have."""
    return {
        name: None if isinstance(cell, float) and not math.isfinite(cell) else cell
        for name, cell in row.items()
    }


def wait(device: str) -> None:
    """Until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def peak(device: str) -> float:
    """Floating-point operations a second of a large product in bfloat16."""
    size = 8192 if device == "cuda" else 512
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    times = []
    for _ in range(12):
        wait(device)
        began = time.perf_counter()
        a @ a
        wait(device)
        times.append(time.perf_counter() - began)
    return 2 * size**3 / statistics.median(times[2:])


def machine(device: str) -> dict[str, Any]:
    """Versions, and of a GPU what its driver says of it while it multiplies."""
    facts: dict[str, Any] = {
        "torch": torch.__version__,  # with the CUDA that it was built for
        **{package: version(package) for package in PACKAGES},
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if device == "cuda" else "CPU",
    }
    if device == "cuda":
        found = torch.cuda.get_device_properties()
        facts |= {
            "CUDA": torch.version.cuda,
            "capability": f"{found.major}.{found.minor}",
            "GiB": round(found.total_memory / 2**30, 1),
            "card, at work": card(at_work=True),
        }
    return facts


def card(*, at_work: bool = False) -> list[dict[str, str]] | str:
    """Driver, clocks, temperature and power of the cards, as `nvidia-smi` tells them.

    Args:
        at_work: look while matrix products run: a card at rest lowers its clocks.
    """
    if at_work:
        a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
        for _ in range(PRODUCTS_WHILE_LOOKING):
            a @ a
    try:
        told = subprocess.run(
            ["nvidia-smi", f"--query-gpu={','.join(CARD)}", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError) as exc:
        return f"nvidia-smi does not tell: {exc}"
    finally:
        if at_work:
            torch.cuda.synchronize()
    lines = [line.split(", ") for line in told.strip().splitlines()]
    return [dict(zip(CARD, line, strict=False)) for line in lines]
