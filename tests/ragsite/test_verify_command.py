"""`manage.py verify` as a script meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from ingestion import pipeline
from ingestion.models import Corpus, IndexGeneration, Verification
from tests.ingestion.workbench import assert_complete, store, upload

pytestmark = [pytest.mark.services, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def _given(
    monkeypatch: pytest.MonkeyPatch,
    tmp_data: Path,
    chroma_url: str,
    empty_stores: None,
    inference_url: str,
) -> None:
    """The command uses the processes that the environment names, and here nobody else works."""
    monkeypatch.setenv("CHROMA_URL", chroma_url)
    monkeypatch.setattr("ingestion.nudges.nudge_waiting", lambda: 0)


def run(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, Any]]:
    """Exit status, and the one document on standard output."""
    capsys.readouterr()
    try:
        call_command("verify", "--json", *options)
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    return status, json.loads(capsys.readouterr().out)


def test_exit_status_and_json_say_what_differs_and_what_was_repaired(
    corpus: Corpus, capsys: pytest.CaptureFixture[str], client: Client
) -> None:
    document = upload(corpus, "Pumps move water uphill.")
    pipeline.work_on(document.pk)
    assert run(capsys, "--deep")[0] == 0
    generation = IndexGeneration.objects.get()
    ids = assert_complete(document)
    store().delete(generation.collection_name, ids)

    status, found = run(capsys)

    assert status == 1
    assert (found["clean"], found["unrepaired"]) == (False, 1)
    (finding,) = found["findings"]
    assert (finding["store"], finding["code"]) == ("vectors", "missing_vectors")
    assert (finding["subject"], finding["count"]) == ("Papers", len(ids))
    client.force_login(corpus.owner)
    assert "1 not repaired" in client.get(reverse("status-checks")).content.decode()

    status, found = run(capsys, "--repair")
    assert status == 0
    assert found["findings"][0]["repaired"] is True
    assert_complete(document)
    status, found = run(capsys, "--deep")
    assert (status, found["clean"]) == (0, True)
    assert found["examined"]["vectors"] == len(ids)
    assert Verification.objects.count() == 4
    store().drop(generation.collection_name)
