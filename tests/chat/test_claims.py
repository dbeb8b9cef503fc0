"""Cited sentences and their passages: what belongs together, and what the reranker says of it."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest

from chat.claims import Claim, check
from chat.models import Turn
from chat.render import cited_sentences, render_markdown
from chat.types import GenerationSettings
from inference.errors import InferenceUnreachable
from inference.types import Calibration, ModelInfo
from ingestion.models import Corpus
from tests.chat.engine import TEXTS, answered, asked, engine
from tests.ollama_server import OllamaServer
from tests.search.stand_ins import RERANKER, Models

pytestmark = pytest.mark.django_db(transaction=True)

# Two words in common are as good as certain to this stand-in, none is as good as impossible.
CALIBRATED = replace(RERANKER, calibration=Calibration(threshold=0.5))


def models(reranker: ModelInfo | None = CALIBRATED, **changes: object) -> Models:
    return Models(reranker=reranker, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        ("A is b [1]. C is d [2].", [("A is b .", 1), ("C is d .", 2)]),
        ("Ants dig. [1] Cats nap. [2][3]", [("Ants dig.", 1), ("Cats nap.", 2), ("Cats nap.", 3)]),
        ("A [1] and b [2].", [("A and b .", 1), ("A and b .", 2)]),
        ("- First [1]\n- **Second** `x` [2]", [("First", 1), ("Second x", 2)]),
        ("[1] alone", [("", 1)]),
        ("As `row[1]` says [2, 9].", [("As row[1] says .", 2)]),
        ("| a | b |\n|---|---|\n| One [1] | Two [2] |", [("One", 1), ("Two", 2)]),
        ("```\nx [1]\n```", []),
    ],
)
def test_a_citation_belongs_to_the_sentence_it_stands_in_or_after(
    text: str, claims: list[tuple[str, int]]
) -> None:
    found = cited_sentences(text, sources=4)

    assert [(c.sentence, c.number) for c in found] == claims
    assert render_markdown(text, sources=4).count('class="citation"') == len(claims)


def test_only_the_weak_citations_are_marked_in_the_order_in_which_they_stand() -> None:
    html = render_markdown("One [1]. Two [1].\n\nThree [2, 1].", sources=2, weak=[1, 2])

    shown = [piece.split("</a>")[0].rpartition(">")[2] for piece in html.split("<a ")[1:]]
    assert shown == ["1", "1?", "2?", "1"]
    assert html.count("little to do with the sentence") == 2


def test_a_sentence_beside_the_point_of_its_passage_is_weak() -> None:
    claims = [Claim("Red foxes jump.", 1), Claim("Red foxes jump.", 2), Claim("", 2)]

    found = check(claims, {1: "red foxes jump", 2: "of bread"}, models=models())

    assert found is not None
    assert found.weak == [1]
    assert found.relevances[2] is None


@pytest.mark.parametrize(
    "away",
    [
        models(None),
        models(RERANKER),  # not calibrated: nobody knows what its scores mean
        models(info_error=InferenceUnreachable("away")),
        models(rerank_error=InferenceUnreachable("away")),
    ],
)
def test_without_a_calibrated_reranker_nothing_is_marked(away: Models) -> None:
    assert check([Claim("Red foxes jump.", 1)], {1: "of bread"}, models=away) is None


def test_what_time_does_not_allow_is_left_unchecked() -> None:
    ticks = count(0, 4)  # four seconds between two looks at the clock
    claims = [Claim("Red foxes jump.", 1), Claim("Two foxes jump.", 1), Claim("No fox.", 1)]

    found = check(claims, {1: "of bread"}, models=models(), clock=lambda: next(ticks))

    assert found is not None
    assert [r is None for r in found.relevances] == [False, True, True]


def test_an_answer_is_checked_when_it_is_written_and_keeps_the_marks(
    corpus: Corpus, ollama: OllamaServer, generation: GenerationSettings
) -> None:
    ollama.answer = f"{TEXTS[0].split('.')[0]} [1]. Bananas ripen on Sundays [2]."
    services = replace(engine(generation), sentences=models())
    turn = asked(corpus)

    events = answered(turn, services)

    turn = Turn.objects.get(pk=turn.pk)
    assert turn.weak == [1]
    assert turn.state == Turn.State.DONE
    assert "Bananas" not in str(turn.checks)
    (final,) = [e.data["html"] for e in events if e.name == "answer"]
    assert ">1</a>" in final
    assert ">2?</a>" in final
    assert render_markdown(turn.answer, sources=4, weak=turn.weak) == final


def test_no_check_outlives_the_answer_when_the_reranker_is_away(
    corpus: Corpus, ollama: OllamaServer, generation: GenerationSettings
) -> None:
    ollama.answer = "Bananas ripen on Sundays [2]."
    away = models(rerank_error=InferenceUnreachable("away"))
    services = replace(engine(generation), sentences=away)
    turn = asked(corpus)

    answered(turn, services)

    turn = Turn.objects.get(pk=turn.pk)
    assert (turn.state, turn.weak, turn.checks) == (Turn.State.DONE, [], [])
