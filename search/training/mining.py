"""Lists to learn from: what the product's own retrieval brings for each labelled question.

Negatives are what stands high in the fused order without being an answer, for that is what
the reranker will be shown. Some of it may answer all the same, unjudged; so not only the very
first are taken.

Source: Xiong et al., ANCE, ICLR 2021, arXiv:2007.00808 (negatives from the index itself)
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from inference.training import Example
from ingestion.conf import ingestion_settings
from ingestion.purge import purge_corpus_soon
from ingestion.services import delete_corpus
from ingestion.types import passage_text
from search.conf import search_services
from search.evaluation import indexing, runner
from search.training.pairs import LabelledSet

if TYPE_CHECKING:
    from django.contrib.auth.models import User

POOL = 50
HARD, TOP = 6, 20  # negatives out of the first so many
SOFT = 5  # and out of the rest of the pool

Progress = Callable[[int, int, str], None]


def fused_order(
    found: LabelledSet, *, owner: User, results: Path, progress: Progress
) -> dict[str, list[str]]:
    """The first POOL document ids per query, in fused order, without reranking.

    The collection becomes a corpus of the owner's for as long as this takes; questions whose
    result is in the file `results` are not asked again, and if it has all, no corpus is made.
    """
    rankings = {result.query: result.rankings["fused"] for result in runner.gathered(results)}
    if rankings.keys() >= found.collection.queries.keys():
        return {key: list(rankings[key][:POOL]) for key in found.collection.queries}
    services = search_services()
    corpus, documents = indexing.corpus_of(
        found.collection, owner=owner, language=found.language, progress=progress
    )
    settings = runner.evaluation_settings(pools=[POOL], rerank=False)
    asked = runner.run(
        found.collection,
        corpus=corpus,
        documents=documents,
        settings=settings,
        services=services,
        results=results,
        progress=progress,
    )
    delete_corpus(corpus=corpus)
    purge_corpus_soon(corpus.pk, ingestion_settings())
    return {result.query: list(result.rankings["fused"][:POOL]) for result in asked}


def training_examples(
    found: LabelledSet, orders: Mapping[str, list[str]], *, seed: int
) -> list[Example]:
    """One list per question: an answer, judged non-answers, and mined negatives."""
    texts = _texts(found)
    chooser = random.Random(seed)  # noqa: S311 - a sample, not a secret
    examples = []
    for key, question in found.collection.queries.items():
        grades = found.collection.judgements[key]
        answers = [d for d, grade in grades.items() if grade > 0]
        wrong = sorted(found.rejected.get(key, ()))[:HARD]
        pool = [d for d in orders[key] if d not in answers and d not in wrong]
        wrong += chooser.sample(pool[:TOP], min(HARD, len(pool[:TOP])))
        rest = [d for d in pool if d not in wrong]
        wrong += chooser.sample(rest, min(SOFT, len(rest)))
        if wrong:
            passages = [texts[chooser.choice(answers)], *(texts[d] for d in wrong)]
            examples.append(Example(question, passages, [1.0] + [0.0] * len(wrong)))
    chooser.shuffle(examples)
    return examples


def validation_examples(found: LabelledSet, orders: Mapping[str, list[str]]) -> list[Example]:
    """The pool of each question in fused order; what retrieval did not bring stays away."""
    texts = _texts(found)
    return [
        Example(
            question,
            [texts[d] for d in orders[key]],
            [float(found.collection.judgements[key].get(d, 0) > 0) for d in orders[key]],
        )
        for key, question in found.collection.queries.items()
        if orders[key]
    ]


def _texts(found: LabelledSet) -> dict[str, str]:
    return {
        document.id: passage_text(heading_path=document.title, text=document.text)
        for document in found.collection.documents
    }
