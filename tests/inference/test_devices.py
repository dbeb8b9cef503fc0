"""How much memory models may take."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference.devices import MEMORY_LEAST, MEMORY_MOST, memory_for_states
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
