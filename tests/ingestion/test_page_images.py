"""Pages as they look, drawn by a real child, with passages marked on them."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client
from PIL import Image

from ingestion import services
from ingestion.errors import ParseError
from ingestion.models import Corpus, Document
from ingestion.page_images import PageImage, marks, page_image
from ingestion.parsing import Format
from tests.ingestion import sample_files

FIRST = "The water pump is serviced every six months by the owner."
SECOND = "Parking is free on Sundays and on every public holiday."


def draw(path: Path, passage: str, number: int = 1, memory: int = 1024**3) -> PageImage:
    return page_image(
        path,
        format=Format.PDF,
        number=number,
        passage=passage,
        memory_bytes=memory,
        workdir=path.parent,
    )


@pytest.fixture
def pdf(tmp_path: Path) -> Path:
    path = tmp_path / "a.pdf"
    page = sample_files.paragraph(FIRST, top=700) + sample_files.paragraph(SECOND, top=300)
    path.write_bytes(sample_files.pdf([page]))
    return path


def test_a_passage_is_marked_where_its_ink_is(pdf: Path) -> None:
    found = draw(pdf, SECOND)
    picture = Image.open(io.BytesIO(found.png)).convert("L")
    assert picture.size == (found.width, found.height)
    assert found.marks

    def ink(box: tuple[int, int, int, int]) -> int:
        return sum(picture.crop(box).histogram()[:128])

    left, top, width, height = found.marks[0]
    assert ink((left, top, left + width, top + height)) > 100
    assert top > found.height / 2  # points count from the bottom, pixels from the top
    lower = ink((0, found.height // 2, found.width, found.height))
    inside = sum(ink((x, y, x + w, y + h)) for x, y, w, h in found.marks)
    assert inside > 0.85 * lower
    assert draw(pdf, FIRST).marks[0][1] < found.height / 2


def test_what_does_not_stand_there_once_is_not_marked(pdf: Path) -> None:
    assert draw(pdf, "Nothing of this stands on the page at all, not a word.").marks == []
    assert draw(pdf, "").marks == []
    assert marks("ab" * 5, [(n, 0, n + 1, 9) for n in range(10)], "ab") == []


def test_a_missing_page_and_a_file_that_is_no_pdf_are_errors(pdf: Path) -> None:
    with pytest.raises(ParseError):
        draw(pdf, "", number=2)
    pdf.write_bytes(b"%PDF-1.4 and no more")
    with pytest.raises(ParseError):
        draw(pdf, "")
    assert [path.name for path in pdf.parent.iterdir()] == ["a.pdf"]


@pytest.mark.django_db
@pytest.mark.usefixtures("tmp_data")
def test_only_who_may_read_the_document_sees_its_pages(
    client: Client, corpus: Corpus, alice: User, bob: User, pdf: Path
) -> None:
    with pdf.open("rb") as content:
        document: Document = services.receive(
            corpus=corpus, person=alice, name="a.pdf", content=content
        )
    address = f"/documents/{document.pk}/pages/1/"
    client.force_login(bob)
    assert client.get(address).status_code == 404
    client.force_login(alice)
    assert "data:image/png;base64," in client.get(address).content.decode()
    beyond = client.get(f"/documents/{document.pk}/pages/9/")
    assert beyond.status_code == 200
    assert "cannot be shown" in beyond.content.decode()
