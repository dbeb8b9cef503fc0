"""Citations in an answer: `[2]`, `[1, 3]`, `[2-4]`, and the numbers that were made up.

A model may write a number that no passage in its prompt has. Such numbers are removed
before anybody sees them, while the text streams. Code is not touched: `row[1]` in a code
span or a fenced block is no citation.
"""

from __future__ import annotations

import re
from collections.abc import Collection

CITATION = re.compile(r"\[(?P<numbers>\s*[1-9]\d{0,2}(?:\s*[,;–-]\s*[1-9]\d{0,2})*\s*)\]")
_PART = re.compile(r"(\d+)(?:\s*[–-]\s*(\d+))?")
_MAX_RANGE = 30

_BLANKS = re.compile(r"[ \t]*")
_BEGUN = re.compile(r"\[[\d\s,;–-]*$")
_MAX_CITATION_CHARACTERS = 120
_TICKS = re.compile(r"`+")
_PLAIN = re.compile(r"[^\\`\[\n \t]+")
_PARAGRAPH_END = re.compile(r"\n[ \t]*\n")
_FENCE = re.compile(r"[ \t]*(?P<mark>`{3,}|~{3,})(?P<info>[^\n]*)")
_MAY_BE_FENCE = re.compile(r"[ \t]*(?:`*|~*|`{3,}[^\n`]*|~{3,}[^\n]*)$")


def numbers_in(citation: str) -> list[int]:
    """The numbers between the brackets, in their order, ranges spelt out, none twice.

    Args:
        citation: what `CITATION` matched, or the part between its brackets.
    """
    numbers: list[int] = []
    for first, last in _PART.findall(citation):
        begin, end = int(first), int(last or first)
        numbers += range(begin, end + 1) if begin <= end <= begin + _MAX_RANGE else (begin, end)
    return list(dict.fromkeys(numbers))


def clean(text: str, *, allowed: Collection[int]) -> str:
    """The text without numbers that are not allowed; a citation left empty is removed."""
    return _cleaned(text, allowed)[0]


def cited_numbers(text: str, *, allowed: Collection[int]) -> list[int]:
    """The allowed numbers that the text cites, ascending."""
    return sorted(_cleaned(text, allowed)[1])


def strip_citations(text: str) -> str:
    """The text without any citation: the numbers of an old answer mean nothing in a new prompt."""
    return clean(text, allowed=())


def _cleaned(text: str, allowed: Collection[int]) -> tuple[str, set[int]]:
    stream = CitationStream(allowed=allowed)
    return stream.feed(text) + stream.finish(), stream.cited


class CitationStream:
    """Cleans a text that arrives in pieces.

    What might still turn out to be a made-up citation is held back until it is decided,
    so that nothing that was given out ever has to be taken back. However the text is cut
    into pieces, the same comes out.
    """

    def __init__(self, *, allowed: Collection[int]) -> None:
        self.cited: set[int] = set()
        self._allowed = frozenset(allowed)
        self._held = ""
        self._tail = ""
        self._fence = ""
        self._at_line_start = True

    def feed(self, text: str) -> str:
        """Take the next piece; return what is now safe to show."""
        return self._advance(self._held + text, is_final=False)

    def finish(self) -> str:
        """What was held back when the text ended."""
        return self._advance(self._held, is_final=True)

    def _advance(self, text: str, *, is_final: bool) -> str:
        shown: list[str] = []
        at = 0
        while at < len(text):
            step = self._step(text, at, is_final=is_final)
            if step is None:
                break
            at, piece = step
            shown.append(piece)
            self._tail = (self._tail + piece)[-_MAX_CITATION_CHARACTERS:]
        self._held = text[at:]
        return "".join(shown)

    def _step(self, text: str, at: int, *, is_final: bool) -> tuple[int, str] | None:
        """Where the next piece ends and what is shown of it; None if it cannot be told yet."""
        if self._at_line_start:
            step = self._fence_line(text, at, is_final=is_final)
            if step is None or step[0] > at:
                return step
            self._at_line_start = False
        if self._fence:
            end = text.find("\n", at) + 1
            self._at_line_start = end > 0
            return (end or len(text)), text[at : end or len(text)]
        first = text[at]
        if first == "\n":
            self._at_line_start = True
            return at + 1, first
        if first == "\\":
            escaped = at + 1 if text[at + 1 : at + 2] == "\n" else at + 2
            return (escaped, text[at:escaped]) if escaped <= len(text) or is_final else None
        if first == "`":
            return self._code_span(text, at, is_final=is_final)
        if first in " \t[":
            return self._citation(text, at, is_final=is_final)
        end = _end(_PLAIN, text, at)
        return end, text[at:end]

    def _fence_line(self, text: str, at: int, *, is_final: bool) -> tuple[int, str] | None:
        """The whole line if it opens or closes a fenced block; `at` itself if it does not."""
        line_end = text.find("\n", at)
        if line_end < 0 and not is_final and _MAY_BE_FENCE.match(text, at):
            return None
        end = line_end + 1 if line_end >= 0 else len(text)
        fence = _FENCE.match(text, at)
        if fence is None:
            return at, ""
        mark, info = fence["mark"], fence["info"].strip()
        if self._fence:
            closes = mark.startswith(self._fence) and not info
            self._fence = "" if closes else self._fence
            return (end, text[at:end]) if closes else (at, "")
        if mark[0] == "`" and "`" in info:
            return at, ""
        self._fence = mark
        return end, text[at:end]

    def _code_span(self, text: str, at: int, *, is_final: bool) -> tuple[int, str] | None:
        opened = _end(_TICKS, text, at)
        paragraph_end = _PARAGRAPH_END.search(text, opened)
        limit = paragraph_end.start() if paragraph_end else len(text)
        for ticks in _TICKS.finditer(text, opened, limit):
            is_cut_off = ticks.end() == len(text) and not is_final
            if len(ticks[0]) == opened - at and not is_cut_off:
                return ticks.end(), text[at : ticks.end()]
        if paragraph_end is None and not is_final:
            return None
        return opened, text[at:opened]

    def _citation(self, text: str, at: int, *, is_final: bool) -> tuple[int, str] | None:
        """A citation with the blanks before it, which go where the citation goes."""
        bracket = _end(_BLANKS, text, at)
        if bracket == len(text):
            return (bracket, text[at:bracket]) if is_final else None
        if text[bracket] != "[":
            return bracket, text[at:bracket]
        found = CITATION.match(text, bracket)
        if found is None:
            is_begun = (
                _BEGUN.match(text, bracket) and len(text) - bracket < _MAX_CITATION_CHARACTERS
            )
            if is_begun and not is_final:
                return None
            return bracket + 1, text[at : bracket + 1]
        numbers = numbers_in(found["numbers"])
        kept = [number for number in numbers if number in self._allowed]
        self.cited.update(kept)
        if not kept:
            # Between brackets, "[[98]99]", the removal must not leave a new citation.
            return found.end(), "…" if _BEGUN.search(self._tail) else ""
        citation = found[0] if kept == numbers else f"[{', '.join(map(str, kept))}]"
        return found.end(), text[at:bracket] + citation


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at
