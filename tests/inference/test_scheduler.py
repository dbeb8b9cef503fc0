"""The queue in front of the models, with an engine that can be held inside a batch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.engines import Encoded
from inference.errors import DeviceLost, InferenceBusy, InferenceLate
from inference.scheduler import Lane, Scheduler
from tests.inference.stand_ins import BREAKS, HeldEngine, encoded

WAIT = 20
ILLEGAL = "CUDA error: an illegal memory access was encountered"


@pytest.fixture
def engine() -> HeldEngine:
    return HeldEngine()


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    scheduler = Scheduler()
    yield scheduler
    scheduler.close()


def hold(scheduler: Scheduler, engine: HeldEngine) -> None:
    """Keep the model thread busy with a text of one token until the gate opens."""
    scheduler.submit(engine, encoded(1), lane=Lane.QUESTION)
    assert engine.entered.wait(WAIT)


def test_results_come_in_the_order_of_the_texts_though_the_shortest_run_first(
    scheduler: Scheduler, engine: HeldEngine
) -> None:
    engine.gate.set()
    lengths = [40, 5, 90, 17, 60, 5, 33]

    rows = scheduler.submit(engine, encoded(*lengths), lane=Lane.QUESTION).result(WAIT)

    assert rows.tolist() == lengths
    assert [n for batch in engine.batches for n in batch] == sorted(lengths)


def test_no_batch_exceeds_the_token_budget_with_its_padding(
    scheduler: Scheduler, engine: HeldEngine
) -> None:
    engine.gate.set()
    rng = np.random.default_rng(3)
    lengths = rng.integers(14, 50, 200).tolist()

    scheduler.submit(engine, encoded(*lengths), lane=Lane.INGESTION).result(WAIT)

    assert sum(len(batch) for batch in engine.batches) == 200
    assert all(max(batch) * len(batch) <= engine.batch_tokens for batch in engine.batches)
    assert len(engine.batches) < 120


def test_a_text_longer_than_the_budget_runs_alone(scheduler: Scheduler, engine: HeldEngine) -> None:
    engine.gate.set()

    scheduler.submit(engine, encoded(250, 10), lane=Lane.QUESTION).result(WAIT)

    assert engine.batches == [[10], [250]]


def test_a_question_waits_only_for_the_batch_that_is_running(
    scheduler: Scheduler, engine: HeldEngine
) -> None:
    hold(scheduler, engine)
    bulk = scheduler.submit(engine, encoded(*[50] * 100), lane=Lane.INGESTION)
    question = scheduler.submit(engine, encoded(8), lane=Lane.QUESTION)

    engine.gate.set()
    question.result(WAIT)
    bulk.result(WAIT)

    assert engine.batches[:3] == [[1], [8], [50, 50]]


def test_requests_of_several_callers_share_a_batch(
    scheduler: Scheduler, engine: HeldEngine
) -> None:
    hold(scheduler, engine)
    futures = [scheduler.submit(engine, encoded(n), lane=Lane.QUESTION) for n in (20, 21, 22)]

    engine.gate.set()

    assert [float(future.result(WAIT)[0]) for future in futures] == [20, 21, 22]
    assert engine.batches == [[1], [20, 21, 22]]


def test_requests_of_one_lane_take_turns(scheduler: Scheduler, engine: HeldEngine) -> None:
    hold(scheduler, engine)
    long = scheduler.submit(engine, encoded(*[50] * 20), lane=Lane.INGESTION)
    short = scheduler.submit(engine, encoded(49), lane=Lane.INGESTION)

    engine.gate.set()
    short.result(WAIT)

    assert [50, 49] in engine.batches[:3]
    assert long.result(WAIT).tolist() == [50] * 20


def test_two_models_never_share_a_batch_and_take_turns(
    scheduler: Scheduler, engine: HeldEngine
) -> None:
    other = HeldEngine(gate=engine.gate, batches=engine.batches)
    hold(scheduler, engine)
    pairs = scheduler.submit(engine, encoded(*[50] * 20), lane=Lane.QUESTION)
    question = scheduler.submit(other, encoded(9), lane=Lane.QUESTION)

    engine.gate.set()
    pairs.result(WAIT)

    assert question.result(WAIT).tolist() == [9]
    assert engine.batches[:4] == [[1], [50, 50], [9], [50, 50]]


def test_a_caller_that_has_gone_is_skipped(scheduler: Scheduler, engine: HeldEngine) -> None:
    hold(scheduler, engine)
    gone = scheduler.submit(engine, encoded(*[30] * 50), lane=Lane.QUESTION)
    stays = scheduler.submit(engine, encoded(31), lane=Lane.QUESTION)

    gone.cancel()
    engine.gate.set()
    stays.result(WAIT)

    assert engine.batches == [[1], [31]]
    assert scheduler.counters.skipped == 50


def test_a_full_lane_refuses_more_and_leaves_the_other_lane_open(engine: HeldEngine) -> None:
    scheduler = Scheduler(lane_texts=10)
    hold(scheduler, engine)
    scheduler.submit(engine, encoded(*[5] * 10), lane=Lane.INGESTION)

    with pytest.raises(InferenceBusy) as refused:
        scheduler.submit(engine, encoded(5), lane=Lane.INGESTION)

    assert refused.value.retry_after_seconds > 0
    question = scheduler.submit(engine, encoded(6), lane=Lane.QUESTION)
    assert (scheduler.depth(Lane.INGESTION), scheduler.depth()) == (10, 11)
    engine.gate.set()
    assert question.result(WAIT).tolist() == [6]
    scheduler.close()


def test_a_text_that_breaks_the_model_fails_its_own_caller_alone(
    scheduler: Scheduler, engine: HeldEngine
) -> None:
    hold(scheduler, engine)
    bad = scheduler.submit(engine, encoded(12, BREAKS, 14), lane=Lane.QUESTION)
    good = scheduler.submit(engine, encoded(11, 15), lane=Lane.QUESTION)

    engine.gate.set()

    assert good.result(WAIT).tolist() == [11, 15]
    with pytest.raises(ValueError, match="cannot compute"):
        bad.result(WAIT)
    assert scheduler.counters.errors == 1
    assert scheduler.submit(engine, encoded(3), lane=Lane.QUESTION).result(WAIT).tolist() == [3]


def test_where_nothing_is_padded_the_tokens_alone_fill_a_batch(
    scheduler: Scheduler, engine: HeldEngine
) -> None:
    engine.is_packed = True
    engine.gate.set()
    most = engine.batch_tokens
    short, long = [most // 10] * 5, [most // 2]

    scheduler.submit(engine, encoded(*short, *long), lane=Lane.QUESTION).result(WAIT)

    assert engine.batches == [short + long]  # padded it would be six times the longest


@dataclass
class Overlapping(HeldEngine):
    """Begins a batch at once, and computes it when it is waited for.

    begun: how many batches were done when each began.
    """

    begun: list[int] = field(default_factory=list)

    def begin(self, batch: Sequence[Encoded]) -> Callable[[], NDArray[np.float32]]:
        if any(item.tokens == BREAKS + 1 for item in batch):
            raise ValueError("cannot begin this")
        self.begun.append(len(self.batches))
        return lambda: self.compute(batch)


def test_the_next_batch_has_begun_before_one_is_awaited(scheduler: Scheduler) -> None:
    engine = Overlapping(batch_tokens=10)
    engine.gate.set()

    rows = scheduler.submit(engine, encoded(*[10] * 6), lane=Lane.QUESTION).result(WAIT)

    assert rows.tolist() == [10] * 6
    assert engine.begun == [0, 0, 1, 2, 3, 4]
    assert engine.batches == [[10]] * 6
    assert scheduler.counters.batches == 6


def test_a_single_batch_is_not_kept_back_for_another(scheduler: Scheduler) -> None:
    engine = Overlapping()
    engine.gate.set()

    for tokens in (5, 6):
        rows = scheduler.submit(engine, encoded(tokens), lane=Lane.QUESTION).result(WAIT)
        assert rows.tolist() == [tokens]


@pytest.mark.parametrize("breaking", [BREAKS, BREAKS + 1])
def test_what_fails_after_it_has_begun_or_before_fails_its_own_caller(
    scheduler: Scheduler, breaking: int
) -> None:
    engine = Overlapping(batch_tokens=100)
    hold(scheduler, engine)
    broken = scheduler.submit(engine, encoded(breaking), lane=Lane.QUESTION)
    whole = scheduler.submit(engine, encoded(3, 4), lane=Lane.QUESTION)
    engine.gate.set()

    assert whole.result(WAIT).tolist() == [3, 4]
    if breaking == BREAKS:
        with pytest.raises(ValueError, match="cannot compute this"):
            broken.result(WAIT)
    else:  # one that cannot begin behind another is computed by itself
        assert broken.result(WAIT).tolist() == [breaking]


def test_batches_of_an_engine_that_needs_the_device_are_computed_one_after_the_other(
    scheduler: Scheduler, engine: HeldEngine
) -> None:
    overlapping = Overlapping()
    hold(scheduler, overlapping)
    first = scheduler.submit(engine, encoded(8), lane=Lane.QUESTION)
    second = scheduler.submit(overlapping, encoded(9), lane=Lane.QUESTION)
    overlapping.gate.set()
    engine.gate.set()

    assert (first.result(WAIT).tolist(), second.result(WAIT).tolist()) == ([8], [9])
    assert (engine.batches, overlapping.batches) == ([[8]], [[1], [9]])


def test_what_its_caller_no_longer_waits_for_is_skipped(
    scheduler: Scheduler, engine: HeldEngine
) -> None:
    hold(scheduler, engine)
    late = scheduler.submit(engine, encoded(5, 6), lane=Lane.QUESTION, seconds=0.01)
    patient = scheduler.submit(engine, encoded(7), lane=Lane.QUESTION, seconds=WAIT)
    time.sleep(0.05)
    engine.gate.set()

    assert patient.result(WAIT).tolist() == [7]
    with pytest.raises(InferenceLate, match="the time that its caller allows is over"):
        late.result(WAIT)
    assert engine.batches == [[1], [7]]
    assert scheduler.counters.skipped == 2


def test_a_batch_that_does_not_fit_into_memory_is_halved(scheduler: Scheduler) -> None:
    engine = HeldEngine(most_texts=3)
    engine.gate.set()

    rows = scheduler.submit(engine, encoded(*range(1, 11)), lane=Lane.QUESTION).result(WAIT)

    assert rows.tolist() == list(range(1, 11))
    assert max(len(batch) for batch in engine.batches) <= 3
    assert scheduler.counters.out_of_memory > 0


@pytest.mark.parametrize(
    ("left", "is_lost"), [("", False), ("CUDA out of memory.", False), (ILLEGAL, True)]
)
def test_a_gpu_that_computes_nothing_after_an_error_is_given_up(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch, left: str, is_lost: bool
) -> None:
    class Failing(HeldEngine):
        def compute(self, batch: Sequence[Encoded]) -> NDArray[np.float32]:
            raise RuntimeError(ILLEGAL)

    monkeypatch.setattr("inference.scheduler.fault", lambda device: left)
    told = threading.Event()
    scheduler.when_lost = told.set
    wanted = DeviceLost if is_lost else RuntimeError

    with pytest.raises(wanted, match="illegal memory access"):
        scheduler.submit(Failing(), encoded(5), lane=Lane.QUESTION).result(WAIT)

    assert bool(scheduler.lost) == is_lost
    if is_lost:
        assert told.wait(WAIT)
        with pytest.raises(DeviceLost, match="has to be started again"):
            scheduler.submit(Failing(), encoded(5), lane=Lane.QUESTION)


def test_what_did_not_fit_into_memory_is_not_tried_again(scheduler: Scheduler) -> None:
    engine = HeldEngine(batch_tokens=16_000, most_texts=20, is_packed=True)
    engine.gate.set()

    for _ in range(2):
        scheduler.submit(engine, encoded(*[400] * 40), lane=Lane.QUESTION).result(WAIT)

    assert engine.batch_tokens == 8000
    assert [len(batch) for batch in engine.batches] == [20] * 4
    assert scheduler.counters.out_of_memory == 1


def test_padding_is_counted(scheduler: Scheduler, engine: HeldEngine) -> None:
    engine.gate.set()

    scheduler.submit(engine, encoded(10, 20), lane=Lane.QUESTION).result(WAIT)

    assert (scheduler.counters.tokens, scheduler.counters.padded_tokens) == (30, 40)


def test_what_needs_no_padding_has_none_and_pairs_and_waiting_are_counted(
    scheduler: Scheduler, engine: HeldEngine
) -> None:
    engine.is_packed = engine.reads_pairs = True
    first = scheduler.submit(engine, encoded(10), lane=Lane.QUESTION)
    assert engine.entered.wait(WAIT)
    behind = scheduler.submit(engine, encoded(10, 20), lane=Lane.QUESTION)
    time.sleep(0.05)
    engine.gate.set()
    first.result(WAIT)
    behind.result(WAIT)

    counted = scheduler.counters
    assert (counted.tokens, counted.padded_tokens, counted.pairs) == (40, 40, 3)
    assert counted.queued_seconds >= 2 * 0.05


def test_an_answer_tells_how_long_its_texts_waited_and_were_computed(
    scheduler: Scheduler, engine: HeldEngine
) -> None:
    first = scheduler.submit(engine, encoded(50, 50, 50), lane=Lane.QUESTION)
    assert engine.entered.wait(WAIT)
    behind = scheduler.submit(engine, encoded(20), lane=Lane.QUESTION)
    time.sleep(0.05)
    engine.gate.set()
    first.result(WAIT)
    behind.result(WAIT)

    held, alone = first.parts
    assert (held.texts, alone.texts) == (2, 1)
    assert held.computed_seconds >= 0.05
    assert alone.queued_seconds >= 0.05
    assert held.queued_seconds < held.computed_seconds
    (shared,) = behind.parts
    assert shared.texts == 1
    assert shared.queued_seconds >= 0.05
    assert shared.computed_seconds == alone.computed_seconds


def test_a_batch_that_does_not_fit_into_the_memory_of_a_cpu_is_halved(
    scheduler: Scheduler,
) -> None:
    import torch

    class Greedy(HeldEngine):
        def compute(self, batch: Sequence[Encoded]) -> NDArray[np.float32]:
            if len(batch) > 3:
                torch.empty(10**14)  # more than there are addresses
            return super().compute(batch)

    engine = Greedy()
    engine.gate.set()

    rows = scheduler.submit(engine, encoded(*range(1, 11)), lane=Lane.QUESTION).result(WAIT)

    assert rows.tolist() == list(range(1, 11))
    assert scheduler.counters.out_of_memory > 0
