"""The id of a passage: the same bytes, cut the same way, give the same id."""

from __future__ import annotations

import hashlib

ID_DIGITS = 32


def chunk_id(
    *, document_id: int, generation_key: str, pipeline_version: str, ordinal: int, text: str
) -> str:
    """A digest of what makes a passage this passage.

    A repeated run makes the same ids, so that what is stored already is found and left
    alone. `ordinal` comes from the position in the document, never from arrival order.

    Returns:
        32 hexadecimal digits.
    """
    text_digest = hashlib.sha256(text.encode()).hexdigest()
    whole = "\x1f".join(
        (str(document_id), generation_key, pipeline_version, str(ordinal), text_digest)
    )
    return hashlib.sha256(whole.encode()).hexdigest()[:ID_DIGITS]
