"""The source beside the chat in a real browser: its page, and the passage marked or not."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from ragsite.processes import ROOT
from tests.browser.conftest import Site
from tests.browser.test_main_job import ask, create_corpus, expect_end, expect_ready, upload
from tests.ingestion.sample_files import Line, pdf

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

LINES = [
    *(f"Filler line number {n} about boats and weather." for n in range(1, 30)),
    "The zebrafish eats brine shrimp at dawn",
    "and sleeps below the third stone of the",
]
NEXT_PAGE = ["northern basin, where the water is cold.", "Other matters follow here."]


def two_pages() -> bytes:
    """A sentence that begins at the end of one page and goes on on the next."""
    first = [Line(text, y=740 - 22 * n) for n, text in enumerate(LINES)]
    return pdf([first, [Line(text, y=740 - 22 * n) for n, text in enumerate(NEXT_PAGE)]])


PLACES: list[tuple[str, list[str], str, list[str]]] = [
    ("the words", ["One two three. ", "Four five six."], "four five six", ["Four five six."]),
    ("a hyphen", ["a fox-", "trot is"], "foxtrot is", ["fox-", "trot is"]),
    ("ligatures", ["e\ufb03cient \ufb01sh swim"], "efficient fish", ["e\ufb03cient \ufb01sh"]),
    (
        "a table read by rows",
        ["Insured name", "Claim number", "Gabriel Diaz", "SF 1008"],
        "Insured name | Gabriel Diaz\nClaim number | SF 1008",
        ["Insured name", "Gabriel Diaz", "Claim number", "SF 1008"],
    ),
    ("twice on the page", ["red fox. ", "red fox."], "red fox", []),
    ("not there", ["something else entirely"], "the passage of another page", []),
    ("a picture of text", [], "anything", []),
]  # fmt: skip


def test_only_what_is_certain_is_placed(page: Page) -> None:
    page.goto("/chat/")
    for name, texts, passage, marked in PLACES:
        found = page.evaluate(
            """async ([texts, passage]) => {
                const { placeOf } = await import("/static/js/passage-place.js");
                return placeOf(texts, passage).map((m) => texts[m.item].slice(m.start, m.end));
            }""",
            [texts, passage],
        )
        assert found == marked, name


def test_a_citation_opens_its_page_with_the_passage_marked(
    page: Page,
    open_page: Callable[..., Page],
    site: Site,
    shot: Callable[[Page, str], None],
) -> None:
    site.ollama.says("The zebrafish eats brine shrimp [1]. Paris is a large city in France [2].")
    create_corpus(page, "Basin")
    fish: Any = {"name": "fish.pdf", "mimeType": "application/pdf", "buffer": two_pages()}
    upload(page, fish)
    upload(page, ROOT / "samples" / "reranking.pdf", ROOT / "samples" / "glossary.md")
    expect_ready(page, 3)
    page.get_by_role("link", name="Ask this corpus").click()
    ask(page, "What does the zebrafish eat and where does it sleep?")
    expect_end(page)
    # The second sentence has nothing to do with what it cites, and that is said.
    expect(page.locator("a.citation.is-weak")).to_have_text(["2?"])
    expect(page.locator(".weak-note")).to_contain_text("1 citation marked ?")
    page.locator("a.citation", has_text="1").first.hover()
    expect(page.locator(".citation-preview")).to_contain_text("fish.pdf")
    page.locator("a.citation", has_text="1").first.click()
    viewer = page.locator("#viewer")
    expect(viewer.locator("#viewer-title")).to_be_focused()
    expect(viewer.locator("h2")).to_contain_text("fish")
    # The passage goes on on the second page, and is marked there as well.
    sheets = viewer.locator(".viewer-sheet")
    expect(sheets).to_have_count(2)
    for n in range(2):
        expect(sheets.nth(n).locator("rect").first).to_be_attached()
    expect(viewer.locator("[data-page-label]")).to_have_text("pages 1–2 of 2")
    expect(viewer.locator("[data-viewer-note]")).to_be_hidden()
    shot(page, "viewer-pdf")
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    expect(page.locator("a.citation", has_text="1").first).to_be_focused()

    ask(page, "What is a glossary entry for recall?")
    expect_end(page)
    page.locator(".sources:not([hidden]) .source h4 a", has_text="glossary").first.click()
    expect(viewer.locator("[data-viewer-mark]")).to_be_in_viewport()
    expect(viewer.get_by_role("heading", name="Glossary", level=3)).to_have_count(1)
    expect(viewer.locator("td", has_text="judging the first stage")).to_have_count(1)
    shot(page, "viewer-text")

    for width, scheme in ((390, "light"), (1440, "dark")):
        other = open_page(width=width, scheme=scheme)
        other.goto(page.url)
        other.locator(".turn").first.locator("a.citation").first.click()
        expect(other.locator(".viewer-marks rect").first).to_be_attached()
        expect(other.locator("[data-page-label]")).to_have_text(re.compile("of 2"))
        assert other.evaluate("document.documentElement.scrollWidth <= innerWidth")
        shot(other, f"viewer-{width}-{scheme}")
