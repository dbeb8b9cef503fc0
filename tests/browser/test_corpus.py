"""Versions, tags, pause and the page image of a corpus, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_main_job import create_corpus, expect_ready, upload
from tests.ingestion.sample_files import Line, pdf

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


def boats(what: str) -> dict[str, object]:
    lines = [f"{what} number {n} sails on the northern sea in winter." for n in range(1, 12)]
    content = pdf([[Line(text, y=740 - 22 * n) for n, text in enumerate(lines)]])
    return {"name": "boats.pdf", "mimeType": "application/pdf", "buffer": content}


def test_a_new_version_a_tag_a_pause_and_the_page_with_its_mark(
    page: Page, shot: Callable[[Page, str], None]
) -> None:
    create_corpus(page, "Boats")
    upload(page, boats("Ferry"))
    expect_ready(page, 1)
    upload(page, boats("Trawler"))
    expect(page.locator("tr", has_text="version 2")).to_contain_text("Ready", timeout=60_000)
    expect(page.locator("#documents tbody tr")).to_have_count(1)

    page.get_by_role("checkbox", name="Select boats.pdf").check()
    page.get_by_role("button", name="Tags …").click()
    page.get_by_role("textbox", name="Tags").fill("sea, 2026")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#documents .labels")).to_contain_text("sea")
    shot(page, "corpus-tags")

    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("This corpus is paused")).to_be_visible()
    shot(page, "corpus-paused")
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_text("This corpus is paused")).to_be_hidden()

    page.get_by_role("link", name="boats.pdf").click()
    expect(page.locator(".page-image svg")).to_be_visible(timeout=30_000)
    page.locator(".passage").first.click()
    expect(page.locator(".page-image rect").first).to_be_visible(timeout=30_000)
    expect(page.get_by_text("version 1, ready")).to_be_visible()
    shot(page, "document-page-image")

    page.goto("/chat/")
    page.locator(".scope-filter summary").click()
    expect(page.locator(".scope-labels").first).to_contain_text("sea")
    page.locator(".scope-labels label", has_text=re.compile("^sea$")).click()
    shot(page, "chat-filter")
