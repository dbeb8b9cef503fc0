"""The source panel in a real browser: judging passages, the way to the inspector, answer anyway."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Site
from tests.browser.test_accessibility import faults
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


def test_a_source_is_judged_and_inspected_and_a_refusal_answered_anyway(
    page: Page, site: Site, shot: Callable[[Page, str], None]
) -> None:
    site.ollama.says("A cross-encoder reads both texts [1].")
    create_corpus(page, "Guarded")
    upload(page, PDF)
    expect_ready(page, 1)
    corpus = page.url
    page.get_by_role("link", name="Ask this corpus").click()
    ask(page, QUESTION)
    expect_end(page)
    expect(page.locator(".follow-ups a").first).to_contain_text("What does “")
    card = page.locator("[data-group=cited] .source").first
    relevant = card.get_by_role("button", name="Relevant", exact=True)
    relevant.click()
    expect(relevant).to_have_attribute("aria-pressed", "true")
    page.reload()
    expect(relevant).to_have_attribute("aria-pressed", "true")
    shot(page, "sources-judged")
    card.get_by_role("link", name="Inspect").click()
    expect(page.locator("tr:target .chip[data-tone=good]").first).to_contain_text("relevant")

    page.goto(corpus)
    page.locator("[data-dialog=edit-corpus]").click()
    page.get_by_text("Do not answer").click()
    page.get_by_role("button", name="Save").click()
    expect(page.locator("[data-toast]")).to_be_visible()
    page.get_by_role("link", name="Ask this corpus").click()
    ask(page, "Which lighthouse keeper won the regatta of 1903?")
    expect_end(page)
    turn = page.locator(".turn")
    expect(turn.locator("[data-answer]")).to_contain_text("below the threshold of")
    expect(page.locator("[data-group=sent] h3")).to_contain_text("Closest passages")
    expect(page.locator(".doubt-line").first).to_contain_text("Below the threshold")
    shot(page, "sources-refused")

    turn.get_by_role("button", name="Answer anyway").click()
    expect(page.locator(".turn")).to_have_count(2)
    expect_end(page)
    last = page.locator(".turn").last
    expect(last.locator("[data-answer]")).to_contain_text("reads both texts")
    expect(last.locator("[data-code=low_relevance]")).to_be_visible()

    # One question was judged: it can be measured.
    page.get_by_role("link", name="Evaluation").click()
    page.get_by_role("button", name="Measure Guarded").click()
    expect(page.get_by_role("heading", name="Stages")).to_be_visible(timeout=60_000)
    expect(page.locator(".sweep")).to_be_visible()
    expect(page.get_by_role("cell", name=QUESTION)).to_be_visible()
    assert faults(page) == []
    shot(page, "evaluation-run")

    page.goto(f"{site.url}/queue/")
    expect(page.get_by_role("heading", name="celery@")).to_be_visible()
    expect(page.locator(".chip", has_text="celery: 0 waiting")).to_be_visible()
    shot(page, "queue")
