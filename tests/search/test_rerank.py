"""Reranking: the order, the ties, and the time budget on a CPU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from inference.errors import InferenceError, InferenceLate, InferenceRejected
from inference.types import Calibration, ModelInfo, RerankScore, probability
from search.rerank import (
    SLICE_PAIRS,
    Scored,
    estimated_tokens,
    foreign_script,
    planned_pairs,
    reorder,
    score,
)
from search.types import Candidate

QUESTION = "q" * 8
TEXT = "t" * 380  # with the question: 100 estimated tokens


def model(device: str = "cpu", speed: float = 0.0) -> ModelInfo:
    return ModelInfo("m", "r", device, "float32", 512, tokens_per_second=speed)


@dataclass
class Clocked:
    """A reranker that takes `seconds_per_pair` on its own clock and gives the nth text n.

    Those before `remembered` take it no time.
    """

    seconds_per_pair: float
    remembered: int = 0
    fail_at_call: int | None = None
    answer: list[RerankScore] | None = None
    now: float = 100.0
    sizes: list[int] = field(default_factory=list)
    timeouts: list[float | None] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def rerank(
        self, question: str, texts: Sequence[str], *, timeout_seconds: float | None = None
    ) -> list[RerankScore]:
        self.sizes.append(len(texts))
        self.timeouts.append(timeout_seconds)
        if len(self.sizes) == self.fail_at_call:
            raise InferenceLate("too slow")
        numbers = [int(text.split(":")[0]) for text in texts]
        self.now += self.seconds_per_pair * sum(n >= self.remembered for n in numbers)
        if self.answer is not None:
            return self.answer
        return [RerankScore(i, float(n)) for i, n in enumerate(numbers)]


def run(reranker: Clocked, pairs: int, info: ModelInfo | None, budget: float = 2.0) -> Scored:
    texts = [f"{n}:".ljust(len(TEXT), "t") for n in range(pairs)]
    return score(
        QUESTION,
        texts,
        reranker=reranker,
        model=info,
        budget_seconds=budget,
        limit_seconds=6.0,
        clock=reranker.clock,
    )


def test_the_estimate_of_tokens_is_bounded_by_what_the_model_reads() -> None:
    assert estimated_tokens(QUESTION, TEXT, model()) == 100
    assert estimated_tokens(QUESTION, TEXT * 100, model()) == 512


def test_on_a_gpu_all_pairs_go_in_one_request() -> None:
    reranker = Clocked(0.5)

    scored = run(reranker, 100, model("cuda"))

    assert reranker.sizes == [100]
    assert len(scored.scores) == 100


def test_on_a_cpu_the_measured_speed_decides_how_many_pairs_are_read() -> None:
    reranker = Clocked(0.1)  # 100 tokens in 0.1 s: the server's 1,000 tokens a second

    scored = run(reranker, 100, model(speed=1000.0))

    assert reranker.sizes == [16, 4]
    assert [s.index for s in scored.scores] == list(range(20))
    assert [s.logit for s in scored.scores] == list(range(20))
    assert reranker.now - 100.0 == pytest.approx(2.0)
    assert scored.error is None


def test_a_server_slower_than_it_says_is_noticed_after_the_first_slice() -> None:
    reranker = Clocked(0.4)  # four times slower than it says

    scored = run(reranker, 100, model(speed=1000.0))

    assert reranker.sizes == [16]
    assert len(scored.scores) == 16


def test_passages_that_cost_nothing_do_not_make_those_after_them_look_cheap() -> None:
    reranker = Clocked(0.1, remembered=30)

    scored = run(reranker, 100, model(speed=1000.0))

    assert reranker.sizes == [16, 16, 16, 2]
    assert len(scored.scores) == 30 + 20
    assert reranker.now - 100.0 == pytest.approx(2.0)


def test_without_a_known_speed_slices_are_sent_until_the_budget_is_used() -> None:
    reranker = Clocked(0.05)  # 16 pairs take 0.8 s, 8 pairs 0.4 s

    run(reranker, 100, model())
    without_info = Clocked(0.05)
    run(without_info, 100, None)

    assert reranker.sizes == [SLICE_PAIRS, SLICE_PAIRS, 8]
    assert without_info.sizes == reranker.sizes


def test_the_first_slice_is_read_however_slow_the_server() -> None:
    reranker = Clocked(5.0)

    scored = run(reranker, 100, model(speed=1.0))

    assert reranker.sizes == [1]
    assert len(scored.scores) == 1


def test_few_passages_are_all_read_and_no_empty_request_is_sent() -> None:
    reranker = Clocked(0.001)

    assert len(run(reranker, 20, model()).scores) == 20
    assert run(reranker, 0, model()).scores == []
    assert reranker.sizes == [16, 4]


def test_a_request_may_take_what_is_left_of_the_whole_time() -> None:
    reranker = Clocked(0.05)

    run(reranker, 40, model())

    assert reranker.timeouts == [pytest.approx(6.0), pytest.approx(5.2), pytest.approx(4.4)]


def test_what_was_read_before_a_failure_counts() -> None:
    reranker = Clocked(0.01, fail_at_call=2)

    scored = run(reranker, 100, model())

    assert len(scored.scores) == 16
    assert isinstance(scored.error, InferenceLate)


@pytest.mark.parametrize(
    "answer",
    [
        [RerankScore(0, 1.0)],
        [RerankScore(0, 1.0), RerankScore(1, math.nan)],
        [RerankScore(1, 1.0), RerankScore(0, 2.0)],
    ],
    ids=["too few", "not a number", "out of order"],
)
def test_an_answer_that_does_not_fit_the_question_is_not_used(answer: list[RerankScore]) -> None:
    scored = run(Clocked(0.0, answer=answer), 2, model("cuda"))

    assert scored.scores == []
    assert isinstance(scored.error, InferenceRejected)
    assert isinstance(scored.error, InferenceError)


def test_the_plan_is_what_the_speed_allows() -> None:
    texts = [TEXT] * 100
    plan = {
        info: planned_pairs(QUESTION, texts, model=info, budget_seconds=2.0)
        for info in (model(speed=1200.0), model(speed=1.0), model("cuda"), model(), None)
    }

    assert list(plan.values()) == [24, 1, 100, None, None]


def candidates(n: int) -> list[Candidate]:
    return [Candidate(chr(ord("a") + i), rrf_rank=i + 1) for i in range(n)]


def test_the_order_is_that_of_the_logits_and_the_movement_says_where_from() -> None:
    ordered = reorder(
        candidates(3), [RerankScore(0, -4.0), RerankScore(1, 6.5), RerankScore(2, 0.0, True)]
    )

    assert [c.chunk_id for c in ordered] == ["b", "c", "a"]
    assert [c.rerank_rank for c in ordered] == [1, 2, 3]
    assert [c.movement for c in ordered] == [1, 1, -2]
    assert [c.truncated for c in ordered] == [False, True, False]
    assert ordered[1].relevance == pytest.approx(0.5)


def test_equal_logits_keep_the_fused_order() -> None:
    ordered = reorder(
        candidates(4), [RerankScore(i, logit) for i, logit in enumerate([1, 2, 1, 2])]
    )

    assert [c.chunk_id for c in ordered] == ["b", "d", "a", "c"]


def test_what_was_not_read_follows_in_fused_order_even_if_the_read_ones_are_bad() -> None:
    ordered = reorder(candidates(5), [RerankScore(0, -9.0), RerankScore(1, -8.0)])

    assert [c.chunk_id for c in ordered] == ["b", "a", "c", "d", "e"]
    assert [c.rerank_rank for c in ordered] == [1, 2, None, None, None]
    assert ordered[2].relevance is None
    assert ordered[2].movement is None


def test_without_a_fit_the_logit_is_the_log_odds() -> None:
    (only,) = reorder(candidates(1), [RerankScore(0, math.log(3))])

    assert only.raw_logit == only.rerank_logit == math.log(3)
    assert only.relevance == pytest.approx(0.75)


def test_a_calibrated_model_orders_by_what_its_logit_means_at_its_place() -> None:
    calibration = Calibration(slope=2.0, intercept=-1.0, place=1.0)

    ordered = reorder(
        candidates(3), [RerankScore(0, 1.0), RerankScore(1, 1.5), RerankScore(2, 3.0)], calibration
    )

    # Log-odds: a 2*1-1 = 1, b 2*(1.5-ln 2)-1 = 0.61, c 2*(3-ln 3)-1 = 2.80
    assert [c.chunk_id for c in ordered] == ["c", "a", "b"]
    assert [c.raw_logit for c in ordered] == [3.0, 1.0, 1.5]
    assert ordered[0].rerank_logit == pytest.approx(5 - 2 * math.log(3))
    assert [c.rerank_rank for c in ordered] == [1, 2, 3]


def test_probabilities_never_overflow() -> None:
    assert probability(0.0) == 0.5
    assert probability(-math.log(3)) == pytest.approx(0.25)
    assert probability(-1000.0) == 0.0
    assert probability(1000.0) == 1.0


@pytest.mark.parametrize(
    ("texts", "languages", "script"),
    [
        (["Сколько жителей в Москве?", "Население Москвы 13 миллионов."], ("en", "ja"), "Cyrillic"),
        (["كم عدد سكان القاهرة؟"], ("en",), "Arabic"),
        (["東京の人口は?", "東京都の人口は1400万人。"], ("en", "ja"), ""),
        (["東京の人口は?"], ("en",), "Cjk"),
        (["What does “Δ” mean?", "The Greek letter Δ stands for a difference."], ("en",), ""),
        (["Wie viele Einwohner hat Köln?"], ("en",), ""),
        (["Сколько?"], (), ""),
        (["42?"], ("en",), ""),
    ],
)
def test_a_script_the_model_never_saw_is_named(
    texts: list[str], languages: tuple[str, ...], script: str
) -> None:
    assert foreign_script(texts, languages) == script
