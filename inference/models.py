"""The models of this server: loaded in the background, described for `/info`."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

from inference.catalogue import BUNDLED
from inference.choice import NONE, Choice, check_reachable, choose, fetched_bytes, is_cached
from inference.devices import best_device, unused_gpu
from inference.errors import ModelLoading, NoModel
from inference.hosted import HostedReranker, service_of
from inference.models_on_disk import DEFAULT_EMBEDDER
from inference.precision import Options
from inference.types import LOADING, ModelInfo

if TYPE_CHECKING:
    from inference.engines import Embedder, Reranker

logger = logging.getLogger(__name__)
Engine = TypeVar("Engine", bound="Described")


class Described(Protocol):
    """An engine, as far as it tells of itself."""

    @property
    def info(self) -> ModelInfo:
        """What it is."""
        ...


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
    options: Options = field(default_factory=Options)
    embedder: Slot[Embedder] = field(default_factory=Slot)
    reranker: Slot[Reranker | HostedReranker] = field(default_factory=Slot)
    unused_gpu: str = ""
    # What is being loaded now: the model's name by the kind of its slot.
    under_way: dict[str, str] = field(default_factory=dict)

    def reason(self, kind: Literal["embedder", "reranker"]) -> str:
        """Why a model is not there yet, how far it is, or why it is not there; empty if it is."""
        slot: Slot[Any] = getattr(self, kind)
        if not slot.is_loading:
            return slot.reason
        name = self.under_way.get(kind)
        if name is None:
            return f"{LOADING}: it waits for its turn"
        if _is_local(name):
            return f"{LOADING}: {name} is read and tried"
        return f"{LOADING}: {name}, {fetched_bytes(name) // 10**6:,} MB fetched"

    def load_in_background(self) -> None:
        """Begin loading; importing the libraries alone takes ten seconds."""
        threading.Thread(target=self.load, name="load", daemon=True).start()

    def load(self) -> None:
        """Load both; one that fails leaves the other alone."""
        choice = _choice(self.reranker_model)
        if _is_local(self.embedding_model) and (service_of(choice.name) or _is_local(choice.name)):
            # Before the libraries are imported, which would ask the hub for what they have.
            os.environ.setdefault("HF_HUB_OFFLINE", "1")
        # On a CPU the cores are the models'. Beside a GPU they are idle, and one core takes as long
        # to tokenise 100 passages as the GPU to score them.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", str(best_device() == "cuda").lower())
        self.unused_gpu = unused_gpu()
        self.under_way = {"embedder": self.embedding_model}
        self.embedder = _loaded("embedder", lambda: _embedder(self.embedding_model))
        self.under_way = {"reranker": choice.name}
        reranker = _loaded("reranker", lambda: _reranker(choice, self.options))
        if reranker.engine is None and choice.why and choice.name != BUNDLED:
            why = f"picked by itself, as {choice.name} could not be used: {reranker.reason}"
            reranker = _loaded("reranker", lambda: _reranker(Choice(BUNDLED, why), self.options))
        self.reranker = reranker


def _choice(wanted: str) -> Choice:
    return choose(wanted, has_cuda=best_device() == "cuda")


def _embedder(model: str) -> Embedder:
    from inference.loading import load_embedder

    if not _is_local(model):
        check_reachable(model)
    return load_embedder(model)


def _reranker(choice: Choice, options: Options) -> Reranker | HostedReranker:
    if service_of(choice.name):
        return HostedReranker(choice.name)
    from inference.loading import load_reranker

    if not _is_local(choice.name):
        check_reachable(choice.name)
    loaded = load_reranker(choice.name, chosen=choice.why, options=options)
    if loaded.described.dtype_refused:
        told = loaded.described
        logger.warning("the reranker computes in %s: %s", told.dtype, told.dtype_refused)
    return loaded


def _is_local(name: str) -> bool:
    """Whether a model needs no hub."""
    return name in (DEFAULT_EMBEDDER, BUNDLED, NONE) or os.path.isdir(name) or is_cached(name)


def _loaded(kind: str, load: Callable[[], Engine]) -> Slot[Engine]:
    try:
        engine = load()
        told: ModelInfo = engine.info
        where = ", ".join(filter(None, (told.device, told.dtype, told.chosen)))
        logger.info("the %s is ready: %s (%s)", kind, told.model_id, where)
        return Slot(engine, reason="")
    except NoModel as exc:
        reason = str(exc)
    except Exception:  # a broken model must not take the other one down
        logger.exception("loading the %s failed", kind)
        reason = f"the {kind} could not be loaded; the log of the model server has the details"
    logger.warning("no %s: %s", kind, reason)
    return Slot(None, reason)
