"""Requests that no page of ours sends: without a token, or with values that make no sense."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.test import AsyncClient, Client
from django.urls import reverse

from ingestion.models import Corpus
from tests.ragsite.test_access import ROUTES, things, unwritten

__all__ = ["unwritten"]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("tmp_data")]

# Names that some view reads, from forms and from addresses.
FIELDS = (
    *("question", "corpora", "document", "documents", "all", "name", "title", "visibility"),
    *("page", "q", "state", "sort", "label", "tags", "tag", "at", "before", "after", "turn"),
    *("pool", "top_n", "bm25_k", "dense_k", "rrf_k", "threshold", "rerank", "fusion", "cut"),
    *("grade", "role", "act", "to", "person", "group", "enabled", "paused", "pinned", "shared"),
    *("size", "overlap", "strategy", "language", "model", "next", "chunk", "passage", "file"),
    *("parent", "options", "temperature", "instructions", "days", "reason", "corpus", "format"),
)
VALUES = ("\0", "-1", "99999999999999999999", "٣ ' OR 1=1 --", "\u202e\ud83d\ude00../" * 500)
BODIES = (
    ("application/json", b'{"question": [1, {"a": null'),
    ("application/x-www-form-urlencoded", b"question=%ff%fe&corpora=%00&document=%"),
    ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; name="),
    ("multipart/form-data", b"no boundary"),
    ("application/octet-stream", b"\xff\xfe"),
)
FORMS = [name for name, route in ROUTES.items() if route.wrong != "post"]


def asked(client: AsyncClient, method: str, address: str, **more: object) -> int:
    return int(async_to_sync(getattr(client, method))(address, **more).status_code)


def nonsense() -> Iterator[dict[str, str]]:
    """Every field, each time with one value."""
    for value in VALUES:
        whole = value.encode("utf-16", "surrogatepass").decode("utf-16")
        yield dict.fromkeys(FIELDS, whole)


@pytest.mark.parametrize("name", [name for name, route in ROUTES.items() if route.method == "post"])
def test_nothing_is_changed_without_a_token(name: str, alice: User) -> None:
    client = AsyncClient(enforce_csrf_checks=True)
    client.force_login(alice)

    assert asked(client, "post", things(alice, "private").address(name)) == 403


def test_no_address_fails_whatever_is_asked_of_it(alice: User) -> None:
    made, client = things(alice, "private"), AsyncClient()
    client.force_login(alice)

    for name in ROUTES:
        for fields in nonsense():
            got = asked(client, "get", f"{made.address(name)}?{urlencode(fields)}")
            assert got < 500 or name == "readyz", (name, fields["page"][:30])
        if name == "account_logout":
            client.force_login(alice)


@pytest.mark.parametrize("name", FORMS)
def test_no_form_fails_whatever_is_sent(name: str, alice: User) -> None:
    address, client = things(alice, "private").address(name), AsyncClient()
    client.force_login(alice)

    for fields in nonsense():
        assert asked(client, "post", address, data=fields) < 500, fields["page"][:30]
    for kind, body in BODIES:
        assert asked(client, "post", address, data=body, content_type=kind) < 500, kind


def test_a_nul_in_an_address_is_told_whatever_the_database(client: Client, alice: User) -> None:
    client.force_login(alice)

    answer = client.get("/corpora/?q=%00")

    assert answer.status_code == 400
    assert "NUL character" in answer.content.decode()
    assert answer.headers["X-Request-ID"]


def test_pages_are_not_kept_by_the_browser_for_the_next_person(
    client: Client, alice: User, corpus: Corpus
) -> None:
    client.force_login(alice)

    for name, keys in (
        ("chat:new", []),
        ("ingestion:corpus", [corpus.pk]),
        ("account", []),
        ("search:inspector", []),
    ):
        response = client.get(reverse(name, args=keys))
        assert "no-store" in response.headers.get("Cache-Control", ""), name
