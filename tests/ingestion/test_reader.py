"""Marks in a document's text lie where the passage lies, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from ingestion.models import Chunk, Corpus, Document, DocumentPart, IndexGeneration
from ingestion.reader import Block, Stretch, blocks, open_part, pages_of, stretches

TEXT = "Fusion adds ranks. Reranking reads both."


def test_a_span_is_cut_out_and_marked() -> None:
    cut = stretches(TEXT, [(19, 28)])

    assert [(s.text, s.marked) for s in cut] == [
        ("Fusion adds ranks. ", False),
        ("Reranking", True),
        (" reads both.", False),
    ]


def test_only_the_first_mark_is_the_one_to_scroll_to() -> None:
    cut = stretches(TEXT, [(19, 28), (0, 6)])

    assert [(s.text, s.is_first) for s in cut if s.marked] == [
        ("Fusion", True),
        ("Reranking", False),
    ]


@given(
    text=st.text(max_size=60),
    spans=st.lists(st.tuples(st.integers(-5, 70), st.integers(-5, 70)), max_size=6),
)
def test_stretches_join_to_the_text_and_mark_exactly_the_spans(
    text: str, spans: list[tuple[int, int]]
) -> None:
    cut = stretches(text, spans)
    marked = {i for start, end in spans for i in range(max(0, start), min(len(text), end))}

    assert "".join(s.text for s in cut) == text
    assert all(s.text for s in cut)
    flags = [s.marked for s in cut for _ in s.text]
    assert {i for i, flag in enumerate(flags) if flag} == marked


def live(corpus: Corpus) -> IndexGeneration:
    return IndexGeneration.objects.get_or_create(
        corpus=corpus,
        state=IndexGeneration.State.LIVE,
        defaults={
            "embedding_model": "m",
            "embedding_revision": "1",
            "dimension": 1,
            "pipeline_version": "1",
        },
    )[0]


def parts_of(corpus: Corpus, pages: list[int | None]) -> Document:
    document = Document.objects.create(corpus=corpus, name="a", size_bytes=1, sha256="a" * 64)
    generation = live(corpus)
    for ordinal, page in enumerate(pages):
        DocumentPart.objects.create(
            document=document,
            generation=generation,
            ordinal=ordinal,
            page=page,
            text=f"text {ordinal}",
        )
    return document


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("pages", "number", "label"),
    [
        ([1, 2, 3], None, "Page 1"),
        ([1, 2, 3], 2, "Page 2"),
        ([1, 2, 3], 99, "Page 3"),
        ([1, 3, 4], 3, "Page 3"),  # page 2 is blank: the number is the page's, not the place
        ([None, None], 2, "Part 2"),
        ([None, None], 0, "Part 1"),
    ],
)
def test_a_part_is_found_by_what_people_call_it(
    corpus: Corpus, pages: list[int | None], number: int | None, label: str
) -> None:
    view = open_part(parts_of(corpus, pages), number=number, chunk=None)

    assert view is not None
    assert view.label == label


@pytest.mark.django_db
def test_previous_and_next_step_over_missing_pages(corpus: Corpus) -> None:
    view = open_part(parts_of(corpus, [1, 3, 7]), number=3, chunk=None)

    assert view is not None
    assert (view.previous, view.next) == (1, 7)


@pytest.mark.django_db
def test_a_passage_opens_the_part_where_it_begins_and_is_marked_on_each(corpus: Corpus) -> None:
    document = parts_of(corpus, [1, 2, 3])
    generation = live(corpus)
    chunk = Chunk.objects.create(
        id="c",
        document=document,
        generation=generation,
        ordinal=0,
        text="",
        spans=[[1, 5, 6], [2, 0, 4]],
        tokens=1,
    )

    begins = open_part(document, number=None, chunk=chunk)
    goes_on = open_part(document, number=3, chunk=chunk)
    elsewhere = open_part(document, number=1, chunk=chunk)

    assert begins is not None
    assert begins.label == "Page 2"
    assert [s.text for s in begins.text if s.marked] == ["1"]
    assert goes_on is not None
    assert [s.text for s in goes_on.text if s.marked] == ["text"]
    assert elsewhere is not None
    assert not elsewhere.is_marked
    assert pages_of(chunk) == [(2, "1"), (3, "text")]


@pytest.mark.django_db
def test_beside_the_chat_a_lost_passage_is_said_and_marks_nothing(
    client: Client, corpus: Corpus, alice: User
) -> None:
    document = parts_of(corpus, [1, 2])
    client.force_login(alice)
    address = reverse("ingestion:viewer", args=[document.pk])

    lost = client.get(address, {"chunk": "gone", "page": "2"}).content.decode()
    Document.objects.update(format="pdf")
    pdf = client.get(address, {"chunk": "gone", "page": "2"}).content.decode()

    assert "no longer part of this document" in lost
    assert "text 1" in lost
    assert "<mark" not in lost
    assert 'data-first="2"' in pdf
    assert "data-passage-page" not in pdf


@pytest.mark.django_db
def test_a_document_without_text_has_nothing_to_show(corpus: Corpus) -> None:
    assert open_part(parts_of(corpus, []), number=None, chunk=None) is None


SET = (
    "Manual\n\nHow it is used.\nEvery day.\n\nFaults\n\n"
    "Code | Meaning\n4 | the fan stands still\n\nA | alone\n"
)


def every(found: Sequence[Block]) -> list[Stretch]:
    texts = [
        text
        for block in found
        for text in (block.text, *(cell for row in block.rows for cell in row))
    ]
    return [stretch for text in texts for stretch in text]


def words(stretches: Sequence[Stretch]) -> str:
    return "".join(f"<{s.text}>" if s.marked else s.text for s in stretches)


def test_headings_and_tables_are_told_from_running_text() -> None:
    start = SET.index("Every")
    found = blocks(SET, [(start, SET.index("still"))], levels={"Manual": 1, "Faults": 2})

    assert [(block.level, words(block.text)) for block in found if not block.rows] == [
        (3, "Manual"),
        (0, "How it is used.\n<Every day.>"),
        (4, "<Faults>"),
        (0, "A | alone"),
    ]
    (table,) = (block.rows for block in found if block.rows)
    assert [[words(cell) for cell in row] for row in table] == [
        ["<Code>", "<Meaning>"],
        ["<4>", "<the fan stands >still"],
    ]
    assert [s.text for s in every(found) if s.is_first] == ["Every day."]


@given(st.text(alphabet="ab |\n", max_size=80), st.tuples(st.integers(0, 80), st.integers(0, 80)))
def test_no_letter_is_lost_or_marked_otherwise_by_setting_a_text(
    text: str, span: tuple[int, int]
) -> None:
    def letters(shown: Iterable[Stretch]) -> list[tuple[str, bool]]:
        return [(c, s.marked) for s in shown for c in s.text if c in "ab"]

    shown = every(blocks(text, [span], levels={"ab": 1}))

    assert letters(shown) == letters(stretches(text, [span]))
    assert sum(s.is_first for s in shown) == any(s.marked for s in shown)
