"""The models of this server: loaded in the background, described for `/info`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from inference.errors import InferenceError, ModelLoading, NoModel

if TYPE_CHECKING:
    from inference.engines import Embedder, Reranker

logger = logging.getLogger(__name__)
Engine = TypeVar("Engine")
LOADING = "model is loading"


@dataclass
class Models:
    """The embedder and the reranker, each loading, loaded, or absent for a reason."""

    embedding_model: str
    reranker_model: str
    _embedder: Embedder | None = None
    _reranker: Reranker | None = None
    reasons: dict[str, str] = field(
        default_factory=lambda: {"embedder": LOADING, "reranker": LOADING}
    )

    def load_in_background(self) -> None:
        """Begin loading; importing the libraries alone takes ten seconds."""
        threading.Thread(target=self._load, name="load", daemon=True).start()

    def _load(self) -> None:
        from inference import engines

        self._embedder = self._try("embedder", lambda: self._load_embedder(engines.load_embedder))
        self._reranker = self._try("reranker", lambda: self._load_reranker(engines.load_reranker))

    def _load_embedder(self, load: Callable[[str], Embedder]) -> Embedder:
        embedder = load(self.embedding_model)
        embedder.compute(embedder.encode(["warm-up"]))
        return embedder

    def _load_reranker(self, load: Callable[[str], Reranker]) -> Reranker:
        from inference.engines import measured_speed

        reranker = load(self.reranker_model)
        reranker.info = replace(reranker.info, tokens_per_second=measured_speed(reranker))
        return reranker

    def _try(self, kind: str, load: Callable[[], Engine]) -> Engine | None:
        try:
            engine = load()
        except NoModel as exc:
            self.reasons[kind] = str(exc)
        except Exception:  # a broken model must not take the other one down
            logger.exception("loading the %s failed", kind)
            self.reasons[kind] = f"the {kind} could not be loaded; the log has the details"
        else:
            self.reasons[kind] = ""
            return engine
        logger.warning("no %s: %s", kind, self.reasons[kind])
        return None

    @property
    def is_loading(self) -> bool:
        """Whether a model is still on its way."""
        return LOADING in self.reasons.values()

    @property
    def embedder(self) -> Embedder:
        """The embedder. Raises ModelLoading or NoModel where there is none."""
        if self._embedder is None:
            raise self._absent("embedder")
        return self._embedder

    @property
    def reranker(self) -> Reranker:
        """The reranker. Raises ModelLoading or NoModel where there is none."""
        if self._reranker is None:
            raise self._absent("reranker")
        return self._reranker

    def _absent(self, kind: str) -> InferenceError:
        reason = self.reasons[kind]
        return ModelLoading(reason) if reason == LOADING else NoModel(reason)
