"""Values that cross the wire between the model server and its clients."""

from __future__ import annotations

from dataclasses import dataclass

LOADING = "the model is loading"


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
class ModelInfo:
    """One loaded model as `/info` tells it.

    `revision` names the exact weights (a hub commit or a digest of the files); caches
    and stored embeddings are keyed by `model_id` and `revision`. `max_tokens` counts
    special tokens. `dimension` is 0 for a reranker. `tokens_per_second` is the speed that
    the server measured of late, 0 where it has not: what a time budget is turned into.
    """

    model_id: str
    revision: str
    device: str
    dtype: str
    max_tokens: int
    dimension: int = 0
    tokens_per_second: float = 0.0


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a model server has, and why it lacks what it lacks.

    The reasons are one clause each ("no reranker is installed"), empty where there is a model.
    """

    version: str
    embedder: ModelInfo | None
    reranker: ModelInfo | None
    reranker_reason: str = ""
    queue_depth: int = 0
    embedder_reason: str = ""

    @property
    def is_loading(self) -> bool:
        """Whether the server is still loading a model."""
        return LOADING in (self.embedder_reason, self.reranker_reason)
