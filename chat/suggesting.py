"""Questions that the documents themselves suggest: to begin with, and after an answer.

They are made from titles and headings, so each names a place that exists; no model is asked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice, zip_longest
from typing import Any

from ingestion.models import Chunk, Document, IndexGeneration
from ingestion.types import HEADING_SEPARATOR

SUGGESTIONS = 4
FOLLOW_UPS = 3
# Of a passage that was found for the question and not cited: it is near, and not said yet.
NEAR_RELEVANCE = 0.1
_HEADINGS_READ = 400
_LONGEST = 80


def first_questions(corpora: Sequence[int], *, documents: Sequence[int] = ()) -> list[str]:
    """First questions for these corpora, made from titles and headings of their documents.

    Where documents are named it is for those alone.

    Taken from the newest documents in turn, the heading in the middle of each first, since
    the first one is often a preface and the last a licence.
    """
    scope = {"pk__in": documents} if documents else {"corpus__in": corpora}
    newest = Document.objects.searchable().filter(**scope)[:SUGGESTIONS]
    titles = {d.pk: d.title or d.name for d in newest}
    paths = (
        Chunk.objects.filter(document__in=titles, generation__state=IndexGeneration.State.LIVE)
        .exclude(heading_path="")
        .order_by("document_id", "ordinal")
        .values_list("document_id", "heading_path")[:_HEADINGS_READ]
    )
    headings: dict[int, list[str]] = defaultdict(list)
    for document_id, path in paths:
        heading = path.split(HEADING_SEPARATOR)[-1].strip()
        is_new = heading not in headings[document_id]
        if (
            is_new
            and heading.casefold() != titles[document_id].casefold()
            and len(heading) <= _LONGEST
        ):
            headings[document_id].append(heading)
    asked = [_questions(title, headings[pk]) for pk, title in titles.items()]
    in_turn = (question for turn in zip_longest(*asked) for question in turn if question)
    return list(islice(in_turn, SUGGESTIONS))


def _questions(title: str, headings: Sequence[str]) -> list[str]:
    """About one document; a heading that is a question already is asked as it stands."""
    if not headings:
        return [f"What is “{title}” about?"]
    middle = len(headings) // 2
    from_the_middle = [*headings[middle:], *reversed(headings[:middle])]
    return [_question(title, heading) for heading in from_the_middle]


def _question(title: str, heading: str) -> str:
    return heading if heading.endswith("?") else f"What does “{title}” say about “{heading}”?"


def follow_ups(sources: Iterable[Mapping[str, Any]], *, question: str) -> list[str]:
    """Questions about what was found for a question and is not in its answer, best first.

    Args:
        sources: of the turn, as they are stored, best first.
        question: what was asked, which is not suggested again.
    """
    listed = list(sources)
    said = {_heading(source) for source in listed if source.get("cited")}
    found: dict[str, None] = {}
    for source in listed:
        heading, title = _heading(source), str(source.get("title") or source.get("document"))
        is_near = (source.get("relevance") or 0.0) >= NEAR_RELEVANCE
        if not said or not heading or not is_near or source.get("cited") or heading in said:
            continue
        if heading.casefold() != title.casefold() and len(heading) <= _LONGEST:
            found[_question(title, heading)] = None
    return [asked for asked in found if asked.casefold() != question.casefold()][:FOLLOW_UPS]


def _heading(source: Mapping[str, Any]) -> str:
    return str(source.get("heading_path") or "").split(HEADING_SEPARATOR)[-1].strip()
