"""Faults of reranking that the site finds in its own answers."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import caches
from django.test import Client
from django.urls import reverse

from chat import tasks
from chat.diagnosis import Fault, diagnose
from chat.models import Conversation, Turn
from inference.catalogue import WITH_CUDA, WITH_NETWORK, languages
from inference.devices import unused_gpu
from inference.types import ModelInfo, ServerInfo
from ingestion.models import Corpus, Document
from search.models import Judgement, digest_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("tmp_data")]
MODEL = "some/reranker"


@pytest.fixture
def conversation(alice: User) -> Conversation:
    """One of alice's."""
    return Conversation.objects.create(owner=alice)


def answers(
    conversation: Conversation,
    count: int,
    *,
    codes: tuple[str, ...] = (),
    relevances: tuple[float, ...] = (0.8, 0.4, 0.1),
    **report: Any,
) -> None:
    """So many answers that went the same way."""
    rerank = {"candidates": 100, "reranked": 100, "model": MODEL, "device": "cpu"} | report
    Turn.objects.bulk_create(
        Turn(
            conversation=conversation,
            question="Who pays?",
            state=Turn.State.DONE,
            sources=[{"relevance": relevance} for relevance in relevances],
            degraded=[{"code": code, "sentence": "Less."} for code in codes],
            trace={"rerank": rerank, "settings": {"rerank_at_most": 0}},
        )
        for _ in range(count)
    )


def judgements(corpus: Corpus, person: User, *, fused: int, reranked: int, count: int) -> None:
    """So many questions whose relevant passage went from one place to another."""
    document = Document.objects.create(corpus=corpus, name="a", size_bytes=1, sha256="a" * 64)
    Judgement.objects.bulk_create(
        Judgement(
            person=person,
            corpus=corpus,
            document=document,
            chunk_id="c1",
            question=f"Question {n}?",
            question_sha256=digest_of(f"Question {n}?"),
            grade=Judgement.Grade.RELEVANT,
            trace={
                "rerank": {"model": MODEL},
                "candidate": {"rrf_rank": fused, "rerank_rank": reranked},
            },
        )
        for n in range(count)
    )


def faults(info: ServerInfo | None = None) -> list[Fault]:
    return [finding.fault for finding in diagnose(info)]


def test_a_healthy_site_and_a_new_one_have_no_findings(conversation: Conversation) -> None:
    assert diagnose(ServerInfo("1", None, None)) == []

    answers(conversation, 30)

    assert diagnose(ServerInfo("1", None, None)) == []


@pytest.mark.parametrize(
    ("fault", "given"),
    [
        (Fault.FLAT, {"codes": ("reranker_flat",), "reranked": 0, "relevances": ()}),
        (Fault.SCRIPT, {"codes": ("reranker_script",), "reranked": 0, "relevances": ()}),
        (Fault.FAILED, {"codes": ("reranker_failed",), "reranked": 0, "relevances": ()}),
        (Fault.FAILED, {"codes": ("reranker_late",), "reranked": 0, "relevances": ()}),
        (Fault.FAILED, {"codes": ("no_reranker",), "reranked": 0, "relevances": ()}),
        (Fault.SATURATED, {"relevances": (1.0, 0.999, 0.995)}),
        (Fault.SATURATED, {"relevances": (0.001, 0.0)}),
        (Fault.POOL, {"reranked": 24}),
        (Fault.CUT, {"truncated": 40}),
    ],
)
def test_each_fault_of_the_answers_is_found(
    fault: Fault, given: dict[str, Any], conversation: Conversation
) -> None:
    answers(conversation, 12, **given)

    assert faults() == [fault]


def test_how_the_reranker_failed_is_told_and_one_that_is_switched_off_does_not_fail(
    conversation: Conversation,
) -> None:
    off: dict[str, Any] = {"codes": ("no_reranker",), "reranked": 0, "relevances": ()}
    answers(conversation, 12, model="", **off)

    assert faults() == []

    answers(conversation, 2, **off)
    refused = "Not reranked: Cohere refuses the key. The order is that of fusion."
    Turn.objects.filter(trace__rerank__model=MODEL).update(
        degraded=[{"code": "no_reranker", "sentence": refused}]
    )
    (finding,) = diagnose(None)
    assert "In 2 of the last 14 answers" in finding.sentence
    assert "with “Not reranked: Cohere refuses the key”." in finding.sentence


def test_a_gpu_is_never_said_to_be_short_of_time(conversation: Conversation) -> None:
    answers(conversation, 12, reranked=24, device="cuda")

    assert faults() == []


def test_few_answers_and_those_of_a_former_reranker_do_not_count(
    conversation: Conversation,
) -> None:
    answers(conversation, 30, truncated=90, model="former/reranker")
    answers(conversation, 9, truncated=90)

    assert faults() == []


def test_flat_scores_of_a_reranker_that_was_replaced_are_forgotten(
    conversation: Conversation,
) -> None:
    flat: dict[str, Any] = {"codes": ("reranker_flat",), "reranked": 0, "relevances": ()}
    answers(conversation, 12)
    answers(conversation, 3, model="former/reranker", **flat)

    assert faults() == [Fault.FLAT]

    answers(conversation, 1)

    assert faults() == []


def test_reranking_that_does_harm_by_the_judgements_is_found(
    conversation: Conversation, corpus: Corpus, alice: User
) -> None:
    answers(conversation, 1)
    judgements(corpus, alice, fused=1, reranked=6, count=12)

    (finding,) = diagnose(None)

    assert finding.fault is Fault.WORSE
    assert "By 12 judged questions" in finding.sentence
    assert "1.00 by fusion and 0.17" in finding.sentence


@pytest.mark.parametrize(("fused", "reranked", "count"), [(1, 6, 5), (6, 1, 12), (3, 3, 12)])
def test_reranking_that_helps_or_is_hardly_judged_is_not(
    fused: int,
    reranked: int,
    count: int,
    conversation: Conversation,
    corpus: Corpus,
    alice: User,
) -> None:
    answers(conversation, 1)
    judgements(corpus, alice, fused=fused, reranked=reranked, count=count)

    assert faults() == []


def test_what_the_model_server_tells_comes_after_what_is_graver(
    conversation: Conversation,
) -> None:
    answers(conversation, 12, codes=("reranker_flat",), reranked=0, relevances=())

    told = ServerInfo("1", None, None, unused_gpu="NVIDIA H100", out_of_memory=3)

    assert faults(told) == [Fault.FLAT, Fault.MEMORY, Fault.GPU]
    _, memory, _ = diagnose(replace(told, out_of_memory=1))
    assert memory.sentence.startswith("1 batch did not fit into memory since")
    Turn.objects.exclude(pk=Turn.objects.latest("pk").pk).delete()
    (flat,) = diagnose(None)
    assert flat.sentence.startswith("In the last answer the reranker gave every passage the same")


def test_a_corpus_in_a_language_the_reranker_was_not_trained_on_is_named(alice: User) -> None:
    for name, language in (("Law", "de"), ("Handbook", "en")):
        Corpus.objects.create(owner=alice, name=name, language=language)
    english = ModelInfo(WITH_NETWORK, "r", "cpu", "float32", 512, languages=languages(WITH_NETWORK))

    (finding,) = diagnose(ServerInfo("1", None, english))

    assert finding.fault is Fault.LANGUAGE
    assert "trained on English only" in finding.sentence
    assert "“Law” (de)" in finding.sentence
    assert "Handbook" not in finding.sentence
    many = replace(english, languages=languages(WITH_CUDA))
    assert diagnose(ServerInfo("1", None, many)) == []


def test_a_gpu_of_the_driver_is_known_by_its_name(tmp_path: Path) -> None:
    assert unused_gpu(tmp_path / "none") == ""
    about = tmp_path / "0000:01:00.0" / "information"
    about.parent.mkdir()
    about.write_text("Model: \t\t NVIDIA GeForce RTX 4090\nIRQ:   \t\t 128\n")

    assert unused_gpu(tmp_path) == "NVIDIA GeForce RTX 4090"


def test_findings_stand_on_the_status_page_and_in_the_log(
    conversation: Conversation, client: Client, alice: User, caplog: pytest.LogCaptureFixture
) -> None:
    caches["here"].delete("reranking")
    answers(conversation, 12, truncated=40)
    client.force_login(alice)

    page = client.get(reverse("status-checks")).content.decode()
    with caplog.at_level(logging.WARNING, logger="chat.tasks"):
        tasks.diagnose()

    assert "could not read the end of 40% of the passages" in page
    assert "could not read the end of 40% of the passages" in caplog.text
    caches["here"].delete("reranking")
