"""Text recognition with Tesseract: which command reads a page's picture, and what it answers.

The answer is a table with one line for each word, its block, paragraph and line, and how
certain Tesseract is of it. Source: tesseract(1), options --psm and tsv.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from ingestion.parsing.cleaning import clean
from ingestion.types import Element, ElementKind

_WORD_LEVEL = "5"
_COLUMNS = 12
# Below this Tesseract reads letters into lines, stains and hatching.
_LEAST_CONFIDENCE = 30.0
# Upright print is recognised with 90 and more, print on its head with about 50.
_DOUBTFUL = 70.0
# What Tesseract reads into photographs stays below this.
_LEAST_CERTAINTY = 50.0
# Find the blocks and which way is up; without the data for the latter, find the blocks.
_WITH_ORIENTATION, _WITHOUT_ORIENTATION = "1", "3"


class OcrMissing(Exception):
    """Tesseract is not installed (`without_ocr`) or lacks a language (`without_language`)."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def command(languages: str) -> list[str]:
    """The command that reads a picture from standard input and writes words to standard output.

    Args:
        languages: as Tesseract names them, joined by "+".

    Raises:
        OcrMissing: there is no Tesseract, or it lacks one of the languages.
    """
    program = shutil.which("tesseract")
    if program is None:
        raise OcrMissing("without_ocr")
    installed = _languages(program, os.environ.get("TESSDATA_PREFIX", ""))
    if not set(languages.split("+")) <= installed:
        raise OcrMissing("without_language")
    layout = _WITH_ORIENTATION if "osd" in installed else _WITHOUT_ORIENTATION
    return [program, "stdin", "stdout", "-l", languages, "--psm", layout, "tsv"]


def environment() -> dict[str, str]:
    """What Tesseract needs to know: one thread, and where its data are if that is set."""
    prefix = os.environ.get("TESSDATA_PREFIX")
    return {"OMP_THREAD_LIMIT": "1", **({"TESSDATA_PREFIX": prefix} if prefix else {})}


@lru_cache(maxsize=4)
def _languages(program: str, prefix: str) -> frozenset[str]:
    """The languages whose data are installed; `prefix` tells settings of the data apart."""
    try:
        listed = subprocess.run(
            [program, "--list-langs"], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError) as exc:
        raise OcrMissing("without_ocr") from exc
    return frozenset(line.strip() for line in listed.stdout.splitlines()[1:])


class Word(NamedTuple):
    """A word, where it stands, and how certain Tesseract is of it, in per cent."""

    block: int
    paragraph: int
    line: int
    certainty: float
    text: str


def words_of(answer: str) -> list[Word]:
    """The words in what the command wrote, in Tesseract's reading order; stains are left out."""
    return list(_words(answer))


def is_doubtful(words: Sequence[Word]) -> bool:
    """Whether the page may stand on its head or side: there is little that looks like words."""
    return certainty(words) < _DOUBTFUL


def certainty(words: Sequence[Word]) -> float:
    """How certain Tesseract is of the letters of a page on average, in per cent; 0 for none."""
    letters = sum(len(word.text) for word in words)
    return sum(word.certainty * len(word.text) for word in words) / letters if letters else 0.0


def elements_of(words: Sequence[Word], *, page: int) -> list[Element]:
    """The paragraphs of a page, from 1; none if hardly anything on it looks like words."""
    if certainty(words) < _LEAST_CERTAINTY:
        return []
    elements: list[Element] = []
    for _, inside in groupby(words, key=lambda word: (word.block, word.paragraph)):
        lines = groupby(inside, key=lambda word: word.line)
        text = _joined([" ".join(word.text for word in line) for _, line in lines])
        if any(map(str.isalnum, text)):
            elements.append(Element(ElementKind.PARAGRAPH, text, page=page))
    return elements


def _words(answer: str) -> Iterator[Word]:
    for row in answer.splitlines():
        cells = row.split("\t", _COLUMNS - 1)
        if len(cells) < _COLUMNS or cells[0] != _WORD_LEVEL:
            continue
        text = clean(cells[-1]).strip()
        if text and float(cells[10]) >= _LEAST_CONFIDENCE:
            yield Word(int(cells[2]), int(cells[3]), int(cells[4]), float(cells[10]), text)


def _joined(lines: list[str]) -> str:
    """Lines as they stand, but words that are divided at a line's end made whole."""
    text = ""
    for line in lines:
        is_divided = text.endswith("-") and text[-2:-1].isalpha() and line[:1].islower()
        text = text[:-1] + line if is_divided else f"{text}\n{line}" if text else line
    return text
