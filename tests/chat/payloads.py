"""More than 300 texts that a model or a document might write to run a script or reach out."""

from __future__ import annotations

from collections.abc import Iterator

from chat.render import render_markdown, split_blocks
from tests.chat.test_render import PAYLOADS

WRAPPINGS = (
    "{}",
    "- item {} [1]\n- next",
    "> quoted {} [2]",
    "| a | b |\n|---|---|\n| {} | [1] |",
)
ALL = [
    wrapping.format(payload if n < 1 else " ".join(payload.split("\n")))
    for payload in PAYLOADS
    for n, wrapping in enumerate(WRAPPINGS)
]


def fragments(text: str, *, stride: int = 1, sources: int = 2) -> Iterator[str]:
    """The HTML that a page gets when the stream is cut at every `stride`-th character."""
    for cut in range(0, len(text) + 1, stride):
        blocks, tail = split_blocks(text[:cut])
        for part in (*blocks, tail):
            yield render_markdown(part, sources=sources)
