"""Fixtures of the search tests."""

from pathlib import Path

import pytest

from tests.search.stand_ins import Library


@pytest.fixture
def library(db: None, tmp_path: Path) -> Library:
    """Empty; corpora and documents are added by the test."""
    return Library(tmp_path / "lexical")
