"""What can go wrong in retrieval. A missing service is none of it: that is a `Degradation`.

SearchError
└── PermanentError
    └── InvalidSettings     a knob is outside its range; `sentence` says which
"""

from __future__ import annotations


class SearchError(Exception):
    """Root of every search error. `code` is stored, `sentence` is what a person reads."""

    code = "search_error"
    sentence = "The search could not be done. Try again, or ask the administrator."


class PermanentError(SearchError):
    """Trying again gives the same result."""


class InvalidSettings(PermanentError):
    """A knob of retrieval is outside its range."""

    code = "invalid_settings"

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence
