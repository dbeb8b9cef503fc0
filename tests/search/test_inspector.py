"""The inspector's pages: what is kept, replayed, compared, copied, exported and judged."""

from __future__ import annotations

import csv
import json
import zipfile
from io import BytesIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client
from django.urls import reverse

from chat.conf import chat_services
from chat.models import Conversation, Turn
from ingestion import services
from ingestion.models import Chunk, Corpus, Document
from ingestion.types import EVERYTHING, DocumentFilter
from search import inspector, inspector_views, judging
from search.conf import retrieval_settings
from search.difference import difference
from search.evaluation.beir import load
from search.models import Inspection, Judgement
from search.pipeline import retrieve
from search.types import Fusion, RetrievalSettings, Trace
from tests.search.stand_ins import Library

if TYPE_CHECKING:
    from django.contrib.auth.models import User

QUESTION = "red fox jumps"
FORM: dict[str, Any] = {
    "question": QUESTION,
    "bm25_k": 50,
    "dense_k": 50,
    "fusion": "rrf",
    "rrf_k": 60,
    "bm25_weight": 0.5,
    "rerank": "1",
    "rerank_budget_ms": 2000,
    "rerank_at_most": 0,
    "pool": 100,
    "top_n": 4,
    "threshold": "",
}


@pytest.fixture
def foxes(library: Library, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> Library:
    library.add(
        corpus,
        *(f"=A red fox number {n} {'red ' * (n % 4)}{'jumps ' * (n % 7)}" for n in range(12)),
        heading_path="Animals › Foxes",
    )
    monkeypatch.setattr(inspector_views, "search_services", lambda **_: library.services)
    monkeypatch.setattr("chat.conf.search_services", lambda **_: library.services)
    return library


def asked(client: Client, corpus: Corpus, **changes: Any) -> Inspection:
    response = client.post(reverse("search:inspector"), {**FORM, "corpora": [corpus.pk], **changes})
    assert response.status_code == 302, response.content.decode()
    return Inspection.objects.latest("pk")


def shown(client: Client, kept: Inspection, **query: Any) -> str:
    response = client.get(reverse("search:inspection", args=[kept.pk]), query)
    assert response.status_code == 200
    return response.content.decode()


def answered(corpus: Corpus, only: DocumentFilter = EVERYTHING) -> Turn:
    """A turn whose trace chat's own retrieval made."""
    trace = chat_services(only).retrieve(QUESTION, [corpus], lambda _: None)
    conversation = Conversation.objects.create(owner=corpus.owner, title="Foxes")
    conversation.corpora.add(corpus)
    return Turn.objects.create(
        conversation=conversation,
        question=QUESTION,
        answer="It jumps [1].",
        state=Turn.State.DONE,
        trace=trace.to_json(),
        sources=trace.sources(),
    )


def test_replaying_an_answer_gives_the_same_ranks(
    client: Client, foxes: Library, corpus: Corpus, alice: User
) -> None:
    turn = answered(corpus)
    client.force_login(alice)
    response = client.get(reverse("chat:inspect", args=[turn.pk]), follow=True)
    stored = Inspection.objects.get(turn_id=turn.pk)
    assert "The trace that was stored with the answer." in response.content.decode()

    form = response.context["form"].initial
    replayed = asked(
        client, corpus, **{k: "" if v is None else v for k, v in form.items()}, before=stored.pk
    )

    assert turn.trace is not None
    first, again = Trace.from_json(turn.trace), inspector.trace_of(replayed, reader=alice)
    assert list(again.candidates) == list(first.candidates)
    assert difference(first, again).is_same
    assert "The same passages go on to the answer, in the same order." in shown(client, replayed)


def test_why_it_was_this_reranker_is_shown_with_what_it_did(
    client: Client, foxes: Library, corpus: Corpus, alice: User
) -> None:
    client.force_login(alice)
    kept = asked(client, corpus)
    assert kept.trace is not None
    kept.trace["rerank"]["chosen"] = "picked by itself: there is no GPU"
    kept.save()

    assert "(picked by itself: there is no GPU)" in shown(client, kept)


def test_a_replay_searches_the_same_documents(
    client: Client, foxes: Library, corpus: Corpus, alice: User
) -> None:
    foxes.add(corpus, "A red fox jumps, and jumps again.", name="jumping.txt")
    jumping = Document.objects.get(name="jumping.txt")
    services.label(documents=Document.objects.filter(pk=jumping.pk), add=[("tag", "fox")])
    client.force_login(alice)
    for only in (
        DocumentFilter(documents=(jumping.pk,)),
        DocumentFilter(labels=(("tag", "fox"),), documents=(jumping.pk,)),
        DocumentFilter(labels=(("tag", "fox"),)),
    ):
        turn = answered(corpus, only)
        assert [source["document"] for source in turn.sources] == ["jumping.txt"]
        response = client.get(reverse("chat:inspect", args=[turn.pk]), follow=True)
        page = response.content.decode()
        assert ("Only jumping.txt" in page) == bool(only.documents)
        assert ("Only what carries fox" in page) == bool(only.labels)
        form = response.context["form"].initial
        replayed = asked(client, corpus, **{k: "" if v is None else v for k, v in form.items()})

        trace = inspector.trace_of(replayed, reader=alice)
        assert trace.settings.only == only
        assert [p.document for p in trace.passages.values()] == ["jumping.txt"]
    unlimited = inspector.trace_of(asked(client, corpus), reader=alice)
    assert len(unlimited.candidates) == 13


def test_a_replay_reranks_as_many_as_time_allowed_then(foxes: Library, corpus: Corpus) -> None:
    cut_short = retrieve(
        QUESTION,
        corpora=[corpus],
        settings=RetrievalSettings(rerank_at_most=3),
        services=foxes.services,
    )
    settings = inspector.replay_settings(cut_short)
    whole = retrieve(
        QUESTION, corpora=[corpus], settings=RetrievalSettings(), services=foxes.services
    )

    assert (settings.rerank_at_most, settings.rerank_budget_ms) == (3, 20_000)
    assert inspector.replay_settings(whole) == whole.settings


def test_no_text_of_a_document_is_kept_and_what_is_deleted_is_gone(
    client: Client, foxes: Library, corpus: Corpus, alice: User
) -> None:
    client.force_login(alice)
    kept = asked(client, corpus)
    assert "fox number" not in json.dumps(kept.trace)
    assert "fox number" in shown(client, kept)

    Document.objects.update(state=Document.State.DELETING)

    after = shown(client, kept)
    assert "fox number" not in after
    assert "no longer there" in after


def test_one_knob_changed_shows_the_difference(
    client: Client, foxes: Library, corpus: Corpus, alice: User
) -> None:
    client.force_login(alice)
    first = asked(client, corpus)
    second = asked(client, corpus, top_n=3, before=first.pk)

    page = shown(client, second)

    before, after = (inspector.trace_of(one, reader=alice) for one in (first, second))
    found = difference(before, after)
    assert [change.label for change in found.knobs] == ["Top n"]
    assert (found.entered, len(found.left), found.moved) == ([], 1, 0)
    assert "0 came in, 1 went out, 0 moved" in page


def test_a_smaller_pool_is_cut_from_the_scores_without_a_search(
    client: Client, foxes: Library, corpus: Corpus, alice: User
) -> None:
    client.force_login(alice)
    kept = asked(client, corpus)
    foxes.models.calls.clear()

    page = shown(client, kept, pool=3, top_n=4)

    assert foxes.models.calls == []
    assert "Against the search as it was run" in page
    assert page.count("beyond the pool of 3") == 9


def test_settings_are_copied_to_a_corpus_and_chat_uses_them(
    client: Client, foxes: Library, corpus: Corpus, alice: User
) -> None:
    client.force_login(alice)
    kept = asked(client, corpus, fusion="weighted", bm25_weight=0.9)
    address = reverse("search:copy", args=[kept.pk, corpus.pk])
    question = client.get(address, {"pool": 5}).content.decode()
    assert "Weight of keywords" in question
    assert Corpus.objects.get().retrieval == {}

    client.post(address, {"pool": 5})

    mine = Corpus.objects.get()
    settings = retrieval_settings([mine])
    assert (settings.fusion, settings.bm25_weight, settings.pool, settings.top_n) == (
        Fusion.WEIGHTED,
        0.9,
        5,
        4,
    )
    trace = chat_services().retrieve(QUESTION, [mine], lambda _: None)
    assert trace.settings == settings
    client.post(address, {"reset": "1"})
    assert Corpus.objects.get().retrieval == {}


def test_corpora_that_differ_are_searched_as_the_site_says(corpus: Corpus, alice: User) -> None:
    corpus.retrieval = {"pool": 7, "top_n": 3}
    other = Corpus(owner=alice, name="Other", retrieval={"pool": 9, "top_n": 3})

    settings = retrieval_settings([corpus, other])

    assert (settings.pool, settings.top_n) == (100, 3)


def test_only_who_may_edit_a_corpus_copies_settings_to_it(
    client: Client, foxes: Library, corpus: Corpus, viv: User
) -> None:
    Corpus.objects.update(visibility=Corpus.Visibility.OPEN)
    client.force_login(viv)
    kept = asked(client, corpus)

    assert client.post(reverse("search:copy", args=[kept.pk, corpus.pk])).status_code == 404


def test_the_text_that_was_scored_is_shown_with_what_carries_it(
    client: Client, foxes: Library, corpus: Corpus, alice: User
) -> None:
    client.force_login(alice)
    document = foxes.add(corpus, "A badge is worn. A red fox jumps. Nobody knows why.")
    kept = asked(client, corpus)
    chunk_id = Chunk.objects.get(document=document).pk
    address = reverse("search:passage", args=[kept.pk, chunk_id])

    assert "A badge is worn. A red fox jumps." in client.get(address).content.decode()
    explained = client.get(address, {"why": "1"}).content.decode()

    assert "A red fox jumps.</mark>" in explained
    assert explained.count("<mark") == 1


def test_the_exports_hold_every_candidate(
    client: Client, foxes: Library, corpus: Corpus, alice: User
) -> None:
    client.force_login(alice)
    kept = asked(client, corpus)

    told = client.get(reverse("search:export_json", args=[kept.pk])).json()
    table = client.get(reverse("search:export_csv", args=[kept.pk])).content.decode()

    rows = list(csv.DictReader(StringIO(table)))
    assert [row["chunk_id"] for row in rows] == [c["chunk_id"] for c in told["candidates"]]
    assert len(rows) == 12
    assert told["settings"]["top_n"] == 4
    assert rows[0]["text"].startswith("'=A red fox")  # no formula in a spreadsheet


def test_judgements_become_an_evaluation_set_that_the_command_reads(
    client: Client, foxes: Library, corpus: Corpus, alice: User, tmp_path: Path
) -> None:
    client.force_login(alice)
    kept = asked(client, corpus)
    ids = [candidate["chunk_id"] for candidate in kept.trace["candidates"]]
    for chunk_id, grade in ((ids[0], "1"), (ids[1], "0"), (ids[2], "1"), (ids[2], "1")):
        client.post(reverse("search:judge", args=[kept.pk, chunk_id]), {"grade": grade})

    first = Judgement.objects.get(chunk_id=ids[0])
    assert (first.person, first.grade, first.question) == (alice, 1, QUESTION)
    assert first.trace["candidate"]["rerank_rank"] == 1
    assert not Judgement.objects.filter(chunk_id=ids[2]).exists()  # taken back

    assert reverse("search:judgements", args=[corpus.pk]) in shown(client, kept)
    response = client.get(reverse("search:judgements", args=[corpus.pk]))
    with zipfile.ZipFile(BytesIO(response.content)) as archive:
        archive.extractall(tmp_path)
    collection = load(tmp_path)
    (query,) = collection.queries
    assert collection.queries[query] == QUESTION
    assert collection.judgements[query] == {ids[0]: 1, ids[1]: 0}
    assert len(collection.documents) == 12


def test_a_viewer_exports_only_what_they_judged_themselves(
    client: Client, foxes: Library, corpus: Corpus, alice: User, viv: User
) -> None:
    Corpus.objects.update(visibility=Corpus.Visibility.OPEN)
    client.force_login(alice)
    kept = asked(client, corpus)
    chunk_id = kept.trace["candidates"][0]["chunk_id"]
    client.post(reverse("search:judge", args=[kept.pk, chunk_id]), {"grade": "1"})

    assert judging.evaluation_set(corpus, reader=alice).queries
    assert not judging.evaluation_set(corpus, reader=viv).queries


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"question": " "}, "Type a question first."),
        ({"corpora": []}, "Choose at least one corpus to ask."),
        ({"bm25_k": 0, "dense_k": 0}, "With both k at 0 nothing is searched."),
        ({"pool": 0}, "greater than or equal to 1"),
        ({"threshold": "2"}, "less than or equal to 1"),
    ],
)
def test_what_cannot_be_searched_comes_back_with_a_sentence(
    client: Client, foxes: Library, corpus: Corpus, alice: User, change: Any, sentence: str
) -> None:
    client.force_login(alice)

    response = client.post(reverse("search:inspector"), {**FORM, "corpora": [corpus.pk], **change})

    assert response.status_code == 422
    assert sentence in response.content.decode()
    assert not Inspection.objects.exists()


def test_old_inspections_go(
    client: Client, foxes: Library, corpus: Corpus, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspector, "KEPT", 2)
    client.force_login(alice)
    made = [asked(client, corpus).pk for _ in range(3)]

    assert list(Inspection.objects.order_by("pk").values_list("pk", flat=True)) == made[1:]
