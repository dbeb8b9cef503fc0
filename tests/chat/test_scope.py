"""Questions that are put to single documents: what is offered, kept, searched and refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.core.management.base import BaseCommand, CommandError
from django.urls import reverse

from chat import turns
from chat.management.commands.ask import Command as AskCommand
from chat.models import Conversation, Turn
from chat.panel import searched_in
from ingestion import command_options
from ingestion.forms import MAX_DOCUMENTS
from ingestion.models import Corpus, Document
from ingestion.types import DocumentFilter
from search.management.commands.retrieve import Command as RetrieveCommand
from tests.chat.test_pages import document
from tests.chat.test_views import as_person

if TYPE_CHECKING:
    from django.contrib.auth.models import User

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "start", lambda turn: None)


def ask(person: User, **form: Any) -> Any:
    return as_person(person).post(reverse("chat:ask"), {"question": "What?", **form})


def test_documents_are_found_by_words_of_their_name_and_title(
    corpus: Corpus, alice: User, bob: User
) -> None:
    guide = document(corpus, "guide-2026.pdf")
    Document.objects.filter(pk=guide.pk).update(title="How the pump is serviced")
    for number in range(24):
        document(corpus, f"other-{number}.txt")
    document(corpus, "guide-of-tomorrow.pdf", state="parsing")
    find = reverse("chat:documents")

    found = as_person(alice).get(find, {"find": "GUIDE pump"}).content.decode()
    assert "guide-2026.pdf" in found
    assert "guide-of-tomorrow" not in found
    assert f'value="{guide.pk}"' in found
    everything = as_person(alice).get(find).content.decode()
    assert everything.count("<label") == 20
    assert "And 5 more" in everything
    rest = (
        as_person(alice).get(find, {"find": "guide", "documents": str(guide.pk)}).content.decode()
    )
    assert "No other document that is ready has “guide” in its name." in rest
    assert "· Papers" not in everything
    document(Corpus.objects.create(owner=alice, name="Elsewhere"), "far.txt")
    both = as_person(alice).get(find).content.decode()
    assert "· Elsewhere" in both
    assert "· Papers" in both
    assert "guide-2026" not in as_person(bob).get(find, {"find": "guide"}).content.decode()


def test_a_document_of_the_address_stands_in_the_composer(corpus: Corpus, alice: User) -> None:
    guide = document(corpus, "guide.pdf", "Fusion")
    document(corpus, "other.pdf", "Chunking")
    page = as_person(alice).get(reverse("chat:new"), {"document": guide.pk}).content.decode()
    assert f'name="documents" value="{guide.pk}" checked' in page
    assert "say about “Fusion”?" in page
    assert "Chunking" not in page
    for nonsense in ("x", "9" * 40, "-1"):
        page = as_person(alice).get(reverse("chat:new"), {"document": nonsense}).content.decode()
        assert 'name="documents"' not in page
    shown = as_person(alice).get(reverse("ingestion:document", args=[guide.pk])).content.decode()
    assert f"{reverse('chat:new')}?document={guide.pk}" in shown


def test_the_corpora_are_those_of_the_documents_and_the_choice_is_kept(
    corpus: Corpus, alice: User
) -> None:
    elsewhere = Corpus.objects.create(owner=alice, name="Elsewhere")
    guide, _ = document(corpus, "guide.pdf"), document(elsewhere, "other.pdf")

    assert ask(alice, corpora=elsewhere.pk, documents=guide.pk).status_code == 302
    held = Conversation.objects.get()
    assert list(held.corpora.all()) == [corpus]
    assert held.only == DocumentFilter(documents=(guide.pk,))
    claimed = turns._claim(Turn.objects.get().pk)
    assert claimed is not None
    assert claimed.only == held.only
    page = as_person(alice).get(reverse("chat:conversation", args=[held.pk])).content.decode()
    assert f'name="documents" value="{guide.pk}" checked' in page

    assert ask(alice, corpora=corpus.pk, conversation=held.pk).status_code == 302
    held.refresh_from_db()
    assert not held.only  # the page showed none any more


def test_documents_that_cannot_be_searched_are_refused(
    corpus: Corpus, alice: User, bob: User
) -> None:
    hers = Corpus.objects.create(owner=bob, name="Hers")
    secret = document(hers, "secret.pdf")
    ready = document(corpus, "ready.pdf")
    for name, state in (("parsing.pdf", "parsing"), ("failed.pdf", "failed")):
        refused = ask(alice, corpora=corpus.pk, documents=document(corpus, name, state=state).pk)
        assert refused.status_code == 422
        assert f"“{name}” cannot be searched now" in refused.content.decode()
    Document.objects.filter(pk=ready.pk).update(enabled=False)
    assert "“ready.pdf” cannot be" in ask(alice, documents=ready.pk).content.decode()

    for key in (secret.pk, 10**9, "x", "9" * 30):
        refused = ask(alice, corpora=corpus.pk, documents=key)
        assert refused.status_code == 422, key
        assert "One of the chosen documents no longer exists." in refused.content.decode()
        assert "secret" not in refused.content.decode()

    many = [document(corpus, f"{n}.txt").pk for n in range(MAX_DOCUMENTS + 1)]
    refused = ask(alice, documents=many)
    assert f"At most {MAX_DOCUMENTS} single documents" in refused.content.decode()
    assert not Turn.objects.exists()


def test_a_refused_question_leaves_the_choice_as_it_was_sent(corpus: Corpus, alice: User) -> None:
    guide = document(corpus, "guide.pdf")
    held = Conversation.objects.create(owner=alice, documents=[guide.pk], labels=[["tag", "law"]])
    held.corpora.add(corpus)

    refused = ask(alice, question="", corpora=corpus.pk, conversation=held.pk).content.decode()
    assert 'name="documents"' not in refused
    assert 'value="tag=law" checked' not in refused
    refused = ask(alice, question="", documents=guide.pk, conversation=held.pk).content.decode()
    assert f'name="documents" value="{guide.pk}" checked' in refused


def test_a_later_version_takes_the_place_of_a_chosen_document(corpus: Corpus, alice: User) -> None:
    first, second = document(corpus, "guide.pdf"), document(corpus, "guide.PDF")
    Document.objects.filter(pk=first.pk).update(lineage="a", version=1)
    Document.objects.filter(pk=second.pk).update(lineage="a", version=2)
    document(corpus, "other.pdf")

    only = DocumentFilter(documents=(first.pk,))
    assert list(Document.objects.searchable().passing(only)) == [second]
    page = as_person(alice).get(reverse("chat:new"), {"document": first.pk}).content.decode()
    assert f'name="documents" value="{second.pk}" checked' in page
    assert ask(alice, documents=first.pk).status_code == 302  # of a page that was open meanwhile


def test_what_was_searched_is_said_in_words() -> None:
    def words(documents: list[int], labels: list[list[str]], *names: str) -> str:
        sources = [{"document": name, "document_id": 1} for name in names]
        return searched_in({"settings": {"documents": documents, "labels": labels}}, sources)

    law, tax, year = ["tag", "law"], ["tag", "tax"], ["year", "2026"]
    assert words([], []) == searched_in(None, []) == searched_in({"settings": {}}, []) == ""
    assert words([1], [], "a.pdf", "a.pdf") == "“a.pdf”"
    assert words([1, 2], [], "a.pdf", "b.pdf") == "“a.pdf” and “b.pdf”"
    assert words([1, 2, 3], [], "a.pdf") == "“a.pdf” and 2 other chosen"
    assert words([1, 2], []) == "2 chosen documents"
    assert words([], [law]) == "documents with law"
    assert words([], [law, year, tax]) == "documents with law or tax and year: 2026"
    assert words([1], [law], "a.pdf") == "“a.pdf”, of these in documents with law"


@pytest.mark.parametrize("command", [AskCommand(), RetrieveCommand()], ids=["ask", "retrieve"])
def test_the_commands_take_documents_by_name(command: BaseCommand, corpus: Corpus) -> None:
    guide, other = document(corpus, "guide.pdf"), document(corpus, "other.pdf")
    document(corpus, "failed.pdf", state="failed")

    def found(*arguments: str) -> DocumentFilter:
        parser = command.create_parser("manage.py", "command")
        options = parser.parse_args(["What?", "--corpus", corpus.name, *arguments])
        return command_options.filter_of(vars(options), corpus)

    assert not found()
    both = found("--document", "guide.pdf", "--document", "other.pdf", "--tag", "law")
    assert set(both.documents) == {guide.pk, other.pk}
    assert both.labels == (("tag", "law"),)
    for name in ("gide.pdf", "failed.pdf"):
        with pytest.raises(CommandError, match=rf"no document called “{name}” that is ready"):
            found("--document", "guide.pdf", "--document", name)
