"""The lexical index, on real tantivy folders."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from ingestion import lexical
from ingestion.errors import LexicalIndexError
from ingestion.lexical import MAX_QUERY_TERMS, LexicalEntry, LexicalIndex, analyser, open_index


@pytest.fixture
def index(tmp_path: Path) -> LexicalIndex:
    return LexicalIndex(tmp_path / "index", language="en")


def ids(index: LexicalIndex, question: str, k: int = 10) -> list[str]:
    return [hit.chunk_id for hit in index.search(question, k=k)]


def bm25(tf: int, length: int, mean: float, holding: int, total: int) -> float:
    k1, b = 1.2, 0.75
    idf = math.log(1 + (total - holding + 0.5) / (holding + 0.5))
    return idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * length / mean))


def test_scores_are_bm25_with_k1_1_2_and_b_0_75(index: LexicalIndex) -> None:
    index.replace_document(
        1,
        [
            LexicalEntry("long", "apple apple pear plum fig kiwi"),
            LexicalEntry("short", "apple pear"),
            LexicalEntry("none", "cherry"),
        ],
    )

    hits = {hit.chunk_id: hit.score for hit in index.search("apple", k=10)}

    assert hits == {
        "long": pytest.approx(bm25(2, 6, 3.0, 2, 3), rel=1e-5),
        "short": pytest.approx(bm25(1, 2, 3.0, 2, 3), rel=1e-5),
    }


def test_a_rare_term_outweighs_a_common_one(index: LexicalIndex) -> None:
    common = [LexicalEntry(f"c{n}", "ranking of passages") for n in range(20)]
    index.replace_document(1, [*common, LexicalEntry("rare", "tantivy of passages")])

    assert ids(index, "ranking tantivy", k=1) == ["rare"]


def test_any_word_of_the_question_is_enough(index: LexicalIndex) -> None:
    index.replace_document(1, [LexicalEntry("a", "The pump was repaired in March.")])

    assert ids(index, "When were the pumps of building seven being repaired?") == ["a"]


def test_a_replaced_document_has_only_its_new_passages(index: LexicalIndex) -> None:
    index.replace_document(1, [LexicalEntry("old-1", "alpha"), LexicalEntry("old-2", "alpha")])
    index.replace_document(2, [LexicalEntry("other", "alpha")])
    index.replace_document(1, [LexicalEntry("new", "alpha")])

    assert sorted(ids(index, "alpha")) == ["new", "other"]
    assert index.chunk_ids(1) == {"new"}
    assert index.chunk_ids() == {"new", "other"}
    assert index.count() == 2


def test_a_deleted_document_is_gone_and_deleting_it_again_changes_nothing(
    index: LexicalIndex,
) -> None:
    index.replace_document(1, [LexicalEntry("a", "alpha")])
    index.replace_document(2, [LexicalEntry("b", "alpha")])

    index.delete_document(1)
    index.delete_document(1)
    index.delete_document(77)

    assert ids(index, "alpha") == ["b"]
    assert index.chunk_ids(1) == set()


def test_many_documents_go_in_with_one_commit(index: LexicalIndex) -> None:
    index.replace_document(3, [LexicalEntry("old", "alpha")])
    index.replace_documents((n, [LexicalEntry(f"d{n}", "alpha")]) for n in range(5))

    assert index.chunk_ids() == {"d0", "d1", "d2", "d3", "d4"}


def test_a_missing_index_searches_to_nothing_and_is_not_made(index: LexicalIndex) -> None:
    assert index.search("alpha", k=5) == []
    assert index.count() == 0
    assert index.chunk_ids() == set()
    index.delete_document(1)
    assert not index.folder.exists()


def test_equal_scores_are_ordered_by_chunk_id_also_at_the_cut(index: LexicalIndex) -> None:
    names = [f"{n:03}" for n in range(60)]
    for document_id, name in enumerate(reversed(names)):
        index.replace_document(document_id, [LexicalEntry(name, "the same footer")])

    assert ids(index, "footer", k=5) == names[:5]


@pytest.mark.parametrize(
    "question",
    [
        'say "quoted: (text) AND NOT +a -b [1 TO 9] {x} \\ ~2 ^3 *',
        "field:value document_id:1 terms:alpha",
        "🙂🙃 \x00 \ud800 \u202e",
        "?!…",
        "",
        "x" * 10_000,
        "alpha " + " ".join(f"word{n}" for n in range(2_000)),
    ],
)
def test_no_question_is_refused(index: LexicalIndex, question: str) -> None:
    index.replace_document(1, [LexicalEntry("a", "alpha")])

    found = ids(index, question)

    assert found == (["a"] if "alpha" in question else [])


def test_of_too_many_terms_the_rarest_count(index: LexicalIndex) -> None:
    filler = " ".join(f"word{n}" for n in range(MAX_QUERY_TERMS + 20))
    index.replace_document(
        1,
        [
            LexicalEntry("a", filler),
            LexicalEntry("b", filler),
            LexicalEntry("needle", f"{filler} needle"),
        ],
    )

    assert ids(index, f"{filler} needle", k=1) == ["needle"]


def test_stop_words_do_not_count_beside_other_words_but_do_alone(index: LexicalIndex) -> None:
    index.replace_document(
        1, [LexicalEntry("hamlet", "to be or not to be"), LexicalEntry("rank", "what ranks first")]
    )

    assert ids(index, "is it to be ranked") == ["rank"]
    assert ids(index, "to be or not to be") == ["hamlet"]


@pytest.mark.parametrize(
    ("language", "filed", "asked"),
    [
        ("en", "The naïve café", "naive cafes"),
        ("en", "eﬃcient ranking", "efficient ranked"),  # a PDF's ligature
        ("de", "die Häuser am Fluss", "Haus"),
        ("fr", "les évaluations", "évaluation"),
        ("ru", "новые документы", "документ"),
        ("pl", "zażółć gęślą jaźń", "gęślą"),
        ("zh", "东京都的图书馆", "图书馆在哪里"),
        ("ja", "猫は黒い", "猫"),
        ("ko", "도서관에서 책을", "도서관"),
        ("th", "ห้องสมุดประชาชน", "ห้องสมุด"),
        ("en", "the term 全文検索 means full-text search", "検索"),
        ("hi", "नमस्ते भारत", "भारत"),
    ],
)
def test_a_word_is_found_in_its_language(
    tmp_path: Path, language: str, filed: str, asked: str
) -> None:
    index = LexicalIndex(tmp_path / "index", language=language)
    index.replace_document(
        1, [LexicalEntry("right", filed), LexicalEntry("wrong", "xylophone كتاب δρόμος")]
    )

    assert ids(index, asked) == ["right"]


def test_characters_in_the_same_order_beat_the_same_characters_scattered(
    tmp_path: Path,
) -> None:
    index = LexicalIndex(tmp_path / "index", language="ja")
    index.replace_document(
        1, [LexicalEntry("kyoto", "京都の東に"), LexicalEntry("tokyo", "東京都の")]
    )

    assert ids(index, "東京", k=1) == ["tokyo"]


def test_terms_are_stemmed_lower_cased_words() -> None:
    assert analyser("en").terms("Reranking R2-D2's PASSAGES, twice: twice!") == [
        "rerank",
        "r2",
        "d2",
        "s",
        "passag",
        "twice",
        "twice",
    ]
    assert analyser("en").query_terms("the Twice twice of") == ["twice"]


def test_a_commit_of_another_process_is_seen_by_the_next_search(index: LexicalIndex) -> None:
    index.replace_document(1, [LexicalEntry("a", "alpha")])
    assert ids(index, "alpha") == ["a"]
    program = (
        "import sys; from pathlib import Path\n"
        "from ingestion.lexical import *\n"
        "LexicalIndex(Path(sys.argv[1])).replace_document(2, [LexicalEntry('b', 'alpha')])\n"
    )
    subprocess.run([sys.executable, "-c", program, str(index.folder)], check=True)

    assert ids(index, "alpha") == ["a", "b"]


def test_writers_of_several_processes_take_turns_and_lose_nothing(index: LexicalIndex) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from ingestion.lexical import *\n"
        "first = int(sys.argv[2])\n"
        "for n in range(first, first + 8):\n"
        "    LexicalIndex(Path(sys.argv[1])).replace_document(n, [LexicalEntry(str(n), 'x')])\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", program, str(index.folder), str(first)])
        for first in (0, 100, 200)
    ]

    assert [writer.wait() for writer in writers] == [0, 0, 0]
    expected = {str(n) for first in (0, 100, 200) for n in range(first, first + 8)}
    assert index.chunk_ids() == expected


def test_a_writer_that_cannot_get_its_turn_says_so_and_changes_nothing(
    index: LexicalIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.replace_document(1, [LexicalEntry("a", "alpha")])
    monkeypatch.setattr(lexical, "WRITER_WAIT_SECONDS", 0.05)

    with FileLock(index.folder / "turn.lock"), pytest.raises(LexicalIndexError):
        index.replace_document(1, [LexicalEntry("b", "alpha")])

    assert ids(index, "alpha") == ["a"]


def test_a_write_that_fails_half_way_changes_nothing_and_frees_the_writer(
    index: LexicalIndex,
) -> None:
    index.replace_document(1, [LexicalEntry("a", "alpha")])

    def documents() -> Iterator[tuple[int, list[LexicalEntry]]]:
        yield 1, [LexicalEntry("b", "alpha")]
        raise RuntimeError("the reader of the rows failed")

    with pytest.raises(RuntimeError):
        index.replace_documents(documents())
    assert ids(index, "alpha") == ["a"]
    index.replace_document(2, [LexicalEntry("c", "alpha")])
    assert ids(index, "alpha") == ["a", "c"]


def test_an_index_that_two_remove_at_once_is_gone(index: LexicalIndex) -> None:
    index.replace_document(1, [LexicalEntry("a", "alpha")])
    failed: list[Exception] = []

    def drop() -> None:
        try:
            index.drop()
        except LexicalIndexError as exc:
            failed.append(exc)

    both = [threading.Thread(target=drop) for _ in range(2)]
    with FileLock(index.folder / "turn.lock"):
        for one in both:
            one.start()
        both[0].join(0.2)
    for one in both:
        one.join()

    assert failed == []
    assert not index.folder.exists()


@pytest.mark.parametrize("suffix", ["idx", "term", "store", "fieldnorm"])
@pytest.mark.parametrize("damage", ["removed", "emptied", "cut"])
def test_a_damaged_file_is_reported_and_the_index_can_be_dropped_and_rebuilt(
    index: LexicalIndex, suffix: str, damage: str
) -> None:
    index.replace_document(1, [LexicalEntry(f"a{n}", f"alpha word{n}") for n in range(50)])
    (victim,) = index.folder.glob(f"*.{suffix}")
    if damage == "removed":
        victim.unlink()
    else:
        victim.write_bytes(b"" if damage == "emptied" else victim.read_bytes()[:-20])

    with pytest.raises(LexicalIndexError):
        index.search("alpha", k=5)

    index.drop()
    assert index.search("alpha", k=5) == []
    index.replace_document(1, [LexicalEntry("a", "alpha")])
    assert ids(index, "alpha") == ["a"]


@pytest.mark.parametrize("content", [None, b"", b"not json", b"{}"])
def test_a_damaged_list_of_segments_is_reported(index: LexicalIndex, content: bytes | None) -> None:
    index.replace_document(1, [LexicalEntry("a", "alpha")])
    meta = index.folder / "meta.json"
    if content is None:
        meta.unlink()
    else:
        meta.write_bytes(content)

    with pytest.raises(LexicalIndexError):
        index.search("alpha", k=5)
    with pytest.raises(LexicalIndexError):
        index.replace_document(2, [LexicalEntry("b", "alpha")])


def test_an_index_removed_under_a_reader_is_empty_and_one_put_back_is_read(
    index: LexicalIndex,
) -> None:
    index.replace_document(1, [LexicalEntry("a", "alpha")])
    assert ids(index, "alpha") == ["a"]
    kept = index.folder.with_name("kept")
    shutil.copytree(index.folder, kept)

    shutil.rmtree(index.folder)
    assert ids(index, "alpha") == []
    shutil.copytree(kept, index.folder)
    assert ids(index, "alpha") == ["a"]


def test_the_text_of_a_passage_is_not_stored(index: LexicalIndex) -> None:
    secret = "Zwetschgenwasser aus Freudenstadt"
    index.replace_document(1, [LexicalEntry("a", secret)])

    assert all(secret.encode() not in path.read_bytes() for path in index.folder.iterdir())


def test_one_process_has_one_object_per_index(tmp_path: Path) -> None:
    assert open_index(tmp_path / "a", "en") is open_index(tmp_path / "a", "en")
    assert open_index(tmp_path / "a", "en") is not open_index(tmp_path / "b", "en")


def test_k_must_be_positive(index: LexicalIndex) -> None:
    with pytest.raises(ValueError, match="k must be positive"):
        index.search("alpha", k=0)
