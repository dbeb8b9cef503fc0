"""The overview and the query clinic: what is counted, what is grouped, and who sees it."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django.fixtures import Settings

from chat import clinic
from chat.clinic import Reason
from chat.models import Conversation, Turn
from ingestion import audit
from ingestion.audit import Action
from ingestion.models import AuditEntry, Corpus, Document
from ragsite import figures, rerankers, workers
from search.models import Judgement, digest_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("tmp_data")]


@pytest.fixture
def conversation(corpus: Corpus, alice: User) -> Conversation:
    """A conversation of alice's about her corpus."""
    made = Conversation.objects.create(owner=alice)
    made.corpora.add(corpus)
    return made


def source(relevance: float, outcome: str = "selected") -> dict[str, Any]:
    return {"relevance": relevance, "outcome": outcome}


def turn(conversation: Conversation, question: str, **more: Any) -> Turn:
    given = {"state": Turn.State.DONE, "sources": [source(0.9)], **more}
    return Turn.objects.create(conversation=conversation, question=question, **given)


# --- the clinic --------------------------------------------------------------------------


def test_the_same_question_in_other_letters_is_one_case_and_the_most_asked_comes_first(
    conversation: Conversation,
) -> None:
    for question in ("Who pays?", "who  pays", "WHO PAYS ?"):
        turn(conversation, question, abstained=True, sources=[])
    turn(conversation, "Where is it?", abstained=True)
    turn(conversation, "A good question?")

    found = clinic.cases()

    assert [(case.question, case.times) for case in found] == [
        ("WHO PAYS ?", 3),
        ("Where is it?", 1),
    ]
    assert found[0].corpora == {conversation.corpora.get().pk}


def test_of_questions_not_answered_those_stand_first_that_were_least_answered(
    client: Client, admin: User, conversation: Conversation
) -> None:
    for abstained in (True, False, False, False):
        turn(conversation, "Mostly answered?", abstained=abstained)
    for _ in range(2):
        turn(conversation, "Never answered?", abstained=True)

    found = clinic.cases(reason=Reason.UNANSWERED)

    assert [(case.question, case.unanswered, case.times) for case in found] == [
        ("Never answered?", 2, 2),
        ("Mostly answered?", 1, 4),
    ]
    client.force_login(admin)
    page = client.get(reverse("overview")).content.decode()
    assert re.search(r"Never answered\? <span[^>]*>2×</span>", page)
    assert re.search(r"Mostly answered\? <span[^>]*>1× of 4</span>", page)


def test_each_weakness_is_told_by_its_reason(
    conversation: Conversation, corpus: Corpus, alice: User
) -> None:
    turn(conversation, "unanswered", abstained=True)
    turn(conversation, "low", degraded=[{"code": "low_relevance", "sentence": "Doubtful."}])
    turn(conversation, "thin", sources=[source(0.9), source(0.8), source(0.79, "below_top_n")])
    turn(conversation, "wide", sources=[source(0.9), source(0.8), source(0.6, "below_top_n")])
    turn(conversation, "hopeless", sources=[source(0.9), source(0.01), source(0.01, "below_top_n")])
    turn(conversation, "marked")
    turn(conversation, "rated", rating=Turn.Rating.BAD)
    turn(conversation, "praised", rating=Turn.Rating.GOOD)
    document = Document.objects.create(corpus=corpus, name="a", size_bytes=1, sha256="a" * 64)
    Judgement.objects.create(
        person=alice,
        corpus=corpus,
        document=document,
        chunk_id="c1",
        question="marked",
        question_sha256=digest_of("marked"),
        grade=Judgement.Grade.NOT_RELEVANT,
    )

    found = {case.question: case.reasons for case in clinic.cases()}

    assert found == {
        "unanswered": {Reason.UNANSWERED},
        "low": {Reason.LOW},
        "thin": {Reason.THIN},
        "marked": {Reason.MARKED},
        "rated": {Reason.RATED},
    }
    assert [case.question for case in clinic.cases(reason=Reason.THIN)] == ["thin"]
    assert clinic.cases(corpus_id=corpus.pk + 1) == []


def test_the_page_leads_to_the_inspector_for_corpora_that_one_may_read(
    client: Client, conversation: Conversation, corpus: Corpus, admin: User
) -> None:
    turn(conversation, "Who <b>pays</b>?", abstained=True)
    client.force_login(admin)

    hidden = client.get(reverse("clinic")).content.decode()
    Corpus.objects.update(visibility=Corpus.Visibility.OPEN)
    shown = client.get(reverse("clinic"), {"reason": "unanswered"}).content.decode()

    assert "Who &lt;b&gt;pays&lt;/b&gt;?" in hidden
    assert "of corpora that you may not read" in hidden
    assert f"{reverse('search:inspector')}?corpus={corpus.pk}&amp;question=Who%20" in shown
    assert "alice" not in shown


@pytest.mark.parametrize("wrong", ["reason=x", "corpus=x", "corpus=99999999999999999999"])
def test_filters_that_mean_nothing_are_left_out(client: Client, admin: User, wrong: str) -> None:
    client.force_login(admin)

    assert client.get(f"{reverse('clinic')}?{wrong}").status_code == 200


# --- the overview ------------------------------------------------------------------------


def test_what_is_asked_and_how_it_went(conversation: Conversation) -> None:
    for ms in (100.0, 200.0, 900.0):
        turn(conversation, "q", timings_ms={"first_token": ms})
    turn(conversation, "q", degraded=[{"code": "no_reranker", "sentence": "x"}], timings_ms={})
    turn(conversation, "q", abstained=True)
    turn(conversation, "q", state=Turn.State.FAILED)
    turn(conversation, "q", state=Turn.State.RUNNING)
    old = turn(conversation, "q")
    yesterday = turn(conversation, "q")
    now = timezone.now()
    Turn.objects.filter(pk=old.pk).update(created_at=now - timedelta(days=40))
    Turn.objects.filter(pk=yesterday.pk).update(created_at=now - timedelta(days=1))

    found = figures.gather()

    assert found.answers == 7
    assert (found.first_token_p50, found.first_token_p95) == (200.0, 200.0)
    assert (found.degraded.count, found.abstained.count, found.failed.count) == (1, 1, 1)
    assert found.abstained.percent == pytest.approx(100 / 7)
    assert [day.questions for day in found.days][-2:] == [1, 7]
    assert len(found.days) == 14
    assert found.days[-1].height > found.days[-2].height > 0
    assert [case.question for case in found.unanswered] == ["q"]


def test_what_waits_and_what_failed(corpus: Corpus) -> None:
    since = timezone.now() - timedelta(hours=2)
    for n, (state, code) in enumerate(
        [("parsing", ""), ("parsing", ""), ("failed", "password"), ("ready", "")]
    ):
        Document.objects.create(
            corpus=corpus,
            name=f"{n}",
            size_bytes=1,
            sha256=f"{n}" * 64,
            state=state,
            state_since=since,
            error_code=code,
        )

    found = figures.gather()

    assert [(one.stage, one.documents, one.oldest_words) for one in found.waiting] == [
        ("Reading", 2, "2 h")
    ]
    assert [(one.code, one.documents) for one in found.failures] == [("password", 1)]
    assert "Remove the protection" in found.failures[0].sentence
    assert found.on_their_way == 2


def test_the_overview_renders_while_redis_is_away_and_where_nothing_was_asked(
    client: Client, admin: User, settings: Any
) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    client.force_login(admin)

    page = client.get(reverse("overview")).content.decode()

    assert "unknown, Redis does not answer" in page
    assert "no written answer yet" in page
    assert re.search(r"<title id=\"asked-words\">.*: 0</title>", page)


# --- the rerankers ---------------------------------------------------------------------


def reranked(model: str, ms: float, *, reranked: int = 40, remembered: int = 0) -> dict[str, Any]:
    report = {"model": model, "device": "cpu", "reranked": reranked, "remembered": remembered}
    return {"rerank": report, "stage_timings_ms": {"rerank": ms}}


def test_the_time_of_the_rerank_is_told_for_each_model_that_was_used(
    conversation: Conversation,
) -> None:
    for ms in range(1, 21):
        turn(conversation, "q", trace=reranked("bundled", 10.0 * ms))
    turn(conversation, "q", trace=reranked("other", 7.0, reranked=3, remembered=3))
    turn(conversation, "q", trace=reranked("other", 7.0, reranked=5))
    turn(conversation, "not reranked", trace=reranked("bundled", 9000.0, reranked=0))
    turn(conversation, "without a trace")

    first, second = rerankers.measured()

    assert (first.model, first.device, first.answers) == ("bundled", "cpu", 20)
    assert (first.ms_p50, first.ms_p95, first.passages) == (105.0, 190.0, 40)
    assert (second.model, second.answers, second.ms_p50, second.ms_p95) == ("other", 2, 7.0, 7.0)
    assert (first.remembered, second.remembered) == (0, 3 / 8)


def test_the_reranker_in_use_is_marked_in_the_catalogue(
    client: Client, admin: User, inference_url: str, conversation: Conversation
) -> None:
    turn(conversation, "q", trace=reranked("bundled", 1234.0))
    client.force_login(admin)

    page = client.get(reverse("rerankers"), headers={"HX-Request": "true"}).content.decode()

    assert re.search(r"aria-current=\"true\">\s*<td class=\"lead\">bundled", page)
    assert page.count("in use</span>") == 1
    assert "1,234" in page
    assert "CC BY-NC 4.0: not for business" in page
    entry = re.search(r"<tr>(?:(?!</tr>).)*bge-reranker-v2-m3</a>.*?</tr>", page, re.DOTALL)
    assert entry is not None
    assert 'href="https://huggingface.co/BAAI/bge-reranker-v2-m3"' in entry[0]
    for told in ("logistic function of the logit", ">512</td>", ">568 M</td>", "cuda, bfloat16"):
        assert told in entry[0]


def test_the_catalogue_stands_there_while_the_model_server_is_away(
    client: Client, admin: User, settings: Settings
) -> None:
    settings.EMBED_URL = settings.RERANK_URL = "http://127.0.0.1:9"
    client.force_login(admin)

    frame = client.get(reverse("rerankers")).content.decode()
    page = client.get(reverse("rerankers"), headers={"HX-Request": "true"}).content.decode()

    assert "Asking the model server" in frame
    assert "Not reranked: the model server does not answer." in page
    assert "BAAI/bge-reranker-v2-m3" in page
    assert "in use</span>" not in page


# --- the admin panel -------------------------------------------------------------------


def test_people_are_switched_off_after_a_question_and_never_oneself(
    client: Client, admin: User, alice: User, bob: User
) -> None:
    client.force_login(admin)
    list_of_people = reverse("admin:auth_user_changelist")
    chosen = {"action": "switch_off", "_selected_action": [alice.pk, bob.pk, admin.pk]}

    asked = client.post(list_of_people, chosen)
    for name in ("queue", "rerankers", "admin:search_evaluationrun_changelist"):
        assert f'href="{reverse(name)}"' in asked.content.decode()
    assert "Switch 2 of the 3 chosen people off?" in asked.content.decode()
    assert User.objects.filter(is_active=True).count() == 3

    client.post(list_of_people, {**chosen, "confirmed": "yes"})

    assert list(User.objects.filter(is_active=True)) == [admin]
    lines = AuditEntry.objects.filter(action=Action.PERSON_CHANGED, person=admin)
    assert {(line.about_name, line.detail["switched"]) for line in lines} == {
        ("alice", "off"),
        ("bob", "off"),
    }


def test_a_person_made_in_the_admin_panel_stands_in_the_audit_log_without_the_password(
    client: Client, admin: User
) -> None:
    client.force_login(admin)
    word = "a-long-Word-47"
    typed = {"username": "carol", "usable_password": "true", "password1": word, "password2": word}
    page = client.get(reverse("admin:auth_user_add")).context["inline_admin_formsets"]
    typed |= {
        f"{one.formset.prefix}-{name}": str(value)
        for one in page
        for name, value in one.formset.management_form.initial.items()
    }

    answer = client.post(reverse("admin:auth_user_add"), typed)

    assert answer.status_code == 302

    line = AuditEntry.objects.get(action=Action.PERSON_CHANGED)
    assert (line.person, line.about_name) == (admin, "carol")
    assert "username" in line.detail["fields"]
    assert word not in str(line.detail)


def test_what_is_changed_or_deleted_in_the_panel_stands_in_the_audit_log(
    client: Client, admin: User, alice: User, conversation: Conversation
) -> None:
    client.force_login(admin)
    group = Group.objects.create(name="Readers")

    change = reverse("admin:auth_group_change", args=[group.pk])
    client.post(change, {"name": "Writers"})
    client.post(reverse("admin:auth_group_delete", args=[group.pk]), {"post": "yes"})
    gone = reverse("admin:chat_conversation_delete", args=[conversation.pk])
    client.post(gone, {"post": "yes"})

    told = AuditEntry.objects.filter(action=Action.SITE_CHANGED).order_by("pk")
    assert [(e.about_name, e.detail["kind"], e.detail["verb"]) for e in told] == [
        ("Writers", "group", "changed"),
        ("Writers", "group", "deleted"),
        ("", "conversation", "deleted"),
    ]
    assert told[0].detail["what"] == "Changed Name."
    assert told[2].detail["what"] == ""
    assert all(e.person == admin for e in told)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_single_one_of_many_that_are_deleted_at_once_is_told(
    client: Client, admin: User, alice: User, count: int
) -> None:
    groups = [Group.objects.create(name=f"Group {number}") for number in range(count)]
    chosen = {"action": "delete_selected", "_selected_action": [group.pk for group in groups]}
    client.force_login(admin)
    listed = reverse("admin:auth_group_changelist")

    asked = client.post(listed, chosen)
    assert "Group 0" in asked.content.decode()
    assert not AuditEntry.objects.filter(action=Action.SITE_CHANGED).exists()
    client.post(listed, {**chosen, "post": "yes"})

    assert not Group.objects.exists()
    told = AuditEntry.objects.filter(action=Action.SITE_CHANGED)
    assert {(e.about_name, e.detail["id"]) for e in told} == {
        (g.name, str(pk)) for g, pk in zip(groups, chosen["_selected_action"], strict=True)
    }
    assert len(told) == count


def test_the_audit_log_is_searched_filtered_and_told_in_words(
    client: Client, admin: User, alice: User, corpus: Corpus
) -> None:
    audit.record(Action.SHARED, person=alice, about=corpus, to="viv", role="viewer")
    audit.record(Action.PERSON_CHANGED, person=admin, about=alice, fields=["email", "groups"])
    client.force_login(admin)
    listed = reverse("admin:ingestion_auditentry_changelist")

    whole = client.get(listed).content.decode()
    found = client.get(listed, {"q": "Papers"}).content.decode()
    filtered = client.get(listed, {"action__exact": "person_changed"}).content.decode()

    assert "to: viv; role: viewer" in whole
    assert "fields: email, groups" in whole
    for narrowed, shared in ((found, True), (filtered, False)):
        assert ("to: viv" in narrowed) == shared
        assert ("fields: email" in narrowed) == (not shared)


def test_an_administrator_who_reads_the_conversation_of_another_stands_in_the_audit_log(
    client: Client, admin: User, conversation: Conversation
) -> None:
    turn(conversation, "Who has the keys?", answer="The janitor.")
    mine = Conversation.objects.create(owner=admin)
    client.force_login(admin)

    for read in (conversation, mine):
        page = client.get(reverse("admin:chat_conversation_change", args=[read.pk]))
        assert ("The janitor." in page.content.decode()) == (read == conversation)

    line = AuditEntry.objects.get(action=Action.CONVERSATION_READ)
    assert (line.person, line.about_id) == (admin, str(conversation.pk))
    assert line.about_name == "one of alice"
    assert "keys" not in f"{line.detail} {line}"


def test_documents_are_tried_again_after_a_question_with_counts(
    client: Client, admin: User, corpus: Corpus
) -> None:
    failed, ready = (
        Document.objects.create(
            corpus=corpus, name=state, size_bytes=1, sha256=state[0] * 64, state=state
        )
        for state in ("failed", "ready")
    )
    client.force_login(admin)
    documents = reverse("admin:ingestion_document_changelist")
    chosen = {"action": "retry", "_selected_action": [failed.pk, ready.pk]}

    asked = client.post(documents, chosen)
    failed.refresh_from_db()
    assert "Try 1 of the 2 chosen documents again?" in asked.content.decode()
    assert failed.state == "failed"

    client.post(documents, {**chosen, "confirmed": "yes"})

    failed.refresh_from_db()
    assert failed.state == "received"


# --- the queue -------------------------------------------------------------------------


def test_what_workers_have_in_hand_is_told_with_the_document_s_name(corpus: Corpus) -> None:
    document = Document.objects.create(corpus=corpus, name="a.pdf", size_bytes=1, sha256="a" * 64)
    ingest = {"name": "ingestion.tasks.ingest_document", "args": [document.pk]}
    gone = {"name": "ingestion.tasks.ingest_document", "args": [999]}
    stats = {"celery@host": {"pool": {"max-concurrency": 2}, "total": {"a": 3, "b": 4}}}

    (worker,) = workers.workers(
        stats,
        {"celery@host": [{**ingest, "time_start": time.time() - 65}]},
        {"celery@host": [gone, {"name": "search.tasks.evaluate", "args": [7]}]},
    )

    assert (worker.name, worker.concurrency, worker.done) == ("celery@host", 2, 7)
    (running,) = worker.active
    assert (running.name, running.about) == ("ingest document", "a.pdf")
    assert (running.document_id, running.for_words) == (document.pk, "1 min 5 s")
    assert [(t.about, t.document_id, t.for_words) for t in worker.reserved] == [
        ("999", None, "not begun"),
        ("7", None, "not begun"),
    ]


def test_the_queue_says_when_nobody_can_be_asked(
    client: Client, admin: User, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    client.force_login(admin)
    for replies, sentence in ((None, "while Redis is away"), ({}, "No worker answered")):
        monkeypatch.setattr(workers, "_ask", lambda question, replies=replies: replies)

        page = client.get(reverse("queue-now")).content.decode()

        assert sentence in page
        assert "celery: unknown" in page
