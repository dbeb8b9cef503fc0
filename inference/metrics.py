"""The figures of this server for Prometheus: under our own names, and under TEI's.

They are kept here and only written by prometheus_client: its own counters would go to the files
that the processes of the site share (`telemetry.metrics`), and be added to theirs.

Source: Text Embeddings Inference, router/src/prometheus.rs (bounds), core/src and router/src
(names, labels and when each is counted)
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

from prometheus_client import generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from inference.answers import Part

if TYPE_CHECKING:
    from inference.scheduler import Scheduler

Kind = Literal["embed", "predict"]
# The bounds of TEI; its longest input is the model's, which here may be one of two.
SECONDS = tuple(1e-5 * 1.5**n for n in range(1, 36))
BATCH_SIZES = tuple(2.0**n for n in range(13))
BATCH_TOKENS = tuple(2.0**n for n in range(21))
INPUT_TOKENS = tuple(2.0**n for n in range(14))
STAGES = ("", "_tokenization", "_queue", "_inference")


class Histogram:
    """How many values were at most each bound, and their sum. One thread writes it."""

    def __init__(self, name: str, about: str, bounds: tuple[float, ...]) -> None:
        self._name, self._about, self._bounds = name, about, bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, *, times: int = 1) -> None:
        """Count a value, or several that are alike."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def family(self) -> HistogramMetricFamily:
        """What it holds, with the counts added up from bound to bound."""
        upto = [*map(floatToGoString, self._bounds), "+Inf"]
        counts = accumulate(self._counts)
        buckets = [(bound, float(count)) for bound, count in zip(upto, counts, strict=True)]
        return HistogramMetricFamily(self._name, self._about, buckets=buckets, sum_value=self._sum)


@dataclass(slots=True)
class Cost:
    """What one request cost, for the headers of its answer and for `/metrics`.

    tokens: None where a service does not tell. parts: its batches. All texts of a request are
    tokenised together, so that each waits `tokenization_seconds` for all.
    """

    kind: Kind
    device: str
    texts: int
    characters: int
    tokens: int | None = None
    tokenization_seconds: float = 0.0
    parts: list[Part] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)
    total_seconds: float = 0.0

    @property
    def queued_seconds(self) -> float:
        """How long a text waited, the mean over the texts."""
        return sum(part.queued_seconds * part.texts for part in self.parts) / self.texts

    @property
    def computed_seconds(self) -> float:
        """How long the batch of a text took, the mean over the texts."""
        return sum(part.computed_seconds * part.texts for part in self.parts) / self.texts

    def headers(self) -> dict[str, str]:
        """TEI's headers; times are whole milliseconds."""
        on = "gpu" if self.device.startswith("cuda") else self.device
        tokens = {} if self.tokens is None else {"x-compute-tokens": str(self.tokens)}
        seconds = {
            "x-compute-time": self.total_seconds,
            "x-total-time": self.total_seconds,
            "x-tokenization-time": self.tokenization_seconds,
            "x-queue-time": self.queued_seconds,
            "x-inference-time": self.computed_seconds,
        }
        return {
            "x-compute-type": on if on == "hosted" else f"{on}+optimized",
            "x-compute-characters": str(self.characters),
            **tokens,
            **{name: str(int(1000 * value)) for name, value in seconds.items()},
        }


class Metrics:
    """What this server has answered, with what its scheduler has done and holds."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.requests: Counter[tuple[str, int]] = Counter()  # by path and status
        self.asked: Counter[str] = Counter()  # by method: single or batch
        self.succeeded: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()  # by cause
        self.texts_asked: Counter[Kind] = Counter()
        self.texts_done: Counter[Kind] = Counter()
        self.input_tokens = Histogram(
            "te_request_input_length", "Tokens of a text or pair.", INPUT_TOKENS
        )
        self._seconds = {
            name: Histogram(name, about, SECONDS)
            for of, about in (
                ("request", "Seconds of a request, the mean over its texts but for the whole."),
                ("embed", "Seconds of a text that was embedded."),
                ("predict", "Seconds of a pair that was scored."),
            )
            for name in (f"te_{of}{stage}_duration" for stage in STAGES)
        }

    def begin(self, cost: Cost) -> None:
        """Count the texts of a request that is about to be computed."""
        self.texts_asked[cost.kind] += cost.texts

    def end(self, cost: Cost) -> None:
        """Count a request that was computed."""
        self.texts_done[cost.kind] += cost.texts
        tokenized = cost.tokenization_seconds
        self._observe(
            "request",
            (cost.total_seconds, tokenized, cost.queued_seconds, cost.computed_seconds),
        )
        for part in cost.parts:
            queued, computed = part.queued_seconds, part.computed_seconds
            whole = tokenized + queued + computed
            self._observe(cost.kind, (whole, tokenized, queued, computed), times=part.texts)

    def _observe(self, of: str, seconds: tuple[float, ...], *, times: int = 1) -> None:
        for stage, value in zip(STAGES, seconds, strict=True):
            self._seconds[f"te_{of}{stage}_duration"].observe(value, times=times)

    def text(self) -> bytes:
        """All of it in Prometheus's text format."""
        teis = generate_latest(_Families(self._teis()))
        # The library ends the name of every counter in this; TEI does not.
        return generate_latest(_Families(self._ours())) + teis.replace(b"_total", b"")

    def _ours(self) -> Iterator[Metric]:
        prefix = "ragsite_inference"
        requests = CounterMetricFamily(
            f"{prefix}_requests", "Requests, by how they were answered.", labels=["path", "status"]
        )
        for (path, status), count in sorted(self.requests.items()):
            requests.add_metric([path, str(status)], count)
        yield requests
        for name, value in asdict(self.scheduler.counters).items():
            yield CounterMetricFamily(f"{prefix}_{name}", "Since the server began.", value=value)
        waiting = GaugeMetricFamily(
            f"{prefix}_queue_texts", "Texts that wait for the model.", labels=["lane"]
        )
        for lane, texts in self.scheduler.depths().items():
            waiting.add_metric([lane.name.lower()], texts)
        yield waiting

    def _teis(self) -> Iterator[Metric]:
        yield _counter("te_request_count", "Requests.", "method", self.asked)
        yield _counter("te_request_success", "Requests answered.", "method", self.succeeded)
        yield _counter("te_request_failure", "Requests refused or failed.", "err", self.failed)
        kinds: dict[Kind, str] = {"embed": "Texts to embed", "predict": "Pairs to score"}
        for kind, what in kinds.items():
            asked, done = self.texts_asked[kind], self.texts_done[kind]
            yield CounterMetricFamily(f"te_{kind}_count", f"{what}.", value=asked)
            yield CounterMetricFamily(f"te_{kind}_success", f"{what}, done.", value=done)
        waiting = sum(self.scheduler.depths().values())
        yield GaugeMetricFamily("te_queue_size", "Texts that wait for the model.", value=waiting)
        measured = (*self._seconds.values(), self.input_tokens)
        for histogram in (*measured, self.scheduler.batch_sizes, self.scheduler.batch_tokens):
            yield histogram.family()


class _Families(Collector):
    """What the library writes out."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """As `Collector` has it."""
        return self._families


def _counter(name: str, about: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, about, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([value], count)
    return family
