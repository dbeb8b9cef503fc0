"""Reading a test collection in BEIR's layout: corpus.jsonl, queries.jsonl, qrels/test.tsv.

Each file may be gzipped. What is odd but usable (a missing title, an empty text, a judged
document that is absent) is used or left out and named in `notes`; what is unusable raises.

Source of the layout: Thakur et al., BEIR, NeurIPS 2021, arXiv:2104.08663
"""

from __future__ import annotations

import functools
import gzip
import json
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast


class CollectionError(ValueError):
    """The folder is not a usable collection; the text is a sentence that says why."""


@dataclass(frozen=True, slots=True)
class BeirDocument:
    """One document of a collection; title and text may each be empty, not both."""

    id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Collection:
    """Documents, the queries that have judgements, and the judgements.

    judgements: grade by document id by query id; grades are whole numbers, > 0 = relevant.
    """

    name: str
    documents: list[BeirDocument]
    queries: dict[str, str]
    judgements: dict[str, dict[str, int]]
    notes: list[str] = field(default_factory=list)


def load(folder: Path, *, limit: int | None = None) -> Collection:
    """Read a collection.

    Args:
        folder: holds corpus.jsonl, queries.jsonl and qrels/test.tsv, each also as .gz.
        limit: keep only the first `limit` judged queries, in the order of queries.jsonl.

    Raises:
        CollectionError: a file is missing or malformed, an id repeats, or no query has a
            relevant document in the corpus.
    """
    if not folder.is_dir():
        raise CollectionError(f"{folder} is not a folder. Name one that holds corpus.jsonl.")
    notes: list[str] = []
    documents = _documents(folder, notes)
    texts: dict[str, str] = {}
    for row in _rows(folder, "queries.jsonl"):
        if row["_id"] in texts:
            raise CollectionError(f"queries.jsonl holds the id {row['_id']!r} twice.")
        texts[row["_id"]] = str(row.get("text") or "").strip()
    judgements = _judgements(folder, {document.id for document in documents}, set(texts), notes)
    queries = {key: text for key, text in texts.items() if text and key in judgements}
    if limit is not None:
        queries = dict(list(queries.items())[:limit])
    if not queries:
        raise CollectionError(
            f"No query of {folder} has a relevant document in its corpus, so there is nothing "
            "to measure."
        )
    kept = {key: judgements[key] for key in queries}
    return Collection(folder.resolve().name, documents, queries, kept, notes)


def _documents(folder: Path, notes: list[str]) -> list[BeirDocument]:
    documents: dict[str, BeirDocument] = {}
    empty = untitled = 0
    for row in _rows(folder, "corpus.jsonl"):
        document = BeirDocument(
            row["_id"], str(row.get("title") or "").strip(), str(row.get("text") or "").strip()
        )
        if document.id in documents:
            raise CollectionError(f"corpus.jsonl holds the id {document.id!r} twice.")
        untitled += not document.title
        if not document.title and not document.text:
            empty += 1
            continue
        documents[document.id] = document
    if empty:
        notes.append(f"{empty} documents have neither title nor text and are left out")
    if untitled:
        notes.append(f"{untitled} documents have no title")
    return list(documents.values())


def _judgements(
    folder: Path, documents: set[str], queries: set[str], notes: list[str]
) -> dict[str, dict[str, int]]:
    judgements: dict[str, dict[str, int]] = {}
    absent = orphaned = repeated = 0
    for number, line in enumerate(_lines(folder, "qrels/test.tsv"), 1):
        row = line.strip().split("\t")
        if row == [""] or (number == 1 and row[-1] == "score"):
            continue
        try:
            query, document, grade = row[0], row[-2], float(row[-1])
        except (IndexError, ValueError):
            grade = math.nan
        if not grade.is_integer():
            raise CollectionError(
                f"qrels/test.tsv, line {number}: expected query-id, corpus-id and a whole "
                "number, separated by tabs."
            )
        if query not in queries:
            orphaned += 1
        elif document not in documents:
            absent += 1
        else:
            grades = judgements.setdefault(query, {})
            repeated += document in grades
            grades[document] = max(int(grade), grades.get(document, int(grade)))
    if absent:
        notes.append(f"{absent} judgements name documents that are not in the corpus")
    if orphaned:
        notes.append(f"{orphaned} judgements name queries that are not in queries.jsonl")
    if repeated:
        notes.append(f"{repeated} judgements repeat a query and document; the highest counts")
    return {key: found for key, found in judgements.items() if any(g > 0 for g in found.values())}


def _rows(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_lines(folder, name), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if row["_id"] is None:
                raise KeyError("_id")
            row["_id"] = str(row["_id"])
        except (ValueError, KeyError, TypeError):
            raise CollectionError(
                f'{name}, line {number}: expected one JSON object with an "_id".'
            ) from None
        yield row


def _lines(folder: Path, name: str) -> Iterator[str]:
    """The lines of a file, with or without a byte order mark."""
    plain, packed = folder / name, folder / f"{name}.gz"
    if not plain.is_file() and not packed.is_file():
        raise CollectionError(f"{folder} holds neither {name} nor {name}.gz.")
    path = plain if plain.is_file() else packed
    opened = plain.open if plain.is_file() else functools.partial(gzip.open, packed)
    try:
        with opened("rt", encoding="utf-8-sig", newline="") as lines:
            yield from cast("IO[str]", lines)
    except UnicodeDecodeError:
        raise CollectionError(f"{path} is not UTF-8. Convert it first.") from None
    except (OSError, EOFError, zlib.error) as exc:
        raise CollectionError(f"{path} cannot be read: {exc}.") from exc
