"""`manage.py ask` on a real retrieval: what it prints, and what it says when things are away."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from chat.extractive import INTRODUCTION
from chat.management.commands.ask import Command
from ingestion.models import Corpus
from ragsite.processes import free_port
from tests.ollama_server import MODEL, Mode, OllamaServer
from tests.search.stand_ins import Library

if TYPE_CHECKING:
    from django.contrib.auth.models import User

pytestmark = pytest.mark.django_db(transaction=True)

QUESTION = "When is the water pump serviced?"
RIGHT = "The water pump is serviced every six months."
SOURCE_FIELDS = {
    "rank", "chunk_id", "document", "title", "page_from", "page_to", "text", "bm25_rank",
    "bm25_score", "dense_rank", "similarity", "rrf_rank", "rrf_score", "rerank_rank",
    "rerank_logit", "relevance", "cited", "outcome",
}  # fmt: skip


@pytest.fixture
def handbook(corpus: Corpus, tmp_data: Path, settings: Settings, ollama: OllamaServer) -> Library:
    """A handbook in a real keyword index, Ollama's stand-in, and nothing else running."""
    library = Library(tmp_data / "lexical")
    library.add(corpus, "Parking is free for all staff.", RIGHT, name="handbook.pdf")
    away = f"http://127.0.0.1:{free_port()}"
    settings.CHROMA_URL = settings.EMBED_URL = settings.RERANK_URL = away
    settings.OLLAMA_HOST = ollama.url
    return library


def run(*arguments: str) -> tuple[str, str]:
    """Standard output and error."""
    out, err = StringIO(), StringIO()
    call_command(Command(), *arguments, "--corpus=Papers", "--as=alice", stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def as_json(*arguments: str) -> dict[str, Any]:
    """The printed document."""
    document = json.loads(run(*arguments, "--json")[0])
    assert isinstance(document, dict)
    return document


def test_json_is_one_document_with_the_promised_fields(handbook: Library, alice: User) -> None:
    document = as_json(QUESTION)

    assert {"answer", "abstained", "degraded", "model", "sources", "timings_ms"} <= set(document)
    assert f"{RIGHT} [1]" in document["answer"]
    assert document["abstained"] is False
    assert document["model"] == MODEL
    assert document["sources"][0]["text"] == RIGHT
    assert document["sources"][0]["cited"] is True
    assert set(document["sources"][0]) >= SOURCE_FIELDS
    assert {"bm25", "retrieval", "first_token", "generation", "whole_turn"} <= set(
        document["timings_ms"]
    )


def test_the_answer_is_written_and_the_sources_stand_under_it(
    handbook: Library, alice: User
) -> None:
    out, err = run(QUESTION)

    assert out.startswith("According to the documents:\n\n- The water pump")
    table = out[out.index("bm25") :].splitlines()
    assert table[1].split()[:2] == ["*", "1"]
    assert "handbook.pdf, p. 2" in table[1]
    assert f"written by {MODEL}" in out
    assert "Searching Papers…" in err


def test_with_all_services_away_there_are_still_quotes_and_every_reason(
    handbook: Library, alice: User, settings: Settings
) -> None:
    settings.OLLAMA_HOST = f"127.0.0.1:{free_port()}"
    document = as_json(QUESTION)

    assert document["answer"].startswith(INTRODUCTION)
    assert f"“{RIGHT}” [1]" in document["answer"]
    assert document["model"] == ""
    codes = [degradation["code"] for degradation in document["degraded"]]
    assert codes == ["embedder_unreachable", "reranker_unreachable", "generator_unreachable"]
    assert all(degradation["sentence"] for degradation in document["degraded"])


def test_a_missing_model_is_named_with_the_line_that_installs_it(
    handbook: Library, alice: User, ollama: OllamaServer
) -> None:
    ollama.mode = Mode.MISSING

    assert f"ollama pull {MODEL}" in run(QUESTION)[0]


def test_an_answer_that_breaks_off_is_printed_and_fails(
    handbook: Library, alice: User, ollama: OllamaServer
) -> None:
    ollama.mode = Mode.CUT
    out = StringIO()
    with pytest.raises(CommandError, match="broke off"):
        call_command(Command(), QUESTION, "--corpus=Papers", "--as=alice", "--json", stdout=out)

    assert json.loads(out.getvalue())["answer"].startswith("According")


def test_an_empty_corpus_says_what_to_do(
    alice: User, corpus: Corpus, ollama: OllamaServer, settings: Settings, tmp_data: Path
) -> None:
    settings.OLLAMA_HOST = ollama.url
    document = as_json(QUESTION)

    assert document["abstained"] is True
    assert document["sources"] == []
    assert "Upload documents" in document["answer"]


@pytest.mark.parametrize(("question", "says"), [(" ", "is empty"), ("x" * 10_001, "10,001")])
def test_a_question_that_cannot_be_asked_is_refused(
    handbook: Library, alice: User, question: str, says: str
) -> None:
    with pytest.raises(CommandError, match=says):
        run(question)
