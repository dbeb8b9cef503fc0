"""Questions while the index under them is exchanged."""

from __future__ import annotations

import threading

import pytest
from django.db import connections

from ingestion import nudges, rebuild
from ingestion.lexical import LexicalEntry
from ingestion.models import Chunk, Corpus, Document, DocumentBuild, IndexGeneration
from search.pipeline import retrieve
from search.types import RetrievalSettings, Trace
from tests.search.stand_ins import DIMENSION, EMBEDDER, Library, embed

pytestmark = pytest.mark.django_db(transaction=True)
TEXTS = ("the fan of the pump stands still", "the canteen opens at eleven", "leave is in June")
QUESTION = "Why does the fan stand still?"


@pytest.fixture
def built(library: Library, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> Document:
    """A document in the live generation, and complete in another one (ids n0, n1, ...)."""
    monkeypatch.setattr(nudges, "nudge_waiting", lambda: 0)
    document = library.add(corpus, *TEXTS)
    generation = IndexGeneration.objects.create(
        corpus=corpus,
        state=IndexGeneration.State.BUILDING,
        embedding_model=EMBEDDER.model_id,
        embedding_revision=EMBEDDER.revision,
        dimension=DIMENSION,
        pipeline_version="1",
    )
    entries = []
    for ordinal, text in enumerate(TEXTS):
        Chunk.objects.create(
            id=f"n{ordinal}",
            document=document,
            generation=generation,
            ordinal=ordinal,
            text=text,
            tokens=8,
        )
        entries.append(LexicalEntry(f"n{ordinal}", text))
        library.vectors.add(generation.collection_name, f"n{ordinal}", embed(text))
    library.index(generation).replace_document(document.pk, entries)
    DocumentBuild.objects.create(
        generation=generation, document=document, state=Document.State.READY, chunk_count=3
    )
    return document


def new(corpus: Corpus) -> IndexGeneration:
    return IndexGeneration.objects.get(corpus=corpus, state=IndexGeneration.State.BUILDING)


def ask(library: Library, corpus: Corpus, **more: object) -> Trace:
    return retrieve(
        QUESTION,
        corpora=[corpus],
        settings=RetrievalSettings(),
        services=library.services,
        **more,  # type: ignore[arg-type]
    )


def test_a_question_under_way_ends_on_the_index_it_began_with(
    library: Library, corpus: Corpus, built: Document
) -> None:
    generation = new(corpus)
    flipped: list[str] = []

    def flip(line: str) -> None:
        if not flipped:
            rebuild.flip(generation)
            flipped.append(line)

    during = ask(library, corpus, on_stage=flip)
    after = ask(library, corpus)

    assert flipped
    assert [c.chunk_id for c in during.candidates] == ["p001", "p002", "p003"]
    assert next(c.chunk_id for c in after.candidates) == "n0"
    assert {c.chunk_id for c in after.candidates} == {"n0", "n1", "n2"}
    assert not during.degraded


def test_every_answer_is_whole_while_the_index_is_exchanged_again_and_again(
    library: Library, corpus: Corpus, built: Document
) -> None:
    rebuild.flip(new(corpus))
    stop = threading.Event()
    exchanges = [0]

    def exchange() -> None:
        try:
            while not stop.is_set():
                rebuild.roll_back(corpus)
                exchanges[0] += 1
        finally:
            connections.close_all()

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        traces = [ask(library, corpus) for _ in range(40)]
    finally:
        stop.set()
        thread.join()

    assert exchanges[0] > 3
    for trace in traces:
        found = {c.chunk_id for c in trace.candidates}
        assert found in ({"p001", "p002", "p003"}, {"n0", "n1", "n2"})
        assert trace.passages[trace.candidates[0].chunk_id].text == TEXTS[0]
        assert not trace.degraded


def test_one_index_can_be_asked_beside_the_live_one(
    library: Library, corpus: Corpus, built: Document
) -> None:
    assert {c.chunk_id for c in ask(library, corpus).candidates} == {"p001", "p002", "p003"}
    trace = ask(library, corpus, generation=new(corpus))
    assert {c.chunk_id for c in trace.candidates} == {"n0", "n1", "n2"}


def test_an_index_of_another_corpus_is_not_asked(
    library: Library, corpus: Corpus, built: Document
) -> None:
    other = Corpus.objects.create(owner=corpus.owner, name="Other")
    library.add(other, "nothing of the sort")

    assert not ask(library, other, generation=new(corpus)).candidates
