"""How much memory models may take."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from inference import devices
from inference.devices import MEMORY_LEAST, MEMORY_MOST, best_device, memory_for_states
from inference.errors import NoModel


def test_what_was_read_takes_a_share_of_the_container_and_not_of_the_machine(
    tmp_path: Path,
) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text(f"{12 * 2**30}\n")
    # A machine of the tests has more than the least share's worth, and may have less than 12 GiB.
    assert MEMORY_LEAST <= memory_for_states({}, limit) <= 12 * 2**30 // 16

    limit.write_text(f"{2**30}\n")
    assert memory_for_states({}, limit) == MEMORY_LEAST

    limit.write_text("max\n")
    assert MEMORY_LEAST <= memory_for_states({}, limit) <= MEMORY_MOST
    assert memory_for_states({}, limit) == memory_for_states({}, tmp_path / "none")


def test_the_setting_wins_and_nonsense_is_refused(tmp_path: Path) -> None:
    limit = tmp_path / "none"
    assert memory_for_states({"RERANKER_MEMORY_MB": "64"}, limit) == 64 * 2**20

    with pytest.raises(NoModel, match="RERANKER_MEMORY_MB is much"):
        memory_for_states({"RERANKER_MEMORY_MB": "much"}, limit)


def test_a_gpu_that_torch_finds_and_cannot_use_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import torch

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", refuse)
    devices._fault_at_first.cache_clear()
    try:
        assert best_device() == "cpu"
    finally:
        devices._fault_at_first.cache_clear()
    assert "cuda is there and cannot be used: CUDA error: no kernel image" in caplog.text


COUNT_FAULTS = """
import resource, sys
import numpy as np
from inference.devices import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
for _ in range(50):  # what a batch has at a time, and frees
    blocks = [np.ones(2**19) for _ in range(3)]
    before = before if _ > 1 else resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is told")
def test_what_is_freed_is_kept_for_the_next_batch() -> None:
    def faults(how: str) -> int:
        asked = [sys.executable, "-c", COUNT_FAULTS, how]
        root = Path(__file__).parents[2]
        return int(subprocess.run(asked, cwd=root, check=True, capture_output=True).stdout)

    assert faults("kept") < 100 < 10_000 < faults("given back")
