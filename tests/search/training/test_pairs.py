"""Reading labelled pairs and judged collections."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from search.evaluation.beir import CollectionError
from search.training.pairs import read, split


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    text = "\n".join(json.dumps(row) for row in rows) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def pair(query: str, passage: str, label: int = 1, **more: object) -> dict[str, object]:
    return {"query": query, "passage": passage, "label": label, **more}


def test_pairs_become_a_collection_with_rejected_passages(tmp_path: Path) -> None:
    rows = [
        pair("Who?", "Ada.", title="People", lang="en", group="g1"),
        pair("Who?", "Nobody.", 0),
        pair("When?", "In 1843.", group="g2"),
        pair("Unanswered?", "Ada.", 0),
    ]

    found = read(write(tmp_path / "set.jsonl.gz", rows))

    collection = found.collection
    assert found.name == "set"
    assert sorted(collection.queries.values()) == ["When?", "Who?"]
    who = next(key for key, text in collection.queries.items() if text == "Who?")
    texts = {d.id: (d.title, d.text) for d in collection.documents}
    assert [texts[d] for d in collection.judgements[who]] == [("People", "Ada.")]
    assert [texts[d] for d in found.rejected[who]] == [("", "Nobody.")]
    assert found.groups[who] == "g1"


def test_titles_without_meaning_are_dropped(tmp_path: Path) -> None:
    path = write(tmp_path / "set.jsonl", [pair("Who?", "Ada.", title="Page 17")])

    assert read(path, titles=False).collection.documents[0].title == ""


def test_groups_are_never_split(tmp_path: Path) -> None:
    rows = [pair(f"Question {n}?", f"Passage {n}.", group=f"g{n // 4}") for n in range(80)]
    found = read(write(tmp_path / "set.jsonl", rows))

    kept, held = split(found, 0.3)

    groups = [{found.groups[key] for key in part.collection.queries} for part in (kept, held)]
    assert groups[0]
    assert groups[1]
    assert not groups[0] & groups[1]
    assert len(kept.collection.queries) + len(held.collection.queries) == 80
    assert len(held.collection.documents) == 80


def test_a_limit_takes_the_same_questions_every_time(tmp_path: Path) -> None:
    rows = [pair(f"Question {n}?", f"Passage {n}.") for n in range(30)]
    path = write(tmp_path / "set.jsonl", rows)

    some, all_passages = read(path, limit=5, whole=False), read(path, limit=5)

    assert list(some.collection.queries) == list(all_passages.collection.queries)
    assert len(some.collection.queries) == len(some.collection.documents) == 5
    assert len(all_passages.collection.documents) == 30


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("not json\n", "line 1: expected one JSON object"),
        ('{"query": "a", "passage": "b"}\n', "line 1: expected one JSON object"),
        ('\n{"query": "a", "passage": "b", "label": "perhaps"}\n', "line 2: expected one"),
        ('{"query": "a", "passage": "b", "label": 0}\n', "has the label 1"),
        ("", "nothing to learn"),
    ],
)
def test_unusable_files_are_named(tmp_path: Path, content: str, sentence: str) -> None:
    path = tmp_path / "set.jsonl"
    path.write_text(content)

    with pytest.raises(CollectionError, match=sentence):
        read(path)


def test_a_file_that_is_no_gzip_or_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "set.jsonl.gz").write_text("plain")

    with pytest.raises(CollectionError, match="cannot be read"):
        read(tmp_path / "set.jsonl.gz")
    with pytest.raises(CollectionError, match="neither a file"):
        read(tmp_path / "away.jsonl")


def test_a_judged_collection_is_read_with_its_judged_non_answers(tmp_path: Path) -> None:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text(
        '{"_id": "1", "title": "T", "text": "One."}\n{"_id": "2", "title": "", "text": "Two."}\n'
    )
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "Which?"}\n')
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\t1\t2\nq\t2\t0\n")

    found = read(tmp_path)

    assert found.rejected == {"q": frozenset({"2"})}
    assert found.groups == {"q": "1"}
