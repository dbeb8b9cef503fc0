"""How much of a campaign is run: `FAULTS_SCALE=0.25 make test-slow` runs a quarter."""

from __future__ import annotations

import os

import pytest

SCALE = float(os.environ.get("FAULTS_SCALE", "1"))


def scaled(full: int) -> int:
    """This count at the scale of this run, at least 1."""
    return max(1, round(full * SCALE))


def campaign(short: int, full: int) -> pytest.MarkDecorator:
    """Run a test with `count` = `short` in every run, and `full` times the scale in slow ones."""
    return pytest.mark.parametrize(
        "count",
        [
            pytest.param(short, id="short"),
            pytest.param(
                scaled(full), id="long", marks=[pytest.mark.slow, pytest.mark.timeout(4 * 3600)]
            ),
        ],
    )
