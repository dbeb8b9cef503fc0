"""From the Markdown of a model or a document to HTML that is safe to show.

The only producer of raw HTML on the site. Three walls: the Markdown parser knows no HTML,
no pictures and only links with a scheme of the list; an allowlist sanitiser reads its
output again; citations are put in after that, from numbers alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, MutableMapping, Sequence
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import nh3
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.renderer import RendererProtocol
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markdown_it.utils import OptionsDict

from chat.citations import CITATION, numbers_in
from chat.claims import Claim
from chat.invisible import strip_invisible
from ingestion.sentences import sentence_spans

SCHEMES = frozenset({"http", "https", "mailto"})
TAGS = frozenset(
    "p br hr h1 h2 h3 h4 h5 h6 strong em s blockquote code pre ul ol li "  # noqa: SIM905
    "table thead tbody tr th td a".split()
)
ATTRIBUTES = {"a": {"href"}, "ol": {"start"}, "*": set[str]()}
# `strip_invisible` takes the private use characters out of the text, so that what stands
# between these two after sanitising is a number that this module put there.
_OPEN, _CLOSE, _WEAK = "\ue000", "\ue001", "\ue002"
_PLACEHOLDER = re.compile(f"{_OPEN}(\\d+)({_WEAK}?){_CLOSE}")
# What may be wider than the column is scrolled, which the keyboard must reach as well.
_SCROLLED = re.compile(r"<(pre|table)>")
_WEAK_TITLE = "This passage has little to do with the sentence. Check it."
# What a blank line ends for good. Lists and indented code may go on after one.
_ENDED_BY_BLANK_LINE = frozenset(
    {"paragraph_open", "heading_open", "hr", "fence", "blockquote_open", "table_open"}
)


def render_markdown(text: str, *, sources: int, weak: Collection[int] = ()) -> SafeString:
    """Render Markdown that nobody vouches for.

    CommonMark with tables and strikethrough; no HTML, no pictures (their description is
    shown), no link reference definitions, links to http, https and mailto only, with
    their host shown. `[n]` becomes a link to the card of source n.

    Args:
        text: the answer, or the part of it that is there.
        sources: how many sources there are; `[n]` with n above it is left out.
        weak: places, from 0, among the citations that are shown; these get a visible mark.
    """
    env = {"sources": sources, "weak": frozenset(weak), "shown": 0}
    html = _markdown().render(strip_invisible(text), env)
    clean = nh3.clean(
        html,
        tags=set(TAGS),
        attributes={tag: set(names) for tag, names in ATTRIBUTES.items()},
        url_schemes=set(SCHEMES),
        url_relative="deny",
        link_rel="noopener noreferrer nofollow",
    )
    scrollable = _SCROLLED.sub(r'<\1 tabindex="0">', clean)
    cited = _PLACEHOLDER.sub(_link, scrollable)
    return mark_safe(cited)  # noqa: S308 # nosec B308 B703 # sanitised above


def _link(found: re.Match[str]) -> str:
    number = found[1]
    if not found[2]:
        return f'<a class="citation" href="#source-{number}" data-source="{number}">{number}</a>'
    return (
        f'<a class="citation is-weak" href="#source-{number}" data-source="{number}" '
        f'title="{_WEAK_TITLE}" aria-label="{number}, weakly supported">{number}?</a>'
    )


def cited_sentences(text: str, *, sources: int) -> list[Claim]:
    """Every citation that `render_markdown` shows, in its order, with its sentence.

    A citation belongs to the sentence it stands in; one that opens a sentence, as after a full
    stop, to the one before it. Sentences end with their block: paragraph, list item, cell.
    """
    claims: list[Claim] = []
    for block in _markdown().parse(strip_invisible(text)):
        words = ""
        places: list[tuple[int, int]] = []
        for child in block.children or []:
            if child.type == "citation":
                numbers = [n for n in child.meta["numbers"] if n <= sources]
                places += [(len(words), number) for number in numbers]
            elif child.type in ("softbreak", "hardbreak"):
                words += " "
            else:
                words += child.content
        spans = sentence_spans(words)
        for place, number in places:
            begun = [span for span in spans if span[0] < place]
            sentence = words[begun[-1][0] : begun[-1][1]] if begun else ""
            claims.append(Claim(" ".join(sentence.split()), number))
    return claims


def split_blocks(text: str) -> tuple[list[str], str]:
    """Split off the Markdown blocks that no further text can change.

    A block is closed when a blank line ends it outside a fence, or when a line that is
    complete begins another one. What remains open is re-rendered as it grows. Rendering
    the parts one after the other gives what rendering the whole gives.

    Args:
        text: the text so far, or what an earlier call left open with the text after it.

    Returns:
        The closed blocks, each with the line ends that follow it, and the open rest;
        together they are the text.
    """
    whole_lines = text[: text.rfind("\n") + 1]
    if not whole_lines:
        return [], text
    blocks = [t for t in _markdown().parse(whole_lines) if t.level == 0 and t.map]
    lines = whole_lines.splitlines(keepends=True)
    starts = [token.map[0] for token in blocks if token.map]
    if blocks and _is_ended(blocks[-1], lines):
        starts.append(len(lines))
    cuts = starts[1:]
    parts = ["".join(lines[a:b]) for a, b in zip([0, *cuts], cuts, strict=False)]
    return parts, text[sum(map(len, parts)) :]


def _is_ended(block: Token, lines: Sequence[str]) -> bool:
    after = block.map[1] if block.map else len(lines)
    return (
        block.type in _ENDED_BY_BLANK_LINE
        and after < len(lines)
        and not lines[after].strip(" \t\n")
    )


@cache
def _markdown() -> MarkdownIt:
    markdown = MarkdownIt("commonmark", {"html": False, "xhtmlOut": False})
    markdown.enable(["table", "strikethrough"])
    # "[1]: https://…" would turn the citation [1] into a link of the model's choice.
    markdown.disable("reference")
    markdown.validateLink = _is_allowed_link  # type: ignore[method-assign]
    markdown.inline.ruler.before("link", "citation", _citation_rule)
    markdown.core.ruler.push("link_host", _show_link_hosts)
    markdown.add_render_rule("citation", _render_citation)
    markdown.add_render_rule("image", _render_image)
    return markdown


def _is_allowed_link(url: str) -> bool:
    try:
        return urlsplit(url.strip()).scheme.lower() in SCHEMES
    except ValueError:
        return False


def _citation_rule(state: StateInline, silent: bool) -> bool:
    found = CITATION.match(state.src, state.pos, state.posMax)
    if found is None:
        return False
    if not silent:
        state.push("citation", "", 0).meta = {"numbers": numbers_in(found["numbers"])}
    state.pos = found.end()
    return True


def _show_link_hosts(state: StateCore) -> None:
    """Put the host behind a link whose text does not show it."""
    for block in state.tokens:
        children = block.children or []
        for opened, token in enumerate(children):
            if token.type != "link_open":
                continue
            closed = next(
                i for i in range(opened, len(children)) if children[i].type == "link_close"
            )
            shown = "".join(child.content for child in children[opened:closed])
            address = urlsplit(str(token.attrGet("href")))
            host = address.hostname or address.path
            if host and host not in shown.lower():
                children[closed].meta = {"host": host}
    # Inserted from a second walk, because inserting moves what the first one looks at.
    for block in state.tokens:
        if block.children:
            block.children = [
                part
                for token in block.children
                for part in ((_text(f" ({token.meta['host']})"), token) if "host" in token.meta
                             else (token,))
            ]  # fmt: skip


def _text(content: str) -> Token:
    return Token("text", "", 0, content=content)


def _render_citation(
    _: RendererProtocol,
    tokens: Sequence[Token],
    index: int,
    options: OptionsDict,
    env: MutableMapping[str, Any],
) -> str:
    written = ""
    for number in tokens[index].meta["numbers"]:
        if number <= env["sources"]:
            mark = _WEAK if env["shown"] in env["weak"] else ""
            env["shown"] += 1
            written += f"{_OPEN}{number}{mark}{_CLOSE}"
    return written


def _render_image(
    renderer: Any,
    tokens: Sequence[Token],
    index: int,
    options: OptionsDict,
    env: MutableMapping[str, Any],
) -> str:
    return escapeHtml(renderer.renderInlineAsText(tokens[index].children, options, env))
