"""Reading what a reranker learns from: labelled pairs, or a collection with judgements.

A file of pairs holds one JSON object a line, gzipped or not: query, passage, label (1 = the
passage answers the query), and, where there are, title, lang and group (pairs of one group are
never split between training and validation). A folder is a collection in BEIR's layout.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, cast

from search.evaluation.beir import BeirDocument, Collection, CollectionError, load


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """A collection to learn from.

    groups: by query id, what must stay together. rejected: by query id, documents that were
    judged not to answer: the hardest negatives there are.
    """

    collection: Collection
    language: str
    groups: Mapping[str, str]
    rejected: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the file or folder, without endings."""
        return self.collection.name


def read(
    path: Path, *, titles: bool = True, limit: int | None = None, whole: bool = True
) -> LabelledSet:
    """Read a file of pairs or a folder in BEIR's layout.

    Args:
        titles: whether the passages' titles mean something and are kept.
        limit: keep that many queries, chosen evenly by a digest of their text.
        whole: keep all documents, whether or not a query that is kept has a judgement on them.

    Raises:
        CollectionError: it cannot be read, or nothing in it is relevant to anything.
    """
    if path.is_dir():
        found = _judged(path)
    elif path.is_file():
        found = _pairs(path, titles=titles)
    else:
        raise CollectionError(f"{path} is neither a file of pairs nor a folder.")
    if not limit or limit >= len(found.collection.queries):
        return found
    found = _limited(found, limit)
    return found if whole else _judged_only(found)


def split(found: LabelledSet, share: float) -> tuple[LabelledSet, LabelledSet]:
    """The set without, and with only, this share of its groups; one at least, chosen by digest."""
    queries = found.collection.queries
    groups = sorted({found.groups[key] for key in queries}, key=_digest)
    held_groups = set(groups[: max(1, round(share * len(groups)))])
    held = {key for key in queries if found.groups[key] in held_groups}
    return _only(found, set(queries) - held), _only(found, held)


def _judged(folder: Path) -> LabelledSet:
    collection = load(folder)
    rejected = {
        key: frozenset(d for d, grade in grades.items() if grade <= 0)
        for key, grades in collection.judgements.items()
    }
    # Queries with a relevant document in common stay together.
    groups = {
        key: min(d for d, grade in grades.items() if grade > 0)
        for key, grades in collection.judgements.items()
    }
    return LabelledSet(collection, "en", groups, rejected)


def _pairs(path: Path, *, titles: bool) -> LabelledSet:
    documents: dict[tuple[str, str], BeirDocument] = {}
    queries: dict[str, str] = {}
    judgements: dict[str, dict[str, int]] = {}
    groups: dict[str, str] = {}
    rejected: dict[str, set[str]] = {}
    language = ""
    for row in _rows(path):
        title = str(row.get("title") or "").strip() if titles else ""
        text = str(row["passage"]).strip()
        query = str(row["query"]).strip()
        if not text or not query:
            continue
        document = documents.setdefault(
            (title, text), BeirDocument(f"d{len(documents)}", title, text)
        )
        key = "q" + hashlib.sha256(query.encode()).hexdigest()[:16]
        queries[key] = query
        groups.setdefault(key, str(row.get("group") or document.id))
        language = language or str(row.get("lang") or "en")
        if int(row["label"]) > 0:
            judgements.setdefault(key, {})[document.id] = 1
        else:
            rejected.setdefault(key, set()).add(document.id)
    answered = {key: text for key, text in queries.items() if key in judgements}
    if not answered:
        raise CollectionError(f"No pair of {path} has the label 1, so there is nothing to learn.")
    name = path.name.removesuffix(".gz").removesuffix(".jsonl")
    collection = Collection(name, list(documents.values()), answered, judgements)
    kept = {key: frozenset(found) for key, found in rejected.items() if key in answered}
    return LabelledSet(collection, language, groups, kept)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    number = 0
    try:
        with _opened(path) as lines:
            for line in lines:
                number += 1
                if not line.strip():
                    continue
                row = json.loads(line)
                if not {"query", "passage", "label"} <= row.keys():
                    raise ValueError("a field is missing")
                int(row["label"])
                yield row
    except (ValueError, TypeError, AttributeError) as exc:
        raise CollectionError(
            f"{path.name}, line {number}: expected one JSON object with query, passage and a "
            "label of 0 or 1."
        ) from exc
    except (OSError, EOFError) as exc:
        raise CollectionError(f"{path.name} cannot be read: {exc}") from exc


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return cast("IO[str]", gzip.open(path, "rt", encoding="utf-8"))
    return path.open(encoding="utf-8")


def _limited(found: LabelledSet, limit: int) -> LabelledSet:
    queries = found.collection.queries
    return _only(found, set(sorted(queries, key=lambda key: _digest(queries[key]))[:limit]))


def _judged_only(found: LabelledSet) -> LabelledSet:
    used = {d for grades in found.collection.judgements.values() for d in grades}
    used |= {d for key in found.collection.queries for d in found.rejected.get(key, ())}
    documents = [document for document in found.collection.documents if document.id in used]
    return replace(found, collection=replace(found.collection, documents=documents))


def _only(found: LabelledSet, keys: set[str]) -> LabelledSet:
    whole = found.collection
    kept = replace(
        whole,
        queries={key: text for key, text in whole.queries.items() if key in keys},
        judgements={key: grades for key, grades in whole.judgements.items() if key in keys},
    )
    return replace(found, collection=kept)


def _digest(text: str) -> float:
    """A number from 0 to 1 that depends on the text alone."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:12], 16) / 16**12
