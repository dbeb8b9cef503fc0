"""What people expect while an answer comes: focus, announcements, calm, and their place."""

from __future__ import annotations

import re
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
LONG = "\n\n".join(
    f"Paragraph {n}: one input for both texts [1]. "
    + (
        "| a | b |\n|---|---|\n| 1 | 2 |"
        if n % 4 == 3
        else "It moves what a search has found. " * 4
    )
    for n in range(16)
)

# Everything that was ever said in a live region, in order.
LISTEN = """
() => {
  window.said = [];
  const before = new Map();
  const take = () => {
    for (const region of document.querySelectorAll("[role=status], [aria-live=polite]")) {
      const text = region.innerText.trim().replace(/\\s+/g, " ");
      if (text && before.get(region) !== text) window.said.push(text);
      before.set(region, text);
    }
  };
  take();
  window.said = [];
  const changes = { subtree: true, childList: true, characterData: true };
  new MutationObserver(take).observe(document, changes);
}
"""
# What has been written stays where it is: of the question and every whole paragraph, table and
# list of the answer, the places it ever had under the top of its turn, in pixels.
PLACES = """
() => {
  window.places = {};
  const take = () => {
    const turn = [...document.querySelectorAll(".turn")].at(-1);
    const answer = turn?.querySelector("[data-answer]");
    if (answer) {
      const top = turn.getBoundingClientRect().top;
      const written = answer.querySelector(".blocks") ?? answer;
      [turn.querySelector("h2"), ...written.children].forEach((one, number) => {
        const box = one.getBoundingClientRect();
        const place = [box.top - top, box.height, box.left].map(Math.round).join(" ");
        (window.places[number] ??= new Set()).add(place);
      });
    }
    requestAnimationFrame(take);
  };
  take();
}
"""
FOCUSED = """
() => {
  const one = document.activeElement;
  const box = one.getBoundingClientRect();
  // A tick without a face of its own shows the focus on its label, the question on its box.
  const around = one.id === "question" ? one.closest(".composer-box") : one.closest("label");
  const faces = [one, around].filter(Boolean).map((face) => getComputedStyle(face));
  return {
    name: one.ariaLabel || one.labels?.[0]?.innerText || one.innerText || one.title,
    tag: one.tagName,
    id: one.id,
    place: one.closest("[data-rail], nav, .rail") ? "rail" : one.closest("#composer") ? "composer"
      : one.closest(".sources-panel") ? "sources" : one.closest(".turn") ? "turn" : "page",
    seen: box.width > 0 && box.height > 0 && box.bottom > 0 && box.top < innerHeight,
    ringed: faces.some((face) => face.outlineStyle !== "none" && parseFloat(face.outlineWidth) > 0),
  };
}
"""


@pytest.fixture(scope="module")
def desk(site: Site, chromium: Browser, signed_in: Any) -> str:
    """The address at which a corpus with one PDF is asked."""
    with chromium.new_context(base_url=site.url, storage_state=signed_in) as context:
        page = context.new_page()
        create_corpus(page, "Desk")
        upload(page, PDF)
        expect_ready(page, 1)
        page.get_by_role("link", name="Ask this corpus").click()
        page.wait_for_load_state()
        return page.url


def test_stages_and_the_end_are_announced(page: Page, site: Site, desk: str) -> None:
    site.ollama.says("Both texts are read as one [1].", pause_seconds=0.05)
    page.goto(desk)
    ask(page, QUESTION)  # moves to the conversation's own address
    expect_end(page)
    page.evaluate(LISTEN)
    ask(page, "What does it cost?")
    expect_end(page)

    said = page.evaluate("window.said")
    assert any("Searching" in text or "Reranking" in text for text in said), said
    assert re.fullmatch(r"The answer is complete, with \d+ sources?\.", said[-1]), said
    answers = page.locator("[data-answer]")
    # Words that come one by one would be read out one by one.
    assert not answers.last.evaluate("one => one.closest('[aria-live], [role=status], [role=log]')")


def test_the_keyboard_goes_through_the_page_in_the_order_of_the_eye(
    page: Page, site: Site, desk: str
) -> None:
    site.ollama.says("Both texts are read as one [1].")
    page.goto(desk)
    ask(page, QUESTION)
    expect_end(page)
    page.reload()
    page.wait_for_load_state()
    page.evaluate("document.activeElement.blur()")
    passed: list[dict[str, Any]] = []
    for _ in range(400):  # a rail may be long
        page.keyboard.press("Tab")
        found = page.evaluate(FOCUSED)
        if passed and found == passed[0]:
            break
        passed.append(found)
        if found["tag"] == "BODY":
            break
    assert "Skip to" in passed[0]["name"]
    stops = [one for one in passed[1:] if one["tag"] != "BODY"]
    for one in stops:
        assert one["name"], one
        assert one["seen"], one
        assert one["ringed"], one
    places = [one["place"] for one in stops]
    order = [place for n, place in enumerate(places) if n == 0 or places[n - 1] != place]
    wanted = [place for place in order if place != "page"]
    assert wanted == ["rail", "turn", "composer", "sources"], order
    composer = [one["id"] or one["name"] for one in stops if one["place"] == "composer"]
    assert composer[0] == "question"

    page.reload()
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUSED)["place"] != "rail"


def test_who_wants_no_motion_gets_none(
    open_page: Callable[..., Page], site: Site, desk: str
) -> None:
    site.ollama.says("Both texts are read as one [1]. " * 6, pause_seconds=0.03)
    longest = """
      Math.max(0, ...document.getAnimations().map((one) => {
        const { duration, iterations } = one.effect.getComputedTiming();
        return duration * iterations;
      }))
    """
    lively, calm = open_page(), open_page(motion="reduce")
    for page in (lively, calm):
        page.goto(desk)
        ask(page, QUESTION)
        expect(page.locator("[data-running]")).to_have_count(1)
        moved = [page.evaluate(longest)]
        while page.locator("[data-running]").count():
            moved.append(page.evaluate(longest))
        assert (max(moved) > 100) == (page is lively), max(moved)


@pytest.mark.parametrize("width", [1440, 390])
def test_nothing_jumps_while_an_answer_comes(
    open_page: Callable[..., Page], site: Site, desk: str, width: int
) -> None:
    site.ollama.says(LONG, pause_seconds=0.004)
    page = open_page(width=width)
    page.goto(desk)
    ask(page, QUESTION)
    page.evaluate(PLACES)
    expect_end(page)
    page.wait_for_timeout(300)

    places = page.evaluate("Object.values(window.places).map((one) => [...one])")
    assert len(places) > 16
    assert [one for one in places if len(one) > 1] == []


def test_who_scrolls_up_stays_there_and_a_button_leads_back(
    page: Page, site: Site, desk: str, shot: Callable[[Page, str], None]
) -> None:
    site.ollama.says(LONG, pause_seconds=0.02)
    page.goto(desk)
    ask(page, QUESTION)
    first = page.locator("[data-answer] p").first
    expect(page.locator("[data-answer]")).to_contain_text("Paragraph 10")
    expect(first).not_to_be_in_viewport()  # the page followed

    page.mouse.move(600, 300)
    page.mouse.wheel(0, -4000)
    expect(first).to_be_in_viewport()
    top = first.evaluate("one => one.getBoundingClientRect().top")
    jump = page.get_by_role("button", name="Jump to the latest answer")
    expect(jump).to_be_visible()
    shot(page, "scrolled-up")
    expect(page.locator("[data-answer]")).to_contain_text("Paragraph 13")
    assert first.evaluate("one => one.getBoundingClientRect().top") == pytest.approx(top, abs=1)
    jump.click()
    expect(first).not_to_be_in_viewport()
    expect(jump).to_be_hidden()
    expect_end(page)
    expect(page.locator(".turn-actions").last).to_be_in_viewport()
