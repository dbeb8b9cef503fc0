"""Which engine for the keyword search? tantivy as the site uses it, SQLite FTS5, bm25s.

    python benchmarks/lexical.py [--sizes 5000,50000,200000] [--texts FOLDER ...]
    python benchmarks/lexical.py --quality BEIR_DIR ...

The first form cuts the text files below the folders into passages of about 100 words,
indexes them with each engine and prints a table: seconds to index, megabytes on disk,
milliseconds for the top 50 of 200 questions (engines take turns question by question), and
milliseconds to add one document of 10 passages. bm25s is left out where it is not installed.

The second form measures nDCG@10 of the site's analyser on judged collections, with stop words
kept and left out. Same seeds, same numbers; the times are of this machine.
"""

from __future__ import annotations

import argparse
import gzip
import html
import importlib
import json
import math
import os
import platform
import random
import re
import shutil
import sqlite3
import statistics
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ingestion.lexical import LexicalEntry, LexicalIndex, analyser

TOP = 50
QUESTIONS = 200
PASSAGES_PER_DOCUMENT = 10
ADDED_DOCUMENTS = 20
PASSAGES_PER_FILE = 200
SUFFIXES = {".html", ".md", ".py", ".rst", ".txt"}
TAGS = re.compile(r"<(script|style).*?</\1>|<[^>]*>", re.DOTALL)


class Engine(Protocol):
    """One way of keyword search over numbered passages."""

    name: str
    version: str
    folder: Path

    def build(self, passages: Sequence[str]) -> None:
        """Index them all."""

    def search(self, question: str) -> list[int]:
        """Numbers of the TOP best."""

    def add(self, document: int, passages: Sequence[str]) -> None:
        """Index one more document durably."""


class Tantivy:
    """The site's own index; `add` is what a worker does at the end of an ingestion."""

    name = "tantivy"
    version = version("tantivy")

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = LexicalIndex(folder)

    def build(self, passages: Sequence[str]) -> None:
        self.index.replace_documents(
            (first, self._entries(first, passages[first : first + PASSAGES_PER_DOCUMENT]))
            for first in range(0, len(passages), PASSAGES_PER_DOCUMENT)
        )

    def search(self, question: str) -> list[int]:
        return [int(hit.chunk_id) for hit in self.index.search(question, k=TOP)]

    def add(self, document: int, passages: Sequence[str]) -> None:
        self.index.replace_document(document, self._entries(document, passages))

    @staticmethod
    def _entries(first: int, passages: Sequence[str]) -> list[LexicalEntry]:
        # As long as the site's chunk ids.
        return [LexicalEntry(f"{n:032}", text) for n, text in enumerate(passages, first)]


class Fts5:
    """SQLite's full-text index, contentless: like the others it stores no text."""

    name = "SQLite FTS5"
    version = sqlite3.sqlite_version

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.db = sqlite3.connect(folder / "index.sqlite3")
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=NORMAL")
        self.db.execute(
            "CREATE VIRTUAL TABLE passages USING fts5("
            "text, content='', tokenize='porter unicode61')"
        )

    def build(self, passages: Sequence[str]) -> None:
        self.add(0, passages)

    def search(self, question: str) -> list[int]:
        # The same words as tantivy is asked for: stop words cost FTS5 most of its time.
        words = [w for w in re.findall(r"\w+", question) if not is_stop_word(w)]
        match = " OR ".join(f'"{word}"' for word in words)
        rows = self.db.execute(
            "SELECT rowid FROM passages WHERE passages MATCH ? ORDER BY rank LIMIT ?", (match, TOP)
        )
        return [row[0] for row in rows]

    def add(self, document: int, passages: Sequence[str]) -> None:
        with self.db:
            self.db.executemany(
                "INSERT INTO passages(rowid, text) VALUES (?, ?)", enumerate(passages, document)
            )


class Bm25s:
    """Scores computed at indexing time, in sparse arrays; adding anything is building anew."""

    name = "bm25s"

    def __init__(self, folder: Path) -> None:
        self.bm25s = importlib.import_module("bm25s")
        self.version = version("bm25s")
        self.folder = folder

    def build(self, passages: Sequence[str]) -> None:
        self.passages = list(passages)
        tokens = self.bm25s.tokenize(self.passages, stopwords="en", show_progress=False)
        self.index = self.bm25s.BM25(k1=1.2, b=0.75)
        self.index.index(tokens, show_progress=False)
        self.index.save(str(self.folder))

    def search(self, question: str) -> list[int]:
        tokens = self.bm25s.tokenize([question], stopwords="en", show_progress=False)
        found, _ = self.index.retrieve(tokens, k=TOP, show_progress=False, n_threads=1)
        return [int(n) for n in found[0]]

    def add(self, document: int, passages: Sequence[str]) -> None:
        self.build([*self.passages, *passages])


def is_stop_word(word: str) -> bool:
    """Whether the site's analyser leaves the word out of a question."""
    return not analyser("en")._content_words.analyze(word)


def passages_of(folders: Sequence[Path], count: int) -> list[str]:
    """`count` different passages of 80 to 120 words, the same for the same files."""
    source = random.Random(1)
    files = sorted(
        path
        for folder in folders
        for path in folder.rglob("*")
        if path.suffix in SUFFIXES and path.is_file() and not path.is_symlink()
    )
    source.shuffle(files)
    passages: dict[str, None] = {}
    for path in files:
        text = path.read_text(errors="ignore")
        if path.suffix == ".html":
            text = html.unescape(TAGS.sub(" ", text))
        words, start = text.split(), 0
        for _ in range(PASSAGES_PER_FILE):
            length = source.randint(80, 120)
            if start + length > len(words):
                break
            passages[" ".join(words[start : start + length])] = None
            start += length
        if len(passages) >= count:
            return list(passages)[:count]
    raise SystemExit(f"The folders hold only {len(passages)} passages; name more with --texts.")


def questions_of(passages: Sequence[str]) -> list[str]:
    """Four to eight words that stand beside each other in some passage."""
    source = random.Random(2)
    questions: list[str] = []
    while len(questions) < QUESTIONS:
        words = re.findall(r"[A-Za-z]{2,}", source.choice(passages))
        length = source.randint(4, 8)
        if len(words) < length:
            continue
        start = source.randint(0, len(words) - length)
        question = " ".join(words[start : start + length])
        if not all(is_stop_word(word) for word in words[start : start + length]):
            questions.append(question)
    return questions


def engines(folder: Path) -> Iterator[Engine]:
    """Those that are installed."""
    yield Tantivy(folder / "tantivy")
    yield Fts5(folder / "fts5")
    try:
        version("bm25s")
    except PackageNotFoundError:
        print("(bm25s is not installed and is left out)")
    else:
        yield Bm25s(folder / "bm25s")


def size_of(folder: Path) -> int:
    """Bytes of all files below the folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure(size: int, passages: Sequence[str], questions: Sequence[str]) -> None:
    """Print one row per engine."""
    folder = Path(tempfile.mkdtemp(prefix="lexical-benchmark-"))
    try:
        arms = list(engines(folder))
        build_seconds: dict[str, float] = {}
        for engine in arms:
            started = time.perf_counter()
            engine.build(passages[:size])
            build_seconds[engine.name] = time.perf_counter() - started
        megabytes = {engine.name: size_of(engine.folder) / 1e6 for engine in arms}
        times: dict[str, list[float]] = {engine.name: [] for engine in arms}
        order = random.Random(3)
        for question in (*questions[:10], *questions):  # the first ten warm up
            for engine in order.sample(arms, len(arms)):
                started = time.perf_counter()
                engine.search(question)
                times[engine.name].append((time.perf_counter() - started) * 1000)
        added: dict[str, list[float]] = {engine.name: [] for engine in arms}
        for n in range(ADDED_DOCUMENTS):
            text = [f"{passage} {n}" for passage in passages[:PASSAGES_PER_DOCUMENT]]
            for engine in arms:
                if engine.name == "bm25s" and n:
                    continue  # a whole rebuild; once is enough
                started = time.perf_counter()
                engine.add(size + n * PASSAGES_PER_DOCUMENT, text)
                added[engine.name].append((time.perf_counter() - started) * 1000)
        for engine in arms:
            ms = sorted(times[engine.name][10:])
            print(
                f"{size:>8,}  {engine.name + ' ' + engine.version:<20}"
                f"{build_seconds[engine.name]:>9.1f}{megabytes[engine.name]:>9.1f}"
                f"{statistics.median(ms):>9.2f}{ms[int(len(ms) * 0.95)]:>9.2f}"
                f"{statistics.median(added[engine.name]):>11.1f}",
                flush=True,
            )
    finally:
        shutil.rmtree(folder)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """A .jsonl file, or the .gz of it."""
    if path.exists():
        lines = path.read_text().splitlines()
    else:
        lines = (
            gzip.decompress(path.with_name(path.name + ".gz").read_bytes()).decode().splitlines()
        )
    return [json.loads(line) for line in lines]


def quality(folder: Path) -> None:
    """Print nDCG@10 over the judged questions, with the stop words of questions kept or not."""
    judged: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels" / "test.tsv").read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        judged.setdefault(query, {})[document] = int(grade)
    queries = {q["_id"]: q["text"] for q in read_lines(folder / "queries.jsonl")}
    documents = read_lines(folder / "corpus.jsonl")
    index_folder = Path(tempfile.mkdtemp(prefix="lexical-benchmark-"))
    try:
        index = LexicalIndex(index_folder / "index")
        index.replace_documents(
            (n, [LexicalEntry(d["_id"], f"{d['title']}\n{d['text']}")])
            for n, d in enumerate(documents)
        )
        without = _mean_ndcg(index, queries, judged)
        terms = analyser("en")
        terms._content_words = terms._words
        print(
            f"{folder.name:<14}{len(documents):>7,} documents{len(judged):>7,} questions   "
            f"stop words left out {without:.4f}, kept {_mean_ndcg(index, queries, judged):.4f}"
        )
    finally:
        analyser.cache_clear()
        shutil.rmtree(index_folder)


def _mean_ndcg(
    index: LexicalIndex, queries: dict[str, str], judged: dict[str, dict[str, int]]
) -> float:
    values = []
    for query, grades in judged.items():
        best = sorted(grades.values(), reverse=True)[:10]
        ideal = sum(grade / math.log2(place + 2) for place, grade in enumerate(best))
        if not ideal:
            continue
        hits = index.search(queries[query], k=10)
        gain = sum(grades.get(h.chunk_id, 0) / math.log2(p + 2) for p, h in enumerate(hits))
        values.append(gain / ideal)
    return statistics.mean(values)


def main() -> None:
    """Read the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", default="5000,50000,200000")
    parser.add_argument("--texts", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--quality", nargs="+", type=Path, metavar="BEIR_DIR")
    options = parser.parse_args()
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores")
    if options.quality:
        for folder in options.quality:
            quality(folder)
        return
    sizes = [int(size) for size in options.sizes.split(",")]
    default = [Path("/usr/share/doc"), Path(sysconfig.get_path("stdlib"))]
    passages = passages_of(options.texts or default, max(sizes))
    words = statistics.mean(len(passage.split()) for passage in passages[:10_000])
    print(f"{len(passages):,} passages of {words:.0f} words on average, {QUESTIONS} questions\n")
    print(
        f"{'passages':>8}  {'engine':<20}{'index s':>9}{'MB':>9}{'p50 ms':>9}{'p95 ms':>9}"
        f"{'add 10 ms':>11}"
    )
    questions = questions_of(passages[: min(sizes)])
    for size in sizes:
        measure(size, passages, questions)


if __name__ == "__main__":
    main()
