"""Where sentences begin and end, by rules that hold for most written languages.

A wrong cut costs little here (a passage that ends a clause early), so the rules are few:
a terminator, then white space, then something that can begin a sentence.
"""

from __future__ import annotations

import re

_CANDIDATE = re.compile(
    r"(?P<end>[.!?…]+[\"'”’»)\]]*)\s+(?=\S)"  # Latin, Cyrillic, Greek …
    r"|(?P<full>[。！？؟।॥]+[”’」』）]*)\s*(?=\S)"  # no blank follows in Chinese and Japanese
    r"|(?P<blank>\n\s*\n)"
)
_LAST_WORD = re.compile(r"(\S+?)[.!?…]+[\"'”’»)\]]*$")
_ABBREVIATIONS = frozenset(
    {"mr", "mrs", "ms", "dr", "prof", "st", "jr", "sr", "rev", "gen", "vs", "etc", "e.g", "i.e"}
    | {"fig", "figs", "eq", "eqs", "sec", "ed", "eds", "al"}
    | {"cf", "ca", "approx", "inc", "ltd", "co", "corp", "dept", "est", "art", "ref", "refs"}
    | {"jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec"}
    | {"z.b", "bzw", "usw", "bspw", "u.a", "d.h", "vgl", "abb", "kap", "str", "sog"}
    | {"mme", "mlle", "sra"}
)
# Words of their own, too, so they abbreviate only before a number.
_ABBREVIATIONS_OF_NUMBERS = frozenset({"no", "nos", "nr", "núm", "pág", "p", "pp", "vol", "ch"})


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Half-open ranges of the sentences, without the white space around them.

    Together they hold every character of the text that is not white space.
    """
    cuts = [match.end() for match in _CANDIDATE.finditer(text) if _is_end(text, match)]
    spans: list[tuple[int, int]] = []
    start = 0
    for cut in [*cuts, len(text)]:
        span = _trimmed(text, start, cut)
        if span[0] < span[1]:
            spans.append(span)
        start = cut
    return spans


def _is_end(text: str, match: re.Match[str]) -> bool:
    if match["end"] is None:
        return True
    following = text[match.end()]
    if following.islower() or following in ",;:":
        return False
    if not match["end"].startswith(".") or match["end"].startswith("..."):
        return True
    last = _LAST_WORD.search(text, max(0, match.start() - 40), match.end("end"))
    word = last.group(1).lstrip("([\"'“‘«").casefold() if last else ""
    if word in _ABBREVIATIONS_OF_NUMBERS and following.isdigit():
        return False
    is_initial = len(word) == 1 and word.isalpha()
    return not is_initial and word not in _ABBREVIATIONS


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end
