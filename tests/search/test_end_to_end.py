"""Retrieval on the real model server, a real Chroma and a real lexical index."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_django import Settings

from inference.client import shared_client
from ingestion.conf import ingestion_settings
from ingestion.lexical import LexicalEntry, open_index
from ingestion.models import Chunk, Corpus, Document, IndexGeneration
from ingestion.types import passage_text
from ingestion.vectors import shared_store
from ragsite import processes
from search.conf import retrieval_settings, search_services
from search.pipeline import retrieve
from search.types import DegradedCode, Trace

pytestmark = [pytest.mark.services, pytest.mark.django_db]

HEADING = "Handbook"
FACTS = (
    "Visitors sign in at the reception and wear a badge at all times.",
    "The canteen opens at eleven and closes at two.",
    "Expense reports are due on the fifth working day of the month.",
    "Fault code E-4711 means that the cooling fan of the pump stands still.",
    "Fault code E-4712 means that the filter has to be cleaned.",
    "Fault code E-5000 means that the door of the cabinet is open.",
    "New staff receive a laptop and a telephone on their first day.",
    "Anyone who falls ill calls in before nine o'clock and brings a doctor's note on day three.",
    "The car park is locked at ten in the evening.",
    "Printers on the second floor use recycled paper.",
    "Holidays are requested four weeks in advance in the staff portal.",
    "Bicycles are kept in the basement; the code of the door is at the reception.",
    "Passwords have at least fourteen characters and are not reused.",
    "The boiler is inspected by an outside company every autumn.",
    "Parcels are handed out by the post room between ten and noon.",
    "In a fire the lifts are not used and everybody gathers on the north lawn.",
    "Conference rooms are booked for at most three hours.",
    "The archive keeps contracts for ten years.",
    "Trainees have a mentor for their first six months.",
    "Travel by train is preferred to flying below eight hundred kilometres.",
    "The library lends technical books for a month.",
    "Meetings with clients are recorded in the customer database.",
    "First-aid boxes hang beside every staircase.",
    "The alarm system is armed by the last person to leave.",
    "Old batteries are collected in the yellow box.",
    "Software is installed by the help desk only.",
    "Overtime is paid out or taken as free time within the quarter.",
    "The gym may be used by staff free of charge.",
    "Plants in the hall are watered on Mondays.",
    "Invoices above ten thousand euros need two signatures.",
)
KEYWORDS = "What does E-4711 mean?", FACTS[3]
BOTH = "When do I have to call if I fall ill?", FACTS[7]
MEANING = "What should I do if I am sick and cannot come to work?", FACTS[7]


@pytest.fixture
def handbook(corpus: Corpus, chroma_url: str, inference_url: str, tmp_data: Path) -> Corpus:
    client, store = shared_client(inference_url, inference_url), shared_store(ingestion_settings())
    model = client.info().embedder
    assert model is not None
    generation = IndexGeneration.objects.create(
        corpus=corpus,
        embedding_model=model.model_id,
        embedding_revision=model.revision,
        dimension=model.dimension,
        pipeline_version="1",
    )
    document = Document.objects.create(
        corpus=corpus, name="handbook.pdf", size_bytes=1, sha256="0" * 64, state="ready"
    )
    ids = [f"fact-{n:02}" for n in range(len(FACTS))]
    texts = [passage_text(heading_path=HEADING, text=fact) for fact in FACTS]
    for n, (chunk_id, fact) in enumerate(zip(ids, FACTS, strict=True)):
        Chunk.objects.create(
            id=chunk_id,
            document=document,
            generation=generation,
            ordinal=n,
            text=fact,
            heading_path=HEADING,
            tokens=20,
        )
    store.ensure(generation.collection_name, model.dimension)
    vectors = client.embed(texts, lane="ingestion")
    assert store.add_missing(generation.collection_name, ids, vectors) == len(FACTS)
    index = open_index(tmp_data / "lexical" / generation.key, corpus.language)
    index.replace_document(
        document.pk, [LexicalEntry(i, text) for i, text in zip(ids, texts, strict=True)]
    )
    return corpus


def ask(question: str, corpus: Corpus) -> Trace:
    return retrieve(
        question, corpora=[corpus], settings=retrieval_settings(), services=search_services()
    )


def best(trace: Trace) -> str:
    return trace.passages[trace.candidates[0].chunk_id].text


@pytest.mark.parametrize(("question", "right"), [KEYWORDS, BOTH])
def test_the_answering_passage_of_thirty_comes_first(
    handbook: Corpus, question: str, right: str
) -> None:
    trace = ask(question, handbook)

    assert best(trace) == right
    assert len(trace.candidates) == len(FACTS)
    assert len(trace.selected) == 10
    (first,) = [c for c in trace.candidates if trace.passages[c.chunk_id].text == right]
    assert first.dense_rank in (1, 2, 3)
    if trace.rerank.reranked:
        logits = [c.rerank_logit for c in trace.candidates if c.rerank_logit is not None]
        assert logits == sorted(logits, reverse=True)
        assert logits[0] > logits[-1]
        assert trace.degraded == []
    else:
        assert [d.code for d in trace.degraded] == [DegradedCode.NO_RERANKER]


def test_each_arm_brings_what_the_other_does_not_know(handbook: Corpus) -> None:
    by_code = ask(KEYWORDS[0], handbook).candidates
    by_meaning = ask(MEANING[0], handbook).candidates

    assert next(c for c in by_code if c.chunk_id == "fact-03").bm25_rank == 1
    assert next(c for c in by_meaning if c.chunk_id == "fact-07").dense_rank == 1
    similarities = {c.dense_rank: c.similarity or 0 for c in by_meaning}
    assert 0.2 < similarities[1] <= 1
    assert similarities[1] > similarities[30]


def test_a_question_of_ten_thousand_characters_is_answered(handbook: Corpus) -> None:
    trace = ask("What does E-4711 mean? " + "Please tell me. " * 625, handbook)

    assert trace.candidates
    assert not {d.code for d in trace.degraded} - {DegradedCode.NO_RERANKER}


def test_a_dead_chroma_leaves_keywords(handbook: Corpus, settings: Settings) -> None:
    settings.CHROMA_URL = f"http://127.0.0.1:{processes.free_port()}"

    trace = ask(KEYWORDS[0], handbook)

    assert best(trace) == KEYWORDS[1]
    assert all(c.dense_rank is None for c in trace.candidates)
    assert DegradedCode.VECTORS_UNAVAILABLE in {d.code for d in trace.degraded}


def test_a_dead_model_server_leaves_keywords(handbook: Corpus, settings: Settings) -> None:
    url = f"http://127.0.0.1:{processes.free_port()}"
    settings.EMBED_URL = settings.RERANK_URL = url

    trace = ask(KEYWORDS[0], handbook)

    assert best(trace) == KEYWORDS[1]
    assert [d.code for d in trace.degraded] == [
        DegradedCode.EMBEDDER_UNREACHABLE,
        DegradedCode.RERANKER_UNREACHABLE,
    ]
    assert trace.stage_timings_ms["total"] < 6000


def test_a_damaged_lexical_index_leaves_meaning(handbook: Corpus, tmp_data: Path) -> None:
    (meta,) = tmp_data.glob("lexical/*/meta.json")
    meta.write_bytes(b"damaged")

    trace = ask(MEANING[0], handbook)

    assert best(trace) == MEANING[1]
    assert all(c.bm25_rank is None for c in trace.candidates)
    assert DegradedCode.LEXICAL_UNAVAILABLE in {d.code for d in trace.degraded}


def test_with_everything_dead_the_trace_is_empty_and_says_all_of_it(
    handbook: Corpus, settings: Settings, tmp_data: Path
) -> None:
    url = f"http://127.0.0.1:{processes.free_port()}"
    settings.EMBED_URL = settings.RERANK_URL = settings.CHROMA_URL = url
    (meta,) = tmp_data.glob("lexical/*/meta.json")
    meta.unlink()

    trace = ask(KEYWORDS[0], handbook)

    assert trace.candidates == []
    assert {d.code for d in trace.degraded} == {
        DegradedCode.LEXICAL_UNAVAILABLE,
        DegradedCode.EMBEDDER_UNREACHABLE,
    }
