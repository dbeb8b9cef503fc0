"""Who gets what from every route. A route without a line here fails the test.

The owner made what is asked for; viewer, editor and co-owner have the corpus by a share, and a
viewer of an open corpus without one; a stranger may not know that it exists; somebody whose account
is switched off is as good as not signed in, whatever session they have.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db.models import QuerySet
from django.test import AsyncClient, Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone

from chat.models import Conversation, Turn
from ingestion.models import (
    Chunk,
    Corpus,
    CorpusImport,
    Document,
    DocumentLabel,
    IndexGeneration,
    Share,
)
from ingestion.services import blob_path
from search.models import EvaluationRun, Inspection, Judgement
from search.types import Candidate, Outcome, RetrievalSettings, Trace

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("tmp_data")]


# What an address may name that is no row of ours.
WORDS = {"nobody": "0", "unkeyed": "0-0", "markdown": "md"}


@pytest.fixture(autouse=True)
def unwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are not written: they would wait for the test's own transaction, 20 s each."""
    monkeypatch.setattr("chat.turns.start", lambda turn: None)


@dataclass(frozen=True)
class Route:
    """What a route answers to whom.

    argument: what its address names, in order: "corpus", "share", "document", "conversation",
        "turn", "refused" (a turn), "inspection", "imported", "chunk", "run", or of WORDS, or
        nothing.
    data: the form it is sent; a callable value is made anew for each request.
    wrong: a verb it refuses; empty for a route that answers to all.
    """

    method: str = "get"
    argument: str = ""
    owner: int = 200
    co_owner: int = 404
    editor: int = 404
    viewer: int = 404
    stranger: int = 404
    anonymous: int = 302
    data: Mapping[str, Any] = field(default_factory=dict)
    wrong: str = "post"


def everybody(method: str = "get", status: int = 200, **more: Any) -> Route:
    """A route that names nothing of anybody's: all who are signed in get the same."""
    same = dict.fromkeys(("owner", "co_owner", "editor", "viewer", "stranger"), status)
    return Route(method=method, **{**same, **more})


def public(method: str = "get", status: int = 200, **more: Any) -> Route:
    """A route for people who are not signed in as well."""
    return everybody(method, status, **{"anonymous": status, **more})


def readable(argument: str, **more: Any) -> Route:
    """A view of something that everybody sees who may ask the corpus."""
    return Route(argument=argument, co_owner=200, editor=200, viewer=200, **more)


def edited(argument: str, status: int = 200, method: str = "get", **more: Any) -> Route:
    """What editors may do, and those who may do more."""
    same = {"owner": status, "co_owner": status, "editor": status}
    return Route(method, argument, **{**same, **more})


def post(argument: str, status: int, **more: Any) -> Route:
    """A change of something of a corpus's, for its editors and owners."""
    return edited(argument, status, "post", wrong=more.pop("wrong", "get"), **more)


def owned(argument: str, status: int = 200, **more: Any) -> Route:
    """A change that only owners of the corpus make."""
    more = {"method": "post", "wrong": "get", **more}
    return Route(argument=argument, owner=status, co_owner=status, **more)


def own(argument: str, status: int = 200, **more: Any) -> Route:
    """A change of something that is its maker's alone, whatever corpus it is about."""
    return Route("post", argument, owner=status, wrong=more.pop("wrong", "get"), **more)


ROUTES = {
    "home": everybody(status=302, wrong=""),
    # signing in, and what machines ask
    "account_login": public(status=302, anonymous=200, wrong=""),
    "account_logout": public("post", 302, wrong="get"),
    "account_inactive": public(wrong=""),
    "account_signup": public(status=302, anonymous=200, wrong=""),
    "account_reauthenticate": everybody(wrong=""),
    "account_email": everybody(wrong=""),
    "account_reset_password": public(wrong=""),
    "account_reset_password_done": public(),
    "account_reset_password_from_key": public(argument="nobody unkeyed", wrong=""),
    "account_reset_password_from_key_done": public(),
    "usersessions_list": everybody(wrong=""),
    "mfa_index": everybody(),
    "mfa_authenticate": public(status=302, wrong=""),
    "mfa_reauthenticate": everybody(status=302, wrong=""),
    "mfa_activate_totp": everybody(status=302, wrong=""),
    "mfa_deactivate_totp": everybody(status=404, wrong=""),
    "mfa_view_recovery_codes": everybody(status=404, wrong=""),
    "mfa_generate_recovery_codes": everybody(status=302, wrong=""),
    "mfa_download_recovery_codes": everybody(status=404, wrong=""),
    "socialaccount_login_cancelled": public(wrong=""),
    "socialaccount_login_error": public(status=401, wrong=""),
    "socialaccount_signup": public(status=302, wrong=""),
    "socialaccount_connections": everybody(wrong=""),
    "openid_connect_login": public(status=404, argument="nobody", wrong=""),
    "openid_connect_callback": public(status=404, argument="nobody", wrong=""),
    "sign-in": public(status=302),
    "join": public(status=302, anonymous=410, argument="nobody"),
    # for administrators alone, of whom there is none here
    "people": everybody(status=404, wrong="delete"),
    "overview": everybody(status=404),
    "clinic": everybody(status=404),
    "queue": everybody(status=404),
    "queue-now": everybody(status=404),
    "rerankers": everybody(status=404),
    "revoke-invitation": everybody("post", 404, argument="corpus", wrong="get"),
    "account": everybody(wrong="delete"),
    "status": everybody(),
    "status-checks": everybody(),
    "healthz": public(),
    "metrics": public(),  # from the machine itself; strangers are tried in test_measures.py
    "readyz": public(status=503),  # no worker and no vector store run in this test
    # corpora
    "ingestion:corpora": everybody(),
    "ingestion:create_corpus": everybody(
        "post", 302, data={"name": "New", "visibility": "private"}, wrong="get"
    ),
    "ingestion:corpus": readable("corpus"),
    "ingestion:edit_corpus": owned(
        "corpus", 302, data={"name": "Renamed", "visibility": "private"}
    ),
    "ingestion:delete_corpus": owned("corpus", 302, data={"name": "Papers"}),
    "ingestion:deletions": everybody(),
    "ingestion:upload": post(
        "corpus", 302, data={"file": lambda: SimpleUploadedFile("a.txt", b"some words")}
    ),
    "ingestion:documents": readable("corpus"),
    "ingestion:queue": readable("corpus"),
    "ingestion:retry": post("corpus", 302, data={"all": "failed"}, wrong="put"),
    "ingestion:read_again": post("corpus", 302, data={"document": "1"}, wrong="put"),
    "ingestion:delete": post("corpus", 302, data={"all": "failed"}, wrong="put"),
    "ingestion:set_enabled": post(
        "corpus", 302, data={"document": "1", "enabled": "0"}, wrong="put"
    ),
    "ingestion:labels": post("corpus", 302, data={"document": "1", "tags": "law"}, wrong="put"),
    "ingestion:export_corpus": edited("corpus"),
    "ingestion:import_corpus": everybody("post", 302, wrong="get"),
    "ingestion:imports": everybody(),
    "ingestion:hide_import": own("imported", 302),
    "ingestion:pause": post("corpus", 302, data={"paused": "1"}),
    "ingestion:share": owned("corpus", method="get", wrong="delete"),
    "ingestion:change_share": owned("corpus share", 302, data={"role": "editor"}),
    "ingestion:transfer": owned("corpus", 302, data={"to": "vic"}),
    "ingestion:leave": Route(
        "post", "corpus", owner=302, co_owner=302, editor=302, viewer=302, wrong="get"
    ),
    "ingestion:index": edited("corpus", wrong="delete"),
    "ingestion:index_state": edited("corpus"),
    "ingestion:preview": edited("corpus", 422),  # no form was filled in
    "ingestion:rebuild": post("corpus", 302, data={"act": "cancel"}),
    "search:compare": edited("corpus", 302, wrong="delete"),  # nothing is built
    # the inspector: what was looked into is its maker's alone, whatever corpus it is about
    "search:inspector": everybody(wrong="delete"),
    "search:inspection": Route(argument="inspection"),
    "search:export_json": Route(argument="inspection"),
    "search:export_csv": Route(argument="inspection"),
    "search:passage": Route(argument="inspection chunk"),
    "search:judge": own("inspection chunk", 302, data={"grade": "1"}),
    "search:copy": Route(argument="inspection corpus", wrong="delete"),
    "search:judgements": readable("corpus"),
    "search:settings": edited("corpus", wrong="delete"),
    # what was measured tells everybody's judged questions, so only editors of the corpus see it
    "search:evaluation": everybody(),
    "search:start_evaluation": everybody("post", 404, wrong="get"),  # of no corpus
    "search:compare_runs": everybody(status=404),  # of no runs
    "search:evaluation_run": edited("run", wrong="post"),
    "search:evaluation_state": edited("run", wrong="post"),
    "search:stop_evaluation": post("run", 302),
    # an editor was there first
    "search:delete_evaluation": Route("post", "run", owner=302, editor=302, wrong="get"),
    "search:use_pool": post("run", 302),
    "search:export_evaluation": edited("run", wrong="post"),
    "ingestion:document": readable("document"),
    "ingestion:stand_alone": post("document", 302),
    "ingestion:viewer": readable("document"),
    "ingestion:page": Route(argument="document document", owner=404),  # it is no PDF
    "ingestion:original": readable("document"),
    # chat: conversations are their owner's alone, whatever corpus they are about
    "chat:new": everybody(),
    "chat:conversations": everybody(),
    "chat:documents": everybody(),
    "chat:ask": everybody("post", 422, data={"question": ""}, wrong="get"),
    "chat:conversation": Route(argument="conversation"),
    "chat:rename": own("conversation", 302, data={"title": "Another"}),
    "chat:delete": own("conversation", 302),
    "chat:earlier": Route(argument="conversation"),
    "chat:pin": own("conversation", 302, data={"pinned": "1"}),
    "chat:share": own("conversation", 302, data={"shared": "0"}),
    "chat:export": Route(argument="conversation markdown"),
    "chat:turn_text": Route(argument="turn"),
    "chat:shared": everybody(argument="nobody", status=404),  # see tests/chat/test_keeping.py
    "chat:stream": Route(argument="turn"),
    "chat:sources": Route(argument="turn"),
    "chat:stop": own("turn", 302),
    "chat:inspect": Route(argument="turn", owner=302),
    "chat:rate": own("turn", 302, data={"rating": "good"}),
    "chat:judge": own("turn chunk", 302, data={"grade": "1"}),
    "chat:models": everybody(),
    # fetching models is for administrators alone
    "chat:pull": everybody("post", 404, data={"pull": "small:1b"}, wrong="get"),
    "chat:pull_stream": Route(argument="turn", owner=404),
    "chat:cancel_pull": own("turn", 404),
    "chat:again": own("turn", 302),
    "chat:show": own("turn", 302),
    "chat:answer_anyway": own("refused", 302),
}


def named_routes() -> Iterator[str]:
    """The name of every route of the site, the admin's left out."""
    yield from _names(get_resolver().url_patterns, "")


def _names(patterns: list[URLPattern | URLResolver], prefix: str) -> Iterator[str]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            if pattern.namespace == "admin":
                continue
            inner = f"{prefix}{pattern.namespace}:" if pattern.namespace else prefix
            yield from _names(pattern.url_patterns, inner)
        else:
            assert pattern.name, f"the route {pattern.pattern} has no name"
            yield prefix + pattern.name


def test_every_route_says_who_may_use_it() -> None:
    routes = list(named_routes())

    assert len(routes) == len(set(routes))
    assert set(routes) - set(ROUTES) == set()
    assert set(ROUTES) - set(routes) == set()


@dataclass(frozen=True)
class Things:
    """What one corpus holds: the arguments that addresses are made of."""

    corpus: Corpus
    share: Share
    document: Document
    conversation: Conversation
    turn: Turn
    refused: Turn
    chunk: Chunk
    inspection: Inspection
    imported: CorpusImport
    run: EvaluationRun

    def address(self, name: str) -> str:
        arguments = ROUTES[name].argument.split()
        keys = [WORDS.get(name) or getattr(self, name).pk for name in arguments]
        return reverse(name, args=keys)


def things(owner: User, visibility: str) -> Things:
    corpus = Corpus.objects.create(owner=owner, name="Papers", visibility=visibility)
    # Shared with somebody whom no test signs in.
    vic = User.objects.get_or_create(username="vic")[0]
    share = Share.objects.create(corpus=corpus, person=vic)
    document = Document.objects.create(
        corpus=corpus,
        name="a.txt",
        size_bytes=5,
        sha256="a" * 64,
        state=Document.State.READY,
        format="text",
    )
    blob_path(document).parent.mkdir(parents=True, exist_ok=True)
    blob_path(document).write_bytes(b"words")
    conversation = Conversation.objects.create(owner=owner, title="What?")
    conversation.corpora.add(corpus)
    turn = Turn.objects.create(
        conversation=conversation, question="What?", answer="That.", state=Turn.State.DONE
    )
    generation = IndexGeneration.objects.create(
        corpus=corpus,
        embedding_model="model",
        embedding_revision="1",
        dimension=3,
        pipeline_version="1",
    )
    chunk = Chunk.objects.create(
        id=f"c{document.pk}",
        document=document,
        generation=generation,
        ordinal=0,
        text="words",
        tokens=1,
    )
    candidate = Candidate(chunk.pk, bm25_rank=1, rrf_rank=1, outcome=Outcome.SELECTED)
    trace = Trace("What?", RetrievalSettings(), [candidate], {}, {"total": 1.0})
    inspection = Inspection.objects.create(owner=owner, question="What?", trace=trace.to_json())
    inspection.corpora.add(corpus)
    Turn.objects.filter(pk=turn.pk).update(trace=trace.to_json())
    refused = Turn.objects.create(
        conversation=conversation, question="Why?", state=Turn.State.DONE, abstained=True
    )
    imported = CorpusImport.objects.create(
        owner=owner, name="a.zip", blob_key=f"{corpus.pk}", finished_at=timezone.now()
    )
    run = EvaluationRun.objects.create(
        owner=owner, corpus=corpus, collection="Papers", report={"knee": 20}, state="done"
    )
    return Things(
        corpus, share, document, conversation, turn, refused, chunk, inspection, imported, run
    )


def status(
    name: str,
    things: Things,
    person: User | None,
    *,
    method: str | None = None,
    client: AsyncClient | None = None,
) -> int:
    client = client or AsyncClient()
    if person is not None:
        client.force_login(person)
    route = ROUTES[name]
    data = {key: value() if callable(value) else value for key, value in route.data.items()}
    ask = async_to_sync(getattr(client, method or route.method))
    return int(ask(things.address(name), data).status_code)


@pytest.mark.parametrize("name", ROUTES)
def test_everybody_gets_from_a_route_what_is_said_here(name: str, alice: User) -> None:
    """One after the other, those who may do most last: what they may not do changes nothing."""
    made, route = things(alice, "private"), ROUTES[name]
    off = AsyncClient()
    gone = User.objects.create(username="gone")
    Share.objects.create(corpus=made.corpus, person=gone, role="owner")
    off.force_login(gone)
    User.objects.filter(pk=gone.pk).update(is_active=False)

    got = {"anonymous": status(name, made, None), "off": status(name, made, None, client=off)}
    got["stranger"] = status(name, made, User.objects.create(username="stranger"))
    Corpus.objects.filter(pk=made.corpus.pk).update(visibility="open")
    got["anybody"] = status(name, made, User.objects.create(username="anybody"))
    Corpus.objects.filter(pk=made.corpus.pk).update(visibility="private")
    for role in ("viewer", "editor", "owner"):
        person = User.objects.create(username=f"a {role}")
        Share.objects.create(corpus=made.corpus, person=person, role=role)
        got[role] = status(name, made, person)

    assert got == {
        "anonymous": route.anonymous,
        "off": route.anonymous,
        "stranger": route.stranger,
        "anybody": route.viewer,
        "viewer": route.viewer,
        "editor": route.editor,
        "owner": route.co_owner,
    }


@pytest.mark.parametrize("name", ROUTES)
def test_an_owner_may(name: str, alice: User) -> None:
    assert status(name, things(alice, "private"), alice) == ROUTES[name].owner


@pytest.mark.parametrize("name", [name for name, route in ROUTES.items() if route.wrong])
def test_the_wrong_verb_is_refused(name: str, alice: User) -> None:
    assert status(name, things(alice, "private"), alice, method=ROUTES[name].wrong) == 405


def test_the_admin_is_for_staff_alone(client: Client, alice: User, admin: User) -> None:
    client.force_login(alice)
    assert client.get("/admin/ingestion/document/").status_code == 302

    client.force_login(admin)
    assert client.get("/admin/ingestion/document/").status_code == 200


def test_the_admin_sends_people_who_are_not_signed_in_to_sign_in(client: Client) -> None:
    response = client.get("/admin/")

    assert response.status_code == 302
    assert "login" in response.headers["Location"]


# --- what is named together must belong together ------------------------------------


def test_a_share_is_changed_through_its_own_corpus_alone(
    client: Client, alice: User, bob: User
) -> None:
    hers, his = things(alice, "private"), things(bob, "private")
    client.force_login(bob)

    forged = reverse("ingestion:change_share", args=[his.corpus.pk, hers.share.pk])

    assert client.post(forged, {"act": "revoke"}).status_code == 404
    assert Share.objects.filter(pk=hers.share.pk).exists()


def test_the_documents_of_others_are_not_reached_through_ones_own_corpus(
    client: Client, alice: User, bob: User
) -> None:
    hers, his = things(alice, "private"), things(bob, "private")
    client.force_login(bob)

    for act in ("delete", "set_enabled", "labels", "retry", "read_again"):
        address = reverse(f"ingestion:{act}", args=[his.corpus.pk])
        client.post(address, {"document": str(hers.document.pk), "enabled": "0", "tags": "his"})

    hers.document.refresh_from_db()
    assert (hers.document.state, hers.document.enabled) == (Document.State.READY, True)
    assert not hers.document.labels.exists()


def test_a_question_names_only_corpora_that_one_may_read(
    client: Client, alice: User, bob: User
) -> None:
    hers = things(alice, "private")
    client.force_login(bob)

    form = {"question": "What?", "corpora": [str(hers.corpus.pk)]}

    assert client.post(reverse("chat:ask"), form).status_code == 422
    assert client.post(reverse("search:inspector"), form).status_code == 422
    assert not Turn.objects.filter(conversation__owner=bob).exists()
    assert not Inspection.objects.filter(owner=bob).exists()


def test_only_editors_measure_a_corpus_and_compare_its_runs(
    client: Client, alice: User, bob: User
) -> None:
    hers, his = things(alice, "open"), things(bob, "private")
    client.force_login(bob)

    started = client.post(reverse("search:start_evaluation"), {"corpus": str(hers.corpus.pk)})
    compared = client.get(
        reverse("search:compare_runs"), {"before": hers.run.pk, "after": his.run.pk}
    )

    assert (started.status_code, compared.status_code) == (404, 404)
    assert EvaluationRun.objects.count() == 2


def test_settings_of_ones_own_inspection_are_not_copied_to_a_corpus_of_others(
    client: Client, alice: User, bob: User
) -> None:
    hers, his = things(alice, "open"), things(bob, "private")
    client.force_login(bob)

    forged = reverse("search:copy", args=[his.inspection.pk, hers.corpus.pk])

    assert client.post(forged).status_code == 404


SECRET = "Quellwolkenharfe"


def secret_things(owner: User) -> Things:
    """Private things of which every word is a word that nobody else may read."""
    made = things(owner, "private")
    trace = json.loads(json.dumps(made.inspection.trace).replace("What?", SECRET))
    Corpus.objects.filter(pk=made.corpus.pk).update(name=SECRET, description=SECRET)
    Document.objects.filter(pk=made.document.pk).update(name=f"{SECRET}.txt", title=SECRET)
    Conversation.objects.filter(pk=made.conversation.pk).update(title=SECRET)
    Turn.objects.filter(conversation=made.conversation).update(question=SECRET, answer=SECRET)
    Chunk.objects.filter(pk=made.chunk.pk).update(text=SECRET)
    Inspection.objects.filter(pk=made.inspection.pk).update(question=SECRET, trace=trace)
    CorpusImport.objects.filter(pk=made.imported.pk).update(name=SECRET)
    EvaluationRun.objects.filter(pk=made.run.pk).update(collection=SECRET)
    blob_path(made.document).write_bytes(SECRET.encode())
    return made


def rows_of(made: Things) -> list[list[dict[str, Any]]]:
    """Everything that stands in the database of these things and about them."""
    about: list[QuerySet[Any]] = [
        Corpus.objects.filter(pk=made.corpus.pk),
        Share.objects.filter(corpus=made.corpus),
        Document.objects.filter(corpus=made.corpus),
        DocumentLabel.objects.filter(document=made.document),
        Chunk.objects.filter(document=made.document),
        Conversation.objects.filter(pk=made.conversation.pk),
        Turn.objects.filter(conversation=made.conversation),
        Inspection.objects.filter(pk=made.inspection.pk),
        CorpusImport.objects.filter(pk=made.imported.pk),
        EvaluationRun.objects.filter(pk=made.run.pk),
        Judgement.objects.filter(corpus=made.corpus),
    ]
    return [list(rows.order_by("pk").values()) for rows in about]


async def _whole(client: AsyncClient, method: str, address: str, data: dict[str, Any]) -> str:
    """All that a route answers, streamed or not, zipped or not."""
    answer = await getattr(client, method)(address, data)
    if not answer.streaming:
        body = answer.content
    elif answer.is_async:
        body = b"".join([part async for part in answer])
    else:
        body = b"".join(answer)
    if body[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(body)) as packed:
            body = b"".join(packed.read(name) for name in packed.namelist())
    told = [f"{name}: {value}" for name, value in answer.headers.items()]
    return "\n".join([*told, body.decode(errors="replace")])


# Those of django-allauth know nothing of what is asked for here.
OURS = [n for n in ROUTES if not re.match("account_|mfa_|openid_|socialaccount_|usersessions", n)]


@pytest.mark.parametrize("name", OURS)
def test_ids_of_others_in_any_place_of_any_route_show_and_change_nothing(
    name: str, alice: User, bob: User
) -> None:
    """Each key of the address, then every field, names what is hers; all else is his own."""
    hers, his = secret_things(alice), things(bob, "private")
    before, client = rows_of(hers), AsyncClient()
    client.force_login(bob)
    ids = {
        **{"corpora": hers.corpus.pk, "corpus": hers.corpus.pk, "document": hers.document.pk},
        **{"documents": hers.document.pk, "conversation": hers.conversation.pk},
        **{"follows": hers.turn.pk, "turn": hers.turn.pk, "at": hers.turn.pk},
        **{"chunk": hers.chunk.pk, "passage": hers.chunk.pk, "inspection": hers.inspection.pk},
        **{"before": hers.run.pk, "after": hers.run.pk, "replace": hers.document.pk},
    }
    words = {
        **{"all": "failed", "act": "revoke", "role": "owner", "to": "bob", "grade": "1"},
        **{"name": "his", "title": "his", "tags": "his", "tab": "reranked", "why": "1"},
        **{"question": "his", "visibility": "open", "enabled": "0", "paused": "1", "shared": "1"},
    }
    route = ROUTES[name]
    data = {key: value() if callable(value) else value for key, value in route.data.items()}
    keys = route.argument.split()

    for forged in [None, *(place for place, key in enumerate(keys) if key not in WORDS)]:
        arguments = [
            WORDS.get(key) or getattr(hers if place == forged else his, key).pk
            for place, key in enumerate(keys)
        ]
        address = reverse(name, args=arguments)
        for method in ("get", "post"):
            sent = {**words, **data, **ids} if method == "post" else {**words, **ids}
            told = async_to_sync(_whole)(client, method, address, sent)
            assert SECRET not in told, (method, address)
        client.force_login(bob)

    assert rows_of(hers) == before
    assert not Judgement.objects.filter(document=hers.document).exists()
    assert not Conversation.objects.filter(owner=bob, corpora=hers.corpus).exists()
    assert not Inspection.objects.filter(owner=bob, corpora=hers.corpus).exists()


@pytest.mark.parametrize("wrong", ["0", "999999999999", "-1", "1'--", "../1", "%00", "９"])
def test_an_id_that_is_none_is_not_there(client: Client, alice: User, wrong: str) -> None:
    client.force_login(alice)

    for frame in (
        "/corpora/{}/",
        "/documents/{}/file/",
        "/chat/turns/{}/stream/",
        "/inspector/{}/",
    ):
        assert client.get(frame.format(wrong)).status_code == 404
