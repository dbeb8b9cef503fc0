"""The main job in a real browser: upload, ask, watch the answer come, open a source."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from ragsite.processes import ROOT
from tests.browser.conftest import Site, Watch
from tests.ollama_server import MODEL

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

READY_MS = 90_000
PDF = ROOT / "samples" / "reranking.pdf"
QUESTION = "What is the difference between a bi-encoder and a cross-encoder?"
ANSWER = (
    "A bi-encoder turns question and passage into vectors separately [1].\n\n"
    "A cross-encoder takes **both texts as one input**, so every word of the question can "
    "attend to every word of the passage [1][2].\n\n"
    "- It only reorders what a search has found [2].\n"
    "- Its price is paid for every candidate [3].\n"
)

# Notes, in the page itself and in order, what became visible and how the answer grew.
RECORD = """
() => {
  window.seen = [];
  window.lengths = [];
  const note = (what) => window.seen.includes(what) || window.seen.push(what);
  new MutationObserver(() => {
    const turn = [...document.querySelectorAll(".turn")].at(-1);
    if (!turn) return;
    if (turn.querySelector(".stage-text")) note("stage");
    if (document.querySelector(`#sources-of-${turn.dataset.turn} .source`)) note("sources");
    const length = turn.querySelector("[data-answer]")?.innerText.trim().length ?? 0;
    if (length > 0) note("answer");
    if (length > (window.lengths.at(-1) ?? 0)) window.lengths.push(length);
    if (turn.querySelector(".figures")) note("end");
  }).observe(document, { subtree: true, childList: true, characterData: true });
}
"""


def create_corpus(page: Page, name: str) -> None:
    """Make a corpus and stay on its page."""
    page.goto("/corpora/")
    if page.locator("[data-dialog=new-corpus]").count():
        page.locator("[data-dialog=new-corpus]").click()
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Create corpus").click()
    expect(page.get_by_role("heading", name=name)).to_be_visible()


def upload(page: Page, *files: Any) -> None:
    """Choose files on a corpus's page."""
    page.wait_for_load_state()
    page.locator("#drop-input").set_input_files(list(files))


def expect_ready(page: Page, count: int) -> None:
    """Wait until so many documents of the corpus are ready."""
    ready = page.locator("tr[data-state=ready]")
    expect(ready).to_have_count(count, timeout=READY_MS)


def ask(page: Page, question: str) -> None:
    """Type a question, send it with Enter, and wait until it stands on the page."""
    page.wait_for_load_state()
    turns = page.locator(".turn")
    before = turns.count()
    page.locator("#question").fill(question)
    page.locator("#question").press("Enter")
    expect(turns).to_have_count(before + 1)


def expect_end(page: Page) -> None:
    """Wait until the last answer has ended."""
    expect(page.locator(".turn").last.locator(".turn-actions")).to_be_visible(timeout=60_000)
    expect(page.locator("[data-running]")).to_have_count(0)


@pytest.fixture(scope="package")
def library(site: Site, chromium: Browser, signed_in: Any) -> str:
    """A corpus with one PDF that is ready, uploaded through the pages; gives its address."""
    with chromium.new_context(base_url=site.url, storage_state=signed_in) as context:
        page = context.new_page()
        create_corpus(page, "Library")
        upload(page, PDF)
        expect_ready(page, 1)
        return page.url


def test_a_pdf_is_uploaded_asked_and_opened_at_its_page(
    page: Page, site: Site, shot: Callable[[Page, str], None]
) -> None:
    create_corpus(page, "Reading room")
    upload(page, PDF)
    row = page.locator("tr", has_text="reranking.pdf")
    expect(row).to_be_visible()
    expect_ready(page, 1)
    shot(page, "corpus")

    page.get_by_role("link", name="Ask this corpus").click()
    expect(page.locator(".scope-chip:has(:checked)")).to_have_text("Reading room")
    expect(page.locator("[data-suggestion]")).to_have_count(4)
    shot(page, "new-chat")

    site.ollama.says(ANSWER, pause_seconds=0.08)
    page.add_init_script(f"({RECORD})()")
    ask(page, QUESTION)
    expect_end(page)
    shot(page, "answer")

    seen = page.evaluate("window.seen")
    assert seen == ["stage", "sources", "answer", "end"]
    assert len(page.evaluate("window.lengths")) >= 3  # it grew, it did not arrive whole
    turn = page.locator(".turn")
    expect(turn.locator("[data-answer] strong")).to_have_text("both texts as one input")
    expect(turn.locator(".figures")).to_contain_text(re.compile(r"^\s*\d+ candidates? · "))
    expect(turn.locator(".figures")).to_contain_text(MODEL)

    cited = page.locator("[data-group=cited] .source")
    expect(cited).to_have_count(3)
    expect(page.locator("[data-group=sent] .source").first).to_be_visible()
    turn.locator("a.citation", has_text="2").first.click()
    expect(page.locator(".viewer-marks rect").first).to_be_in_viewport()
    page.get_by_role("button", name="Sources", exact=True).click()
    card = page.locator(".source:focus-within")
    expect(card.locator(".source-rank")).to_have_text("2")
    expect(card).to_have_class(re.compile("is-flashed"))
    expect(card).to_be_in_viewport()

    expect(card.locator(".scores")).to_contain_text(
        re.compile(r"BM25\s*(#\d+ \d+\.\d\d|not found)")
    )
    expect(card.locator(".scores")).to_contain_text(re.compile(r"Fused\s*#\d+ 0\.\d{4}"))
    shot(page, "citation")

    where = card.locator(".source-place").inner_text()
    first_page = re.search(r"pages? (\d+)", where)
    assert first_page
    text = " ".join(card.locator(".snippet").inner_text().split())
    card.get_by_role("link", name=re.compile("^Open")).click()
    expect(page.locator("#part")).to_have_value(first_page[1])
    expect(page.locator("mark").first).to_be_in_viewport()
    marked = " ".join(" ".join(page.locator("mark").all_inner_texts()).split())
    assert marked[:40] in text
    shot(page, "source")

    page.go_back()
    expect(page.locator("[data-answer] strong")).to_have_text("both texts as one input")


def test_an_answer_reads_the_same_after_a_reload(page: Page, site: Site, library: str) -> None:
    site.ollama.says(ANSWER)
    page.goto(library)
    page.get_by_role("link", name="Ask this corpus").click()
    ask(page, QUESTION)
    expect_end(page)

    def shown() -> list[str]:
        parts = (".turn-body", "#sources-sections")
        return [" ".join(page.locator(part).inner_text().split()) for part in parts]

    watched = shown()
    page.reload()
    assert shown() == watched


def test_without_ollama_the_passages_are_quoted_and_the_page_says_what_to_do(
    page: Page, site: Site, library: str, shot: Callable[[Page, str], None]
) -> None:
    page.goto(library)
    page.get_by_role("link", name="Ask this corpus").click()
    with site.ollama.away():
        ask(page, QUESTION)
        expect_end(page)

    turn = page.locator(".turn")
    expect(turn.locator(".degraded[data-code=generator_unreachable]")).to_contain_text(
        "Start Ollama"
    )
    expect(turn.locator(".turn-label")).to_have_text("Quotes, not a written answer")
    expect(turn.locator("a.citation").first).to_be_visible()
    assert "encoder" in turn.locator("[data-answer]").inner_text()
    expect(turn.locator(".figures")).to_be_in_viewport()
    expect(page.locator("[data-group=sent] h3")).to_contain_text("Also found")
    shot(page, "quotes")

    with site.ollama.without_model():
        ask(page, "What does reranking cost?")
        expect_end(page)
    notice = page.locator(".turn").last.locator("[data-code=generator_model_missing] code")
    expect(notice).to_have_text(f"ollama pull {MODEL}")
    shot(page, "model-missing")


def test_a_reload_in_the_middle_resumes_and_stop_ends_the_answer(
    page: Page, site: Site, library: str, shot: Callable[[Page, str], None]
) -> None:
    long_answer = "\n\n".join(f"Paragraph {n} of a long answer [1]." for n in range(1, 81))
    site.ollama.says(long_answer, pause_seconds=0.05)
    page.goto(library)
    page.get_by_role("link", name="Ask this corpus").click()
    ask(page, QUESTION)
    answer = page.locator("[data-answer]")
    expect(answer).to_contain_text("Paragraph 3 of")
    expect(page.locator("[data-send]")).to_be_disabled()

    page.reload()
    expect(answer).to_contain_text("Paragraph 5 of")
    assert answer.inner_text().count("Paragraph 1 of") == 1  # nothing is shown twice
    expect(page.locator(".turn .sources-button")).to_be_visible()
    expect(page.locator(".source").first).to_be_visible()
    shot(page, "resumed")

    expect(answer).to_contain_text("Paragraph 20 of")
    scroller = page.locator("[data-chat-scroll]")
    scroller.evaluate("element => element.scrollTo(0, 0)")
    expect(answer).to_contain_text("Paragraph 24 of")
    assert scroller.evaluate("element => element.scrollTop") == 0  # not pulled back down
    page.get_by_role("button", name="Jump to the latest").click()
    expect(page.get_by_role("button", name="Stop")).to_be_in_viewport()

    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".ending")).to_contain_text("You stopped this answer.")
    expect_end(page)
    kept = answer.inner_text()
    assert "Paragraph 5 of" in kept
    assert "Paragraph 80 of" not in kept
    assert site.ollama.noticed_that_the_client_left(5)
    shot(page, "stopped")

    page.reload()
    assert answer.inner_text() == kept
    site.ollama.says("Once more [1].")
    page.get_by_role("button", name="Ask again", exact=True).click()
    expect(page.locator("[data-answer]")).to_contain_text("Once more")
    expect_end(page)
    expect(page.locator(".turn")).to_have_count(1)
    page.get_by_role("button", name="Show the version before").click()
    assert answer.inner_text() == kept


def test_a_stream_that_breaks_is_taken_up_where_it_broke(
    page: Page, site: Site, library: str, watch: Watch
) -> None:
    watch.expect("htmx:sseError|ERR_INTERNET_DISCONNECTED|Failed to load resource")
    text = "\n\n".join(f"Point {n} of the answer [1]." for n in range(1, 61))
    site.ollama.says(text, pause_seconds=0.05)
    page.goto(library)
    page.get_by_role("link", name="Ask this corpus").click()
    ask(page, QUESTION)
    answer = page.locator("[data-answer]")
    expect(answer).to_contain_text("Point 3 of")

    page.context.set_offline(True)
    page.wait_for_timeout(800)
    page.context.set_offline(False)
    expect_end(page)

    points = re.findall(r"Point (\d+) of", answer.inner_text())
    assert points == [str(n) for n in range(1, 61)]


HOSTILE_NAME = "<img src=x onerror=alert(1)>.md"
HOSTILE_TEXT = """# <script>alert('title')</script> Zebrafish

Zebrafish eat <img src=x onerror="alert('text')"> brine shrimp. [click](javascript:alert(2))
<iframe src="https://example.org"></iframe> ![beacon](https://example.org/leak.png)
"""


def test_hostile_names_texts_and_answers_are_harmless(
    page: Page, site: Site, shot: Callable[[Page, str], None]
) -> None:
    create_corpus(page, "Aquarium <b>bold</b>")
    upload(
        page,
        {"name": HOSTILE_NAME, "mimeType": "text/markdown", "buffer": HOSTILE_TEXT.encode()},
    )
    expect_ready(page, 1)
    site.ollama.says(
        "Shrimp [1]. <script>alert(3)</script> <img src=x onerror=alert(4)>\n\n"
        "[a link](javascript:alert(5)) ![a picture](https://example.org/leak.png)"
    )
    page.get_by_role("link", name="Ask this corpus").click()
    ask(page, "What do <i>zebrafish</i> eat?")
    expect_end(page)
    shot(page, "hostile")

    strangers = "script:not([src^='/static/']), iframe, img, [onerror], [href^='javascript:']"
    assert page.locator(strangers).count() == 0
    expect(page.locator(".question h2")).to_have_text("What do <i>zebrafish</i> eat?")
    page.locator("a.citation").first.click()
    expect(page.locator("[data-viewer-mark]")).to_be_visible()
    assert page.locator(strangers).count() == 0
    page.get_by_role("button", name="Sources", exact=True).click()
    expect(page.locator(".source:focus h4")).to_contain_text("onerror=alert(1)")
    page.locator(".source:focus").get_by_role("link", name=re.compile("^Open")).click()
    expect(page.locator("mark").first).to_be_visible()
    assert page.locator(strangers).count() == 0
    for path in ("/corpora/", "/chat/", "/status/", "/account/"):
        page.goto(path)
        assert page.locator(strangers).count() == 0


def test_what_cannot_be_asked_comes_back_with_its_text(
    page: Page, library: str, watch: Watch, shot: Callable[[Page, str], None]
) -> None:
    watch.expect("422")
    page.goto(library)
    page.get_by_role("link", name="Ask this corpus").click()
    page.locator("#question").fill("long " * 2_001)
    expect(page.locator("[data-count]")).to_have_text("10,004 / 10,000")
    page.locator("[data-send]").click()
    expect(page.locator(".field-error")).to_contain_text("at most 10,000")
    assert page.locator("#question").input_value().startswith("long long")
    shot(page, "too-long")

    page.locator("#question").fill("Who?")
    page.locator(".scope-chip:has(:checked) input").first.uncheck()
    page.locator("[data-send]").click()
    expect(page.locator(".field-error")).to_have_text(re.compile("Choose at least one corpus"))
    assert page.locator("#question").input_value() == "Who?"


def test_an_empty_corpus_says_where_to_upload(page: Page) -> None:
    create_corpus(page, "Hollow")
    page.get_by_role("link", name="Ask this corpus").click()
    chip = page.locator(".scope-chip", has_text="Hollow")
    expect(chip).to_have_class(re.compile("is-empty"))


def test_the_keyboard_and_a_narrow_window_are_enough(
    open_page: Callable[..., Page], site: Site, library: str, shot: Callable[[Page, str], None]
) -> None:
    site.ollama.says(ANSWER)
    page = open_page(width=390, height=844, scheme="dark")
    page.goto(library)
    page.get_by_role("link", name="Ask this corpus").click()
    page.wait_for_url("**/chat/?corpus=*")  # the page before has a #main and a "/" of its own
    page.locator("#main").focus()
    page.keyboard.press("/")
    expect(page.locator("#question")).to_be_focused()
    page.keyboard.type("What is reranking?")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("Briefly.")
    assert page.locator("#question").input_value() == "What is reranking?\nBriefly."
    page.keyboard.press("Enter")
    expect_end(page)
    shot(page, "phone-answer")

    button = page.get_by_role("button", name=re.compile(r"Sources \(\d+\)"))
    expect(page.locator(".source").first).not_to_be_visible()
    button.click()
    expect(page.locator(".source").first).to_be_visible()
    page.wait_for_timeout(400)  # the drawer slides in
    shot(page, "phone-sources")
    page.keyboard.press("Escape")
    expect(page.locator(".source").first).not_to_be_visible()
    expect(button).to_be_focused()

    page.locator("a.citation").first.press("Enter")
    expect(page.locator(".viewer-marks rect").first).to_be_in_viewport()
    wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
    assert not wide
    shot(page, "phone-viewer")
    page.get_by_role("button", name="Sources", exact=True).click()
    expect(page.locator(".source:focus .source-rank")).to_have_text("1")
    wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
    assert not wide


def test_a_conversation_is_kept_renamed_found_and_deleted(
    page: Page, site: Site, library: str, watch: Watch
) -> None:
    site.ollama.says("Short [1].")
    page.goto(library)
    page.get_by_role("link", name="Ask this corpus").click()
    ask(page, "Which figures describe speed?")
    expect_end(page)
    first = page.url

    page.get_by_role("button", name="Rename this conversation").click()
    page.get_by_label("Title").fill("Speed of pairs")
    page.get_by_role("button", name="Rename", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Speed of pairs")

    site.ollama.says("Second [1].")
    ask(page, "And on a CPU?")
    expect_end(page)
    expect(page.locator(".turn")).to_have_count(2)
    assert page.url == first
    page.locator(".turn").first.locator("a.citation").first.click()
    expect(page.locator(".sources:not([hidden]) .sources-question")).to_have_text(
        "Which figures describe speed?"
    )

    page.locator("#conversation-search").fill("And on a CPU?")
    expect(page.locator(".conversation-list .rail-link")).to_have_text(["Speed of pairs"])

    page.get_by_role("button", name="Delete this conversation").click()
    expect(page.locator("#delete-dialog")).to_contain_text("its 2 questions")
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator(".toast")).to_contain_text("“Speed of pairs” was deleted.")
    watch.expect("404")
    gone = page.goto(first)
    assert gone
    assert gone.status == 404
