"""A question that is put to single documents, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, expect

from ragsite.processes import ROOT
from tests.browser.conftest import Site
from tests.browser.test_accessibility import faults
from tests.browser.test_main_job import ask, create_corpus, expect_end, expect_ready, upload

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]
FILES = [ROOT / "samples" / name for name in ("reranking.pdf", "glossary.md", "chunking.html")]


def test_documents_are_chosen_in_the_composer_and_only_they_are_searched(
    page: Page,
    open_page: Callable[..., Page],
    site: Site,
    shot: Callable[[Page, str], None],
) -> None:
    site.ollama.says("It is explained there [1].")
    create_corpus(page, "Single files")
    upload(page, *FILES)
    expect_ready(page, 3)
    page.get_by_role("link", name="Ask this corpus").click()

    corpora, chosen = page.locator(".scope-corpora"), page.locator(".scope-documents")
    found = page.locator("#found-documents label")
    expect(corpora).to_be_visible()
    expect(chosen).to_be_hidden()
    page.get_by_text("Filter", exact=True).click()
    expect(found.filter(has_text="chunking.html").first).to_be_visible()
    page.get_by_label("Find a document by its name").fill("gloss")
    expect(found.filter(has_text="chunking.html")).to_have_count(0)
    shot(page, "filter-documents")
    assert faults(page) == []
    page.keyboard.press("Enter")  # of the search, not of the question
    expect(page).to_have_url(re.compile(r"/chat/\?corpus="))
    page.keyboard.press("Tab")
    page.keyboard.press("Space")

    expect(chosen.locator("label")).to_have_text([re.compile(r"^\s*glossary\.md")])
    expect(page.get_by_label("Find a document by its name")).to_be_focused()
    expect(page.locator("#chat-status")).to_have_text(re.compile(r"^glossary\.md.* was chosen\."))
    expect(corpora).to_be_hidden()
    page.keyboard.press("Escape")
    expect(page.locator(".scope-panel")).to_be_hidden()
    shot(page, "chosen-document")

    ask(page, "What is a cross-encoder?")
    expect_end(page)
    expect(page.locator(".turn").last).to_contain_text("Searched only in “glossary.md”")
    names = page.locator(".sources:not([hidden]) .source").evaluate_all(
        "all => all.map((one) => one.innerText.includes('glossary.md'))"
    )
    assert names
    assert all(names)

    page.reload()
    expect(chosen.locator("label")).to_have_text(["glossary.md"])
    chosen.locator("input").first.uncheck()
    expect(corpora).to_be_visible()
    expect(corpora.locator("label:has(:checked)")).to_have_text(["Single files"])
    ask(page, "What is chunking?")
    expect_end(page)
    expect(page.locator(".turn").last).not_to_contain_text("Searched only in")

    page.locator(".turn").first.get_by_role("link", name="Inspect").click()
    expect(page.get_by_label("Only glossary.md")).to_be_checked()
    page.get_by_role("button", name="Search again and compare").click()
    expect(page.locator("#difference")).to_contain_text("The same passages go on to the answer")

    # Opened again: what is chosen is no longer offered. Opened before any script has come, too.
    held: list[Route] = []
    page.route("**/htmx-2*", lambda route: held.append(route))
    page.goto("/chat/", wait_until="commit")
    page.get_by_text("Filter", exact=True).click()
    expect(page.locator(".scope-panel")).to_be_visible()
    held[0].continue_()
    glossaries = found.filter(has_text="glossary.md")  # other corpora may have one, too
    expect(glossaries.first).to_be_visible()
    page.unroute("**/htmx-2*")
    others = glossaries.count() - 1
    glossaries.first.click()
    expect(chosen.locator("label")).to_have_count(1)
    page.keyboard.press("Escape")
    page.get_by_text("Filter", exact=True).click()
    expect(found.filter(has_text="chunking.html").first).to_be_visible()
    expect(glossaries).to_have_count(others)

    page.goto("/corpora/")
    page.get_by_role("link", name="Single files").first.click()
    page.get_by_role("link", name="chunking.html").first.click()
    page.get_by_role("link", name="Ask this document").click()
    expect(chosen.locator("label")).to_have_text(["chunking.html"])

    phone = open_page(width=390, height=844, scheme="dark")
    phone.goto(page.url)
    phone.get_by_role("group").filter(has_text="Filter").locator("summary").click()
    expect(phone.locator("#found-documents label").first).to_be_visible()
    shot(phone, "filter-documents-phone")
    box = phone.locator(".scope-panel").bounding_box()
    assert box
    assert min(box["x"], box["y"]) >= 0
    assert box["x"] + box["width"] <= 390
    phone.mouse.click(195, 200)
    expect(phone.locator(".scope-panel")).to_be_hidden()
