"""The inspector in a real browser: replay an answer, turn a knob, see what carries a score."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from ragsite.processes import ROOT
from tests.browser.conftest import Site
from tests.browser.test_main_job import (
    QUESTION,
    ask,
    create_corpus,
    expect_end,
    expect_ready,
    upload,
)

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


def test_an_answer_is_replayed_turned_and_explained(
    page: Page,
    open_page: Callable[..., Page],
    site: Site,
    shot: Callable[[Page, str], None],
) -> None:
    site.ollama.says("A cross-encoder reads both texts [1].")
    create_corpus(page, "Workshop")
    upload(
        page,
        *(ROOT / "samples" / name for name in ("reranking.pdf", "glossary.md", "chunking.html")),
    )
    expect_ready(page, 3)
    page.get_by_role("link", name="Ask this corpus").click()
    ask(page, QUESTION)
    expect_end(page)
    page.locator(".turn").get_by_role("link", name="Inspect").click()
    results = page.locator("#results")
    expect(results).to_contain_text("The trace that was stored with the answer.")
    rows = page.locator("tr[data-chunk]")
    before = rows.evaluate_all("rows => rows.map(row => row.dataset.chunk)")
    assert len(before) >= 5
    shot(page, "inspector-answer")

    page.get_by_role("button", name="Search again and compare").click()
    expect(page.locator("#difference")).to_contain_text(
        "The same passages go on to the answer, in the same order."
    )
    assert rows.evaluate_all("rows => rows.map(row => row.dataset.chunk)") == before
    expect(page.locator(".slope")).to_have_count(min(20, len(before)))

    # The slider cuts at once and says what came of it.
    page.locator("#id_top_n").focus()
    for _ in range(8):
        page.keyboard.press("ArrowLeft")
    expect(page.locator("#difference")).to_contain_text("Against the search as it was run")
    expect(page.locator(".knobs output").nth(1)).to_have_text("2")
    expect(page.locator("tr[data-outcome=selected]")).to_have_count(2)
    expect(page.locator("#id_top_n")).to_be_focused()
    shot(page, "inspector-cut")

    page.locator(".inspector-tabs a", has_text="Keywords").click()
    expect(page.locator(".inspector-tabs [aria-current]")).to_contain_text("Keywords")
    ranks = page.locator("td[data-label=Keywords] b").all_inner_texts()
    assert ranks == [str(n) for n in range(1, len(ranks) + 1)]
    page.locator(".inspector-tabs a", has_text="All").click()
    expect(page.locator(".inspector-tabs [aria-current]")).to_contain_text("All")

    page.locator(".candidate-open").first.click()
    dialog = page.locator("#dialog")
    expect(dialog).to_contain_text("The exact text that was scored")
    dialog.get_by_role("button", name="Which sentences carry the score?").click()
    expect(dialog.locator("mark").first).to_be_visible()
    assert 1 <= dialog.locator("mark").count() <= 3
    dialog.get_by_role("button", name="Relevant", exact=True).click()
    expect(dialog.get_by_role("button", name="Relevant", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )
    shot(page, "inspector-passage")
    page.keyboard.press("Escape")

    page.get_by_role("button", name=re.compile("Copy these settings to Workshop")).click()
    expect(dialog).to_contain_text("Top n: 10")
    shot(page, "inspector-copy")
    dialog.get_by_role("button", name="Copy the settings").click()
    expect(page.locator("[data-toast]")).to_contain_text("top n 2")

    with page.expect_download() as download:
        page.get_by_role("link", name="JSON").click()
    told = json.loads(download.value.path().read_text())
    assert [c["chunk_id"] for c in told["candidates"]] == before

    for width, scheme in ((390, "light"), (1440, "dark")):
        other = open_page(width=width, scheme=scheme)
        other.goto(page.url)
        expect(other.locator("tr[data-chunk]").first).to_be_visible()
        assert other.evaluate("document.documentElement.scrollWidth <= innerWidth")
        shot(other, f"inspector-{width}-{scheme}")
