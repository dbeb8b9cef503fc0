"""The lexical index: BM25 over the words of passages, on disk, updated document by document.

One folder holds the index of one generation of a corpus. It stores terms and chunk ids, no
text, and can be rebuilt from SQL. Writers of all processes take turns on a file lock; readers
open the last commit. tantivy is imported here only, and on first use.
"""

from __future__ import annotations

import re
import shutil
import threading
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from ingestion.errors import LexicalIndexError
from ingestion.types import Hit

if TYPE_CHECKING:
    import tantivy

WRITER_WAIT_SECONDS = 20.0
# tantivy's smallest is 15 MB; a document of 5,000 passages fits into twice that.
WRITER_HEAP_BYTES = 30_000_000
# A pasted page must not cost a thousand posting lists; its rarest terms decide anyway.
MAX_QUERY_TERMS = 64
MAX_TERM_BYTES = 100
OPEN_INDEXES = 64
# Beside the folder while it is made anew.
FRESH, FORMER = ".fresh", ".former"
# Fetched beyond k, so that passages of equal score at the cut are ordered by id and not by
# where they lie; hundreds of equal ones (boilerplate) are fetched in growing steps.
TIE_MARGIN = 10
MAX_TIED = 2000

# Languages of tantivy's Snowball stemmers, and whether accents are dropped after stemming:
# where people leave them out when they type, not where they make another letter of it.
LANGUAGES: dict[str, tuple[str, bool]] = {
    "ar": ("arabic", False),
    "da": ("danish", False),
    "de": ("german", False),
    "el": ("greek", True),
    "en": ("english", True),
    "es": ("spanish", True),
    "fi": ("finnish", False),
    "fr": ("french", True),
    "hu": ("hungarian", False),
    "it": ("italian", True),
    "nl": ("dutch", True),
    "no": ("norwegian", False),
    "pt": ("portuguese", True),
    "ro": ("romanian", True),
    "ru": ("russian", False),
    "sv": ("swedish", False),
    "ta": ("tamil", False),
    "tr": ("turkish", False),
}

# Scripts written without spaces (and Hangul, whose particles stick to the word):
# Thai, Lao, Burmese, Khmer, kana, Han, Hangul.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3041-\u309f"
    "\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
    "\uf900-\ufaff\U00020000-\U0003134f]+"
)


@dataclass(frozen=True, slots=True)
class LexicalEntry:
    """One passage as it goes into the index: its id, and the text whose words are indexed."""

    chunk_id: str
    text: str


class Analyser:
    """Turns text into the terms of one language; the same at indexing and at asking.

    Unicode is normalised (NFKC: ligatures of PDFs, full-width letters), words are letters,
    digits and marks, lower-cased, stemmed, and in some languages stripped of accents. Runs
    of scripts without spaces become overlapping pairs of characters, in every language.
    A language without a stemmer keeps its words whole.
    """

    def __init__(self, language: str) -> None:
        name, fold = LANGUAGES.get(language.lower()[:2], ("", True))
        self._words = _text_analyzer(name, fold=fold)
        self._content_words = _text_analyzer(name, fold=fold, drop_stop_words=True)

    def terms(self, text: str) -> list[str]:
        """The terms under which a passage is filed, in reading order, with repetitions.

        Single characters of unspaced scripts are filed too, for questions of one character.
        """
        terms: list[str] = []
        for run, unspaced in _runs(text):
            if unspaced:
                terms += run
                terms += _pairs(run)
            else:
                terms += self._words.analyze(run)
        return terms

    def query_terms(self, question: str) -> list[str]:
        """The distinct terms of a question, first mention first.

        Stop words are left out here and not in the index, so that a question of nothing
        but stop words is still answered by them.
        """
        return self._distinct(question, self._content_words) or self._distinct(
            question, self._words
        )

    @staticmethod
    def _distinct(question: str, analyzer: tantivy.TextAnalyzer) -> list[str]:
        terms: dict[str, None] = {}
        for run, unspaced in _runs(question):
            if unspaced:
                terms.update(dict.fromkeys(_pairs(run) or [run]))
            else:
                terms.update(dict.fromkeys(analyzer.analyze(run)))
        return list(terms)


def _text_analyzer(
    language: str, *, fold: bool, drop_stop_words: bool = False
) -> tantivy.TextAnalyzer:
    import tantivy

    words = tantivy.Tokenizer.regex(r"[\p{Alphabetic}\p{M}\p{N}]+")
    builder = tantivy.TextAnalyzerBuilder(words)
    builder = builder.filter(tantivy.Filter.remove_long(MAX_TERM_BYTES))
    builder = builder.filter(tantivy.Filter.lowercase())
    if language:
        if drop_stop_words:
            with suppress(ValueError):  # a stemmer, but no list of stop words
                builder = builder.filter(tantivy.Filter.stopword(language))
        builder = builder.filter(tantivy.Filter.stemmer(language))
    if fold:
        builder = builder.filter(tantivy.Filter.ascii_fold())
    return builder.build()


def _runs(text: str) -> Iterator[tuple[str, bool]]:
    """The text cut where it changes between spaced and unspaced scripts."""
    if text.isascii():
        yield text, False
        return
    # A lone surrogate is no character and cannot be encoded; it becomes a question mark.
    text = unicodedata.normalize("NFKC", text.encode(errors="replace").decode())
    end = 0
    for match in _UNSPACED.finditer(text):
        if match.start() > end:
            yield text[end : match.start()], False
        yield match.group(), True
        end = match.end()
    if end < len(text):
        yield text[end:], False


def _pairs(run: str) -> list[str]:
    return [first + second for first, second in pairwise(run)]


@lru_cache(maxsize=32)
def analyser(language: str) -> Analyser:
    """The analyser of a language, made once per process."""
    return Analyser(language)


class LexicalIndex:
    """BM25 over the passages of one index generation.

    score = sum over the terms t of the question of
            idf(t) * tf * (k1 + 1) / (tf + k1 * (1 - b + b * length / mean length)),
    idf(t) = ln(1 + (N - n + 0.5) / (n + 0.5)).
    tantivy fixes k1 = 1.2 and b = 0.75 and keeps lengths in one byte (exact up to 40 terms).
    N and n still count a deleted passage until its segment is merged.

    Every call sees the last commit of any process. Objects may be shared by threads.
    `language` must stay the one that the index was written with.

    Source: Robertson and Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond,
    2009, doi:10.1561/1500000019
    """

    def __init__(self, folder: Path, *, language: str = "en") -> None:
        self.folder = folder
        self.language = language
        self._opening = threading.Lock()
        self._opened: tuple[tuple[int, int, int], Any] | None = None

    def replace_document(self, document_id: int, entries: Sequence[LexicalEntry]) -> None:
        """File these passages as all that the document has, in one commit.

        Raises:
            LexicalIndexError: the index cannot be written now; nothing has changed.
        """
        self.replace_documents([(document_id, entries)])

    def replace_documents(self, documents: Iterable[tuple[int, Sequence[LexicalEntry]]]) -> None:
        """`replace_document` for many documents in one commit; a rebuild is one call.

        Raises:
            LexicalIndexError: the index cannot be written now; nothing has changed.
        """
        import tantivy

        analyse = analyser(self.language).terms
        with self._writer() as writer:
            for document_id, entries in documents:
                writer.delete_documents_by_query(_of_document(document_id))
                for entry in entries:
                    row = tantivy.Document()
                    row.add_bytes("chunk_id", entry.chunk_id.encode())
                    row.add_unsigned("document_id", document_id)
                    row.add_text("terms", " ".join(analyse(entry.text)))
                    writer.add_document(row)

    def rebuild(self, documents: Iterable[tuple[int, Sequence[LexicalEntry]]]) -> None:
        """Make the index anew from these documents, also in place of a damaged one.

        Searches go on in the old one until the new one takes its place; nothing of what the
        old files held is left. Other writers wait, so whoever reads the documents' rows in
        the iterable misses nobody's write.

        Raises:
            LexicalIndexError: it cannot be written now; the old one is still in its place.
        """
        fresh = self.folder.with_name(self.folder.name + FRESH)
        former = self.folder.with_name(self.folder.name + FORMER)
        with _translated("rebuilt", self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._turn():
                for leftover in (fresh, former):
                    shutil.rmtree(leftover, ignore_errors=True)
                LexicalIndex(fresh, language=self.language).replace_documents(documents)
                self.folder.rename(former)
                fresh.rename(self.folder)
                shutil.rmtree(former)

    def delete_document(self, document_id: int) -> None:
        """Take all passages of the document out of the results; twice is as good as once.

        Raises:
            LexicalIndexError: the index cannot be written now; nothing has changed.
        """
        if self._stamp() is None:
            return
        with self._writer() as writer:
            writer.delete_documents_by_query(_of_document(document_id))

    def search(self, question: str, *, k: int, documents: Sequence[int] | None = None) -> list[Hit]:
        """The k passages with the highest BM25 score; any term of the question may match.

        The question is text, not a query language: no character in it has a meaning. Of
        more than MAX_QUERY_TERMS terms the rarest in the index count.

        Args:
            question: any text.
            k: how many at most, > 0.
            documents: only passages of these; None for all. Scores are the same as without.

        Returns:
            At most k hits with scores > 0, best first; equal scores: lower chunk id first.
            Nothing where the index does not exist yet.

        Raises:
            LexicalIndexError: the index is damaged or cannot be read.
        """
        if k < 1:
            raise ValueError(f"k must be positive, got {k}")
        terms = analyser(self.language).query_terms(question)
        with _translated("read", self.folder):
            searcher = self._searcher()
            if searcher is None or not terms:
                return []
            query = _any_of(_rarest(terms, searcher))
            if documents is not None:
                query = _within(query, documents)
            found = _best(searcher, query, k)
            hits = [Hit(_chunk_id(searcher, address), float(score)) for score, address in found]
        hits.sort(key=lambda hit: (-hit.score, hit.chunk_id))
        return hits[:k]

    def chunk_ids(self, document_id: int | None = None) -> set[str]:
        """The ids of all passages in the index, or of one document's.

        Raises:
            LexicalIndexError: the index is damaged or cannot be read.
        """
        import tantivy

        with _translated("read", self.folder):
            searcher = self._searcher()
            if searcher is None:
                return set()
            query = tantivy.Query.all_query() if document_id is None else _of_document(document_id)
            found = searcher.search(query, max(1, searcher.num_docs), count=False).hits
            return {_chunk_id(searcher, address) for _, address in found}

    def count(self) -> int:
        """How many passages the index holds.

        Raises:
            LexicalIndexError: the index is damaged or cannot be read.
        """
        with _translated("read", self.folder):
            searcher = self._searcher()
            return 0 if searcher is None else int(searcher.num_docs)

    def drop(self) -> None:
        """Remove the folder with all that is in it, also a damaged one.

        Raises:
            LexicalIndexError: another process writes to it and does not finish, or the
                folder cannot be removed.
        """
        if not self.folder.exists():
            return
        # Not found: another process has removed it meanwhile.
        with _translated("removed", self.folder), suppress(FileNotFoundError), self._turn():
            # The file of the lock comes and goes with those who wait for their turn.
            shutil.rmtree(self.folder, ignore_errors=True)
            if self.folder.exists():
                shutil.rmtree(self.folder)

    def _searcher(self) -> Any:
        """A searcher of the last commit; None where nothing was ever committed.

        The index is opened anew when the file that names the commit has changed: exact,
        at one `stat` a question, where tantivy's own watcher takes a thread per index and
        notices within half a second.
        """
        import tantivy

        stamp = self._stamp()
        if stamp is None:
            return None
        with self._opening:
            if self._opened is None or self._opened[0] != stamp:
                index = tantivy.Index.open(str(self.folder))
                index.config_reader("manual")
                index.reload()
                self._opened = (stamp, index.searcher())
            return self._opened[1]

    def _stamp(self) -> tuple[int, int, int] | None:
        """Identifies the last commit; None where there is none."""
        try:
            found = (self.folder / "meta.json").stat()
        except FileNotFoundError:
            if any(self.folder.glob("*.store")):
                raise LexicalIndexError(f"{self.folder}: meta.json is missing") from None
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Hold the right to write among all processes of this machine."""
        try:
            with FileLock(self.folder / "turn.lock", timeout=WRITER_WAIT_SECONDS):
                yield
        except Timeout as exc:
            raise LexicalIndexError(f"{self.folder}: somebody else keeps writing") from exc

    @contextmanager
    def _writer(self) -> Iterator[tantivy.IndexWriter]:
        """A writer whose changes are committed at the end of the block, or not at all."""
        import tantivy

        with _translated("written", self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._turn():
                self._stamp()  # a damaged folder must not be taken for a new one
                index = tantivy.Index(_schema(), str(self.folder))
                writer = index.writer(WRITER_HEAP_BYTES, num_threads=1)
                try:
                    yield writer
                    writer.commit()
                finally:
                    # Also ends the writer: dropping it would abort the merges it has begun.
                    writer.wait_merging_threads()


@lru_cache(maxsize=OPEN_INDEXES)
def open_index(folder: Path, language: str = "en") -> LexicalIndex:
    """The index of a folder, one object per process; it follows the commits of all others."""
    return LexicalIndex(folder, language=language)


@lru_cache(maxsize=1)
def _schema() -> tantivy.Schema:
    import tantivy

    return (
        tantivy.SchemaBuilder()
        .add_bytes_field("chunk_id", stored=True)
        .add_unsigned_field("document_id", indexed=True)
        .add_text_field("terms", tokenizer_name="whitespace", index_option="freq")
        .build()
    )


def _of_document(document_id: int) -> tantivy.Query:
    # Not `delete_documents_by_term`: it makes a signed term of every int, which no unsigned
    # field holds, and deletes nothing without a word (tantivy-py 0.27.0).
    import tantivy

    return tantivy.Query.term_query(_schema(), "document_id", document_id, index_option="basic")


def _rarest(terms: Sequence[str], searcher: tantivy.Searcher) -> Sequence[str]:
    if len(terms) <= MAX_QUERY_TERMS:
        return terms
    frequency = {term: searcher.doc_freq("terms", term) for term in terms}
    known = [term for term in terms if frequency[term]]
    return sorted(known, key=frequency.__getitem__)[:MAX_QUERY_TERMS]


def _any_of(terms: Sequence[str]) -> tantivy.Query:
    import tantivy

    return tantivy.Query.boolean_query(
        [
            (
                tantivy.Occur.Should,
                tantivy.Query.term_query(_schema(), "terms", term, index_option="freq"),
            )
            for term in terms
        ]
    )


def _within(query: tantivy.Query, documents: Sequence[int]) -> tantivy.Query:
    """The query, answered by these documents only, which add nothing to its scores."""
    import tantivy

    mine = tantivy.Query.boolean_query(
        [(tantivy.Occur.Should, _of_document(document)) for document in documents]
    )
    unscored = tantivy.Query.const_score_query(mine, 0.0)
    return tantivy.Query.boolean_query(
        [(tantivy.Occur.Must, query), (tantivy.Occur.Must, unscored)]
    )


def _best(searcher: tantivy.Searcher, query: tantivy.Query, k: int) -> list[tuple[float, Any]]:
    """The k best with all that share the last one's score (up to MAX_TIED of them)."""
    limit = k + TIE_MARGIN
    while True:
        found: list[tuple[float, Any]] = searcher.search(query, limit, count=False).hits
        if len(found) < limit or found[-1][0] < found[k - 1][0] or limit >= k + MAX_TIED:
            return [hit for hit in found if len(found) < k or hit[0] >= found[k - 1][0]]
        limit = min(4 * limit, k + MAX_TIED)


def _chunk_id(searcher: tantivy.Searcher, address: tantivy.DocAddress) -> str:
    return bytes(searcher.doc(address).get_first("chunk_id")).decode()


@contextmanager
def _translated(verb: str, folder: Path) -> Iterator[None]:
    """Turn what tantivy raises, its Rust panics included, into LexicalIndexError."""
    try:
        yield
    except LexicalIndexError:
        raise
    except (ValueError, OSError) as exc:
        raise LexicalIndexError(f"{folder} cannot be {verb}: {exc}") from exc
    except BaseException as exc:
        # A panic on damaged files; pyo3 derives it from BaseException and exports no name.
        if type(exc).__name__ == "PanicException":
            raise LexicalIndexError(f"{folder} cannot be {verb}: {exc}") from exc
        raise
