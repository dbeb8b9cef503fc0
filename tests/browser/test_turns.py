"""Turns in a real browser: versions of a question, answers with other settings, the queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Site
from tests.browser.test_main_job import (
    PDF,
    QUESTION,
    ask,
    create_corpus,
    expect_end,
    expect_ready,
    upload,
)

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def room(site: Site, chromium: Browser, signed_in: Any) -> str:
    """A corpus with one PDF that is ready; gives its address."""
    with chromium.new_context(base_url=site.url, storage_state=signed_in) as context:
        page = context.new_page()
        create_corpus(page, "Versions")
        upload(page, PDF)
        expect_ready(page, 1)
        return page.url


def test_a_question_is_edited_answered_anew_and_every_version_is_kept(
    page: Page, site: Site, room: str, shot: Callable[[Page, str], None]
) -> None:
    site.ollama.says("The first answer [1].")
    page.goto(room)
    page.get_by_role("link", name="Ask this corpus").click()
    ask(page, QUESTION)
    expect_end(page)
    ask(page, "And what follows?")
    expect_end(page)

    first = page.locator(".turn").first
    first.get_by_text("Edit", exact=True).click()
    first.get_by_label("The question in other words").fill("What is a cross-encoder?")
    shot(page, "edit")
    site.ollama.says("The second answer [1].")
    first.get_by_role("button", name="Ask", exact=True).click()
    expect(page.locator(".turn")).to_have_count(1)
    expect(page.locator("[data-answer]")).to_contain_text("The second answer")
    expect_end(page)
    expect(page.locator("[data-version]")).to_have_text("Version 2/2")

    site.ollama.says("The third answer [1].")
    page.get_by_text("with other settings").click()
    page.get_by_label("Passages to send").fill("2")
    page.get_by_label("Reranker").select_option("off")
    shot(page, "again")
    page.get_by_role("button", name="Ask again so").click()
    expect(page.locator("[data-version]")).to_have_text("Version 3/3")
    expect(page.locator("[data-answer]")).to_contain_text("The third answer")
    expect_end(page)
    expect(page.locator(".turn")).to_contain_text("2 passages at most, without the reranker")
    expect(page.locator(".figures").last).to_contain_text("not reranked: it is switched off")
    expect(page.locator(".sources-button")).to_have_text("Sources (2)")
    shot(page, "version")

    page.get_by_role("button", name="Show the version before").click()
    expect(page.locator(".question h2")).to_have_text("What is a cross-encoder?")
    page.get_by_role("button", name="Show the version before").click()
    expect(page.locator(".question h2")).to_have_text([QUESTION, "And what follows?"])
    expect(page.get_by_role("button", name="Show the version before")).to_be_disabled()

    ask(page, "And after the first version?")
    expect_end(page)
    expect(page.locator(".turn")).to_have_count(3)
    page.reload()
    expect(page.locator(".turn")).to_have_count(3)
