"""Values that cross the wire between the model server and its clients."""

from __future__ import annotations

import math
from dataclasses import dataclass

LOADING = "the model is loading"
# Devices of a reranker that somebody else runs, and of one of a server that tells no more.
HOSTED, REMOTE = "hosted", "remote"


@dataclass(frozen=True, slots=True)
class RerankScore:
    """The cross-encoder's verdict on one passage.

    `index` is the passage's place in the request, `logit` the raw score (unbounded,
    higher is better), `truncated` whether the model read only a part of the pair.
    """

    index: int
    logit: float
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a reranker's raw logits mean: log-odds that a passage answers the question.

    log-odds = slope * (logit - place * ln(fused rank)) + intercept. `place` is 0 for a model whose
    logit alone is trusted; where it is not, the earlier stages' verdict counts by a weight that
    was fitted, too. threshold: the relevance, 0 to 1, below which a best passage is doubtful;
    None where that was not measured. Without a fit the logit is taken as the log-odds.
    """

    slope: float = 1.0
    intercept: float = 0.0
    place: float = 0.0
    threshold: float | None = None

    def log_odds(self, logit: float, fused_rank: int) -> float:
        """The log-odds of a passage at this place (from 1) of the fused order."""
        return self.slope * (logit - self.place * math.log(fused_rank)) + self.intercept


def probability(log_odds: float) -> float:
    """The logistic function: log-odds to a probability, 0 to 1."""
    if log_odds >= 0:
        return 1 / (1 + math.exp(-log_odds))
    return math.exp(log_odds) / (1 + math.exp(log_odds))


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One loaded model as `/info` tells it.

    `revision` names the exact weights (a hub commit or a digest of the files); caches
    and stored embeddings are keyed by `model_id` and `revision`. `max_tokens` counts
    special tokens. `dimension` is 0 for a reranker. `tokens_per_second` is the speed that
    the server measured of late, 0 where it has not: what a time budget is turned into.
    languages: those a reranker was trained on, by ISO 639 code; empty where not known.
    chosen: why it was picked, where nobody named it; one clause. dtype_refused: why it does not
    compute in the type that was asked for; one clause, empty where it does. padded: why it computes
    padding or does without a speed-up that was asked for, where its kind need not; likewise.
    """

    model_id: str
    revision: str
    device: str
    dtype: str
    max_tokens: int
    dimension: int = 0
    tokens_per_second: float = 0.0
    calibration: Calibration = Calibration()
    languages: tuple[str, ...] = ()
    chosen: str = ""
    dtype_refused: str = ""
    padded: str = ""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a model server has, and why it lacks what it lacks.

    The reasons are one clause each ("no reranker is installed"), empty where there is a model.
    unused_gpu: the name of a GPU that is there and cannot be used. out_of_memory: batches that
    did not fit the memory and were computed in halves, since the server began.
    """

    version: str
    embedder: ModelInfo | None
    reranker: ModelInfo | None
    reranker_reason: str = ""
    queue_depth: int = 0
    embedder_reason: str = ""
    unused_gpu: str = ""
    out_of_memory: int = 0

    @property
    def is_loading(self) -> bool:
        """Whether the server is still loading a model."""
        reasons = (self.embedder_reason, self.reranker_reason)
        return any(reason.startswith(LOADING) for reason in reasons)
