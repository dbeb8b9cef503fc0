"""Rendering: nothing that a model or a document writes becomes more than text and links."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chat.render import render_markdown, split_blocks

PAYLOADS = [
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<img src=x onerror=alert(1)>",
    "<img src=`javascript:alert(1)`>",
    '<svg onload="alert(1)">',
    "<svg><script>alert(1)</script></svg>",
    "<svg><a xlink:href='javascript:alert(1)'><text>x</text></a></svg>",
    "<math><mi//xlink:href='data:text/html,<script>alert(1)</script>'>",
    "<math><mtext><table><mglyph><style><img src onerror=alert(1)>",
    "<iframe src=javascript:alert(1)></iframe>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<object data=javascript:alert(1)></object>",
    "<embed src=//evil.example/x.swf>",
    "<body onload=alert(1)>",
    "<details open ontoggle=alert(1)>x</details>",
    "<video><source onerror=alert(1)></video>",
    "<input autofocus onfocus=alert(1)>",
    "<form action=//evil.example><button>Sign in</button></form>",
    "<a href='javascript:alert(1)'>x</a>",
    "<a href=x onclick=alert(1)>x</a>",
    "<base href=//evil.example>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<style>*{background:url(//evil.example)}</style>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<div hx-get=/chat/ hx-trigger=load>x</div>",
    "<div data-hx-get=/chat/ data-hx-trigger=load>x</div>",
    "<p style='position:fixed;inset:0'>x</p>",
    "<p id=composer class=button>x</p>",
    "<!--><script>alert(1)</script-->",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<?xml version='1.0'?><x onclick=alert(1)>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<template><script>alert(1)</script></template>",
    "</div></article><script>alert(1)</script>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](javascript&colon;alert(1))",
    "[x](\\javascript:alert(1))",
    "[x](<javascript:alert(1)>)",
    "[x]( javascript:alert(1) )",
    "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "[x](vbscript:msgbox(1))",
    "[x](file:///etc/passwd)",
    "[x](//evil.example/)",
    "[x](/chat/turns/1/stop/)",
    "[x](#composer)",
    '[x](https://ok.example "onmouseover=alert(1)")',
    "[x](https://ok.example'onmouseover=alert(1)')",
    '[x](https://ok.example"><script>alert(1)</script>)',
    "[x](http://[invalid)",
    "<javascript:alert(1)>",
    "<https://ok.example/<script>alert(1)</script>>",
    "![x](https://evil.example/pixel.png)",
    "![x](javascript:alert(1))",
    "![![x](https://evil.example/a.png)](https://evil.example/b.png)",
    "[![x](https://evil.example/a.png)](javascript:alert(1))",
    "![x][ref]\n\n[ref]: https://evil.example/pixel.png",
    "[1]: javascript:alert(1)\n\nSo it is [1].",
    "[x][1]\n\n[1]: https://evil.example 'title'",
    "```html\n<script>alert(1)</script>\n```",
    '```"><script>alert(1)</script>\nx\n```',
    "    <img src=x onerror=alert(1)>",
    "`<img src=x onerror=alert(1)>`",
    "| <script>1</script> | b |\n|---|---|\n| <img src=x onerror=alert(1)> | [x](vbscript:1) |",
    "> <script>alert(1)</script>\n- <svg onload=alert(1)>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;img src=x onerror=alert(1)&#62;",
    "\ue0001\ue001 \ue000<script>\ue001",
    "[\ue0001\ue001](https://ok.example)",
    "[1](javascript:alert(1))",
    "[see [1]](https://ok.example)",
    "[![see [1]](https://evil.example/a.png)](https://ok.example)",
    "[1, 2](https://evil.example)",
    "\u202e<script>\u202c alert(1)",
    "x\x00y <scr\x00ipt>alert(1)</scr\x00ipt>",
]
ALLOWED_TAGS = set(
    "p br hr h1 h2 h3 h4 h5 h6 strong em s blockquote code pre ul ol li "  # noqa: SIM905
    "table thead tbody tr th td a".split()
)


class Audit(HTMLParser):
    """What a browser would make of the HTML: its elements and attributes, checked one by one."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.open_links = 0
        self.feed(html)
        self.close()

    def handle_data(self, data: str) -> None:
        """Collect the text."""
        self.text += data

    def handle_comment(self, data: str) -> None:
        """No comment is ever needed."""
        raise AssertionError(f"a comment: {data}")

    def handle_decl(self, decl: str) -> None:
        """Nor a declaration."""
        raise AssertionError(f"a declaration: {decl}")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Only the tags, attributes and schemes of the list."""
        assert tag in ALLOWED_TAGS, tag
        found = {name: value or "" for name, value in attrs}
        if tag == "ol":
            found.pop("start", None)
        if tag in ("pre", "table"):
            assert found.pop("tabindex") == "0"
        if tag == "a" and found.get("class") == "citation":
            assert set(found) == {"class", "href", "data-source"}
            assert found["href"] == f"#source-{int(found['data-source'])}"
            self.open_links += 1
        elif tag == "a":
            self.open_links += 1
            assert found.pop("rel") == "noopener noreferrer nofollow"
            href = found.pop("href", "https://")
            assert href.startswith(("http://", "https://", "mailto:")), href
            assert found == {}
        else:
            assert found == {}, found
        assert self.open_links < 2, "a link in a link"

    def handle_endtag(self, tag: str) -> None:
        """Links are counted so that none stands in another."""
        self.open_links -= tag == "a"


@pytest.mark.parametrize("payload", PAYLOADS)
def test_nothing_dangerous_survives_at_any_moment_of_a_stream(payload: str) -> None:
    text = f"Before **bold [1]** {payload} after [2].\n\nThe end."
    Audit(render_markdown(text, sources=2))
    Audit(render_markdown(payload, sources=2))
    for cut in range(len(text) + 1):
        blocks, tail = split_blocks(text[:cut])
        for part in (*blocks, tail):
            Audit(render_markdown(part, sources=2))


@given(st.lists(st.sampled_from(PAYLOADS) | st.text(max_size=8), max_size=5).map("".join))
def test_mixtures_of_payloads_are_safe_too(text: str) -> None:
    Audit(render_markdown(text, sources=3))


def test_a_citation_links_to_its_source_and_a_number_without_a_source_is_left_out() -> None:
    html = render_markdown("So [1], [2, 3][4] and [2].", sources=3)

    link = '<a class="citation" href="#source-{0}" data-source="{0}">{0}</a>'.format
    assert html == f"<p>So {link(1)}, {link(2)}{link(3)} and {link(2)}.</p>\n"


@pytest.mark.parametrize(
    "text", ["`row[1]`", "```\nrow[1]\n```", r"\[1\]", "[0]", "![x [1]](http://y.example)"]
)
def test_brackets_in_code_in_quotes_and_in_descriptions_are_no_citations(text: str) -> None:
    assert "citation" not in render_markdown(text, sources=3)


def test_a_definition_cannot_turn_citations_into_links_elsewhere() -> None:
    html = render_markdown("So it is [1].\n\n[1]: https://evil.example", sources=1)

    assert 'href="https' not in html
    assert html.count('href="#source-1"') == 2


def test_a_link_shows_where_it_leads() -> None:
    assert "the bank (evil.example)</a>" in render_markdown(
        "[the bank](https://evil.example/login)", sources=0
    )
    shown = render_markdown("[evil.example](https://evil.example/login)", sources=0)
    assert shown.count("evil.example") == 2  # address and text, nothing added


def test_a_picture_becomes_its_description() -> None:
    html = render_markdown("![a *chart*](https://evil.example/x.png)", sources=0)

    assert html == "<p>a chart</p>\n"


def test_tables_and_lists_are_rendered() -> None:
    html = render_markdown("| a | b |\n|---|--:|\n| ~~1~~ | 2 |\n\n3. x\n4. y\n", sources=0)

    assert '<table tabindex="0">' in html  # scrolled by the keyboard, too
    assert "<s>1</s>" in html
    assert '<ol start="3">' in html


LINES = st.sampled_from(
    [
        "text one [1]",
        "**bold",
        "# head",
        "- item",
        "  - deeper",
        "1. first",
        "10. tenth",
        "1",
        "-",
        "```",
        "```py",
        "~~~",
        "  ```",
        "    code",
        "> quote",
        "| a | b |",
        "|---|---|",
        "---",
        "===",
        "",
        "",
        "  text",
        "\t",
        "*",
        "+ x",
        "<b>",
        "[1]: https://x.example",
        "a | b",
    ]
)
DOCUMENTS = st.lists(LINES, max_size=14).map("\n".join)


@given(DOCUMENTS)
@example("- a\n\n- b\n\ntext")
@example("1. a\n\n10. b")
@example("```\n\n\nx\n```\n\n\n")
@example("    a\n\n    b\n")
@example("\n\ntext\n\n")
def test_the_parts_are_the_text_and_render_to_what_the_whole_renders_to(text: str) -> None:
    blocks, tail = split_blocks(text)

    assert "".join(blocks) + tail == text
    parts = [render_markdown(part, sources=3) for part in (*blocks, tail)]
    assert "".join(parts) == render_markdown(text, sources=3)


@given(DOCUMENTS, st.lists(st.integers(min_value=1, max_value=9), max_size=40))
def test_a_stream_of_blocks_ends_as_the_whole_answer(text: str, sizes: list[int]) -> None:
    appended, tail, at = "", "", 0
    for size in [*sizes, len(text)]:
        tail += text[at : at + size]
        at += size
        blocks, tail = split_blocks(tail)
        appended += "".join(render_markdown(block, sources=3) for block in blocks)

    assert appended + render_markdown(tail, sources=3) == render_markdown(text, sources=3)


def test_blocks_are_closed_as_soon_as_they_can_be() -> None:
    assert split_blocks("One.\n\nTwo.\n\nThr") == (["One.\n\n", "Two.\n\n"], "Thr")
    assert split_blocks("# Head\nText\n") == (["# Head\n"], "Text\n")
    assert split_blocks("```\na\n\nb\n") == ([], "```\na\n\nb\n")
    assert split_blocks("```\na\n```\n\n") == (["```\na\n```\n\n"], "")
    assert split_blocks("- a\n\n- b\n\n") == ([], "- a\n\n- b\n\n")
    assert split_blocks("- a\n\nText") == ([], "- a\n\nText")
    assert split_blocks("- a\n\nText\n") == (["- a\n\n"], "Text\n")
