"""What a model writes runs nothing and fetches nothing, in a real browser, at any moment."""

from __future__ import annotations

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
from tests.chat.payloads import ALL, fragments

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

BATCH = 400
# What would be left behind by a script, and what no answer may hold.
TRAPS = """
() => {
  window.ran = [];
  for (const name of ["alert", "confirm", "prompt", "open", "msgbox"])
    window[name] = (...what) => void window.ran.push([name, ...what.map(String)]);
}
"""
# No button but the page's own for copying a block of code.
FORBIDDEN = (
    "script,style,iframe,object,embed,img,svg,math,video,audio,form,input,base,meta,link,"
    "button:not(.code-block > [data-copy-code]),template,details,[style],[id],[hx-get],"
    "[data-hx-get],[src],[onerror],[onload],[onclick],"
    "a:not(.citation):not([href^='http://']):not([href^='https://']):not([href^='mailto:'])[href]"
)


@pytest.fixture(scope="module")
def asked(site: Site, chromium: Browser, signed_in: Any) -> str:
    """A corpus with a document; gives the address at which it is asked."""
    with chromium.new_context(base_url=site.url, storage_state=signed_in) as context:
        page = context.new_page()
        create_corpus(page, "Payloads")
        upload(page, PDF)
        expect_ready(page, 1)
        return str(page.get_by_role("link", name="Ask this corpus").get_attribute("href"))


def watched(page: Page, site: Site) -> list[str]:
    """The requests of this page that leave the site, as they come."""
    left: list[str] = []
    page.on(
        "request",
        lambda request: None if request.url.startswith(site.url) else left.append(request.url),
    )
    page.add_init_script(f"({TRAPS})()")
    return left


def test_300_payloads_through_the_stream_run_nothing_and_fetch_nothing(
    page: Page, site: Site, asked: str
) -> None:
    assert len(ALL) >= 300
    left = watched(page, site)
    page.goto(asked)
    site.ollama.says("\n\n".join(ALL), pause_seconds=0.0005)
    ask(page, QUESTION)
    expect_end(page)

    for _ in range(2):  # as it came, and read again after a reload
        answer = page.locator("[data-answer]")
        expect(answer).to_contain_text("alert(1)")
        assert answer.locator(FORBIDDEN).count() == 0
        assert page.evaluate("window.ran") == []
        page.reload()
    assert left == []


@pytest.mark.parametrize(
    "stride", [pytest.param(29, id="some"), pytest.param(1, id="every", marks=pytest.mark.slow)]
)
def test_what_stands_on_the_page_at_any_moment_is_harmless(
    page: Page, site: Site, asked: str, stride: int
) -> None:
    left = watched(page, site)
    page.goto(asked)
    page.wait_for_load_state()
    shown = sorted({html for text in ALL for html in fragments(text, stride=stride)})
    assert len(shown) > len(ALL)
    page.evaluate(
        """() => {
          const area = document.createElement("div");
          area.dataset.answer = "";
          document.getElementById("turns").append(area);
        }"""
    )
    for begin in range(0, len(shown), BATCH):
        found = page.evaluate(
            """async ([parts, forbidden]) => {
              const area = document.querySelector("[data-answer]");
              area.replaceChildren();
              for (const part of parts) {
                const one = document.createElement("div");
                one.innerHTML = part;
                area.append(one);
              }
              htmx.process(area);
              for (const link of area.querySelectorAll("a")) link.focus();
              await new Promise((resolve) => setTimeout(resolve, 20));
              return [...area.querySelectorAll(forbidden)].map((one) => one.outerHTML);
            }""",
            [shown[begin : begin + BATCH], FORBIDDEN],
        )
        assert found == []
    page.wait_for_timeout(200)
    assert page.evaluate("window.ran") == []
    assert left == []
