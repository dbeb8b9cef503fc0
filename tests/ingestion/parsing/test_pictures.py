"""Text in pictures: recognised page by page where there is no other, or missed in the open."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from PIL import Image

from ingestion.errors import NOTICES, SENTENCES, ParseError, notice_text
from ingestion.parsing import OcrSettings, parse_in_child, sniff, tesseract
from ingestion.types import ParsedDocument
from tests.ingestion.parsing.made import image_file, picture, scanned, texts
from tests.ingestion.sample_files import write

WORDS = ("The lighthouse of Alexandria", "stood on the island of Pharos")


@pytest.fixture
def ocr() -> None:
    """Tesseract must be there: without it these tests prove nothing, so they fail."""
    if shutil.which("tesseract") is None:
        pytest.fail("Tesseract is not installed. Run tests/install-tools.sh first.")


def recognised(folder: Path, content: bytes, name: str, *, seconds: int = 60) -> ParsedDocument:
    path = write(folder, "blob", content)
    return parse_in_child(
        path,
        format=sniff(path, name),
        timeout_seconds=30,
        memory_bytes=1024 * 1024 * 1024,
        workdir=folder,
        ocr=OcrSettings(seconds=seconds),
    )


def joined(parsed: ParsedDocument) -> str:
    return " ".join(" ".join(texts(parsed)).split())


PAGE = picture(*WORDS)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (image_file(PAGE, "PNG"), "a.png"),
        (image_file(picture(*WORDS, mode="RGBA"), "PNG"), "transparent.png"),
        (image_file(PAGE.convert("P"), "GIF"), "a.gif"),
        (image_file(PAGE.convert("CMYK"), "JPEG"), "cmyk.jpg"),
        (image_file(PAGE.convert("1"), "TIFF", compression="group4"), "fax.tif"),
        (image_file(PAGE.convert("I;16"), "TIFF"), "deep.tif"),
        (image_file(PAGE, "WEBP"), "named-otherwise.docx"),
        (image_file(PAGE.resize((467, 167)), "BMP"), "small.bmp"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.usefixtures("ocr")
def test_the_text_of_a_picture_is_recognised(tmp_path: Path, content: bytes, name: str) -> None:
    found = recognised(tmp_path, content, name)

    assert "lighthouse of Alexandria" in joined(found)
    assert (found.pages, found.elements[0].page) == (1, 1)
    assert [p.name for p in tmp_path.iterdir()] == ["blob"]


@pytest.mark.usefixtures("ocr")
def test_a_picture_on_its_head_or_side_is_turned(tmp_path: Path) -> None:
    for degrees in (90, 180, 270):
        turned = PAGE.rotate(degrees, expand=True)
        for content, name in ((image_file(turned, "PNG"), "a.png"), (scanned(turned), "a.pdf")):
            found = recognised(tmp_path, content, name)
            assert "lighthouse of Alexandria" in joined(found), (degrees, name)

    # What a camera says about the way it was held comes first.
    exif = Image.Exif()
    exif[0x0112] = 3
    told = image_file(picture(*WORDS).rotate(180), "JPEG", exif=exif)
    assert "lighthouse of Alexandria" in joined(recognised(tmp_path, told, "a.jpg"))


@pytest.mark.usefixtures("ocr")
def test_each_frame_of_a_fax_is_a_page(tmp_path: Path) -> None:
    frames = [picture(f"This is page {word}") for word in ("one", "two", "three")]
    content = image_file(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    found = recognised(tmp_path, content, "a.tif")

    assert found.pages == 3
    assert [(e.page, e.text) for e in found.elements] == [
        (1, "This is page one"),
        (2, "This is page two"),
        (3, "This is page three"),
    ]


@pytest.mark.usefixtures("ocr")
def test_only_pages_without_text_are_recognised_and_stand_in_their_place(tmp_path: Path) -> None:
    content = scanned("A page of text.", PAGE, "The last page.")
    found = recognised(tmp_path, content, "a.pdf")

    assert found.pictures == [2]
    assert [e.page for e in found.elements] == sorted(e.page or 0 for e in found.elements)
    assert texts(found)[0] == "A page of text."
    assert "island of Pharos" in joined(found)
    assert texts(found)[-1] == "The last page."


@pytest.mark.usefixtures("ocr")
def test_a_picture_without_text_has_none(tmp_path: Path) -> None:
    noise = Image.frombytes("L", (400, 300), random.Random(1).randbytes(400 * 300))
    for blank in (Image.new("RGB", (400, 300), "white"), noise, Image.radial_gradient("L")):
        with pytest.raises(ParseError) as caught:
            recognised(tmp_path, image_file(blank, "PNG"), "a.png")
        assert caught.value.code == "no_text"


@pytest.mark.usefixtures("ocr")
def test_pages_that_time_does_not_suffice_for_are_counted(tmp_path: Path) -> None:
    with pytest.raises(ParseError) as caught:
        recognised(tmp_path, image_file(PAGE, "PNG"), "a.png", seconds=-1)
    assert caught.value.code == "too_slow"

    found = recognised(tmp_path, scanned("Text.", PAGE), "a.pdf", seconds=-1)
    assert texts(found) == ["Text."]
    assert notice_text(found.notices) == NOTICES["ocr_too_slow"].format(count=1)


@pytest.mark.parametrize(
    ("missing", "words"),
    [("program", "apt install tesseract-ocr"), ("language", "OCR_LANGUAGES")],
)
def test_without_tesseract_the_page_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, words: str
) -> None:
    code = "without_ocr" if missing == "program" else "without_language"

    def absent(languages: str) -> list[str]:
        raise tesseract.OcrMissing(code)

    if missing == "program":
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        monkeypatch.setattr(tesseract, "command", absent)
    with pytest.raises(ParseError) as caught:
        recognised(tmp_path, image_file(PAGE, "PNG"), "a.png")
    assert words in SENTENCES[caught.value.code]
    assert SENTENCES[caught.value.code].startswith("No text was found in the file")

    found = recognised(tmp_path, scanned("Text.", PAGE, PAGE), "a.pdf")
    assert texts(found) == ["Text."]
    assert "not read: 2." in notice_text(found.notices)
    assert words in notice_text(found.notices)


@pytest.mark.usefixtures("ocr")
def test_a_language_that_is_not_installed_is_missed(tmp_path: Path) -> None:
    with pytest.raises(tesseract.OcrMissing) as caught:
        tesseract.command("eng+no-such-language")
    assert caught.value.code == "without_language"
    assert "eng" in tesseract.command("eng")


def test_a_picture_too_large_or_cut_off_is_refused(tmp_path: Path) -> None:
    huge = image_file(Image.new("1", (12_000, 12_000)), "PNG")
    for content, code in ((huge, "too_large"), (image_file(PAGE, "PNG")[:900], "corrupt")):
        with pytest.raises(ParseError) as caught:
            recognised(tmp_path, content, "a.png")
        assert caught.value.code == code


def test_words_become_paragraphs_and_stains_do_not() -> None:
    rows = [
        ("5", "1", "1", "1", "1", "1", "0", "0", "9", "9", "96.1", "Light-"),
        ("5", "1", "1", "1", "2", "1", "0", "9", "9", "9", "95.0", "house"),
        ("5", "1", "1", "1", "2", "2", "9", "9", "9", "9", "12.5", "~|"),
        ("4", "1", "2", "1", "1", "0", "0", "9", "9", "9", "-1", ""),
        ("5", "1", "2", "1", "1", "1", "0", "9", "9", "9", "88", "Pharos"),
    ]
    answer = "\n".join("\t".join(row) for row in rows)

    words = tesseract.words_of(f"level\tpage_num\n{answer}\n")
    found = tesseract.elements_of(words, page=7)
    assert [(e.page, e.text) for e in found] == [(7, "Lighthouse"), (7, "Pharos")]
