"""`/metrics`: who may see it, and what stands in it."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django.fixtures import Settings

from chat import turns
from chat.answering import Draft
from chat.models import Turn
from ingestion.models import Corpus, Document
from search.types import Degradation, DegradedCode

pytestmark = pytest.mark.django_db


def test_the_machine_itself_may_see_them_and_others_not(client: Client, alice: User) -> None:
    assert client.get("/metrics").status_code == 200
    assert client.get("/metrics", REMOTE_ADDR="10.0.0.7").status_code == 403
    # A proxy on the same machine speaks for everybody behind it.
    for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded"):
        assert client.get("/metrics", headers={name: "127.0.0.1"}).status_code == 403
    client.force_login(alice)
    assert client.get("/metrics", REMOTE_ADDR="10.0.0.7").status_code == 403


def test_administrators_may_see_them_from_anywhere(client: Client, admin: User) -> None:
    client.force_login(admin)
    assert client.get("/metrics", REMOTE_ADDR="10.0.0.7").status_code == 200


def test_a_token_is_needed_where_there_is_one(client: Client, settings: Settings) -> None:
    settings.METRICS_TOKEN = "long-token"

    assert client.get("/metrics").status_code == 403
    assert client.get("/metrics", headers={"Authorization": "Bearer ”"}).status_code == 403
    good = {"Authorization": "Bearer long-token"}
    assert client.get("/metrics", REMOTE_ADDR="10.0.0.7", headers=good).status_code == 200


def test_behind_tls_nobody_is_the_machine_itself(client: Client, settings: Settings) -> None:
    settings.HTTPS = True
    assert client.get("/metrics").status_code == 403


def test_what_waits_and_what_was_answered_stand_in_them(client: Client, corpus: Corpus) -> None:
    Document.objects.create(corpus=corpus, name="a", size_bytes=1, sha256="a" * 64)
    before = samples(client)
    draft = Draft(question="What of the canary?", abstained=True)
    draft.timings_ms["first_token"] = 1500.0
    draft.degraded = [Degradation(DegradedCode.NO_RERANKER, "Not reranked.")]

    turns._count(draft, Turn.State.DONE)
    after = samples(client)

    def rise(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    assert after['ragsite_documents{state="received"}'] == 1
    assert rise('ragsite_turns_total{state="done"}') == 1
    assert rise('ragsite_turns_abstained_total{why="doubt"}') == 1
    assert rise('ragsite_turns_degraded_total{code="no_reranker"}') == 1
    first = 'ragsite_turn_stage_seconds_bucket{le="%s",stage="first_token"}'
    assert (rise(first % "1.0"), rise(first % "2.5")) == (0, 1)
    assert (
        rise('ragsite_http_request_seconds_count{method="GET",route="metrics",status="200"}') == 1
    )
    assert not any("canary" in name for name in after)


def test_each_answer_names_its_request(client: Client) -> None:
    assert len(client.get("/healthz").headers["X-Request-ID"]) == 16
    sent = client.get("/healthz", headers={"X-Request-ID": "from-proxy"})
    assert sent.headers["X-Request-ID"] == "from-proxy"


def samples(client: Client) -> dict[str, float]:
    text = client.get("/metrics").content.decode()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}
