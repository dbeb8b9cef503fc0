"""Two indexes of one corpus side by side: what they hold, and what they find for questions.

Where it is said which document answers a question, both are measured; a document is the same
in both indexes, while their passages are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING

from ingestion import rebuild
from ingestion.models import Chunk, Corpus, Document, IndexGeneration
from ingestion.types import HEADING_SEPARATOR
from search.models import Judgement
from search.pipeline import SearchServices, retrieve
from search.types import RetrievalSettings, Trace

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

DEPTH = 10
_HEADINGS_READ = 300


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and the name of the document that answers it where that is known."""

    text: str
    document: str = ""

    def __str__(self) -> str:
        """As `parse_questions` reads it."""
        return f"{self.text} => {self.document}" if self.document else self.text


@dataclass(frozen=True, slots=True)
class Side:
    """One index's answer to one question. `place` is the rank of the document that answers it.

    It counts documents, from 1, and is None where that document is not among the first
    `DEPTH`, or nobody said which it is.
    """

    trace: Trace
    place: int | None


@dataclass(frozen=True, slots=True)
class Measured:
    """Over the questions with a known document: how often it is found, and how high.

    recall: share with the document among the first `DEPTH`. mrr: mean of 1 / rank, 0 where it
    is not; both 0 to 1.
    """

    questions: int
    recall: float
    mrr: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """The live index and the one being built. `measured` is None without known documents."""

    facts: tuple[rebuild.Facts, rebuild.Facts]
    questions: Sequence[tuple[Question, Side, Side]]
    measured: tuple[Measured, Measured] | None


def compare(
    live: IndexGeneration,
    other: IndexGeneration,
    questions: Sequence[Question],
    *,
    settings: RetrievalSettings,
    services: SearchServices,
) -> Comparison:
    """Ask both indexes every question, with the same settings.

    Args:
        live: of a corpus that the asking person may read; the caller has checked it.
        other: of the same corpus.
        questions: asked one after the other.
    """
    rows = []
    for question in questions:
        sides = []
        for generation in (live, other):
            trace = retrieve(
                question.text,
                corpora=[generation.corpus],
                settings=settings,
                services=services,
                generation=generation,
            )
            sides.append(Side(trace, _place(trace, question.document)))
        rows.append((question, sides[0], sides[1]))
    judged = [row for row in rows if row[0].document]
    measured = None
    if judged:
        first, second = [row[1] for row in judged], [row[2] for row in judged]
        measured = (_measured(first), _measured(second))
    return Comparison((rebuild.facts(live), rebuild.facts(other)), rows, measured)


def judged_questions(corpus: Corpus, *, reader: User | AnonymousUser, count: int) -> list[Question]:
    """The corpus's own evaluation set: questions with a document that somebody called relevant.

    Args:
        corpus: one that the reader may see.
        reader: whose judgements these are, or who may see them.
        count: how many at most, the latest first.
    """
    judged = Judgement.objects.readable_by(reader).filter(
        corpus=corpus, grade__gt=0, document__in=Document.objects.searchable()
    )
    rows = judged.order_by("-changed_at", "-pk").values_list("question", "document__name")
    found: dict[str, str] = {}
    for text, document in rows.iterator(chunk_size=100):
        found.setdefault(" ".join(text.split()), document)
        if len(found) == count:
            break
    return [Question(text, document) for text, document in found.items()]


def sample_questions(corpus: Corpus, *, count: int = 4) -> list[Question]:
    """Headings of the corpus's documents, of different ones as far as there are, to begin with."""
    paths = (
        Chunk.objects.filter(
            generation__corpus=corpus, generation__state=IndexGeneration.State.LIVE
        )
        .exclude(heading_path="")
        .order_by("ordinal", "document_id")
        .values_list("document_id", "heading_path")[:_HEADINGS_READ]
    )
    found: dict[str, int] = {}
    for document_id, path in paths:
        found.setdefault(path.split(HEADING_SEPARATOR)[-1].strip(), document_id)
    seen: list[int] = list(found.values())
    in_turn = sorted(
        enumerate(found), key=lambda item: (seen[: item[0]].count(found[item[1]]), item[0])
    )
    return [Question(heading) for _, heading in in_turn[:count]]


def parse_questions(text: str) -> list[Question]:
    """One question a line; after `=>` the name of the document that answers it."""
    questions = []
    for line in text.splitlines():
        asked, _, document = (piece.strip() for piece in line.partition("=>"))
        if asked:
            questions.append(Question(asked, document))
    return questions


def _place(trace: Trace, document: str) -> int | None:
    """The rank, among documents, of the one of this name."""
    if not document:
        return None
    names = [trace.passages[candidate.chunk_id].document for candidate in trace.candidates]
    distinct = list(dict.fromkeys(names))[:DEPTH]
    return distinct.index(document) + 1 if document in distinct else None


def _measured(sides: Sequence[Side]) -> Measured:
    return Measured(
        questions=len(sides),
        recall=mean(side.place is not None for side in sides),
        mrr=mean(1 / side.place if side.place else 0.0 for side in sides),
    )
