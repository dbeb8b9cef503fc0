"""Documents of many kinds, the same ones for the same seed, and hostile ones among them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from email.message import EmailMessage
from typing import Any

from tests.ingestion import sample_files
from tests.ingestion.parsing import made

WORDS = [
    "river", "stone", "lamp", "winter", "engine", "copper", "violet", "market", "anchor", "salt",
    "bridge", "paper", "signal", "forest", "kettle", "garden", "mirror", "thunder", "needle",
    "harbour", "candle", "orchard", "compass", "ladder", "velvet", "quarry",
]  # fmt: skip


def _sentence(chance: random.Random) -> str:
    words = chance.choices(WORDS, k=chance.randint(8, 16))
    return f"{' '.join(words).capitalize()} {chance.randint(1, 9999)}."


def _paragraphs(chance: random.Random, times: int) -> list[str]:
    return [
        " ".join(_sentence(chance) for _ in range(chance.randint(3, 7)))
        for _ in range(chance.randint(2, 9) * times)
    ]


def _markdown(chance: random.Random, times: int = 1) -> bytes:
    title, *rest = _paragraphs(chance, times)
    return f"# {title[:40]}\n\n".encode() + "\n\n## Part\n\n".join(rest).encode()


def _text(chance: random.Random, times: int = 1) -> bytes:
    return "\n\n".join(_paragraphs(chance, times)).encode("utf-16")


def _html(chance: random.Random, times: int = 1) -> bytes:
    body = "".join(f"<h2>Part</h2><p>{text}</p>" for text in _paragraphs(chance, times))
    return f"<!doctype html><html><title>Page</title><body>{body}</body></html>".encode()


def _csv(chance: random.Random, times: int = 1) -> bytes:
    rows = [f"{chance.choice(WORDS)},{chance.randint(1, 99)},{n}" for n in range(40 * times)]
    return "\n".join(["name,size,number", *rows]).encode()


def _json(chance: random.Random, times: int = 1) -> bytes:
    return json.dumps(
        [{"text": text, "n": n} for n, text in enumerate(_paragraphs(chance, times))]
    ).encode()


def _pdf(chance: random.Random, times: int = 1) -> bytes:
    pages = []
    for _ in range(chance.randint(1, 4) * times):
        lines = [_sentence(chance)[:80] for _ in range(20)]
        pages.append(sample_files.paragraph(*lines, top=740))
    return sample_files.pdf(pages, title=f"Report {chance.randint(1, 9999)}")


def _docx(chance: random.Random, times: int = 1) -> bytes:
    return sample_files.docx("".join(sample_files.p(text) for text in _paragraphs(chance, times)))


def _mail(chance: random.Random, times: int = 1) -> bytes:
    text = "\n\n".join(_paragraphs(chance, times))

    def build(message: EmailMessage) -> None:
        message.set_content(text)

    return made.mail(build)


def _workbook(chance: random.Random, times: int = 1) -> bytes:
    def build(book: Any) -> None:
        book.active.append(["Thing", "Number"])
        for _ in range(30 * times):
            book.active.append([chance.choice(WORDS), chance.randint(1, 9999)])

    return made.xlsx(build)


def _book(chance: random.Random, times: int = 1) -> bytes:
    return made.epub([f"<h1>Chapter</h1><p>{text}</p>" for text in _paragraphs(chance, times)])


MAKERS: dict[str, Callable[[random.Random, int], bytes]] = {
    "md": _markdown,
    "txt": _text,
    "html": _html,
    "csv": _csv,
    "json": _json,
    "pdf": _pdf,
    "docx": _docx,
    "eml": _mail,
    "xlsx": _workbook,
    "epub": _book,
}


def documents(count: int, *, seed: int, times: int = 1) -> list[tuple[str, bytes]]:
    """So many files, name and content, of all kinds in turn; `times` as long."""
    kinds = list(MAKERS)
    found = []
    for number in range(count):
        kind = kinds[number % len(kinds)]
        chance = random.Random(f"{seed} {number}")
        found.append((f"{number:04}.{kind}", MAKERS[kind](chance, times)))
    return found


def hostile(*, seed: int) -> list[tuple[str, bytes]]:
    """Files that a reader must refuse, or read in spite of it, in seconds and little memory."""
    chance = random.Random(f"hostile {seed}")
    zeros = {"word/media/zeros.bin": bytes(100 * 2**20)}
    entities = "".join(
        f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "lol" * 10}">' for n in range(10)
    )
    bomb = f"<?xml version='1.0'?><!DOCTYPE w [{entities}]>"
    cycle = sample_files.pdf([[sample_files.Line("x")], [sample_files.Line("y")]]).replace(
        b"/Kids [100 0 R 102 0 R]", b"/Kids [  2 0 R   2 0 R]"
    )
    whole = _pdf(chance)
    noise = bytearray(whole)
    for _ in range(200):
        noise[chance.randrange(20, len(noise))] = chance.randrange(256)
    locked = sample_files.pdf([[sample_files.Line("secret")]], user_password="key")
    return [
        ("zip bomb.docx", sample_files.docx(sample_files.p("a"), extra=zeros)),
        ("long text.docx", sample_files.docx(sample_files.p("word " * 4_000_000))),
        ("entities.docx", sample_files.docx(sample_files.p("before &l9;"), prologue=bomb)),
        ("entities.xml", f"{bomb}<w>&l9;</w>".encode()),
        ("deep.xml", b"<a>" * 200_000),
        ("cycle of pages.pdf", cycle),
        ("cut.pdf", whole[: len(whole) // 2]),
        ("noise.pdf", bytes(noise)),
        ("locked.pdf", locked),
        ("only its name.docx", bytes(chance.randrange(256) for _ in range(4_000))),
        ("deep.html", b"<div>" * 200_000 + b"words" + b"</div>" * 200_000),
        ("deep.json", b"[" * 200_000 + b"]" * 200_000),
        ("quotes.csv", b'"' * 2_000_000),
        ("one line.md", b"*_`[" * 400_000),
        ("blank.txt", b" \n" * 10_000),
        ("empty.txt", b""),
    ]
