"""How a document would be cut, shown and forgotten: nothing of a preview is written anywhere."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import mean

import numpy as np
from numpy.typing import NDArray

from inference.errors import InferenceError
from ingestion import blobs
from ingestion.chunking import PART_CHARACTERS, chunk
from ingestion.errors import ParseError, ParserCrashed, PermanentError, PreviewRefused
from ingestion.models import Document
from ingestion.parsing import Format, OcrSettings, parse_in_child
from ingestion.tokenizer import load_tokenizer
from ingestion.types import (
    ChunkDraft,
    ChunkOptions,
    Element,
    ElementKind,
    IngestionSettings,
    ParsedDocument,
)

READING_SECONDS = 20
MAX_PAGES = 5
MAX_PASSAGES = 60
_KEPT = 2

_parsed: OrderedDict[str, ParsedDocument] = OrderedDict()
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Preview:
    """The passages of some pages, in order.

    first, last, pages: which pages, or parts where the format has no pages, of how many.
    more: how many passages of these pages are not in the list.
    """

    passages: Sequence[ChunkDraft]
    first: int
    last: int
    pages: int
    is_paged: bool
    more: int = 0

    @property
    def mean_tokens(self) -> int:
        """Tokens of a passage, on average."""
        return round(mean(draft.tokens for draft in self.passages)) if self.passages else 0


def preview(
    document: Document,
    options: ChunkOptions,
    *,
    first: int,
    last: int,
    settings: IngestionSettings,
    embed: Callable[[Sequence[str]], NDArray[np.float32]],
) -> Preview:
    """Cut some pages of a document in this way, with the pages beside them for their context.

    Args:
        document: one whose file is there.
        first: a page, from 1; the nearest there is. Parts are counted where there are no pages.
        last: the last page, at most `MAX_PAGES` pages in all.
        embed: for cutting by meaning.

    Raises:
        PreviewRefused: the file cannot be read, or not soon enough; or the model is away.
    """
    parsed = _read(document, settings)
    numbered = _numbered(parsed)
    pages = parsed.pages or max((number for number, _ in numbered), default=1)
    first = min(max(first, 1), pages)
    last = min(max(last, first), first + MAX_PAGES - 1, pages)
    elements = _excerpt(numbered, first, last, is_paged=bool(parsed.pages))
    try:
        _, drafts = chunk(
            replace(parsed, elements=elements),
            tokenizer=load_tokenizer(settings.embedding_model),
            max_tokens=options.max_tokens,
            overlap_tokens=options.overlap_tokens,
            strategy=options.strategy,
            embed=embed,
        )
    except InferenceError as exc:
        raise PreviewRefused(str(exc), code="preview_without_model") from exc
    if parsed.pages:
        drafts = [d for d in drafts if (d.page_from or 0) <= last and (d.page_to or 0) >= first]
    return Preview(
        passages=drafts[:MAX_PASSAGES],
        first=first,
        last=last,
        pages=pages,
        is_paged=bool(parsed.pages),
        more=max(0, len(drafts) - MAX_PASSAGES),
    )


def _read(document: Document, settings: IngestionSettings) -> ParsedDocument:
    """The elements of the file; of the last few files they are kept in memory."""
    with _lock:
        if found := _parsed.get(document.blob_key):
            _parsed.move_to_end(document.blob_key)
            return found
    workdir = settings.data_dir / "tmp"
    workdir.mkdir(parents=True, exist_ok=True)
    path = blobs.blob_file(settings.blobs_dir, document.blob_key)
    try:
        if not path.is_file():
            raise ParseError("no blob", code="file_missing")
        parsed = parse_in_child(
            path,
            format=Format(document.format),
            timeout_seconds=min(READING_SECONDS, settings.parse_timeout_seconds),
            memory_bytes=settings.parse_memory_bytes,
            workdir=workdir,
            ocr=OcrSettings(settings.ocr_languages, READING_SECONDS),
        )
    except ParserCrashed as exc:
        raise PreviewRefused(str(exc), code="corrupt") from exc
    except PermanentError as exc:
        code = "preview_too_slow" if exc.code == "too_slow" else exc.code
        raise PreviewRefused(str(exc), code=code) from exc
    except ValueError as exc:  # made by a command, not uploaded
        raise PreviewRefused(str(exc), code="unsupported") from exc
    with _lock:
        _parsed[document.blob_key] = parsed
        while len(_parsed) > _KEPT:
            _parsed.popitem(last=False)
    return parsed


def _numbered(parsed: ParsedDocument) -> list[tuple[int, Element]]:
    """Each element with its page, or with the part that it is in, as nearly as that matters."""
    if parsed.pages:
        elements = sorted(parsed.elements, key=lambda element: element.page or 0)
        return [(element.page or 1, element) for element in elements]
    numbered: list[tuple[int, Element]] = []
    position = 0
    for element in parsed.elements:
        numbered.append((1 + position // PART_CHARACTERS, element))
        position += len(element.text)
    return numbered


def _excerpt(
    numbered: Sequence[tuple[int, Element]], first: int, last: int, *, is_paged: bool
) -> list[Element]:
    """The elements of these pages, and before them the headings that they stand under.

    Where there are pages the ones beside them belong to it, for what runs over the page.
    """
    beside = 1 if is_paged else 0
    above: list[Element] = []
    chosen: list[Element] = []
    for number, element in numbered:
        if first - beside <= number <= last + beside:
            chosen.append(element)
        elif number < first and element.kind is ElementKind.HEADING:
            above = [heading for heading in above if heading.level < element.level]
            above.append(element)
    return [*above, *chosen]
