"""axe-core finds no serious fault on the pages, by day and by night.

`vendor/axe-4.14.1.min.js` is axe-core 4.14.1 by Deque Systems from npm, MPL-2.0, unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

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

AXE = (Path(__file__).parent / "vendor" / "axe-4.14.1.min.js").read_text()
GRAVE = ("serious", "critical")
PATHS = (
    *(
        "/chat/",
        "/corpora/",
        "/inspector/",
        "/evaluation/",
        "/status/",
        "/account/",
        "/account/sessions/",
    ),
    *(
        "/account/two-factor/",
        "/account/email/",
        "/people/",
        "/password/reset/",
        "/overview/",
        "/clinic/",
        "/queue/",
        "/rerankers/",
    ),
)


def faults(page: Page) -> list[str]:
    """What axe-core calls serious or critical, with the place of each."""
    page.wait_for_load_state()
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE)
    told = page.evaluate("axe.run({ resultTypes: ['violations'] })")
    return [
        f"{page.url} {rule['id']}: {node['target']} {node['failureSummary']}"
        for rule in told["violations"]
        if rule["impact"] in GRAVE
        for node in rule["nodes"]
    ]


def test_no_page_has_a_serious_fault(
    page: Page, open_page: Callable[..., Page], site: Site
) -> None:
    site.ollama.says(
        "Both texts are read as one [1].\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n"
        "Bread is baked in the morning by bakers [2]."
    )
    create_corpus(page, "Accessible")
    upload(page, PDF)
    expect_ready(page, 1)
    corpus = page.url
    page.get_by_role("link", name="Ask this corpus").click()
    ask(page, QUESTION)
    expect_end(page)
    conversation = page.url
    page.locator(".turn").get_by_role("link", name="Inspect").click()
    page.get_by_role("button", name="Search again and compare").click()
    expect(page.locator("#difference")).to_be_visible()
    compared = page.url

    found: list[str] = []
    for scheme in ("light", "dark"):
        window = open_page(scheme=scheme)
        for path in (
            *PATHS,
            corpus,
            f"{corpus}index/",
            f"{corpus}search/",
            f"{corpus}sharing/",
            conversation,
        ):
            window.goto(path)
            found += faults(window)
        window.locator("a.citation").first.click()
        expect(window.locator(".viewer-marks rect").first).to_be_attached()
        found += faults(window)
        window.locator(".viewer-head a").click()
        expect(window.locator("mark").first).to_be_visible()
        found += faults(window)
        window.goto(compared)
        found += faults(window)
        window.locator(".candidate-open").first.click()
        window.get_by_role("button", name="Which sentences carry the score?").click()
        expect(window.locator("#dialog mark").first).to_be_visible()
        found += faults(window)

    assert "\n".join(found) == ""
