"""What stands around a passage, taken from the document."""

from __future__ import annotations

import pytest

from ingestion.chunk_ids import chunk_id
from ingestion.chunking import chunk
from ingestion.context import widened
from ingestion.models import Chunk, Corpus, Document, DocumentPart, IndexGeneration
from ingestion.passages import resolve
from ingestion.tokenizer import load_tokenizer
from ingestion.types import HEADING_SEPARATOR, Element, ElementKind, ParsedDocument, Passage

pytestmark = pytest.mark.django_db
PROSE = "Sentence {n} of the {name} part says that the valve is closed at night."


def section(name: str, page: int) -> list[Element]:
    text = " ".join(PROSE.format(n=n, name=name) for n in range(24))
    return [
        Element(ElementKind.HEADING, name, level=1, page=page),
        Element(ElementKind.PARAGRAPH, text, page=page),
    ]


def cut(corpus: Corpus, elements: list[Element], *, pages: int = 3) -> list[Passage]:
    """A ready document cut to small passages with overlap; its passages in order."""
    generation = IndexGeneration.objects.create(
        corpus=corpus,
        embedding_model="m",
        embedding_revision="1",
        dimension=1,
        pipeline_version="1",
    )
    document = Document.objects.create(
        corpus=corpus, name="a.pdf", size_bytes=1, sha256="0" * 64, state=Document.State.READY
    )
    parts, drafts = chunk(
        ParsedDocument(elements, pages=pages),
        tokenizer=load_tokenizer("all-MiniLM-L6-v2"),
        max_tokens=64,
        overlap_tokens=16,
    )
    for part in parts:
        DocumentPart.objects.create(
            document=document,
            generation=generation,
            ordinal=part.ordinal,
            page=part.page,
            text=part.text,
        )
    ids = []
    for draft in drafts:
        pk = chunk_id(
            document_id=document.pk,
            generation_key=generation.key,
            pipeline_version="1",
            ordinal=draft.ordinal,
            text=draft.text,
        )
        ids.append(pk)
        Chunk.objects.create(
            id=pk,
            document=document,
            generation=generation,
            ordinal=draft.ordinal,
            text=draft.text,
            heading_path=HEADING_SEPARATOR.join(draft.heading_path),
            page_from=draft.page_from,
            page_to=draft.page_to,
            spans=[[span.part, span.start, span.end] for span in draft.spans],
            tokens=draft.tokens,
        )
    found = resolve(ids, corpora=[corpus])
    return [found[pk] for pk in ids]


def around(corpus: Corpus, context: str, limit: int = 200) -> Corpus:
    corpus.context, corpus.context_max_tokens = context, limit
    return corpus


@pytest.fixture
def passages(corpus: Corpus) -> list[Passage]:
    return cut(corpus, [*section("North", 1), *section("South", 2)])


def test_nothing_is_added_where_the_corpus_does_not_want_it(
    corpus: Corpus, passages: list[Passage]
) -> None:
    assert widened(passages[:1], corpora=[around(corpus, "none")]) == {}


def test_neighbours_are_added_without_saying_anything_twice(
    corpus: Corpus, passages: list[Passage]
) -> None:
    middle = passages[3]
    wide = widened([middle], corpora=[around(corpus, "neighbours")])[middle.chunk_id]

    assert middle.text in wide.text
    assert len(wide.text) > 2 * len(middle.text)
    sentences = wide.text.split(". ")
    assert len(sentences) == len(set(sentences))
    tokens = load_tokenizer("all-MiniLM-L6-v2").count(wide.text)
    assert 100 < tokens <= 200


def test_a_section_ends_with_the_section(corpus: Corpus, passages: list[Passage]) -> None:
    last = next(p for p in reversed(passages) if p.heading_path == "North")
    wide = widened([last], corpora=[around(corpus, "section", 1000)])[last.chunk_id]
    across = widened([last], corpora=[around(corpus, "neighbours", 1000)])[last.chunk_id]

    assert "South" not in wide.text
    assert wide.page_to == 1
    assert wide.text.count("North") == 24
    assert "South" in across.text
    assert (across.page_from, across.page_to) == (1, 2)


def test_two_passages_never_bring_the_same_text(corpus: Corpus, passages: list[Passage]) -> None:
    wide = widened([passages[2], passages[4]], corpora=[around(corpus, "section", 1000)])
    texts = [wide.get(p.chunk_id, p).text for p in (passages[2], passages[4])]

    assert passages[4].text not in texts[0]
    own = set(texts[0].split(". "))
    # At most the overlap of two neighbouring passages is in both.
    assert len(own & set(texts[1].split(". "))) <= 2


def test_the_limit_is_never_passed(corpus: Corpus, passages: list[Passage]) -> None:
    assert widened(passages[3:4], corpora=[around(corpus, "neighbours", 70)]) == {}


def test_a_widened_table_keeps_its_header(corpus: Corpus) -> None:
    rows = "\n".join(["name | pressure", *(f"pump {n} | {n} bar" for n in range(60))])
    table = Element(ElementKind.TABLE, rows, has_header=True)
    found = cut(corpus, [table], pages=0)
    wide = widened([found[3]], corpora=[around(corpus, "neighbours", 180)])[found[3].chunk_id]

    lines = wide.text.split("\n")
    assert lines[0] == "name | pressure"
    assert lines.count("name | pressure") == 1
    assert found[3].text.split("\n")[1] in lines


def test_passages_whose_text_is_not_kept_stay_as_they_are(
    corpus: Corpus, passages: list[Passage]
) -> None:
    DocumentPart.objects.all().delete()

    assert widened(passages[3:4], corpora=[around(corpus, "neighbours")]) == {}
