"""What every campaign begins with: stores without what other tests left in them."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _empty(empty_stores: None) -> None:
    """Nothing of other tests, in any store."""
