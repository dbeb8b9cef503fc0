"""Judgements: kept when a person says whether a passage answers, exported as an evaluation set.

The set has BEIR's layout, which `manage.py evaluate` reads: every passage of the corpus is a
document, every judged question a query.
"""

from __future__ import annotations

import json
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.db.models import Count

from ingestion.models import Chunk, Corpus, Document, IndexGeneration
from ingestion.types import Passage
from search.models import Judgement, digest_of
from search.types import Candidate, Trace

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User


def judge(
    *, person: User, question: str, passage: Passage, grade: int, journey: dict[str, Any]
) -> int | None:
    """Keep a person's word on a passage; the same word again takes it back.

    Args:
        passage: one that the person may read; the caller has checked it.
        grade: of `Judgement.Grade`.
        journey: what `journey` made of the trace.

    Returns:
        The grade that stands now, None if there is none.
    """
    digest = digest_of(question)
    mine = Judgement.objects.filter(
        person=person, question_sha256=digest, chunk_id=passage.chunk_id
    )
    if mine.filter(grade=grade).delete()[0]:
        return None
    Judgement.objects.update_or_create(
        person=person,
        question_sha256=digest,
        chunk_id=passage.chunk_id,
        defaults={
            "corpus_id": passage.corpus_id,
            "document_id": passage.document_id,
            "question": question,
            "grade": grade,
            "trace": journey,
        },
    )
    return grade


def journey(trace: Trace, candidate: Candidate, *, turn_id: int | None) -> dict[str, Any]:
    """What of a trace is kept with a judgement: how the passage came to be shown."""
    return {
        "turn_id": turn_id,
        "settings": asdict(trace.settings),
        "rerank": asdict(trace.rerank),
        "candidate": asdict(candidate),
    }


def grades_of(person: User | AnonymousUser, question: str) -> dict[str, int]:
    """What this person said of passages for this question: grade by chunk id."""
    mine = Judgement.objects.filter(person=person.pk, question_sha256=digest_of(question))
    return dict(mine.values_list("chunk_id", "grade"))


def judged_corpora(reader: User | AnonymousUser, corpora: Iterable[Corpus]) -> dict[Corpus, int]:
    """How many judgements there are that this person may see, of the corpora that have any."""
    counted = dict(
        Judgement.objects.readable_by(reader)
        .values_list("corpus")
        .annotate(count=Count("pk"))
        .order_by()
    )
    return {corpus: counted[corpus.pk] for corpus in corpora if corpus.pk in counted}


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Judged questions about the passages that a corpus has now.

    queries: text by id. judgements: grade by chunk id by query id; where people differ the
    highest counts. lost: judgements of passages that the index no longer has.
    """

    queries: dict[str, str]
    judgements: dict[str, dict[str, int]]
    lost: int


def evaluation_set(corpus: Corpus, *, reader: User | AnonymousUser) -> EvaluationSet:
    """Gather the judgements about a corpus that this person may see."""
    mine = Judgement.objects.readable_by(reader).filter(corpus=corpus)
    there = set(_passages(corpus).values_list("pk", flat=True))
    queries: dict[str, str] = {}
    judgements: dict[str, dict[str, int]] = defaultdict(dict)
    lost = 0
    for judged in mine.only("question", "question_sha256", "chunk_id", "grade"):
        if judged.chunk_id not in there:
            lost += 1
            continue
        key = judged.question_sha256[:16]
        queries.setdefault(key, judged.question)
        grades = judgements[key]
        grades[judged.chunk_id] = max(judged.grade, grades.get(judged.chunk_id, 0))
    return EvaluationSet(queries, dict(judgements), lost)


def passages_by_id(corpus: Corpus) -> dict[str, str]:
    """Every passage that the corpus has now, named by itself: the documents of its set."""
    return {pk: pk for pk in _passages(corpus).values_list("pk", flat=True)}


def write_folder(corpus: Corpus, found: EvaluationSet, folder: Path) -> None:
    """Write the set as `corpus.jsonl`, `queries.jsonl` and `qrels/test.tsv`."""
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    for name, lines in _files(corpus, found):
        with (folder / name).open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(lines)


def as_zip(corpus: Corpus, found: EvaluationSet) -> bytes:
    """The same files in a ZIP."""
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, lines in _files(corpus, found):
            with archive.open(name, "w") as file:
                for line in lines:
                    file.write(line.encode())
    return packed.getvalue()


def _files(corpus: Corpus, found: EvaluationSet) -> list[tuple[str, Iterable[str]]]:
    rows = _passages(corpus).values_list("pk", "heading_path", "text").order_by("pk")
    return [
        (
            "corpus.jsonl",
            (_line({"_id": pk, "title": path, "text": text}) for pk, path, text in rows.iterator()),
        ),
        ("queries.jsonl", (_line({"_id": k, "text": q}) for k, q in found.queries.items())),
        (
            "qrels/test.tsv",
            [
                "query-id\tcorpus-id\tscore\n",
                *(
                    f"{query}\t{chunk_id}\t{grade}\n"
                    for query, grades in found.judgements.items()
                    for chunk_id, grade in grades.items()
                ),
            ],
        ),
    ]


def _line(row: dict[str, str]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _passages(corpus: Corpus) -> Any:
    return Chunk.objects.filter(
        generation__corpus=corpus,
        generation__state=IndexGeneration.State.LIVE,
        document__in=Document.objects.searchable(),
    )
