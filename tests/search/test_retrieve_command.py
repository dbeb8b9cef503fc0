"""`manage.py retrieve`, with stand-ins for the model server and Chroma."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from inference.errors import InferenceUnreachable
from ingestion.models import Corpus
from search.management.commands.retrieve import Command
from tests.search.stand_ins import Library

FIELDS = {
    "rank", "chunk_id", "document", "title", "page_from", "page_to", "text", "bm25_rank",
    "bm25_score", "dense_rank", "similarity", "rrf_rank", "rrf_score", "rerank_rank",
    "rerank_logit", "relevance", "cited", "outcome",
}  # fmt: skip
RIGHT = "The water pump is serviced every six months."


@pytest.fixture
def filled(library: Library, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> Library:
    library.add(corpus, "Parking is free.", RIGHT, "Water is wet.", name="handbook.pdf")
    monkeypatch.setattr(
        "search.management.commands.retrieve.search_services", lambda: library.services
    )
    return library


def run(*arguments: str) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    # The command itself: starting services is the wrapper's part and tested there.
    call_command(Command(), *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


QUESTION = "When is the water pump serviced?"


def test_json_is_one_document_with_the_promised_fields(filled: Library, alice: User) -> None:
    out, err = run(QUESTION, "--corpus", "Papers", "--as", "alice", "--json")

    document = json.loads(out)
    assert {"candidates", "timings_ms", "degraded"} <= set(document)
    assert [c["rank"] for c in document["candidates"]] == [1, 2, 3]
    assert set(document["candidates"][0]) >= FIELDS
    assert document["candidates"][0]["text"] == RIGHT
    assert document["candidates"][0]["document"] == "handbook.pdf"
    assert document["candidates"][0]["page_from"] == 2
    assert document["timings_ms"]["total"] > 0
    assert document["degraded"] == []
    assert "Searching Papers…" in err


def test_k_cuts_the_list_best_first(filled: Library, alice: User) -> None:
    out, _ = run(QUESTION, "--corpus=Papers", "--as=alice", "--json", "--k", "1")

    (only,) = json.loads(out)["candidates"]
    assert only["text"] == RIGHT
    assert only["outcome"] == "selected"


def test_the_table_is_in_final_order_with_the_scores(filled: Library, alice: User) -> None:
    out, _ = run(QUESTION, "--corpus=Papers", "--as=alice")

    lines = out.splitlines()
    assert lines[0].split()[:4] == ["#", "bm25", "dense", "rrf"]
    assert lines[1].startswith("1 ")
    assert "handbook.pdf, p. 2" in lines[1]
    assert RIGHT in lines[1]
    assert lines[-1] == "3 candidates, 3 of 3 reranked"


def test_what_was_missing_is_said_and_the_exit_status_is_still_0(
    filled: Library, alice: User
) -> None:
    down = InferenceUnreachable("refused")
    filled.models.info_error = filled.models.embed_error = filled.models.rerank_error = down

    table, _ = run(QUESTION, "--corpus=Papers", "--as=alice")
    out, _ = run(QUESTION, "--corpus=Papers", "--as=alice", "--json")

    assert "Not searched by meaning: the model server is not reachable." in table
    assert [d["code"] for d in json.loads(out)["degraded"]] == [
        "embedder_unreachable",
        "reranker_unreachable",
    ]
    assert json.loads(out)["candidates"][0]["text"] == RIGHT


def test_a_corpus_one_may_not_read_is_unknown(filled: Library, bob: User) -> None:
    with pytest.raises(CommandError, match="no corpus called “Papers” that bob may search"):
        run(QUESTION, "--corpus=Papers", "--as=bob")


def test_an_empty_corpus_gives_an_empty_list(filled: Library, alice: User, tmp_path: Path) -> None:
    Corpus.objects.create(name="Empty", owner=alice)

    out, _ = run(QUESTION, "--corpus=Empty", "--as=alice", "--json")
    table, _ = run(QUESTION, "--corpus=Empty", "--as=alice")

    assert json.loads(out)["candidates"] == json.loads(out)["degraded"] == []
    assert table.startswith("No passage was found.")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((" ", "--corpus=Papers"), "question is empty"),
        ((QUESTION, "--corpus=Papers", "--k=0"), "at least 1"),
        ((QUESTION, "--corpus=Papers", "--k=99999"), "top_n must lie between"),
        ((QUESTION,), "--corpus"),
    ],
)
def test_bad_arguments_get_a_sentence(
    filled: Library, alice: User, arguments: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(CommandError, match=sentence):
        run(*arguments, "--as=alice")
