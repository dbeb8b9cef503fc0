"""Values that flow from a file to its chunks; frozen, without Django or vendor types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

PIPELINE_VERSION = "1"


class Strategy(StrEnum):
    """Where a document may be cut into passages."""

    STRUCTURE = "structure"
    SENTENCE = "sentence"
    FIXED = "fixed"
    SEMANTIC = "semantic"


# What rerankers read of question and passage together, and what of it is kept for the question.
WINDOW_TOKENS = 512
QUESTION_TOKENS = 64
MIN_PASSAGE_TOKENS = 32
MAX_PASSAGE_TOKENS = WINDOW_TOKENS - QUESTION_TOKENS


@dataclass(frozen=True, slots=True)
class ChunkOptions:
    """How documents are cut: at what, into passages of how many tokens, repeating how many.

    `max_tokens` bounds heading path, text and special tokens together.
    """

    strategy: Strategy = Strategy.STRUCTURE
    max_tokens: int = 256
    overlap_tokens: int = 32


@dataclass(frozen=True, slots=True)
class DocumentFilter:
    """Which documents of the corpora are searched; with nothing in it, all of them.

    labels: (name, value): of each name a document must carry one of the values.
    documents: ids; a document, or another version of it, must be among them.
    """

    labels: tuple[tuple[str, str], ...] = ()
    documents: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.labels or self.documents)


EVERYTHING = DocumentFilter()


class ElementKind(StrEnum):
    """What a piece of a document is, for structure-aware chunking."""

    HEADING = "heading"
    PARAGRAPH = "paragraph"
    LIST_ITEM = "list_item"
    TABLE = "table"
    CODE = "code"


@dataclass(frozen=True, slots=True)
class Element:
    """One structural piece of a parsed document, in reading order.

    `page` counts from 1 and is None where the format has no pages. `level` is 1 to 6 for
    headings, 0 otherwise. A table's text has one row a line, cells joined by " | ", its
    first line being the header when `has_header`.
    """

    kind: ElementKind
    text: str
    page: int | None = None
    level: int = 0
    has_header: bool = False


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that was left out of a document that could be read otherwise.

    `code` names a sentence of `errors.NOTICES`, `count` says of how many things it speaks.
    """

    code: str
    count: int


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """What a parser gives: elements in reading order, pages (0 = format without pages).

    `pictures` are the pages that show something but hold no text, from 1, ascending: what
    text recognition is for.
    """

    elements: Sequence[Element]
    pages: int = 0
    title: str = ""
    notices: Sequence[Notice] = ()
    pictures: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open range [start, end) of characters in the text of part number `part`."""

    part: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class PartDraft:
    """A stretch of the document's text as the reader shows it: a page or 20,000 characters."""

    ordinal: int
    page: int | None
    text: str


@dataclass(frozen=True, slots=True)
class ChunkDraft:
    """A passage before it has an id.

    `text` is the passage itself; `heading_path` the headings above it, outermost first.
    What is embedded, indexed and reranked is `heading path + text` (`passage_text`).
    `tokens` counts the embedder's tokens of that, special tokens included.
    """

    ordinal: int
    text: str
    heading_path: tuple[str, ...]
    page_from: int | None
    page_to: int | None
    spans: tuple[Span, ...]
    tokens: int


def passage_text(*, heading_path: str, text: str) -> str:
    """The text the models read: the heading path on a line of its own, then the passage."""
    return f"{heading_path}\n{text}" if heading_path else text


HEADING_SEPARATOR = " › "
# Between the cells of a table's row.
CELL_SEPARATOR = " | "


@dataclass(frozen=True, slots=True)
class QuotaSettings:
    """What each corpus and each person may hold, in MB and in documents; 0 is no limit."""

    corpus_mb: int = 0
    corpus_documents: int = 0
    person_mb: int = 0
    person_documents: int = 0


@dataclass(frozen=True, slots=True)
class IngestionSettings:
    """Everything ingestion needs to know of its surroundings, read once at the edge.

    `site` marks what is this site's in a Chroma server that several may share.
    """

    site: str
    data_dir: Path
    chroma_url: str
    chroma_token: str
    chroma_dir: Path
    embed_url: str
    embedding_model: str
    upload_max_bytes: int
    disk_floor_bytes: int
    chunk: ChunkOptions
    parse_timeout_seconds: int
    parse_memory_bytes: int
    ocr_languages: str
    ocr_timeout_seconds: int
    lease_seconds: int
    watch_folder: Path | None = None

    @property
    def blobs_dir(self) -> Path:
        """Uploaded files, named by random keys."""
        return self.data_dir / "blobs"

    @property
    def imports_dir(self) -> Path:
        """Exported corpora that are being imported, named by random keys."""
        return self.data_dir / "imports"

    @property
    def lexical_dir(self) -> Path:
        """One folder for each index generation."""
        return self.data_dir / "lexical"


@dataclass(frozen=True, slots=True)
class Hit:
    """One result of one arm. `score` is BM25 (higher is better) or cosine similarity in [-1, 1]."""

    chunk_id: str
    score: float


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk with what a reader needs to see of its document."""

    chunk_id: str
    document_id: int
    document: str
    title: str
    heading_path: str
    page_from: int | None
    page_to: int | None
    text: str
    corpus_id: int = 0
    spans: Sequence[Span] = field(default_factory=tuple)
