"""The models of this server: loaded in the background, described for `/info`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from inference.errors import ModelLoading, NoModel
from inference.types import LOADING

if TYPE_CHECKING:
    from inference.engines import Embedder, Reranker

logger = logging.getLogger(__name__)
Engine = TypeVar("Engine")


@dataclass(frozen=True, slots=True)
class Slot(Generic[Engine]):
    """A model that is loading, loaded (no reason), or absent for a reason."""

    engine: Engine | None = None
    reason: str = LOADING

    @property
    def is_loading(self) -> bool:
        """Whether it is still on its way."""
        return self.reason == LOADING

    def get(self) -> Engine:
        """The model. Raises ModelLoading or NoModel where there is none."""
        if self.engine is None:
            raise ModelLoading(self.reason) if self.is_loading else NoModel(self.reason)
        return self.engine


@dataclass
class Models:
    """The embedder and the reranker. A slot is replaced whole when its model has loaded."""

    embedding_model: str
    reranker_model: str
    embedder: Slot[Embedder] = field(default_factory=Slot)
    reranker: Slot[Reranker] = field(default_factory=Slot)

    def load_in_background(self) -> None:
        """Begin loading; importing the libraries alone takes ten seconds."""
        threading.Thread(target=self.load, name="load", daemon=True).start()

    def load(self) -> None:
        """Load both; one that fails leaves the other alone."""
        from inference.engines import load_embedder, load_reranker

        self.embedder = _loaded("embedder", lambda: load_embedder(self.embedding_model))
        self.reranker = _loaded("reranker", lambda: load_reranker(self.reranker_model))


def _loaded(kind: str, load: Callable[[], Engine]) -> Slot[Engine]:
    try:
        return Slot(load(), reason="")
    except NoModel as exc:
        reason = str(exc)
    except Exception:  # a broken model must not take the other one down
        logger.exception("loading the %s failed", kind)
        reason = f"the {kind} could not be loaded; the log of the model server has the details"
    logger.warning("no %s: %s", kind, reason)
    return Slot(None, reason)
