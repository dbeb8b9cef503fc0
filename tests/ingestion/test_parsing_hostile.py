"""Bombs and damage: a clear error in seconds, never a crash of the parent or a flood of memory."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from ingestion.errors import ParseError
from ingestion.parsing import Format, isolation, parse_in_child, sniff
from ingestion.parsing.zygote import Child
from ingestion.types import ParsedDocument
from tests.ingestion.sample_files import (
    Line,
    docx,
    p,
    paragraph,
    pdf,
    write,
)

MEBIBYTE = 1024 * 1024
GOOD = {
    "a.pdf": pdf(
        [[Line("Heading", y=740, size=20), *paragraph("One line.", "Another.", top=700)]] * 3,
        title="A title",
        outline=[("Heading", 1)],
    ),
    "a.docx": docx(p("One") + f"<w:tbl><w:tr><w:tc>{p('x')}</w:tc></w:tr></w:tbl>"),
    "a.html": b"<!doctype html><h1>A</h1><table><tr><th>a<th>b<tr><td>1<td>2</table><p>x",
    "a.md": b"# A\n\n- b\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```\ncode\n```\n",
    "a.txt": "Grüße\n=====\n\n- a\n- b\n\n1. c".encode("utf-16"),
}


def outcome(path: Path, name: str, workdir: Path) -> ParsedDocument | str:
    """The document, or the code of the refusal; anything else is raised."""
    try:
        format_ = sniff(path, name)
        return parse_in_child(
            path,
            format=format_,
            timeout_seconds=30,
            memory_bytes=1024 * MEBIBYTE,
            workdir=workdir,
        )
    except ParseError as exc:
        return exc.code


@pytest.mark.parametrize(
    "content",
    [
        docx(p("a"), extra={"word/media/zeros.bin": bytes(200 * MEBIBYTE)}),
        docx(p("word " * 8_000_000)),
    ],
    ids=["200 MiB of zeros", "40 MB of text"],
)
def test_a_zip_bomb_is_refused_before_it_is_unpacked(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    peaks: list[int] = []
    wait = isolation._wait

    def watched(child: Child, timeout_seconds: int) -> isolation._End:
        end = wait(child, timeout_seconds)
        peaks.append(end.peak_bytes)
        return end

    monkeypatch.setattr(isolation, "_wait", watched)
    path = write(tmp_path, "a.docx", content)
    began = time.monotonic()
    assert outcome(path, "a.docx", tmp_path) == "too_large"
    assert time.monotonic() - began < 20
    assert 0 < peaks[0] < 300 * MEBIBYTE


ENTITIES = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "lol" * 10}">' for n in range(10))


@pytest.mark.parametrize(
    "prologue",
    [
        f"<?xml version='1.0'?><!DOCTYPE w [{ENTITIES}]>",
        "<?xml version='1.0'?><!DOCTYPE w [<!ENTITY l9 SYSTEM 'file:///etc/passwd'>]>",
        "<?xml version='1.0'?><!DOCTYPE w SYSTEM 'http://127.0.0.1:9/x.dtd'>",
    ],
    ids=["bomb", "file", "network"],
)
def test_entities_in_a_word_file_are_not_resolved(tmp_path: Path, prologue: str) -> None:
    reference = "&l9;" if "l9" in prologue else ""
    content = docx(p(f"before {reference}") + p("after"), prologue=prologue)
    found = outcome(write(tmp_path, "a.docx", content), "a.docx", tmp_path)
    if isinstance(found, ParsedDocument):
        text = " ".join(element.text for element in found.elements)
        assert "lol" not in text
        assert "root:" not in text
        assert "after" in text
    else:
        assert found == "corrupt"


@pytest.mark.parametrize("name", sorted(GOOD))
def test_a_file_cut_anywhere_is_read_or_refused(tmp_path: Path, name: str) -> None:
    content = GOOD[name]
    assert isinstance(outcome(write(tmp_path, name, content), name, tmp_path), ParsedDocument)
    for part in (0, 0.01, 0.3, 0.6, 0.9, 0.99):
        cut = write(tmp_path, name, content[: int(len(content) * part)])
        found = outcome(cut, name, tmp_path)
        assert isinstance(found, ParsedDocument | str)
        if not part:
            assert found == "empty"


@pytest.mark.parametrize("name", sorted(GOOD))
def test_a_file_with_random_damage_is_read_or_refused(tmp_path: Path, name: str) -> None:
    for seed in range(6):
        dice = random.Random(f"{name} {seed}")
        content = bytearray(GOOD[name])
        for _ in range(1 + seed * 4):
            content[dice.randrange(len(content))] = dice.randrange(256)
        found = outcome(write(tmp_path, name, bytes(content)), name, tmp_path)
        assert isinstance(found, ParsedDocument | str)


def test_a_cycle_of_pages_ends(tmp_path: Path) -> None:
    cycle = pdf([[Line("x")], [Line("y")]]).replace(
        b"/Kids [100 0 R 102 0 R]", b"/Kids [  2 0 R   2 0 R]"
    )
    assert b"/Kids [  2 0 R" in cycle
    began = time.monotonic()
    assert outcome(write(tmp_path, "a.pdf", cycle), "a.pdf", tmp_path) == "corrupt"
    assert time.monotonic() - began < 10


def test_format_values_are_stored_with_documents() -> None:
    first_release = {"pdf", "docx", "html", "markdown", "text"}
    assert first_release < {f.value for f in Format}
    assert all(len(f.value) <= 20 for f in Format)
