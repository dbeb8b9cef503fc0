"""`manage.py rebuild` from start to flip, as a script uses it."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client

from ingestion import nudges
from ingestion.models import Chunk, Corpus, IndexGeneration
from search.management.commands.rebuild import Command
from search.models import Judgement, digest_of
from tests.ingestion.test_rebuild import ready

pytestmark = [
    pytest.mark.services,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("tmp_data", "chroma_url", "inference_url"),
]


@pytest.fixture(autouse=True)
def _no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nudges, "nudge_waiting", lambda: 0)
    monkeypatch.setattr(nudges, "nudge_generations", lambda: None)
    monkeypatch.setattr(nudges, "worker_answers", lambda seconds: False)


def run(*args: str) -> dict[str, Any]:
    out = StringIO()
    call_command(Command(), *args, "--as", "alice", "--json", stdout=out)
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def judge(corpus: Corpus, question: str, grade: int) -> None:
    chunk = Chunk.objects.filter(document__corpus=corpus)[0]
    Judgement.objects.create(
        person=corpus.owner,
        corpus=corpus,
        document=chunk.document,
        chunk_id=chunk.pk,
        question=question,
        question_sha256=digest_of(question),
        grade=grade,
    )


def test_a_corpus_is_rebuilt_compared_put_into_use_and_taken_back(
    client: Client, corpus: Corpus, tmp_path: Path
) -> None:
    ready(corpus, "The pump has a fan. " * 60)
    questions = tmp_path / "questions.txt"
    questions.write_text("What has a fan? => page.md\nWhat does it cost?\n")

    begun = run("Papers", "--strategy", "sentence", "--max-tokens", "96")
    assert begun["live"]["strategy"] == "structure"
    assert begun["building"]["strategy"] == "sentence"
    assert begun["building"]["documents"] == {"total": 1, "ready": 0, "failed": 0, "left": 1}

    built = run("Papers", "--wait", "--compare", str(questions))
    assert built["building"]["complete"] is True
    assert built["building"]["passages"] > built["live"]["passages"]
    assert built["comparison"]["measured"]["live"]["questions"] == 1
    assert built["comparison"]["measured"]["building"]["recall"] == 1.0
    assert len(built["comparison"]["questions"]) == 2

    with pytest.raises(CommandError, match="Nobody has judged a passage of this corpus relevant"):
        run("Papers", "--compare")
    judge(corpus, "What turns?", Judgement.Grade.RELEVANT)
    judge(corpus, "What does it cost?", Judgement.Grade.NOT_RELEVANT)
    judged = run("Papers", "--compare")["comparison"]
    assert judged["measured"]["live"]["questions"] == 1
    assert [row["question"] for row in judged["questions"]] == ["What turns?"]
    client.force_login(corpus.owner)
    page = client.get(f"/corpora/{corpus.pk}/index/compare/")
    assert "What turns? =&gt; page.md</textarea>" in page.content.decode()

    flipped = run("Papers", "--flip")
    assert flipped["building"] is None
    assert flipped["live"]["strategy"] == "sentence"
    assert flipped["former"]["strategy"] == "structure"
    assert flipped["former_until"]

    back = run("Papers", "--roll-back")
    assert back["live"]["strategy"] == "structure"
    corpus.refresh_from_db()
    assert (corpus.chunk_strategy, corpus.chunk_max_tokens) == ("sentence", 96)


def test_one_call_rebuilds_and_flips_and_one_cancels(corpus: Corpus) -> None:
    ready(corpus, "first")

    done = run("Papers", "--max-tokens", "64", "--overlap", "0", "--wait", "--flip")
    assert (done["live"]["max_tokens"], done["live"]["overlap_tokens"]) == (64, 0)
    assert run("Papers", "--state")["building"] is None

    run("Papers")
    assert run("Papers", "--cancel")["building"] is None
    assert IndexGeneration.objects.filter(state=IndexGeneration.State.DISCARDED).count() == 1


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("Paper",), "alice has no corpus called “Paper”"),
        (("Papers", "--cancel"), "No rebuild of this corpus is under way"),
        (("Papers", "--roll-back"), "There is no former index"),
        (("Papers", "--max-tokens", "449"), "A passage may have 32 to 448 tokens"),
        (("Papers", "--overlap", "200"), "may overlap by 85"),
        (("Papers",), "No document of this corpus is ready"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    corpus: Corpus, args: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(CommandError, match=sentence):
        run(*args)


def test_a_corpus_that_is_open_to_all_is_rebuilt_by_its_owner_alone(
    corpus: Corpus, bob: object
) -> None:
    Corpus.objects.update(visibility=Corpus.Visibility.OPEN)

    with pytest.raises(CommandError, match="bob has no corpus"):
        call_command(Command(), "Papers", "--as", "bob", stdout=StringIO())
