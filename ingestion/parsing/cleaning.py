"""Text as people see it: invisible and control characters out, NFC, one kind of line end.

Zero-width characters, bidi controls, tag characters and soft hyphens hide words from search
and smuggle text past the eye, so they never enter a corpus.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace

from ingestion.types import Element, ParsedDocument

_INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff"
)
_CONTROLS = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f"
_REMOVED = re.compile(f"[{_INVISIBLE}{_CONTROLS}]")
# What colours a terminal, ECMA-48, section 5.4.
_TERMINAL = re.compile("\x1b\\[[0-?]*[ -/]*[@-~]")
_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\u0085\u2028\u2029]")
_BLANKS = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_REPLACED = str.maketrans(
    # Bullets of the fonts Symbol and Wingdings, which stand in a private place.
    {"\uf0b7": "•", "\uf0a7": "•", "\uf0d8": "•", "\uf0fc": "•", "\uf076": "•"}
    | {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"}
)
_TRAILING_BLANKS = re.compile(r"[ \t]+(?=\n|$)")
_MANY_BLANK_LINES = re.compile(r"\n{3,}")
_RUNS_OF_SPACE = re.compile(r"\s+")


def clean(text: str) -> str:
    """Normalise the text without changing what a reader sees. Applying it twice changes nothing."""
    if "\x1b" in text:
        text = _TERMINAL.sub("", text)
    if text.isascii():
        text = _LINE_ENDS.sub("\n", text)
        return _REMOVED.sub("", text)
    if _SURROGATES.search(text):
        # Pairs become the letter they stand for, lone halves U+FFFD.
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    text = _LINE_ENDS.sub("\n", text)
    text = _REMOVED.sub("", text)
    text = _BLANKS.sub(" ", text)
    return unicodedata.normalize("NFC", text.translate(_REPLACED))


def is_clean(text: str) -> bool:
    """Whether every store takes the text: no lone surrogate, no invisible or control character."""
    return not _REMOVED.search(text) and not _SURROGATES.search(text)


def one_line(text: str) -> str:
    """The text with every run of white space made one blank."""
    return _RUNS_OF_SPACE.sub(" ", text).strip()


def has_text(parsed: ParsedDocument) -> bool:
    """Whether there is a letter or a digit in it."""
    return any(any(map(str.isalnum, element.text)) for element in parsed.elements)


def clean_document(parsed: ParsedDocument) -> ParsedDocument:
    """Clean every text; drop the elements of which nothing is left."""
    elements: list[Element] = []
    for element in parsed.elements:
        text = _TRAILING_BLANKS.sub("", clean(element.text)).strip("\n")
        text = _MANY_BLANK_LINES.sub("\n\n", text)
        if text.strip():
            elements.append(replace(element, text=text))
    return replace(parsed, elements=elements, title=one_line(clean(parsed.title))[:500])
