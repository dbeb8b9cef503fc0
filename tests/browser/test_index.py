"""The index of a corpus in a real browser: preview, rebuild, compare, use, and what was sent."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Site, Watch
from tests.browser.test_main_job import (
    PDF,
    READY_MS,
    ask,
    create_corpus,
    expect_ready,
    upload,
)

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


def test_a_corpus_is_cut_anew_compared_and_put_into_use(
    page: Page, site: Site, watch: Watch, shot: Callable[[Page, str], None]
) -> None:
    watch.expect(r"422.*/index/")  # a size that is refused
    create_corpus(page, "Cut anew")
    upload(page, PDF)
    expect_ready(page, 1)
    page.get_by_role("link", name="Index").click()
    passages = page.locator(".preview-passage")
    expect(passages.first).to_be_visible(timeout=30_000)
    before = passages.count()
    shot(page, "index")

    page.get_by_label("Passage size").fill("9")
    expect(page.locator("#preview .field-error")).to_contain_text("A passage may have")
    page.get_by_label("Passage size").fill("64")
    page.get_by_label("Overlap").fill("8")
    page.get_by_text("Its section as well").click()
    expect(passages.nth(before)).to_be_visible(timeout=30_000)
    page.get_by_role("button", name="Save").click()

    state = page.locator("#index-state")
    expect(state).to_contain_text("its passages have up to 256 tokens, the settings say 64")
    shot(page, "differs")
    page.get_by_role("button", name="Rebuild").click()
    expect(state).to_contain_text("The new index is complete", timeout=READY_MS)
    shot(page, "complete")
    page.get_by_role("link", name="Compare").click()
    page.locator("#questions").fill("What is a cross-encoder? => reranking.pdf")
    page.get_by_role("button", name="Ask both").click()
    expect(page.locator(".compared li").first).to_be_visible(timeout=30_000)
    shot(page, "compared")
    page.get_by_role("button", name="Use the new index").click()
    expect(page.locator("#index-state")).to_contain_text("Go back to the former index")
    shot(page, "in-use")

    site.ollama.says("A cross-encoder reads both texts [1].")
    page.goto("/corpora/")
    page.get_by_role("link", name="Cut anew").first.click()
    page.get_by_role("link", name="Ask this corpus").click()
    ask(page, "What is a cross-encoder?")
    expect(page.locator(".turn .figures")).to_be_visible(timeout=60_000)  # the panel is final
    sent = page.locator(".source .sent").first
    expect(sent).to_contain_text("Sent to the model with what stands around it", timeout=60_000)
    sent.locator("summary").click()
    expect(sent.locator(".sent-text")).to_be_visible()
    shot(page, "sent")


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1440, "dark")])
def test_the_index_page_fits(
    open_page: Callable[..., Page], shot: Callable[[Page, str], None], width: int, scheme: str
) -> None:
    page = open_page(width=width, scheme=scheme)
    create_corpus(page, f"Fits {width}")
    upload(page, PDF)
    expect_ready(page, 1)
    page.goto(page.url + "index/")
    expect(page.locator(".preview-passage").first).to_be_visible(timeout=30_000)
    shot(page, f"fits-{width}")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
