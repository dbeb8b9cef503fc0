"""Characters that people cannot see but that a text can hide instructions or forgeries in."""

from __future__ import annotations

import re

# Tags (U+E0000 block), bidirectional controls, zero-width blanks, private use, C0 controls.
# Joiners and variation selectors stay: scripts and emoji need them.
_INVISIBLE = re.compile(
    "[\U000e0000-\U000e007f\u202a-\u202e\u2066-\u2069\u200b\u2060\ufeff"
    "\ue000-\uf8ff\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
)


def strip_invisible(text: str) -> str:
    """The text without them; every character that is drawn stays."""
    return _INVISIBLE.sub("", text)
