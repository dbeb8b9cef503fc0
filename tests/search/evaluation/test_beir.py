"""Collections are read as they come in the wild; what is unusable is named."""

import gzip
import json
from pathlib import Path

import pytest

from search.evaluation.beir import CollectionError, load

# Made at no certain time: the worker processes of a run must name their tests alike.
CUT_SHORT = gzip.compress(b"{}", mtime=0)[:-9]


def write(
    folder: Path,
    *,
    corpus: list[dict[str, object]] | None = None,
    queries: list[dict[str, object]] | None = None,
    qrels: str = "query-id\tcorpus-id\tscore\nq1\td1\t1\n",
    packed: bool = False,
) -> Path:
    default_corpus = [{"_id": "d1", "title": "T", "text": "one"}, {"_id": "d2", "text": "two"}]
    files = {
        "corpus.jsonl": "\n".join(json.dumps(row) for row in corpus or default_corpus),
        "queries.jsonl": "\n".join(
            json.dumps(row) for row in queries or [{"_id": "q1", "text": "what is one?"}]
        ),
        "qrels/test.tsv": qrels,
    }
    (folder / "qrels").mkdir()
    for name, content in files.items():
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content.encode()))
        else:
            (folder / name).write_text(content)
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_a_collection_is_read_plain_or_gzipped(tmp_path: Path, packed: bool) -> None:
    collection = load(write(tmp_path, packed=packed))

    assert [d.id for d in collection.documents] == ["d1", "d2"]
    assert collection.queries == {"q1": "what is one?"}
    assert collection.judgements == {"q1": {"d1": 1}}


def test_graded_judgements_and_numeric_and_odd_ids_are_kept(tmp_path: Path) -> None:
    corpus: list[dict[str, object]] = [{"_id": 7, "text": "a"}, {"_id": "x/ü 1", "text": "b"}]
    qrels = "q1\t7\t3\nq1\tx/ü 1\t0\n"

    collection = load(write(tmp_path, corpus=corpus, qrels=qrels))

    assert collection.judgements == {"q1": {"7": 3, "x/ü 1": 0}}


def test_absent_documents_and_empty_texts_are_named_and_left_out(tmp_path: Path) -> None:
    corpus: list[dict[str, object]] = [{"_id": "d1", "text": "one"}, {"_id": "d9", "text": " "}]
    qrels = "q1\td1\t1\nq1\tgone\t1\nqx\td1\t1\n"

    collection = load(write(tmp_path, corpus=corpus, qrels=qrels))

    assert [d.id for d in collection.documents] == ["d1"]
    notes = " ".join(collection.notes)
    assert "1 judgements name documents" in notes
    assert "1 judgements name queries" in notes
    assert "1 documents have neither title nor text" in notes


def test_a_trec_style_fourth_column_is_understood(tmp_path: Path) -> None:
    assert load(write(tmp_path, qrels="q1\t0\td1\t2\n")).judgements == {"q1": {"d1": 2}}


@pytest.mark.parametrize(
    ("qrels", "sentence"),
    [
        ("q1\td1\thigh\n", "line 1: expected"),
        ("q1\td1\t0\n", "No query"),
        ("q1\tnowhere\t1\n", "No query"),
    ],
)
def test_unusable_judgements_are_refused_in_a_sentence(
    tmp_path: Path, qrels: str, sentence: str
) -> None:
    with pytest.raises(CollectionError, match=sentence):
        load(write(tmp_path, qrels=qrels))


def test_a_missing_file_and_a_broken_line_are_named(tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match=r"corpus\.jsonl"):
        load(tmp_path)
    write(tmp_path)
    (tmp_path / "corpus.jsonl").write_text("not json\n")
    with pytest.raises(CollectionError, match="line 1"):
        load(tmp_path)


def test_marks_of_byte_order_and_of_windows_and_blank_lines_do_no_harm(tmp_path: Path) -> None:
    write(tmp_path, qrels="query-id\tcorpus-id\tscore\n\nq1\td1\t2.0\n\n")
    expected = load(tmp_path)
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        content = (tmp_path / name).read_text().replace("\n", "\r\n")
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content.encode())

    assert load(tmp_path) == expected
    assert expected.judgements == {"q1": {"d1": 2}}


def test_of_judgements_that_repeat_the_highest_counts(tmp_path: Path) -> None:
    collection = load(write(tmp_path, qrels="q1\td1\t2\nq1\td1\t0\nq1\td2\t0\nq1\td2\t1\n"))

    assert collection.judgements == {"q1": {"d1": 2, "d2": 1}}
    assert "2 judgements repeat" in " ".join(collection.notes)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("corpus.jsonl", b'{"_id": "d1", "text": "P\xe1ris"}\n', "is not UTF-8"),
        ("corpus.jsonl", b'{"_id": "d1", "text": "a"}\n' * 2, "holds the id 'd1' twice"),
        ("queries.jsonl", b'{"_id": "q1", "text": "a"}\n' * 2, "holds the id 'q1' twice"),
        ("corpus.jsonl", b'{"_id": null, "text": "a"}\n', "line 1: expected one JSON object"),
        ("corpus.jsonl", b'["d1"]\n', "line 1: expected one JSON object"),
        ("corpus.jsonl.gz", b"not packed", "cannot be read: Not a gzipped file"),
        ("queries.jsonl.gz", CUT_SHORT, "cannot be read: Compressed file ended"),
        ("qrels/test.tsv", b"q1\td1\t0.5\n", "line 1: expected"),
        ("qrels/test.tsv", b"q1\td1\tnan\n", "line 1: expected"),
        ("qrels/test.tsv", b"q1 d1 1\n", "line 1: expected"),
    ],
)
def test_what_cannot_be_read_is_named(
    tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    write(tmp_path)
    (tmp_path / name.removesuffix(".gz")).unlink()
    (tmp_path / name).write_bytes(content)

    with pytest.raises(CollectionError, match=sentence):
        load(tmp_path)


def test_a_limit_keeps_the_first_judged_queries(tmp_path: Path) -> None:
    queries: list[dict[str, object]] = [{"_id": f"q{n}", "text": "?"} for n in range(4)]
    qrels = "".join(f"q{n}\td1\t1\n" for n in (1, 2, 3))

    assert list(load(write(tmp_path, queries=queries, qrels=qrels), limit=2).queries) == [
        "q1",
        "q2",
    ]
