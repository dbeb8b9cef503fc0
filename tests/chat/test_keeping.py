"""Conversations that are kept: pinned, searched, exported, and shared by a link."""

from __future__ import annotations

import json
from pathlib import Path

import pypdfium2
import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries, Settings

from chat import pages
from chat.models import Conversation, Turn
from ingestion.models import Corpus, Share
from tests.chat.test_pages import document
from tests.chat.test_panel import source

pytestmark = pytest.mark.django_db

SECRET = "The vault opens at nine."


def as_person(person: User) -> Client:
    """A browser in which this person is signed in."""
    client = Client()
    client.force_login(person)
    return client


@pytest.fixture
def turn(alice: User, corpus: Corpus) -> Turn:
    """An answer of a model about two documents, the second one of another corpus."""
    held = Conversation.objects.create(owner=alice, title="Vaults & keys: 金庫")
    other = Corpus.objects.create(owner=alice, name="Secrets")
    held.corpora.add(corpus, other)
    guide, plan = document(corpus, "guide.pdf", "Guide"), document(other, "plan.pdf", "Plan")
    return Turn.objects.create(
        conversation=held,
        question="When does it open?",
        answer="At **nine** [2], say both [1].\n\n```\nopen()\n```",
        state=Turn.State.DONE,
        model="small:1b",
        sources=[
            source(1, document_id=guide.pk, cited=True, document="guide.pdf", text="Keys."),
            source(2, document_id=plan.pk, cited=True, document="plan.pdf", text=SECRET),
        ],
        degraded=[{"code": "reranker_late", "sentence": "The reranker was late."}],
    )


def exported(turn: Turn, kind: str, person: User) -> bytes:
    address = reverse("chat:export", args=[turn.conversation_id, kind])
    answer = as_person(person).get(address)
    assert answer.status_code == 200
    assert "attachment" in answer["Content-Disposition"]
    return answer.content


def shared(turn: Turn) -> str:
    """The address that the owner gets by sharing the conversation."""
    address = reverse("chat:share", args=[turn.conversation_id])
    as_person(turn.conversation.owner).post(address, {"shared": "1"})
    return reverse("chat:shared", args=[Conversation.objects.get().share_key])


def test_a_pinned_conversation_stands_above_newer_ones(alice: User, turn: Turn) -> None:
    Conversation.objects.create(owner=alice, title="Newer")
    address = reverse("chat:pin", args=[turn.conversation_id])
    as_person(alice).post(address, {"pinned": "1"})

    days = pages.conversations_by_day(alice)

    assert [(d.title, [c.title for c in d.conversations]) for d in days] == [
        ("Pinned", [turn.conversation.title]),
        ("Today", ["Newer"]),
    ]
    as_person(alice).post(address, {"pinned": "0"})
    assert [d.title for d in pages.conversations_by_day(alice)] == ["Today"]


def test_the_list_is_searched_in_titles_questions_and_answers(alice: User, turn: Turn) -> None:
    Conversation.objects.create(owner=alice, title="Newer")
    for words in ("VAULTS", "does it open", "**nine**"):
        days = pages.conversations_by_day(alice, search=words)
        assert [c.pk for d in days for c in d.conversations] == [turn.conversation_id], words


def test_markdown_has_answers_and_sources_with_scores(alice: User, turn: Turn) -> None:
    text = exported(turn, "md", alice).decode()

    assert text.startswith("# Vaults & keys: 金庫\n")
    assert "## When does it open?" in text
    assert "At **nine** [2], say both [1]." in text
    assert "> Note: The reranker was late." in text
    found = turn.sources[1]
    line = next(line for line in text.splitlines() if line.startswith("2. "))
    assert "plan.pdf" in line
    assert f"relevance {found['relevance']:.2f}" in line
    assert f"BM25 #{found['bm25_rank']} ({found['bm25_score']:.2f})" in line


def test_json_has_every_field_of_the_sources(alice: User, turn: Turn) -> None:
    told = json.loads(exported(turn, "json", alice))

    [one] = told["turns"]
    assert one["answer"] == turn.answer
    assert one["sources"][1]["text"] == SECRET
    assert {"bm25_rank", "similarity", "rrf_score", "rerank_logit", "outcome"} <= set(
        one["sources"][0]
    )


def test_pdf_draws_latin_greek_and_cyrillic_and_names_what_it_cannot(
    alice: User, turn: Turn
) -> None:
    Turn.objects.update(answer="Größe, ώρα, время: 九時 [1]")

    document = pypdfium2.PdfDocument(exported(turn, "pdf", alice))
    text = "\n".join(page.get_textpage().get_text_bounded() for page in document)

    assert "Größe, ώρα, время: □□ [1]" in text
    assert "U+4E5D" in text
    assert "plan.pdf" in text
    assert "The reranker was late." in text


def test_a_table_is_drawn_in_the_pdf_unless_no_page_holds_it(alice: User, turn: Turn) -> None:
    wide = "|" + "x|" * 40
    Turn.objects.update(
        answer=f"| Name | Opens |\n|---|:-:|\n| **Vault** | at \\| nine |\n\n{wide}\n{wide}\n\nEnd."
    )

    document = pypdfium2.PdfDocument(exported(turn, "pdf", alice))
    text = document[0].get_textpage().get_text_bounded()

    assert "|---|" not in text
    assert "Vault" in text
    assert "at | nine" in text
    assert "|x|x|" in text
    assert "End." in text


def test_a_long_pdf_has_pages_and_loses_nothing(alice: User, turn: Turn) -> None:
    answer = "\n".join(f"Line {n} of many words, long enough to be real." for n in range(300))
    Turn.objects.update(answer=answer + "\n" + "x" * 3000)

    document = pypdfium2.PdfDocument(exported(turn, "pdf", alice))

    assert len(document) > 4
    text = "".join(page.get_textpage().get_text_bounded() for page in document)
    assert "Line 299 of many" in text
    assert text.count("x") >= 3000


def test_another_font_draws_what_the_first_lacks(
    alice: User, turn: Turn, settings: Settings, tmp_path: Path
) -> None:
    settings.EXPORT_FONT = str(tmp_path / "none.ttf")
    address = reverse("chat:export", args=[turn.conversation_id, "pdf"])

    answer = as_person(alice).get(address, follow=True)

    assert "check EXPORT_FONT" in answer.content.decode()


def test_an_export_withholds_what_the_person_may_no_longer_read(
    alice: User, bob: User, turn: Turn
) -> None:
    Corpus.objects.filter(name="Secrets").update(owner=bob)

    for kind in ("md", "json"):
        text = exported(turn, kind, alice).decode()
        assert "withheld" in text
        assert SECRET not in text
        assert "plan.pdf" not in text


def test_a_link_leads_signed_in_people_to_the_conversation_until_it_is_revoked(
    alice: User, viv: User, turn: Turn
) -> None:
    address = shared(turn)
    assert as_person(viv).get(address).status_code == 200
    signed_out = Client().get(address)
    assert signed_out.status_code == 302
    assert signed_out["Location"].startswith(reverse("account_login"))

    as_person(alice).post(reverse("chat:share", args=[turn.conversation_id]), {"shared": "0"})

    assert as_person(viv).get(address).status_code == 404
    assert shared(turn) != address


def test_a_reader_sees_sources_of_corpora_they_may_read_and_of_no_others(
    viv: User, corpus: Corpus, turn: Turn, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    Corpus.objects.filter(pk=corpus.pk).update(visibility=Corpus.Visibility.OPEN)
    address = shared(turn)
    reader = as_person(viv)

    with django_assert_max_num_queries(20):
        page = reader.get(address).content.decode()

    assert "guide.pdf" in page
    assert "Keys." in page
    assert "1 withheld" in page
    assert SECRET not in page
    assert "plan.pdf" not in page
    assert "Secrets" not in page

    Share.objects.create(corpus=Corpus.objects.get(name="Secrets"), person=viv)
    assert SECRET in reader.get(address).content.decode()


def test_quotes_of_a_corpus_that_the_reader_may_not_read_are_not_shown(
    viv: User, turn: Turn
) -> None:
    Turn.objects.update(model="", answer=f"> “{SECRET}” [2]")

    page = as_person(viv).get(shared(turn)).content.decode()

    assert SECRET not in page
    assert "made of quotes of documents that are deleted or that you may not read" in page


def test_nobody_but_the_owner_pins_shares_or_exports(bob: User, turn: Turn) -> None:
    stranger = as_person(bob)
    for name in ("chat:pin", "chat:share"):
        address = reverse(name, args=[turn.conversation_id])
        assert stranger.post(address, {"shared": "1", "pinned": "1"}).status_code == 404
    held = Conversation.objects.get()
    assert held.share_key is None
    assert held.pinned_at is None


def test_the_asker_rates_an_answer_and_takes_it_back(alice: User, bob: User, turn: Turn) -> None:
    address = reverse("chat:rate", args=[turn.pk])
    ratings = []
    for said in ("bad", "good", "good", "bad"):
        assert as_person(alice).post(address, {"rating": said}).status_code == 302
        ratings.append(Turn.objects.get().rating)

    assert ratings == ["bad", "good", "", "bad"]
    assert as_person(alice).post(address, {"rating": "great"}).status_code == 400
    assert as_person(bob).post(address, {"rating": "good"}).status_code == 404
    assert Turn.objects.get().rating == "bad"


def test_an_answer_is_copied_with_or_without_its_sources(alice: User, turn: Turn) -> None:
    address = reverse("chat:turn_text", args=[turn.pk])
    text = as_person(alice).get(address).content.decode()
    bare = as_person(alice).get(address, {"sources": "0"}).content.decode()

    assert bare == turn.answer
    assert text.startswith(f"*Asked {turn.created_at:%Y-%m-%d %H:%M} UTC, answered by small:1b*")
    assert "> Note:" in text
    assert "At **nine** [2]" in text
    assert "2. plan.pdf" in text
