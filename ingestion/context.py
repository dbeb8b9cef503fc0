"""What stands around passages in their documents, for a language model to read with them.

Retrieval ranks small passages; an answer often needs the lines before and after. A passage is
widened by whole neighbouring passages of its own generation, and its text is then taken from
the document, so that nothing is said twice where passages overlap.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from django.db.models import Q

from ingestion.models import Chunk, Corpus, DocumentPart
from ingestion.types import Passage, Span

# On each side; more would not fit the limits that can be set.
MAX_NEIGHBOURS = 12


@dataclass(frozen=True, slots=True)
class _Row:
    """A chunk as far as it matters here. `place` is its document and generation."""

    chunk_id: str
    place: tuple[int, int]
    ordinal: int
    heading_path: str
    tokens: int
    text: str
    spans: tuple[Span, ...]
    page_from: int | None
    page_to: int | None


def widened(passages: Sequence[Passage], *, corpora: Collection[Corpus]) -> dict[str, Passage]:
    """The passages with what stands around them, by chunk id; without those that do not grow.

    As each corpus says: nothing, the neighbours, or as much of the section, up to its limit
    in tokens. A neighbour is taken once, by the best passage that can have it, and never if
    it is itself among the passages.

    Args:
        passages: best first.
        corpora: of the passages.
    """
    wanted = {c.pk: c for c in corpora if c.context != Corpus.Context.NONE}
    ids = [passage.chunk_id for passage in passages if passage.corpus_id in wanted]
    own = {row.chunk_id: row for row in _rows(Q(pk__in=ids))} if ids else {}
    if not own:
        return {}
    around: dict[tuple[tuple[int, int], int], _Row] = {}
    for row in _rows(_near(own.values())):
        around[row.place, row.ordinal] = row
    taken = {(row.place, row.ordinal) for row in own.values()}
    runs: dict[str, list[_Row]] = {}
    for passage in passages:
        if middle := own.get(passage.chunk_id):
            runs[middle.chunk_id] = _grown(middle, around, taken, wanted[passage.corpus_id])
    texts = _texts({key: run for key, run in runs.items() if len(run) > 1})
    return {
        passage.chunk_id: _joined(passage, runs[passage.chunk_id], texts[passage.chunk_id])
        for passage in passages
        if passage.chunk_id in texts
    }


def _rows(condition: Q) -> list[_Row]:
    fields = ("pk", "document_id", "generation_id", "ordinal", "heading_path", "tokens", "text")
    found = Chunk.objects.filter(condition).values_list(*fields, "spans", "page_from", "page_to")
    return [
        _Row(
            chunk_id=row[0],
            place=(row[1], row[2]),
            ordinal=row[3],
            heading_path=row[4],
            tokens=row[5],
            text=row[6],
            spans=tuple(Span(*span) for span in row[7]),
            page_from=row[8],
            page_to=row[9],
        )
        for row in found
    ]


def _near(rows: Collection[_Row]) -> Q:
    condition = Q()
    for row in rows:
        document, generation = row.place
        first, last = max(0, row.ordinal - MAX_NEIGHBOURS), row.ordinal + MAX_NEIGHBOURS
        condition |= Q(document=document, generation=generation, ordinal__range=(first, last))
    return condition


def _grown(
    row: _Row,
    around: Mapping[tuple[tuple[int, int], int], _Row],
    taken: set[tuple[tuple[int, int], int]],
    corpus: Corpus,
) -> list[_Row]:
    """The chunk and its neighbours in order: one after, one before, and so on while they fit."""
    run = [row]
    tokens = row.tokens
    open_sides = {1, -1}
    while open_sides:
        for side in (1, -1):
            if side not in open_sides:
                continue
            place = row.place, (run[-1].ordinal + 1 if side > 0 else run[0].ordinal - 1)
            found = around.get(place)
            if found is None or place in taken or not _may_join(found, row, tokens, corpus):
                open_sides.discard(side)
                continue
            taken.add(place)
            tokens += found.tokens
            run.insert(len(run) if side > 0 else 0, found)
    return run


def _may_join(found: _Row, row: _Row, tokens: int, corpus: Corpus) -> bool:
    """Whether there is room, and whether it is in the section where only that is wanted."""
    if tokens + found.tokens > corpus.context_max_tokens:
        return False
    return corpus.context == Corpus.Context.NEIGHBOURS or found.heading_path == row.heading_path


def _texts(runs: Mapping[str, Sequence[_Row]]) -> dict[str, str]:
    """The text of the document from the beginning to the end of each run."""
    needed: dict[tuple[int, int], set[int]] = defaultdict(set)
    for run in runs.values():
        parts = [span.part for row in run for span in row.spans]
        if parts:
            needed[run[0].place].update(range(min(parts), max(parts) + 1))
    condition = Q()
    for (document, generation), ordinals in needed.items():
        condition |= Q(document=document, generation=generation, ordinal__in=ordinals)
    stored = DocumentPart.objects.filter(condition) if needed else DocumentPart.objects.none()
    found = {
        ((document, generation), ordinal): text
        for document, generation, ordinal, text in stored.values_list(
            "document_id", "generation_id", "ordinal", "text"
        )
    }
    texts: dict[str, str] = {}
    for key, run in runs.items():
        spans = sorted((s for row in run for s in row.spans), key=lambda s: (s.part, s.start))
        if not spans or any((run[0].place, span.part) not in found for span in spans):
            continue
        first, last = spans[0], max(spans, key=lambda s: (s.part, s.end))
        pieces = []
        for part in range(first.part, last.part + 1):
            text = found.get((run[0].place, part), "")
            end = last.end if part == last.part else len(text)
            pieces.append(text[first.start if part == first.part else 0 : end].strip("\n"))
        joined = "\n".join(piece for piece in pieces if piece)
        header = run[0].text.split("\n", 1)[0]  # repeated from the table's first row
        texts[key] = joined if joined.startswith(header) else f"{header}\n{joined}"
    return texts


def _joined(passage: Passage, run: Sequence[_Row], text: str) -> Passage:
    pages = [page for row in run for page in (row.page_from, row.page_to) if page is not None]
    return replace(
        passage,
        text=text,
        page_from=min(pages, default=None),
        page_to=max(pages, default=None),
    )
