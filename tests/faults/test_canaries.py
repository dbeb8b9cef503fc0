"""Documents with canaries in them, deleted: no answer has them, and then no byte on the disk."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.conf import settings as site
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone
from numpy.typing import NDArray

from chat.models import Conversation, Turn
from ingestion import erasure, pipeline, restore, services
from ingestion.conf import ingestion_settings
from ingestion.embeddings import from_bytes
from ingestion.models import Chunk, Corpus, Deletion, Document, IndexGeneration
from ingestion.purge import purge_corpus
from ingestion.verification.run import verify
from search.conf import retrieval_settings, search_services
from search.pipeline import retrieve
from search.types import Trace
from tests.faults.canary import files_with_text, files_with_vector
from tests.faults.report import report
from tests.faults.scale import campaign
from tests.ingestion.workbench import assert_complete, upload

pytestmark = [
    pytest.mark.services,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("chroma_url", "inference_url"),
]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingestion.nudges.nudge_waiting", lambda: 0)
    monkeypatch.setattr(restore, "LAST_QUESTIONS_SECONDS", 0.0)


def canary(chance: random.Random) -> str:
    """A word that nothing else has."""
    return "zq" + "".join(chance.choices("bcdfghjklmnpqrstvwxz", k=14))


def ask(corpus: Corpus, question: str) -> Trace:
    return retrieve(
        question, corpora=[corpus], settings=retrieval_settings(), services=search_services()
    )


def answered(person: User, trace: Trace) -> Turn:
    """A stored answer of quotes that rests on this trace."""
    conversation = Conversation.objects.create(owner=person)
    sources = trace.sources()
    lines = [f"> “{' '.join(source['text'].split())}” [{source['rank']}]" for source in sources]
    return Turn.objects.create(
        conversation=conversation,
        question="What?",
        state=Turn.State.DONE,
        answer="\n\n".join(lines),
        trace=trace.to_json(),
        sources=sources,
    )


def places(data: Path) -> list[Path]:
    """Every folder in which this site keeps anything."""
    return [data, Path(site.CHROMA_DIR), Path(connection.settings_dict["NAME"]).parent]


def work_off() -> None:
    for pk in list(Document.objects.unfinished().values_list("pk", flat=True)):
        pipeline.work_on(pk)


def vectors_of(documents: Sequence[Document]) -> NDArray[np.float32]:
    rows = Chunk.objects.filter(document__in=documents).values_list("embedding", flat=True)
    return from_bytes([bytes(row or b"") for row in rows], dimension=384)


def let_time_pass() -> None:
    """As if the last deletion were a while ago."""
    ago = timezone.now() - timedelta(seconds=erasure.QUIET_SECONDS + 1)
    IndexGeneration.objects.exclude(residue_at=None).update(residue_at=ago)
    Deletion.objects.exclude(purged_at=None).update(purged_at=ago)


@campaign(short=2, full=100)
def test_a_deleted_text_is_nowhere(alice: User, tmp_data: Path, count: int) -> None:
    chance = random.Random(7)
    corpus = Corpus.objects.create(name="Birds", owner=alice)
    words = [canary(chance) for _ in range(count)]
    going = [
        upload(
            corpus, f"The canary {word} sings in the mine at {place} o'clock.", name=f"{place}.md"
        )
        for place, word in enumerate(words)
    ]
    staying = [
        upload(corpus, f"Sparrow {n} lives in hedge {n}.", name=f"s{n}.md") for n in range(count)
    ]
    began = time.monotonic()
    work_off()
    turns = [answered(alice, ask(corpus, f"Who sings at {n} o'clock?")) for n in range(5)]
    assert words[0] in turns[0].answer
    vectors = vectors_of(going)
    where = places(tmp_data)
    assert files_with_text(where, words[:1])  # the scan finds what is there
    assert files_with_vector(where, vectors[:1])
    ingested = time.monotonic() - began

    began = time.monotonic()
    asked = Document.objects.filter(pk__in=[document.pk for document in going])
    assert services.request_deletion(documents=asked, person=alice) == count
    for word in words[:10]:  # hidden at once, before anything is purged
        assert word not in str(ask(corpus, f"What does {word} do?").passages)
    hidden = time.monotonic() - began
    work_off()
    assert set(Deletion.objects.values_list("state", flat=True)) == {Deletion.State.PURGED}
    let_time_pass()
    assert erasure.is_due()
    assert erasure.erase(ingestion_settings()) == count

    assert files_with_text(where, words) == []
    assert files_with_vector(where, vectors) == []
    for receipt in Deletion.objects.all():
        assert receipt.state == Deletion.State.ERASED
        assert receipt.requested_by == alice
        assert receipt.kept == []
        removed = receipt.removed
        assert removed["passages"] == removed["vectors"] == removed["words"] > 0
        assert removed["files"] == 1
        assert removed["texts"] > 0
    for turn in turns:
        turn.refresh_from_db()
        assert "Deleted document" in str(turn.sources)
        assert Trace.from_json(turn.trace or {}).candidates
    for document in staying:
        assert_complete(document)
    assert verify(ingestion_settings(), deep=True).findings == []
    report(
        "canaries",
        documents=count,
        hits_after_hiding=0,
        files_with_text=0,
        files_with_vectors=0,
        vectors_looked_for=len(vectors),
        seconds_to_ingest=round(ingested, 1),
        seconds_to_hide_and_ask=round(hidden, 1),
        seconds_to_erase=round(time.monotonic() - began - hidden, 1),
    )


def test_a_deleted_corpus_is_nowhere(alice: User, tmp_data: Path, settings: Any) -> None:
    word = canary(random.Random(8))
    corpus = Corpus.objects.create(name="Birds", owner=alice)
    document = upload(corpus, f"The canary {word} sings.")
    work_off()
    vectors = vectors_of([document])
    services.delete_corpus(corpus=corpus, person=alice)
    assert purge_corpus(corpus.pk, ingestion_settings())
    let_time_pass()
    assert erasure.erase(ingestion_settings()) == 1

    where = places(tmp_data)
    assert files_with_text(where, [word]) == []
    assert files_with_vector(where, vectors) == []
    receipt = Deletion.objects.get()
    assert (receipt.name, receipt.documents, receipt.state) == ("Birds", 1, Deletion.State.ERASED)
    assert receipt.removed["files"] == 1
    assert receipt.removed["vectors"] > 0


def test_an_answer_that_ends_after_the_deletion_keeps_nothing(alice: User, tmp_data: Path) -> None:
    word = canary(random.Random(9))
    corpus = Corpus.objects.create(name="Birds", owner=alice)
    document = upload(corpus, f"The canary {word} sings.")
    work_off()
    trace = ask(corpus, "What sings?")
    services.request_deletion(documents=Document.objects.filter(pk=document.pk))
    work_off()
    turn = answered(alice, trace)  # it was being written meanwhile
    assert {f["code"] for f in verify(ingestion_settings()).findings} == {"kept_text"}

    assert verify(ingestion_settings(), repair=True).unrepaired == 0

    turn.refresh_from_db()
    assert word not in f"{turn.answer} {turn.sources} {turn.trace}"
    assert verify(ingestion_settings()).findings == []


def test_where_chromas_files_are_out_of_reach_the_receipt_says_so(
    alice: User, tmp_data: Path, settings: Any
) -> None:
    settings.CHROMA_DIR = tmp_data / "elsewhere"
    corpus = Corpus.objects.create(name="Birds", owner=alice)
    goes, _ = upload(corpus, "goes"), upload(corpus, "stays")
    work_off()
    services.request_deletion(documents=Document.objects.filter(pk=goes.pk))
    work_off()
    let_time_pass()

    erasure.erase(ingestion_settings())

    assert Deletion.objects.get().kept == [erasure.CHROMA_OUT_OF_REACH]
