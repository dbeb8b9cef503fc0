"""The page of a corpus's index: settings, preview, rebuilds."""

from __future__ import annotations

import io
from html import unescape
from pathlib import Path

import pytest
from django.test import Client
from pytest_django import Settings

from ingestion import nudges, pipeline, preview, rebuild, services
from ingestion.checks import check_passage_size
from ingestion.forms import OptionsForm
from ingestion.models import Chunk, Corpus, Document, DocumentPart, IndexGeneration
from ingestion.types import MAX_PASSAGE_TOKENS, QUESTION_TOKENS, ChunkOptions
from tests.ingestion import sample_files
from tests.ingestion.test_rebuild import begin, live, ready, work_off

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("tmp_data")]
SITE = ChunkOptions()
GOOD = {
    "chunk_strategy": "sentence",
    "chunk_max_tokens": "128",
    "chunk_overlap_tokens": "16",
    "context": "section",
    "context_max_tokens": "500",
}
TEXT = "# Valves\n\n" + " ".join(
    f"Valve {n} is closed at night and open by day." for n in range(60)
)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setattr(nudges, "nudge_waiting", lambda: 0)
    monkeypatch.setattr(nudges, "nudge_generations", lambda: None)


@pytest.fixture
def page(client: Client, corpus: Corpus) -> Client:
    client.force_login(corpus.owner)
    return client


def address(corpus: Corpus, what: str = "") -> str:
    return f"/corpora/{corpus.pk}/index/{what}"


def text_of(response: object) -> str:
    return unescape(response.content.decode())  # type: ignore[attr-defined]


def upload(corpus: Corpus, text: str = TEXT, name: str = "valves.md") -> Document:
    content = io.BytesIO(text.encode())
    return services.receive(corpus=corpus, person=None, name=name, content=content)


# --- settings ----------------------------------------------------------------------------


def test_the_window_holds_a_passage_and_a_question() -> None:
    assert MAX_PASSAGE_TOKENS + QUESTION_TOKENS == 512


def test_settings_are_saved(page: Client, corpus: Corpus) -> None:
    response = page.post(address(corpus), GOOD)

    assert response.status_code == 302
    corpus.refresh_from_db()
    assert corpus.chunk_options(site=SITE) == ChunkOptions("sentence", 128, 16)  # type: ignore[arg-type]
    assert (corpus.context, corpus.context_max_tokens) == ("section", 500)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("chunk_max_tokens", "449", "A passage may have 32 to 448 tokens: rerankers read 512"),
        ("chunk_max_tokens", "31", "A passage may have 32 to 448 tokens"),
        ("chunk_overlap_tokens", "43", "Passages of 128 tokens may overlap by 42"),
        ("context_max_tokens", "100", "Choose 128, the size of a passage, to 4000 tokens."),
        ("context_max_tokens", "4001", "Choose 128"),
        ("chunk_strategy", "magic", "magic is not one of the available choices"),
        ("chunk_max_tokens", "many", "Enter a whole number."),
    ],
)
def test_senseless_settings_are_refused_with_a_sentence_and_nothing_is_saved(
    page: Client, corpus: Corpus, settings: Settings, field: str, value: str, sentence: str
) -> None:
    settings.EMBED_URL = "http://127.0.0.1:1"  # what a model reads is another limit
    response = page.post(address(corpus), GOOD | {field: value})

    assert response.status_code == 422
    assert sentence in " ".join(text_of(response).split())
    before = Corpus.objects.get(pk=corpus.pk)
    assert before.chunk_max_tokens is None
    assert before.context == "none"


def test_a_passage_is_not_longer_than_the_embedder_reads(corpus: Corpus) -> None:
    form = OptionsForm(
        GOOD | {"chunk_max_tokens": "300"}, instance=corpus, site=SITE, model_tokens=256
    )

    assert "the embedding model reads no more than 256" in str(form.errors["chunk_max_tokens"])


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("CHUNK_MAX_TOKENS", 449, "ingestion.E001"),
        ("CHUNK_MAX_TOKENS", 31, "ingestion.E001"),
        ("CHUNK_OVERLAP_TOKENS", 86, "ingestion.E002"),
    ],
)
def test_a_site_set_to_passages_that_do_not_fit_says_so_at_its_start(
    settings: Settings, name: str, value: int, code: str
) -> None:
    assert check_passage_size() == []
    setattr(settings, name, value)
    assert [message.id for message in check_passage_size()] == [code]


def test_empty_sizes_mean_the_sites(corpus: Corpus) -> None:
    form = OptionsForm(
        GOOD | {"chunk_max_tokens": "", "chunk_overlap_tokens": ""}, instance=corpus, site=SITE
    )

    assert form.is_valid()
    assert (form.options.max_tokens, form.options.overlap_tokens) == (256, 32)


# --- preview ------------------------------------------------------------------------------


def shown(
    page: Client, corpus: Corpus, document: Document, *, first: str = "1", **changes: str
) -> tuple[int, str]:
    small = {"chunk_overlap_tokens": "0"} if "chunk_max_tokens" in changes else {}
    response = page.get(
        address(corpus, "preview/"),
        GOOD | {"document": str(document.pk), "page": first} | small | changes,
    )
    return response.status_code, text_of(response)


def test_only_documents_that_can_be_cut_are_offered(page: Client, corpus: Corpus) -> None:
    upload(corpus, name="good.md")
    failed = upload(corpus, "x", name="bad.md")
    Document.objects.filter(pk=failed.pk).update(state=Document.State.FAILED)

    text = text_of(page.get(address(corpus)))
    assert ">good.md</option>" in text
    assert "bad.md" not in text


def test_a_preview_shows_passages_and_writes_nothing(page: Client, corpus: Corpus) -> None:
    document = upload(corpus)

    status, small = shown(page, corpus, document, chunk_max_tokens="64")
    _, large = shown(page, corpus, document, chunk_max_tokens="192")

    assert status == 200
    assert small.count("preview-text") > 2 * large.count("preview-text") > 2
    assert "Valves" in small  # the heading above
    assert "tokens on average" in small
    assert not Chunk.objects.exists()
    assert not DocumentPart.objects.exists()
    assert not IndexGeneration.objects.exists()
    document.refresh_from_db()
    assert document.state == Document.State.RECEIVED
    assert Corpus.objects.get(pk=corpus.pk).chunk_max_tokens is None


def test_a_preview_is_how_it_will_be_cut(
    page: Client, corpus: Corpus, chroma_url: str, inference_url: str
) -> None:
    document = upload(corpus)
    page.post(address(corpus), GOOD)
    _, text = shown(page, corpus, document)

    pipeline.work_on(document.pk)

    passages = list(document.chunks.order_by("ordinal"))
    assert len(passages) > 5
    assert text.count("preview-text") == len(passages)
    assert all(passage.text in text for passage in passages)
    assert live(corpus).chunk_options == ChunkOptions("sentence", 128, 16)  # type: ignore[arg-type]


def test_a_preview_of_pages(page: Client, corpus: Corpus) -> None:
    pages = [sample_files.paragraph(f"Page {n} has its own words.", top=700) for n in range(1, 6)]
    content = io.BytesIO(sample_files.pdf(pages))
    document = services.receive(corpus=corpus, person=None, name="a.pdf", content=content)

    _, text = shown(page, corpus, document, first="3", chunk_max_tokens="32")

    assert "Page 3 to 4 of 5" in " ".join(text.split())
    assert "Page 3 has" in text
    assert "Page 1 has" not in text


def test_a_preview_says_what_is_wrong(page: Client, corpus: Corpus) -> None:
    document = upload(corpus)

    assert "A passage may have" in shown(page, corpus, document, chunk_max_tokens="9")[1]
    services.blob_path(document).unlink()
    preview._parsed.clear()
    status, text = shown(page, corpus, document)
    assert status == 422
    assert "The stored file is missing" in text


def test_cutting_by_meaning_without_a_model_says_so(
    page: Client, corpus: Corpus, settings: Settings
) -> None:
    settings.EMBED_URL = "http://127.0.0.1:1"
    status, text = shown(page, corpus, upload(corpus), chunk_strategy="semantic")

    assert status == 422
    assert "needs the model server" in text


def test_documents_of_others_are_not_previewed(page: Client, corpus: Corpus, bob: object) -> None:
    other = Corpus.objects.create(owner=bob, name="Bob's")  # type: ignore[misc]
    secret = upload(other, "# Secret\n\nThe secret of Bob.")

    assert "secret" not in shown(page, corpus, secret)[1].lower()


# --- rebuilds ------------------------------------------------------------------------------


@pytest.mark.usefixtures("chroma_url", "inference_url")
def test_a_rebuild_from_its_offer_to_its_way_back(page: Client, corpus: Corpus) -> None:
    (document,) = ready(corpus, "The pump has a fan. " * 60)
    old = live(corpus)
    state = address(corpus, "state/")
    assert "The index fits the settings" in text_of(page.get(state))

    page.post(address(corpus), GOOD)
    offer = text_of(page.get(state))
    assert "it is cut at “Structure”, the settings say “Sentences”" in offer
    assert "up to 256 tokens, the settings say 128" in offer

    def act(name: str) -> str:
        response = page.post(address(corpus, "rebuild/"), {"act": name}, follow=True)
        return text_of(response)

    assert "The rebuild has begun" in act("start")
    assert "A new index is being built" in text_of(page.get(state))
    assert "Documents are still being built" in act("flip")
    assert "A rebuild of this corpus is under way" in act("start")
    work_off()
    assert "The new index is complete" in text_of(page.get(state))

    assert "The new index is in use" in act("flip")
    assert live(corpus) != old
    assert live(corpus).chunk_max_tokens == 128
    assert "Go back to the former index" in text_of(page.get(state))
    assert "There is no rebuild under way" in act("cancel")

    assert "The former index is in use again" in act("roll_back")
    assert live(corpus) == old
    document.refresh_from_db()
    assert document.state == Document.State.READY


@pytest.mark.usefixtures("chroma_url", "inference_url")
def test_another_embedding_model_is_offered_a_rebuild(page: Client, corpus: Corpus) -> None:
    ready(corpus, "first")
    IndexGeneration.objects.update(embedding_model="former", embedding_revision="1")

    text = text_of(page.get(address(corpus, "state/")))

    assert "its vectors are of former, the model server has all-MiniLM-L6-v2" in text


@pytest.mark.usefixtures("chroma_url", "inference_url")
def test_both_indexes_are_asked_side_by_side(page: Client, corpus: Corpus, tmp_data: Path) -> None:
    upload(corpus)
    upload(corpus, "# Canteen\n\n" + "Lunch is served from eleven to two. " * 20, "canteen.md")
    work_off()
    begin(corpus)
    work_off()

    before = text_of(page.get(address(corpus, "compare/")))
    assert "Canteen" in before
    after = page.post(
        address(corpus, "compare/"),
        {"questions": "When is lunch served? => canteen.md\nWhich valve is open by day?"},
    )

    text = " ".join(text_of(after).split())
    assert text.count("Lunch is served") >= 2
    assert "canteen.md is document 1" in text
    assert text.count("1.00 of 1 question") == 2
    assert page.post(address(corpus, "compare/"), {"questions": " "}).status_code == 422
    assert rebuild.building(corpus) is not None
