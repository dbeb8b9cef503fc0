"""Sign-in, account, status, error pages, the admin panel and the security policy."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.core.cache import caches
from django.core.management import CommandError, call_command
from django.template.loader import render_to_string
from django.test import Client
from django.urls import reverse

from chat.models import Conversation, Turn
from inference.models import Models
from ingestion.models import Corpus, Document, IndexGeneration
from ragsite import health
from ragsite.sign_in import one_time_link
from tests.inference.stand_ins import serving, tei

if TYPE_CHECKING:
    from pytest_django.fixtures import Settings

pytestmark = pytest.mark.django_db
TEMPLATES = Path(django_settings.BASE_DIR) / "templates"


@pytest.fixture(autouse=True)
def forget_readiness() -> None:
    caches["here"].clear()


def person_of(client: Client) -> str | None:
    """The primary key of who is signed in, as the session keeps it."""
    return client.session.get("_auth_user_id")


# --- signing in ------------------------------------------------------------------


def test_a_name_and_its_password_sign_in(client: Client, alice: User) -> None:
    credentials = {"login": "alice", "password": "alice-long-password"}

    response = client.post(reverse("account_login"), {**credentials, "next": "/corpora/"})

    assert response.status_code == 302
    assert response.headers["Location"] == "/corpora/"
    assert person_of(client) == str(alice.pk)


def test_a_wrong_password_is_told_in_a_sentence(client: Client, alice: User) -> None:
    response = client.post(reverse("account_login"), {"login": "alice", "password": "wrong"})

    assert response.status_code == 422
    assert "That name and password do not match." in response.content.decode()
    assert person_of(client) is None


def test_sign_in_does_not_lead_to_other_sites(client: Client, alice: User) -> None:
    credentials = {"login": "alice", "password": "alice-long-password"}

    response = client.post(
        reverse("account_login"), {**credentials, "next": "https://evil.example/"}
    )

    assert "evil" not in response.headers["Location"]


def test_a_one_time_link_signs_in_once_and_then_says_how_to_make_another(alice: User) -> None:
    link = one_time_link(alice, base_url="http://testserver")
    first, second = Client(), Client()

    assert first.get(link).status_code == 302
    assert person_of(first) == str(alice.pk)
    again = second.get(link)
    assert again.status_code == 403
    assert "manage.py sign_in_link USERNAME" in again.content.decode()
    assert person_of(second) is None


@pytest.mark.parametrize("token", ["", "nonsense", "AAAAAAAAAAAAAAAAAAAAAAAAAAAA", "ü" * 50])
def test_a_made_up_token_signs_nobody_in(client: Client, alice: User, token: str) -> None:
    response = client.get(reverse("sign-in"), {"token": token})

    assert response.status_code == 403
    assert person_of(client) is None


def test_the_link_of_a_person_who_was_switched_off_signs_nobody_in(
    client: Client, alice: User
) -> None:
    link = one_time_link(alice, base_url="http://testserver")
    User.objects.filter(pk=alice.pk).update(is_active=False)

    assert client.get(link).status_code == 403
    assert person_of(client) is None


def test_the_command_prints_a_link_that_works(client: Client, alice: User) -> None:
    printed = StringIO()
    call_command("sign_in_link", "alice", "--base-url", "https://ask.example/", stdout=printed)

    link = printed.getvalue().strip()
    assert link.startswith("https://ask.example/sign-in/?token=")
    client.get(link.removeprefix("https://ask.example"))
    assert person_of(client) == str(alice.pk)


@pytest.mark.django_db
def test_without_a_name_the_link_is_for_the_first_administrator_who_is_made(
    client: Client,
) -> None:
    printed = StringIO()
    call_command("sign_in_link", "--base-url", "https://ask.example", stdout=printed)

    client.get(printed.getvalue().strip().removeprefix("https://ask.example"))
    made = User.objects.get(is_superuser=True)
    assert person_of(client) == str(made.pk)
    assert not made.has_usable_password()


def test_the_command_names_who_there_is_when_it_is_given_another(alice: User) -> None:
    with pytest.raises(CommandError, match=r"Nobody active is called alise\. There is: alice\."):
        call_command("sign_in_link", "alise")


def test_a_fragment_request_without_a_session_sends_the_whole_page_to_sign_in(
    client: Client,
) -> None:
    response = client.get(
        "/status/checks/",
        headers={"HX-Request": "true", "HX-Current-URL": "http://testserver/status/"},
    )

    assert response.headers["HX-Redirect"] == "/login/?next=%2Fstatus%2F"


def test_a_script_without_a_session_hears_a_sentence(client: Client) -> None:
    response = client.post("/corpora/1/documents/", headers={"Accept": "application/json"})

    assert response.status_code == 401
    assert "sign in again" in response.json()["error"]


# --- account -----------------------------------------------------------------------


def test_who_came_by_a_link_sets_a_password_and_stays_signed_in(client: Client) -> None:
    person = User.objects.create_user("newcomer")
    client.force_login(person)
    chosen = "quite-a-long-secret-7"

    page = client.get(reverse("account")).content.decode()
    response = client.post(
        reverse("account"), {"new_password1": chosen, "new_password2": chosen}, follow=True
    )

    assert "old_password" not in page
    assert "Your password is set." in response.content.decode()
    assert Client().login(username="newcomer", password=chosen)


def test_a_password_is_changed_only_by_who_knows_the_old_one(client: Client, alice: User) -> None:
    client.force_login(alice)
    chosen = "quite-a-long-secret-7"
    new = {"new_password1": chosen, "new_password2": chosen}

    refused = client.post(reverse("account"), {"old_password": "wrong", **new})

    assert refused.status_code == 422
    assert not Client().login(username="alice", password=chosen)


# --- status --------------------------------------------------------------------------


def test_the_status_page_renders_without_asking_any_process(
    client: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "examine", lambda: pytest.fail("asked"))
    client.force_login(alice)

    page = client.get(reverse("status")).content.decode()

    assert f'hx-get="{reverse("status-checks")}"' in page


def test_what_is_down_is_shown_with_what_to_do(
    client: Client, alice: User, settings: Settings
) -> None:
    nowhere = "127.0.0.1:9"
    settings.CHROMA_URL = settings.EMBED_URL = settings.RERANK_URL = f"http://{nowhere}"
    settings.OLLAMA_HOST = f"http://{nowhere}"
    settings.REDIS_URL = f"redis://{nowhere}/0"
    client.force_login(alice)

    page = client.get(reverse("status-checks")).content.decode()

    for name in ("redis", "chroma", "inference", "ollama"):
        assert health.ADVICE[name] in page
    assert page.count("</svg>Down</span>") == 4  # the language model is "Not there"
    assert health.ADVICE["database"] not in page
    assert "5 of 8 are down." in page


def test_readiness_names_what_is_missing_and_tells_no_address(
    client: Client, settings: Settings
) -> None:
    settings.CHROMA_URL = "http://127.0.0.1:9"

    response = client.get(reverse("readyz"))

    assert response.status_code == 503
    answer = response.json()
    assert answer["ready"] is False
    assert answer["checks"]["database"] == "up"
    assert answer["checks"]["chroma"] == "not reachable"
    assert "127.0.0.1" not in response.content.decode()


def test_liveness_asks_nobody(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "examine", lambda: pytest.fail("asked"))

    assert client.get(reverse("healthz")).content == b"ok\n"


def test_a_server_that_accepts_and_never_answers_is_down() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        check = health.check_chroma(f"http://127.0.0.1:{silent.getsockname()[1]}")

    assert not check.up
    assert check.advice == health.ADVICE["chroma"]


def test_redis_tells_its_version(redis_url: str) -> None:
    check = health.check_redis(redis_url)

    assert check.up
    assert re.match(r"\d+\.\d+", check.facts["version"])


def test_chroma_tells_its_version(chroma_url: str) -> None:
    check = health.check_chroma(chroma_url)

    assert check.up
    assert re.match(r"\d+\.\d+", check.facts["version"])


def test_the_model_server_tells_its_models(inference_url: str) -> None:
    check = health.check_inference(inference_url, inference_url)

    assert check.up
    embedder = check.models["embedder"]
    assert embedder is not None
    assert embedder.dimension == 384
    assert embedder.device


def test_a_rerank_server_of_its_own_that_is_away_is_to_be_started(inference_url: str) -> None:
    check = health.check_inference(inference_url, "http://127.0.0.1:9")

    assert check.up
    assert check.advice == (
        "Not reranked: the server of the reranker does not answer. "
        "Start it, or set RERANK_URL to where it runs."
    )
    with tei(kind="embedding") as other:
        check = health.check_inference(inference_url, other.url)
    assert check.advice.endswith("or RERANK_URL to another server.")


def test_why_there_is_no_embedding_model_is_told(inference_url: str) -> None:
    with tei(kind="reranker") as other:
        check = health.check_inference(other.url, inference_url)

    assert not check.up
    assert check.reason == "cannot embed: no embedding model is installed"


def test_a_model_server_that_loads_its_models_is_not_called_down() -> None:
    class Loading(Models):
        def load(self) -> None:
            """It goes on for ever."""

    with serving(Loading("all-MiniLM-L6-v2", "bundled")) as url:
        check = health.check_inference(url, url)

    assert (check.up, check.is_loading) == (False, True)
    html = render_to_string("ragsite/_checks.html", {"site": health.SiteHealth((check,))})
    assert "Loading</span>" in html
    assert "Down</span>" not in html


class _Ollama(BaseHTTPRequestHandler):
    """Ollama's two addresses that say what it is and which models it has."""

    def do_GET(self) -> None:
        answers = {
            "/api/version": {"version": "0.99.1"},
            "/api/tags": {"models": [{"name": "small:latest"}, {"name": "qwen3:4b-instruct"}]},
        }
        body = json.dumps(answers[self.path]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def ollama() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Ollama)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("model", ["qwen3:4b-instruct", "small"])
def test_ollama_with_its_model_is_up(ollama: str, model: str) -> None:
    check = health.check_ollama(ollama, model=model)

    assert check.up
    assert check.facts == {"version": "0.99.1", "model": model}


def test_ollama_without_its_model_shows_the_line_that_fetches_it(ollama: str) -> None:
    check = health.check_ollama(ollama, model="qwen3:30b")

    assert not check.up
    assert not check.required
    assert "ollama pull qwen3:30b" in check.advice


def test_a_disk_below_the_floor_is_down(tmp_path: Path) -> None:
    assert health.check_disk(tmp_path, floor_bytes=0).up
    assert not health.check_disk(tmp_path, floor_bytes=2**62).up


def test_the_status_command_prints_one_document_and_fails_when_something_is_down(
    corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    Document.objects.create(corpus=corpus, name="a.txt", size_bytes=1, sha256="a" * 64)
    printed = StringIO()

    with pytest.raises(SystemExit) as stopped:
        call_command("status", "--json", stdout=printed)

    answer = json.loads(printed.getvalue())
    assert stopped.value.code == 1
    assert answer["up"] is False
    assert set(answer["processes"]) == set(health.TITLES)
    assert answer["processes"]["database"]["up"] is True
    assert set(answer["models"]) == {"embedder", "reranker", "generator"}
    assert answer["queue"] == {"received": 1}
    assert answer["versions"]["database"]


# --- errors and the security policy ------------------------------------------------------


def test_what_is_not_there_is_said_in_the_look_of_the_site(client: Client) -> None:
    response = client.get("/nothing/here/")

    page = response.content.decode()
    assert response.status_code == 404
    assert "There is nothing here" in page
    assert "css/tokens.css" in page


def test_a_failure_of_the_site_is_said_in_its_look(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(health, "examine", fail)
    client = Client(raise_request_exception=False)
    client.force_login(alice)

    response = client.get(reverse("status-checks"))

    page = response.content.decode()
    assert response.status_code == 500
    assert "Something went wrong here" in page
    assert "css/tokens.css" in page
    assert "secret detail" not in page


def test_a_page_that_is_out_of_date_is_told_so(alice: User) -> None:
    client = Client(enforce_csrf_checks=True)

    response = client.post(reverse("account_login"), {"login": "alice"})

    assert response.status_code == 403
    assert "That page was out of date" in response.content.decode()


def test_only_the_admin_may_evaluate_and_style_in_place(
    client: Client, admin: User, corpus: Corpus
) -> None:
    client.force_login(admin)

    for address in (reverse("account_login"), reverse("ingestion:corpora"), reverse("account")):
        policy = client.get(address).headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
    policy = client.get("/admin/").headers["Content-Security-Policy"]
    assert "script-src 'self' 'unsafe-eval'" in policy
    assert "style-src 'self' 'unsafe-inline'" in policy
    assert "script-src 'self' 'unsafe-inline'" not in policy


@pytest.mark.parametrize(
    "path",
    sorted(TEMPLATES.rglob("*.html")),
    ids=lambda path: str(path.relative_to(TEMPLATES)),
)
def test_no_template_scripts_or_styles_in_place_or_trusts_a_value(path: Path) -> None:
    text = path.read_text()

    assert not re.search(r"<script(?![^>]*\bsrc=)", text)
    assert not re.search(r"<style|\sstyle=", text)
    assert not re.search(r"\son[a-z]+=", text)
    assert not re.search(r"\|\s*safe\b|autoescape\s+off", text)


# --- the admin panel ------------------------------------------------------------------------


@pytest.fixture
def conversation(alice: User, corpus: Corpus) -> Conversation:
    made = Conversation.objects.create(owner=alice, title="What is fusion?")
    made.corpora.add(corpus)
    Turn.objects.create(
        conversation=made, question="What is fusion?", answer="A sum.", state=Turn.State.DONE
    )
    return made


@pytest.fixture
def document(corpus: Corpus) -> Document:
    return Document.objects.create(
        corpus=corpus,
        name="scan.pdf",
        size_bytes=4096,
        sha256="b" * 64,
        state=Document.State.FAILED,
        error_code="no_text",
        pages=3,
        chunk_count=7,
    )


def test_every_page_of_the_admin_renders(
    client: Client, admin: User, document: Document, conversation: Conversation
) -> None:
    generation = IndexGeneration.objects.create(
        corpus=document.corpus,
        embedding_model="all-MiniLM-L6-v2",
        embedding_revision="1",
        dimension=384,
        pipeline_version="1",
    )
    client.force_login(admin)
    rows = {
        "ingestion_corpus": document.corpus,
        "ingestion_document": document,
        "ingestion_indexgeneration": generation,
        "chat_conversation": conversation,
        "auth_user": admin,
    }

    for name, row in rows.items():
        for address in (
            reverse(f"admin:{name}_changelist"),
            reverse(f"admin:{name}_change", args=[row.pk]),
            reverse(f"admin:{name}_history", args=[row.pk]),
        ):
            assert client.get(address).status_code == 200, address
    for name in ("ingestion_corpus", "auth_user", "auth_group"):
        assert client.get(reverse(f"admin:{name}_add")).status_code == 200
    assert client.get(reverse("admin:auth_group_changelist")).status_code == 200
    assert client.get(reverse("admin:index")).status_code == 200


def test_the_admin_deletes_documents_through_the_service_after_stating_counts(
    client: Client, admin: User, document: Document
) -> None:
    client.force_login(admin)
    address = reverse("admin:ingestion_document_changelist")
    action = {"action": "delete_selected", "_selected_action": [document.pk]}

    asked = client.post(address, action).content.decode()
    assert "scan.pdf" in asked
    assert re.search(r"Pages: 3\b", asked)
    assert re.search(r"Passages: 7\b", asked)
    document.refresh_from_db()
    assert document.state == Document.State.FAILED

    client.post(address, {**action, "post": "yes"})
    document.refresh_from_db()
    assert document.state == Document.State.DELETING


def test_the_admin_retries_failed_documents_only(
    client: Client, admin: User, document: Document
) -> None:
    ready = Document.objects.create(
        corpus=document.corpus, name="b", size_bytes=1, sha256="c" * 64, state="ready"
    )
    client.force_login(admin)
    address = reverse("admin:ingestion_document_changelist")
    action = {"action": "retry", "_selected_action": [document.pk, ready.pk]}

    client.post(address, action)
    document.refresh_from_db()
    assert document.state == Document.State.FAILED

    client.post(address, {**action, "confirmed": "yes"})
    document.refresh_from_db()
    ready.refresh_from_db()
    assert (document.state, ready.state) == (Document.State.RECEIVED, Document.State.READY)


def test_the_admin_does_not_take_a_state_that_is_typed_in(
    client: Client, admin: User, document: Document
) -> None:
    client.force_login(admin)

    client.post(
        reverse("admin:ingestion_document_change", args=[document.pk]),
        {"state": "ready", "name": "renamed", "enabled": ""},
    )

    document.refresh_from_db()
    assert (document.state, document.name, document.enabled) == ("failed", "scan.pdf", False)


def test_the_admin_deletes_a_corpus_through_the_service(
    client: Client, admin: User, document: Document
) -> None:
    client.force_login(admin)
    address = reverse("admin:ingestion_corpus_delete", args=[document.corpus_id])

    client.post(address, {"post": "yes"})

    document.refresh_from_db()
    assert document.state == Document.State.DELETING
    assert not Corpus.objects.present().exists()
