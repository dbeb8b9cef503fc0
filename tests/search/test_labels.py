"""Questions that are limited to some documents: with certain labels, or chosen ones."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from ingestion import services
from ingestion.models import Corpus, Document
from ingestion.types import DocumentFilter
from search import pipeline
from search.pipeline import retrieve
from search.types import RetrievalSettings
from tests.search.stand_ins import Library

pytestmark = pytest.mark.django_db
QUESTION = "How often is the water pump serviced?"
LAW = RetrievalSettings(labels=(("tag", "law"),))


def of(name: str) -> int:
    return Document.objects.get(name=name).pk


@pytest.fixture
def flooded(library: Library, corpus: Corpus) -> Library:
    """One labelled document whose passages all others beat in both arms."""
    for number in range(60):
        library.add(corpus, f"{QUESTION} The water pump, {number}.", name=f"{number}.txt")
    library.add(corpus, "The pump law of 1960.", name="law.txt")
    labelled = Document.objects.filter(name="law.txt")
    services.label(documents=labelled, add=[("tag", "law")])
    return library


@pytest.mark.parametrize("is_chosen", [False, True], ids=["label", "document"])
@pytest.mark.parametrize("few", [1000, 0], ids=["exact", "over-fetched"])
def test_both_arms_search_only_what_passes_the_filter(
    flooded: Library, corpus: Corpus, few: int, is_chosen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "MAX_WITHIN_DOCUMENTS", few)
    only = DocumentFilter(documents=(of("law.txt"),)) if is_chosen else LAW.only
    for arm in ((0, 5), (5, 0)):
        settings = RetrievalSettings(bm25_k=arm[0], dense_k=arm[1]).limited_to(only)
        trace = retrieve(QUESTION, corpora=[corpus], settings=settings, services=flooded.services)

        assert [p.document for p in trace.passages.values()] == ["law.txt"], arm
        assert not trace.degraded


def test_scores_do_not_depend_on_the_filter(flooded: Library, corpus: Corpus) -> None:
    everything = RetrievalSettings(bm25_k=100, dense_k=100, pool=200)
    traces = [
        retrieve("pump law", corpora=[corpus], settings=settings, services=flooded.services)
        for settings in (everything, LAW)
    ]
    of_law = [
        next(c for c in t.candidates if t.passages[c.chunk_id].document == "law.txt")
        for t in traces
    ]
    assert of_law[0].bm25_score == pytest.approx(of_law[1].bm25_score)
    assert of_law[0].similarity == pytest.approx(of_law[1].similarity, abs=2e-3)  # float16


def test_nothing_is_found_where_nothing_carries_it(flooded: Library, corpus: Corpus) -> None:
    settings = RetrievalSettings(labels=(("tag", "medicine"),))
    trace = retrieve(QUESTION, corpora=[corpus], settings=settings, services=flooded.services)

    assert not trace.candidates
    assert not trace.degraded


def test_a_chosen_document_that_is_gone_does_not_widen_the_search(
    flooded: Library, corpus: Corpus
) -> None:
    settings = RetrievalSettings(documents=(of("law.txt"),))
    Document.objects.filter(name="law.txt").update(state=Document.State.DELETING)
    trace = retrieve(QUESTION, corpora=[corpus], settings=settings, services=flooded.services)

    assert not trace.candidates


def test_the_labels_are_stored_with_the_trace() -> None:
    assert RetrievalSettings.from_json(asdict(LAW)) == LAW
    assert RetrievalSettings.from_json({"labels": [["tag", "law"]]}) == LAW
    assert RetrievalSettings.from_json({}).labels == ()
    chosen = RetrievalSettings(documents=(1, 2))
    assert RetrievalSettings.from_json(json.loads(json.dumps(asdict(chosen)))) == chosen
