"""Turns in a real browser: versions of a question, answers with other settings, the queue."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Site, Watch
from tests.browser.test_main_job import (
    PDF,
    QUESTION,
    ask,
    create_corpus,
    expect_end,
    expect_ready,
    upload,
)
from tests.ollama_server import MODEL

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
    page.locator(".again > summary").click()
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


def test_the_place_in_the_line_is_shown_with_the_sources_already_there(
    open_page: Callable[..., Page], site: Site, room: str, shot: Callable[[Page, str], None]
) -> None:
    site.ollama.says("A sentence of a long answer [1]. " * 60, pause_seconds=0.05)
    pages = [open_page() for _ in range(3)]
    for page in pages:
        page.goto(room)
        page.get_by_role("link", name="Ask this corpus").click()
        ask(page, QUESTION)
    first, second, third = pages
    expect(first.locator("[data-answer]")).to_contain_text("A sentence")
    expect(second.locator(".stage")).to_contain_text(f"1st in line for {MODEL}")
    expect(third.locator(".stage")).to_contain_text(f"2nd in line for {MODEL}")
    expect(third.locator(".source").first).to_be_visible()
    shot(third, "in-line")

    third.reload()
    expect(third.locator(".stage")).to_contain_text(f"2nd in line for {MODEL}")
    second.get_by_role("button", name="Stop").click()
    expect_end(second)
    expect(third.locator(".stage")).to_contain_text(f"1st in line for {MODEL}")
    first.get_by_role("button", name="Stop").click()
    expect(third.locator("[data-answer]")).to_contain_text("A sentence")
    third.get_by_role("button", name="Stop").click()
    expect_end(third)


def test_another_model_is_chosen_fetched_and_used_for_one_answer(
    page: Page, site: Site, room: str, shot: Callable[[Page, str], None]
) -> None:
    site.ollama.says("An answer [1].")
    site.ollama.has("small:1b")
    page.goto(room)
    page.get_by_role("link", name="Ask this corpus").click()
    page.get_by_role("button", name="How answers are made").click()
    page.get_by_label("small:1b").check()
    page.get_by_label("Rewrite follow-up questions").uncheck()

    site.ollama.fetches(steps=40, seconds=0.2)
    page.get_by_label("Fetch another model").fill("large:70b")
    page.get_by_role("button", name="Fetch", exact=True).click()
    expect(page.get_by_role("progressbar", name="Fetching large:70b")).to_have_attribute(
        "value", re.compile("[1-9]")
    )
    shot(page, "models")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".pull")).to_contain_text("was cancelled")
    site.ollama.fetches(steps=2, seconds=0.01)
    page.get_by_role("button", name="Fetch", exact=True).click()
    page.get_by_role("button", name="Show it in the list").click()
    expect(page.get_by_label("large:70b")).to_be_visible()
    page.get_by_label("small:1b").check()
    page.get_by_role("button", name="Done").click()
    expect(page.locator("[data-model-name]")).to_have_text("small:1b")

    ask(page, QUESTION)
    expect_end(page)
    assert site.ollama.last_model == "small:1b"
    expect(page.locator("[data-model-name]")).to_have_text("small:1b")
    expect(page.locator(".figures").last).to_contain_text("small:1b")
    ask(page, "And the second one?")
    expect_end(page)
    expect(page.locator(".turn").last).not_to_contain_text("Searched for")

    page.locator(".turn").last.locator(".again > summary").click()
    page.get_by_label("Language model").last.select_option("large:70b")
    page.get_by_role("button", name="Ask again so").click()
    expect(page.locator("[data-version]")).to_have_text("Version 2/2")
    expect_end(page)
    assert site.ollama.last_model == "large:70b"
    expect(page.locator(".turn").last).to_contain_text("Asked again with: model large:70b")
    site.ollama.has()


@pytest.mark.slow
def test_a_web_process_that_is_killed_leaves_no_answer_hanging(
    page: Page, site: Site, room: str, watch: Watch
) -> None:
    watch.expect(r"htmx:sseError|ERR_|\[object Event\]|Failed to load resource|50[23]")
    site.ollama.says("A sentence of a long answer [1]. " * 300, pause_seconds=0.05)
    page.goto(room)
    page.get_by_role("link", name="Ask this corpus").click()
    ask(page, QUESTION)
    expect(page.locator("[data-answer]")).to_contain_text("A sentence of a long answer")
    page.wait_for_timeout(2500)

    port = int(site.url.rpartition(":")[2])
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            listens = (c for c in process.net_connections("tcp") if c.status == "LISTEN")
            if any(connection.laddr.port == port for connection in listens):
                process.kill()
    assert site.ollama.noticed_that_the_client_left(5)

    expect(page.locator(".ending")).to_contain_text("broke off", timeout=60_000)
    expect(page.locator("[data-answer]")).to_contain_text("A sentence of a long answer")
    expect_end(page)
    site.ollama.says("Whole again [1].")
    page.get_by_role("button", name="Ask again", exact=True).click()
    expect(page.locator("[data-answer]")).to_contain_text("Whole again")
