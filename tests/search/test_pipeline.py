"""The retrieval pipeline: order, scope, what is missing, and the record of it all."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from django.contrib.auth.models import User
from pytest_django import DjangoAssertNumQueries

from inference.errors import (
    InferenceBusy,
    InferenceError,
    InferenceLate,
    InferenceRejected,
    InferenceUnreachable,
    ModelLoading,
    NoModel,
)
from inference.types import HOSTED, RerankScore
from ingestion.errors import VectorStoreError
from ingestion.models import Chunk, Corpus, Document, IndexGeneration
from search import pipeline
from search.errors import InvalidSettings
from search.pipeline import retrieve
from search.types import DegradedCode, Outcome, RetrievalSettings, Trace
from tests.search.stand_ins import EMBEDDER, RERANKER, Library

DEFAULT = RetrievalSettings()
QUESTION = "How often is the water pump serviced?"
RIGHT = "The water pump is serviced every six months."
TEXTS = (
    "The pump house was built in 1960.",
    RIGHT,
    "Water is sold by the litre.",
    "Parking is free on Sundays.",
)


def ids(trace: Trace) -> list[str]:
    return [candidate.chunk_id for candidate in trace.candidates]


def codes(trace: Trace) -> list[DegradedCode]:
    return [degradation.code for degradation in trace.degraded]


def ask(
    library: Library,
    *corpora: Corpus,
    settings: RetrievalSettings = DEFAULT,
    question: str = QUESTION,
) -> Trace:
    return retrieve(question, corpora=corpora, settings=settings, services=library.services)


@pytest.fixture
def filled(library: Library, corpus: Corpus) -> Library:
    library.add(corpus, *TEXTS, name="handbook.pdf")
    return library


# --- the order ---------------------------------------------------------------


def test_the_passage_that_answers_comes_first_with_its_whole_journey(
    filled: Library, corpus: Corpus
) -> None:
    trace = ask(filled, corpus)

    best = trace.candidates[0]
    assert trace.passages[best.chunk_id].text == RIGHT
    assert (best.bm25_rank, best.dense_rank, best.rrf_rank, best.rerank_rank) == (1, 1, 1, 1)
    assert best.bm25_score is not None
    assert best.bm25_score > 0
    assert best.similarity == pytest.approx(0.6, abs=0.2)
    assert best.rrf_score == pytest.approx(2 / 61)
    assert best.relevance is not None
    assert best.relevance > 0.9
    assert trace.degraded == []
    assert trace.rerank.candidates == trace.rerank.reranked == len(trace.candidates)
    told = trace.rerank
    assert (told.model, told.device, told.dtype) == ("overlap", "cuda", "float32")


def test_the_reranker_has_the_last_word(filled: Library, corpus: Corpus) -> None:
    fused = [
        c.chunk_id for c in sorted(ask(filled, corpus).candidates, key=lambda c: c.rrf_rank or 0)
    ]
    filled.models.logit = lambda question, text: -float(len(text))  # type: ignore[method-assign]

    trace = ask(filled, corpus)

    by_length = sorted(fused, key=lambda i: len(trace.passages[i].text))
    assert ids(trace) == by_length != fused
    assert [c.rerank_rank for c in trace.candidates] == list(range(1, len(fused) + 1))
    for candidate in trace.candidates:
        moved = fused.index(candidate.chunk_id) - by_length.index(candidate.chunk_id)
        assert candidate.movement == moved


def test_a_reranker_that_cannot_decide_leaves_the_fused_order(
    filled: Library, corpus: Corpus
) -> None:
    filled.models.logit = lambda question, text: 1.0  # type: ignore[method-assign]

    trace = ask(filled, corpus)

    assert [c.rrf_rank for c in trace.candidates] == list(range(1, len(trace.candidates) + 1))
    assert all(c.movement == 0 for c in trace.candidates)


def test_the_cross_encoder_reads_the_heading_path_and_the_passage(
    library: Library, corpus: Corpus
) -> None:
    library.add(corpus, "It is serviced monthly.", heading_path="Plant › Water pump")

    ask(library, corpus)

    assert library.models.reranked == [["Plant › Water pump\nIt is serviced monthly."]]


def test_pairs_are_sent_best_fused_first(filled: Library, corpus: Corpus) -> None:
    trace = ask(filled, corpus)

    fused = sorted(trace.candidates, key=lambda c: c.rrf_rank or 0)
    assert filled.models.reranked == [[trace.passages[c.chunk_id].text for c in fused]]


def test_knobs_cut_where_they_say(library: Library, corpus: Corpus) -> None:
    library.add(corpus, *(f"pump number {n}" for n in range(30)))
    settings = replace(DEFAULT, bm25_k=20, dense_k=20, pool=12, top_n=5)

    trace = ask(library, corpus, settings=settings, question="pump number 7")

    outcomes = [c.outcome for c in trace.candidates]
    n = len(outcomes)
    assert 20 <= n <= 40
    assert outcomes == (
        [Outcome.SELECTED] * 5 + [Outcome.BELOW_TOP_N] * 7 + [Outcome.OUTSIDE_POOL] * (n - 12)
    )
    assert len(trace.selected) == 5
    assert len(library.models.reranked[0]) == 12
    assert max(c.bm25_rank or 0 for c in trace.candidates) == 20
    assert max(c.dense_rank or 0 for c in trace.candidates) == 20
    assert sorted(c.rrf_rank or 0 for c in trace.candidates[:12]) == list(range(1, 13))
    assert [c.rrf_rank for c in trace.candidates[12:]] == list(range(13, n + 1))


def test_a_cpu_reads_what_the_budget_allows_and_the_rest_follows_in_fused_order(
    library: Library, corpus: Corpus
) -> None:
    library.add(corpus, *(f"pump number {n} " + "x" * 385 for n in range(40)))
    library.models.reranker = replace(RERANKER, device="cpu", tokens_per_second=500.0)
    lines: list[str] = []

    trace = retrieve(
        "pump number 39",
        corpora=[corpus],
        settings=replace(DEFAULT, rerank_budget_ms=1000),
        services=library.services,
        on_stage=lines.append,
    )

    # 500 tokens in a second are 4 pairs of 103 or 104 tokens; the stand-in answers at once.
    assert lines == ["Searching Papers…", "Reranking 4 of 40 passages on cpu…"]
    assert len(library.models.reranked[0]) == 4
    assert trace.rerank.reranked == 40
    assert trace.degraded == []


def test_a_slow_cpu_leaves_the_rest_unread_without_calling_it_degraded(
    library: Library, corpus: Corpus
) -> None:
    library.add(corpus, *(f"pump number {n} " + "x" * 385 for n in range(40)))
    library.models.reranker = replace(RERANKER, device="cpu", tokens_per_second=500.0)
    original = library.models.rerank

    def slow(question: str, texts: list[str], **kwargs: float) -> list[RerankScore]:
        import time

        time.sleep(0.02 * len(texts))
        return original(question, texts)

    library.models.rerank = slow  # type: ignore[assignment, method-assign]

    settings = replace(DEFAULT, rerank_budget_ms=200)
    trace = ask(library, corpus, settings=settings, question="pump number 39")

    read = [c for c in trace.candidates if c.rerank_rank]
    assert 1 <= len(read) < 40
    assert trace.candidates[: len(read)] == read
    rest = [c.rrf_rank or 0 for c in trace.candidates[len(read) :]]
    assert rest == sorted(rest)
    assert rest[0] == len(read) + 1
    assert trace.rerank.reranked == len(read)
    assert trace.degraded == []


def test_several_corpora_are_merged_by_score(filled: Library, corpus: Corpus, alice: User) -> None:
    second = Corpus.objects.create(name="More", owner=alice)
    filled.add(second, "Cats sleep a lot.", "How often is the water pump serviced? Every year.")

    trace = ask(filled, corpus, second)

    assert trace.passages[ids(trace)[0]].corpus_id == second.pk
    similarities = [
        c.similarity for c in sorted(trace.candidates, key=lambda c: c.dense_rank or 99)
    ]
    assert similarities == sorted(similarities, key=lambda s: -(s or -1))
    scores = [c.bm25_score for c in trace.candidates if c.bm25_rank == 1]
    assert scores == [max(c.bm25_score or 0 for c in trace.candidates)]


def test_the_same_question_gives_the_same_trace_twice(filled: Library, corpus: Corpus) -> None:
    first, second = ask(filled, corpus), ask(filled, corpus)

    assert first.candidates == second.candidates


def test_a_trace_survives_being_stored(filled: Library, corpus: Corpus) -> None:
    trace = ask(filled, corpus)

    assert Trace.from_json(json.loads(json.dumps(trace.to_json()))) == trace


def test_every_stage_is_timed(filled: Library, corpus: Corpus) -> None:
    timings = ask(filled, corpus).stage_timings_ms

    assert list(timings) == ["bm25", "embed", "dense", "resolve", "fuse", "rerank", "total"]
    assert all(ms > 0 for ms in timings.values())
    assert timings["total"] >= timings["rerank"] + timings["fuse"] + timings["resolve"]


def test_a_retrieval_takes_two_queries(
    filled: Library, corpus: Corpus, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(2):
        ask(filled, corpus)


# --- what may be shown -------------------------------------------------------


def test_passages_of_other_corpora_never_appear(filled: Library, corpus: Corpus, bob: User) -> None:
    secret = Corpus.objects.create(name="Bob's", owner=bob)
    filled.add(secret, QUESTION)

    trace = ask(filled, corpus)

    assert {p.corpus_id for p in trace.passages.values()} == {corpus.pk}
    assert QUESTION not in filled.models.reranked[0]


@pytest.mark.parametrize(
    "hidden", [{"enabled": False}, {"state": Document.State.DELETING}, {"state": "received"}]
)
def test_hidden_documents_never_appear_although_the_indexes_have_them(
    filled: Library, corpus: Corpus, hidden: dict[str, object]
) -> None:
    document = filled.add(corpus, QUESTION)
    assert filled.index(filled.generation(corpus)).chunk_ids(document.pk)
    Document.objects.filter(pk=document.pk).update(**hidden)

    trace = ask(filled, corpus)

    assert document.pk not in {p.document_id for p in trace.passages.values()}
    assert [c.bm25_rank for c in trace.candidates if c.bm25_rank == 1] == [1]
    assert trace.passages[ids(trace)[0]].text == RIGHT


def test_hidden_passages_do_not_shorten_the_list(library: Library, corpus: Corpus) -> None:
    settings = replace(DEFAULT, bm25_k=3, dense_k=3)
    library.add(corpus, *(["water pump serviced"] * 20), enabled=False)
    library.add(corpus, *(f"The pump {n} is a pump among others." for n in range(6)))

    trace = ask(library, corpus, settings=settings)

    assert sum(c.bm25_rank is not None for c in trace.candidates) == 3
    assert sum(c.dense_rank is not None for c in trace.candidates) == 3
    assert library.vectors.asked == [6, 48]


def test_ids_that_sql_does_not_know_are_dropped_and_ranks_close_up(
    filled: Library, corpus: Corpus
) -> None:
    first = ids(ask(filled, corpus))[0]
    Chunk.objects.filter(pk=first).delete()

    trace = ask(filled, corpus)

    assert first not in ids(trace)
    assert sorted(c.dense_rank for c in trace.candidates if c.dense_rank) == [1, 2, 3]


def test_only_the_live_generation_is_asked(filled: Library, corpus: Corpus) -> None:
    IndexGeneration.objects.update(state=IndexGeneration.State.OLD)
    filled.add(corpus, "The new text about the pump.")

    assert [p.text for p in ask(filled, corpus).passages.values()] == [
        "The new text about the pump."
    ]


# --- nothing to search -------------------------------------------------------


@pytest.mark.parametrize("case", ["no corpora", "no generation", "no documents", "blank"])
def test_where_there_is_nothing_to_search_no_service_is_called_and_nothing_is_degraded(
    library: Library, corpus: Corpus, case: str
) -> None:
    if case != "no generation":
        library.generation(corpus)
    if case == "blank":
        library.add(corpus, *TEXTS)
    corpora = [] if case == "no corpora" else [corpus]

    trace = retrieve(
        " \n" if case == "blank" else QUESTION,
        corpora=corpora,
        settings=DEFAULT,
        services=library.services,
    )

    assert (trace.candidates, trace.degraded, trace.selected) == ([], [], [])
    assert Trace.from_json(trace.to_json()) == trace
    assert library.models.calls == []
    assert library.vectors.asked == []


def test_a_question_without_a_matching_word_is_answered_by_meaning_alone(
    filled: Library, corpus: Corpus
) -> None:
    trace = ask(filled, corpus, question="xylophone")

    assert all(c.bm25_rank is None for c in trace.candidates)
    assert len(trace.candidates) == 4
    assert trace.degraded == []


@pytest.mark.parametrize(
    "question", ["w" * 10_000, "pump " * 2_000, '"pump" AND (water:[a TO b]) 🙂 \ud800 \x00']
)
def test_no_question_is_too_strange(filled: Library, corpus: Corpus, question: str) -> None:
    trace = ask(filled, corpus, question=question)

    assert len(trace.candidates) == 4
    assert trace.degraded == []


# --- what is missing ---------------------------------------------------------


def test_no_reranker_leaves_the_fused_order_and_says_so(filled: Library, corpus: Corpus) -> None:
    filled.models.reranker = None
    filled.models.reranker_reason = "no reranker is installed"

    trace = ask(filled, corpus)

    assert [c.rrf_rank for c in trace.candidates] == [1, 2, 3, 4]
    assert trace.passages[ids(trace)[0]].text == RIGHT
    assert all(c.rerank_logit is None and c.relevance is None for c in trace.candidates)
    assert codes(trace) == [DegradedCode.NO_RERANKER]
    assert trace.degraded[0].sentence == (
        "Not reranked: no reranker is installed. The order is that of fusion."
    )
    assert "rerank" not in filled.models.calls
    assert len(trace.selected) == 4


def test_a_reranker_that_is_still_loading_is_told_from_none(
    filled: Library, corpus: Corpus
) -> None:
    filled.models.reranker = None
    filled.models.reranker_reason = "model is loading"

    trace = ask(filled, corpus)

    assert codes(trace) == [DegradedCode.RERANKER_LOADING]
    assert trace.degraded[0].sentence == (
        "Not reranked: the reranker is still being loaded. The order is that of fusion. "
        "Ask again in a minute."
    )


def test_reranking_that_was_switched_off_is_not_degraded(filled: Library, corpus: Corpus) -> None:
    trace = ask(filled, corpus, settings=replace(DEFAULT, rerank=False))

    assert [c.rrf_rank for c in trace.candidates] == [1, 2, 3, 4]
    assert trace.degraded == []
    assert "rerank" not in filled.models.calls


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NoModel("Cohere refuses the key"), DegradedCode.NO_RERANKER),
        (ModelLoading("soon"), DegradedCode.RERANKER_LOADING),
        (InferenceUnreachable("refused"), DegradedCode.RERANKER_UNREACHABLE),
        (InferenceLate("late"), DegradedCode.RERANKER_LATE),
        (InferenceBusy("full"), DegradedCode.RERANKER_LATE),
        (InferenceRejected("bad"), DegradedCode.RERANKER_FAILED),
    ],
)
def test_a_reranker_that_fails_leaves_the_fused_order_and_says_why(
    filled: Library, corpus: Corpus, error: InferenceError, code: DegradedCode
) -> None:
    filled.models.rerank_error = error

    trace = ask(filled, corpus)

    assert [c.rrf_rank for c in trace.candidates] == [1, 2, 3, 4]
    assert codes(trace) == [code]
    assert trace.degraded[0].sentence.startswith("Not reranked: ")
    assert "The order is that of fusion." in trace.degraded[0].sentence
    assert trace.rerank.reranked == 0


def test_a_hosted_service_that_is_late_is_named_not_the_model_server(
    filled: Library, corpus: Corpus
) -> None:
    assert filled.models.reranker is not None
    filled.models.reranker = replace(
        filled.models.reranker, model_id="cohere:rerank-v3.5", device=HOSTED
    )
    filled.models.rerank_error = InferenceLate("late")

    trace = ask(filled, corpus)

    assert trace.degraded[0].sentence.startswith(
        "Not reranked: cohere:rerank-v3.5 did not answer in time."
    )


def test_a_reranker_that_tells_nothing_apart_is_found_out(
    library: Library, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.add(corpus, *(f"pump number {n}" for n in range(12)))
    monkeypatch.setattr(library.models, "logit", lambda *_: 3.0)

    trace = ask(library, corpus, question="pump")

    assert codes(trace) == [DegradedCode.RERANKER_FLAT]
    assert "same score" in trace.degraded[0].sentence
    assert [c.rrf_rank for c in trace.candidates] == list(range(1, 13))
    assert all(c.rerank_logit is None for c in trace.candidates)
    assert library.models.reranker is not None
    assert (trace.rerank.reranked, trace.rerank.model) == (0, library.models.reranker.model_id)


def test_a_server_that_tells_nothing_of_itself_still_reranks(
    filled: Library, corpus: Corpus
) -> None:
    filled.models.info_error = InferenceRejected("not found")

    trace = ask(filled, corpus)

    assert trace.passages[ids(trace)[0]].text == RIGHT
    assert trace.rerank.reranked == 4
    assert trace.degraded == []


def test_without_the_model_server_keywords_still_answer(filled: Library, corpus: Corpus) -> None:
    models = filled.models
    models.info_error = models.embed_error = models.rerank_error = InferenceUnreachable("refused")

    trace = ask(filled, corpus)

    assert trace.passages[ids(trace)[0]].text == RIGHT
    assert all(c.dense_rank is None for c in trace.candidates)
    assert codes(trace) == [DegradedCode.EMBEDDER_UNREACHABLE, DegradedCode.RERANKER_UNREACHABLE]
    assert trace.degraded[0].sentence == (
        "Not searched by meaning: the model server is not reachable. Ask the administrator to "
        "start it."
    )


def test_without_chroma_keywords_still_answer(filled: Library, corpus: Corpus) -> None:
    filled.vectors.error = VectorStoreError("refused")

    trace = ask(filled, corpus)

    assert trace.passages[ids(trace)[0]].text == RIGHT
    assert all(c.dense_rank is None and c.rerank_rank for c in trace.candidates)
    assert codes(trace) == [DegradedCode.VECTORS_UNAVAILABLE]


def test_a_chroma_that_hangs_is_not_waited_for(
    filled: Library, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "ARMS_SECONDS", 0.2)
    filled.vectors.seconds = 1.5

    trace = ask(filled, corpus)

    assert trace.passages[ids(trace)[0]].text == RIGHT
    assert trace.stage_timings_ms["total"] < 1000
    assert codes(trace) == [DegradedCode.VECTORS_UNAVAILABLE]
    assert "in time" in trace.degraded[0].sentence


def test_with_a_damaged_keyword_index_meaning_still_answers(
    filled: Library, corpus: Corpus
) -> None:
    (filled.index(filled.generation(corpus)).folder / "meta.json").write_text("damaged")

    trace = ask(filled, corpus)

    assert trace.passages[ids(trace)[0]].text == RIGHT
    assert all(c.bm25_rank is None for c in trace.candidates)
    assert codes(trace) == [DegradedCode.LEXICAL_UNAVAILABLE]


def test_with_both_arms_down_the_trace_is_empty_and_names_both(
    filled: Library, corpus: Corpus
) -> None:
    (filled.index(filled.generation(corpus)).folder / "meta.json").write_text("damaged")
    filled.vectors.error = VectorStoreError("refused")

    trace = ask(filled, corpus)

    assert list(trace.candidates) == []
    assert codes(trace) == [DegradedCode.LEXICAL_UNAVAILABLE, DegradedCode.VECTORS_UNAVAILABLE]
    assert "rerank" not in filled.models.calls


def test_one_broken_corpus_of_two_is_named_and_the_other_answers(
    filled: Library, corpus: Corpus, alice: User
) -> None:
    second = Corpus.objects.create(name="More", owner=alice)
    filled.add(second, "The pump of the garden.")
    generation = filled.generation(second)
    filled.vectors.broken.add(generation.collection_name)
    (filled.index(generation).folder / "meta.json").write_text("damaged")

    trace = ask(filled, corpus, second)

    assert {p.corpus_id for p in trace.passages.values()} == {corpus.pk}
    assert [d.sentence.partition(":")[0] for d in trace.degraded] == [
        "Not searched by keywords in “More”",
        "Not searched by meaning in “More”",
    ]


@pytest.mark.parametrize("difference", [{"revision": "r2"}, {"dimension": 128}])
def test_a_corpus_of_another_embedding_model_is_not_searched_by_meaning(
    filled: Library, corpus: Corpus, difference: dict[str, object]
) -> None:
    if "dimension" in difference:
        IndexGeneration.objects.update(dimension=128)
    else:
        filled.models.embedder = replace(EMBEDDER, revision="r2")

    trace = ask(filled, corpus)

    assert all(c.dense_rank is None for c in trace.candidates)
    assert trace.passages[ids(trace)[0]].text == RIGHT
    assert codes(trace) == [DegradedCode.EMBEDDER_CHANGED]
    assert "The owner can rebuild it" in trace.degraded[0].sentence
    assert "another embedding model" in trace.degraded[0].sentence
    assert filled.vectors.asked == []


def test_every_sentence_ends_like_one(filled: Library, corpus: Corpus) -> None:
    filled.models.embed_error = InferenceBusy("full")
    filled.models.rerank_error = InferenceLate("late")

    for degradation in ask(filled, corpus).degraded:
        assert degradation.sentence[0].isupper()
        assert degradation.sentence.endswith(".")
        assert "{" not in degradation.sentence


# --- knobs -------------------------------------------------------------------


def test_an_arm_of_k_0_is_left_out_without_being_degraded(filled: Library, corpus: Corpus) -> None:
    keywords = ask(filled, corpus, settings=replace(DEFAULT, dense_k=0))
    assert all(c.dense_rank is None for c in keywords.candidates)
    assert "embed question" not in filled.models.calls
    meaning = ask(filled, corpus, settings=replace(DEFAULT, bm25_k=0))

    assert all(c.bm25_rank is None for c in meaning.candidates)
    assert keywords.degraded == meaning.degraded == []
    assert keywords.passages[ids(keywords)[0]].text == RIGHT
    assert meaning.passages[ids(meaning)[0]].text == RIGHT


@pytest.mark.parametrize(
    "wrong",
    [
        {"bm25_k": -1},
        {"dense_k": 100_000},
        {"rrf_k": 0},
        {"pool": 0},
        {"top_n": 0},
        {"rerank_budget_ms": 0},
        {"bm25_k": 0, "dense_k": 0},
    ],
)
def test_a_knob_outside_its_range_is_refused_in_a_sentence(
    filled: Library, corpus: Corpus, wrong: dict[str, Any]
) -> None:
    with pytest.raises(InvalidSettings) as caught:
        ask(filled, corpus, settings=replace(DEFAULT, **wrong))

    assert next(iter(wrong)) in caught.value.sentence
    assert caught.value.sentence.endswith(".")


def test_the_stages_are_told_as_they_begin(filled: Library, corpus: Corpus, alice: User) -> None:
    second = Corpus.objects.create(name="More", owner=alice)
    filled.add(second, "The pump of the garden.")
    lines: list[str] = []

    retrieve(
        QUESTION,
        corpora=[corpus, second],
        settings=DEFAULT,
        services=filled.services,
        on_stage=lines.append,
    )

    assert lines == ["Searching 2 corpora…", "Reranking 5 of 5 passages on cuda…"]
