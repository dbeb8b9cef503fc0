"""Conversations that are kept, shortcuts and the inspector's width, in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Site, Watch
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

ANSWER = """Both texts are read as one [1]. It only reorders [2].

| Stage | What it reads | Score | Range | Device | Milliseconds | Remarks |
|---|---|---|---|---|---|---|
| Reranking | question and passage | unbounded | any | processor | 2,000 | truncated |

```
def rrf(rankings, k=60): return sum(1 / (k + ranking.index(one)) for ranking in rankings)
```
"""
# On how many lines each word of a table stands: more than one where it is cut to fit.
WORDS = """
(table) => Object.fromEntries([...table.querySelectorAll("th, td")].flatMap((cell) =>
  [...cell.textContent.matchAll(/\\S+/g)].map((word) => {
    const range = new Range();
    range.setStart(cell.firstChild, word.index);
    range.setEnd(cell.firstChild, word.index + word[0].length);
    return [word[0], new Set([...range.getClientRects()].map((box) => box.top)).size];
  })))
"""


@pytest.fixture(scope="module")
def talk(site: Site, chromium: Browser, signed_in: Any) -> str:
    """A conversation with one answer; gives its address."""
    site.ollama.says(ANSWER)
    with chromium.new_context(base_url=site.url, storage_state=signed_in) as context:
        page = context.new_page()
        create_corpus(page, "Keeping")
        upload(page, PDF)
        expect_ready(page, 1)
        page.get_by_role("link", name="Ask this corpus").click()
        ask(page, QUESTION)
        expect_end(page)
        return page.url


def test_a_conversation_is_pinned_shared_exported_and_copied(
    page: Page, open_page: Callable[..., Page], talk: str, shot: Callable[[Page, str], None]
) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(talk)
    pin = page.get_by_role("button", name="Pin this conversation")
    pin.click()
    expect(pin).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".rail-day").first).to_contain_text("Pinned")
    page.get_by_label("Search conversations").fill("only reorders")
    expect(page.locator(".rail-day .rail-link")).to_have_count(1)

    page.get_by_role("button", name="Copy the answer with sources").click()
    expect(page.get_by_text("Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert "Both texts are read as one [1]." in copied
    assert re.search(r"^1\. reranking\.pdf, p\. .*relevance 0\.\d\d.*BM25 #", copied, re.MULTILINE)

    page.get_by_role("button", name="Copy the answer", exact=True).click()
    expect(page.get_by_role("button", name="Copy the answer", exact=True)).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()").strip() == ANSWER.strip()
    page.locator(".code-block").hover()
    page.get_by_role("button", name="Copy the code").click()
    expect(page.get_by_role("button", name="Copy the code")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()").startswith("def rrf(rankings, k=60)")

    page.get_by_role("button", name="Bad answer").click()
    expect(page.get_by_role("button", name="Bad answer")).to_have_attribute("aria-pressed", "true")
    page.reload()
    expect(page.get_by_role("button", name="Bad answer")).to_have_attribute("aria-pressed", "true")

    page.get_by_role("button", name="Share or export this conversation").click()
    dialog = page.locator("#share-dialog")
    for kind, first in (("JSON", b"{"), ("Markdown", b"# "), ("PDF", b"%PDF")):
        with page.expect_download() as download:
            dialog.get_by_role("link", name=kind, exact=True).click()
        content = download.value.path().read_bytes()
        assert content.startswith(first)
        if kind == "JSON":
            assert json.loads(content)["turns"][0]["sources"][0]["relevance"] > 0

    dialog.get_by_role("button", name="Make a link").click()
    expect(dialog).to_be_visible()
    shot(page, "share-dialog")
    link = dialog.get_by_label("Link").input_value()
    dialog.get_by_role("button", name="Copy the link").click()
    expect(dialog.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == link
    reader = open_page(width=390, scheme="dark")
    reader.goto(link)
    expect(reader.get_by_role("heading", name=QUESTION).first).to_be_visible()
    expect(reader.locator("#question")).to_have_count(0)
    reader.locator("a.citation").first.click()
    expect(reader.locator("[data-source-of='1']")).to_be_focused()
    assert reader.evaluate("document.documentElement.scrollWidth <= innerWidth")
    table = reader.locator(".answer table")
    assert table.evaluate("(table) => table.scrollWidth > table.clientWidth")
    words = table.evaluate(WORDS)
    assert [word for word, lines in words.items() if lines != 1] == []
    assert faults(reader) == []
    shot(reader, "shared-390-dark")

    dialog.get_by_role("button", name="Revoke the link").click()
    expect(dialog.get_by_role("button", name="Make a link")).to_be_visible()
    assert page.request.get(link).status == 404


def test_shortcuts_are_listed_and_never_act_while_somebody_types(
    page: Page, site: Site, talk: str, shot: Callable[[Page, str], None]
) -> None:
    page.goto(talk)
    shortcuts = page.locator("#shortcuts-dialog")
    page.locator("#question").fill("")
    page.locator("#question").press_sequentially("nj?k/")
    expect(page.locator("#question")).to_have_value("nj?k/")
    expect(shortcuts).to_be_hidden()
    page.locator("#question").fill("")

    page.locator("h1").click()
    page.keyboard.press("?")
    expect(shortcuts).to_be_visible()
    shot(page, "shortcuts")
    assert faults(page) == []
    page.keyboard.press("Escape")
    expect(shortcuts).to_be_hidden()
    page.keyboard.press("j")
    cards = page.locator(".sources:not([hidden]) .source")
    expect(cards.nth(0)).to_be_focused()
    page.keyboard.press("j")
    expect(cards.nth(1)).to_be_focused()
    page.keyboard.press("k")
    expect(cards.nth(0)).to_be_focused()
    page.keyboard.press("Control+k")
    expect(page.get_by_label("Search conversations")).to_be_focused()

    site.ollama.says("slow " * 400, pause_seconds=0.1)
    ask(page, "And what is slow?")
    expect(page.locator(".turn").last.locator("[data-answer]")).to_contain_text("slow")
    page.keyboard.press("Escape")
    expect(page.locator(".ending")).to_contain_text("You stopped this answer.")
    site.ollama.says(ANSWER)

    page.locator("h1").click()
    page.keyboard.press("?")
    shortcuts.get_by_label("Single keys act").uncheck()
    page.keyboard.press("Escape")
    page.locator("h1").click()
    page.keyboard.press("?")
    page.keyboard.press("n")
    expect(shortcuts).to_be_hidden()
    expect(page).to_have_url(re.compile(r"/chat/\d+/"))
    page.get_by_role("button", name="Shortcuts", exact=True).click()
    shortcuts.get_by_label("Single keys act").check()
    page.keyboard.press("Escape")
    page.locator("h1").click()
    page.keyboard.press("n")
    expect(page).to_have_url(re.compile(r"/chat/$"))


@pytest.mark.parametrize("width", [1440, 1024, 390])
def test_every_column_of_the_candidates_is_in_sight(
    open_page: Callable[..., Page], talk: str, shot: Callable[[Page, str], None], width: int
) -> None:
    scheme = "dark" if width == 1024 else "light"
    page = open_page(width=width, scheme=scheme)
    page.goto(talk)
    page.locator(".turn").first.get_by_role("link", name="Inspect").click()
    page.get_by_role("button", name="Search again and compare").click()
    expect(page.locator("#difference")).to_be_visible()

    shot(page, f"inspector-top-{width}-{scheme}")
    page.locator(".candidates-frame").scroll_into_view_if_needed()
    page.locator(".inspector-tabs").scroll_into_view_if_needed()
    shot(page, f"inspector-table-{width}-{scheme}")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    overflow = "frame => frame.scrollWidth - frame.clientWidth"
    assert page.locator(".candidates-frame").evaluate(overflow) <= 0
    if width > 390:
        chart = page.locator(".slopes")
        assert chart.evaluate(overflow) <= 0
        right = chart.evaluate("frame => frame.getBoundingClientRect().right")
        names = page.locator(".slope-name")
        ends = names.evaluate_all("all => all.map((name) => name.getBoundingClientRect().right)")
        assert max(ends) <= right


def test_a_citation_of_an_earlier_answer_has_its_card_as_well(page: Page, talk: str) -> None:
    page.goto(talk)
    ask(page, QUESTION)
    expect_end(page)
    page.reload()  # the sources of the first answer are not on the page now
    card = page.get_by_role("tooltip")

    page.locator(".turn").first.locator("a.citation").first.hover()

    expect(card).to_contain_text("reranking.pdf")
    expect(card).to_contain_text("Relevance 0.")
    expect(page.locator("[data-sources]:visible")).to_have_count(1)
    page.locator("#question").hover()
    expect(card).to_be_hidden()


def test_sources_that_could_not_be_fetched_are_fetched_by_the_next_click(
    page: Page, talk: str, watch: Watch
) -> None:
    watch.expect("500|htmx:responseError")
    page.goto(talk)
    ask(page, QUESTION)
    expect_end(page)
    page.reload()
    shown = page.locator("[data-sources]:visible")
    button = page.locator(".turn").first.get_by_role("button", name="Sources (")

    page.route("**/sources/", lambda route: route.fulfill(status=500))
    button.click()
    expect(page.locator("#messages")).to_contain_text("Try again in a moment.")
    page.unroute("**/sources/")
    button.click()

    expect(shown).to_have_count(1)
    expect(shown.locator(".source").first).to_contain_text("reranking.pdf")
