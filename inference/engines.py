"""The models: texts in, unit vectors or logits out.

An engine computes on one thread. Tokenising is separate from computing, so that the
scheduler can form batches by tokens and requests can be tokenised while the model works.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from inference.devices import is_ampere
from inference.errors import first_line
from inference.types import ModelInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from inference.packed import Cores, Pack

logger = logging.getLogger(__name__)

# For each core: a question waits for the batch that is running, and larger ones are no quicker.
CORE_BATCH_TOKENS = 512
# Of the bundled reranker, whose head computes what the cores have read.
CORE_READING_TOKENS = 1024
GPU_BATCH_TOKENS = 32768
# The measured speed is that of about the last ten batches.
SPEED_MEMORY = 0.9


@dataclass(frozen=True, slots=True)
class Encoded:
    """One text or pair, ready for the model: its token ids by name, and whether it was cut.

    The ids are arrays already: turning lists into one costs the model's thread 5 ms for a batch.
    """

    ids: Mapping[str, Sequence[int] | NDArray[np.int64]]
    tokens: int
    truncated: bool


@dataclass
class _Engine(ABC):
    """What both kinds of model share: a limit, a tokenizer, a device, a measured speed."""

    described: ModelInfo
    model: Any
    batch_tokens: int = field(init=False)
    _tokens: float = 0.0
    _seconds: float = 0.0
    _ended: float = 0.0
    # A fast tokenizer keeps its truncation as state: one caller at a time.
    _tokenizing: threading.Lock = field(default_factory=threading.Lock)
    # Computes a pack of texts without padding; None where the model is of another kind.
    _packed: Callable[[Pack], Tensor] | None = None
    _cores: Cores | None = None
    reads_pairs: ClassVar[bool] = False

    def __post_init__(self) -> None:
        from inference.onednn import prepack
        from inference.packed import cores

        on_cpu = self.described.device == "cpu"
        if on_cpu:
            prepack(self.network)
        self.batch_tokens = self._tokens_by_core() if on_cpu else GPU_BATCH_TOKENS
        if on_cpu or self.described.dtype != "float32":
            self._packed = self._on_packs()
        if self._packed and not on_cpu and not is_ampere():
            self.pad("this GPU is older than torch's attention without padding")
        if on_cpu and not self.shares_itself:
            self._cores = cores()

    @property
    def info(self) -> ModelInfo:
        """The model with the speed of its last batches."""
        speed = round(self._tokens / self._seconds, 1) if self._seconds else 0.0
        return replace(self.described, tokens_per_second=speed)

    @property
    def network(self) -> Any:
        """The module that computes."""
        return getattr(self.model, "network", self.model)

    @property
    def shares_itself(self) -> bool:
        """Whether the model is one that gives each core its share, such as the bundled reranker."""
        return False

    @property
    def is_packed(self) -> bool:
        """Whether texts are computed without padding."""
        return self._packed is not None

    @property
    def max_tokens(self) -> int:
        """The most tokens of one text or pair that the model reads, special ones included."""
        return self.described.max_tokens

    def compute(self, batch: Sequence[Encoded]) -> NDArray[np.float32]:
        """Results of n encoded texts, one float32 row each: (n, dimension) or (n,)."""
        import torch

        begun = self.begin(batch)
        if begun is not None:
            return begun()
        began = time.perf_counter()
        with torch.inference_mode():
            rows: NDArray[np.float32] = self._together(batch).float().cpu().numpy()
        self._measure(batch, began)
        return rows

    def begin(self, batch: Sequence[Encoded]) -> Callable[[], NDArray[np.float32]] | None:
        """Let cores compute a batch behind the one that they have, so that none is ever idle.

        Returns what waits for the results; None where a batch has the device for itself.
        """
        import torch

        if self._cores is None:
            return None
        began, wait = time.perf_counter(), self._by_core(batch)

        def rows() -> NDArray[np.float32]:
            with torch.inference_mode():
                found: NDArray[np.float32] = wait().float().numpy()
            self._measure(batch, began)
            return found

        return rows

    def _measure(self, batch: Sequence[Encoded], began: float, *, counts: bool = True) -> None:
        """Time a batch that is done; of two that overlap, each from the end of the other."""
        now = time.perf_counter()
        if counts:
            self._seconds = self._seconds * SPEED_MEMORY + now - max(began, self._ended)
            self._tokens = self._tokens * SPEED_MEMORY + sum(item.tokens for item in batch)
        self._ended = now

    def _tokens_by_core(self) -> int:
        import torch

        each = CORE_READING_TOKENS if self.shares_itself else CORE_BATCH_TOKENS
        cores: int = torch.get_num_threads()
        return each * max(2, cores)

    def pad(self, why: str) -> None:
        """Compute texts with padding from now on, as models of every kind can."""
        self._packed = None
        self.described = replace(self.described, padded=why)

    def warm_up(self, batch: Sequence[Encoded]) -> None:
        """Measure the speed, after a first run that allocates memory and does not count."""
        self.compute(batch)
        self._tokens = self._seconds = 0.0
        self.compute(batch)

    @abstractmethod
    def _forward(self, tensors: dict[str, Any]) -> Any:
        """The tensor of results of padded texts, still on the device."""

    @abstractmethod
    def _on_packs(self) -> Callable[[Pack], Tensor] | None:
        """The same for texts laid end to end, if the model is of a kind that can."""

    def _together(self, batch: Sequence[Encoded]) -> Tensor:
        """Results of all texts at once."""
        if self._packed is None:
            found: Tensor = self._forward(self._tensors(batch))
            return found
        return self._packed(_laid_end_to_end(batch, self.described.device))

    def _by_core(self, batch: Sequence[Encoded]) -> Callable[[], Tensor]:
        """Begin a few texts at a time on each core, alike in length; what waits for all results."""
        import torch

        from inference.onednn import ROWS_STEP

        assert self._cores is not None
        shares = self._cores.shares([item.tokens for item in batch])
        parts = [[batch[n] for n in share] for share in shares]
        if self._packed is None:
            wait = self._cores.begin(self._forward, [self._tensors(part) for part in parts])
        else:
            packs = [_laid_end_to_end(part, "cpu", step=ROWS_STEP) for part in parts]
            wait = self._cores.begin(self._packed, packs)

        def in_order() -> Tensor:
            found = zip(wait(), parts, strict=True)
            rows = torch.cat([rows[: len(part)] for rows, part in found])
            places = torch.tensor([n for share in shares for n in share])
            return torch.empty_like(rows).index_copy_(0, places, rows)

        return in_order

    def _encode(self, *columns: Sequence[str], cut: str = "longest_first") -> list[Encoded]:
        tokenizer, limit = self.model.tokenizer, self.max_tokens
        with self._tokenizing:
            kept = tokenizer(*columns, truncation=False, verbose=False)
            lengths = [len(ids) for ids in kept["input_ids"]]
            if long := [n for n, length in enumerate(lengths) if length > limit]:
                texts = [[column[n] for n in long] for column in columns]
                again = tokenizer(*texts, truncation=cut, max_length=limit, verbose=False)
                for name in kept:
                    for n, ids in zip(long, again[name], strict=True):
                        kept[name][n] = ids
        return [
            Encoded(
                {name: np.asarray(kept[name][n], np.int64) for name in kept},
                len(kept["input_ids"][n]),
                truncated=length > limit,
            )
            for n, length in enumerate(lengths)
        ]

    def _tensors(self, batch: Sequence[Encoded]) -> dict[str, Any]:
        """Pad to the longest; by hand, so that the model never waits for the tokenizer's lock."""
        import torch

        tokenizer, width = self.model.tokenizer, max(item.tokens for item in batch)
        fill = {
            "input_ids": tokenizer.pad_token_id or 0,
            "token_type_ids": getattr(tokenizer, "pad_token_type_id", 0),
        }
        tensors = {}
        for name in batch[0].ids:
            rows = np.full((len(batch), width), fill.get(name, 0), dtype=np.int64)
            for row, item in zip(rows, batch, strict=True):
                left = width - item.tokens if tokenizer.padding_side == "left" else 0
                row[left : left + item.tokens] = item.ids[name]
            tensors[name] = torch.from_numpy(rows).to(self.described.device)
        return tensors


@dataclass
class Embedder(_Engine):
    """A bi-encoder of sentence-transformers: a text becomes a unit vector.

    `half` computes the same vectors with half the bits, for what is many texts and may wait; None
    where that is no quicker or not near enough.
    """

    half: Embedder | None = None

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Tokenise (n,) texts, cut at the model's own limit."""
        return self._encode(list(texts))

    @property
    def pooling(self) -> str:
        """How token vectors become one vector, as the model's own configuration names it."""
        from inference.heads import pooling_mode

        return pooling_mode(self.model)

    def _forward(self, tensors: dict[str, Any]) -> Any:
        import torch

        vectors = self.model(tensors)["sentence_embedding"].float()
        return torch.nn.functional.normalize(vectors, dim=1)

    def _on_packs(self) -> Callable[[Pack], Tensor] | None:
        from inference.heads import vectors

        return vectors(self.model)


@dataclass
class Reranker(_Engine):
    """A cross-encoder of sentence-transformers: question and passage become one raw logit.

    speedups: of `precision.SPEEDUPS`, for a GPU.
    tells_what_it_read: whether what is read of a passage are its first tokens, at the end of a
    pair.
    """

    speedups: tuple[str, ...] = ()
    reads_pairs: ClassVar[bool] = True
    tells_what_it_read: ClassVar[bool] = True

    def encode(self, question: str, passages: Sequence[str]) -> list[Encoded]:
        """Tokenise n pairs.

        A pair beyond the limit loses the end of its passage; where the question alone takes
        more than half of the room, the longer of the two is cut.
        """
        tokenizer, most = self.model.tokenizer, 2 * self.max_tokens
        with self._tokenizing:
            asked = tokenizer(question, truncation=False, verbose=False)
        tokens = len(asked["input_ids"])
        if tokens > most and tokenizer.is_fast:
            # The rest can never be read, but would be tokenised again with each passage.
            question = question[: asked.token_to_chars(most - 1).start]
        cut = "only_second" if tokens <= self.max_tokens // 2 else "longest_first"
        encoded = self._encode([question] * len(passages), list(passages), cut=cut)
        room: int | None = getattr(self.model[0], "passage_tokens", None)
        if room is None:
            return encoded
        return [
            replace(
                item, truncated=item.truncated or bool(np.sum(item.ids["token_type_ids"]) >= room)
            )
            for item in encoded
        ]

    def try_packs(self, batch: Sequence[Encoded]) -> None:
        """Compute a batch, and do without what fails here: speed-ups first, then packs."""
        while self._packed is not None:
            try:
                self.compute(batch)
            except Exception as exc:
                logger.exception("a batch without padding failed")
                if not self.speedups:
                    self.pad(f"texts are padded, because packs failed: {first_line(exc)}")
                    return
                asked, self.speedups = " and ".join(self.speedups), ()
                self.pad(f"without {asked}, which failed: {first_line(exc)}")
                self._packed = self._on_packs()
            else:
                return

    @property
    def shares_itself(self) -> bool:
        """Whether the model is the bundled one's kind, which reads by core and remembers."""
        return hasattr(self.model[0], "memory")

    def begin(self, batch: Sequence[Encoded]) -> Callable[[], NDArray[np.float32]] | None:
        """As any engine; of the bundled kind the cores begin to read, and the head comes later."""
        import torch

        if not self.shares_itself or self.described.device != "cpu":
            return super().begin(batch)
        began, tensors = time.perf_counter(), self._tensors(batch)
        with torch.inference_mode():
            unread = self.model[0].begin(tensors)

        def rows() -> NDArray[np.float32]:
            with torch.inference_mode():
                found: NDArray[np.float32] = self._forward(tensors).float().numpy()
            # A time budget is for passages that have to be read.
            self._measure(batch, began, counts=unread == len(batch))
            return found

        return rows

    def _forward(self, tensors: dict[str, Any]) -> Any:
        return self.model(tensors)["scores"].reshape(-1)

    def _on_packs(self) -> Callable[[Pack], Tensor] | None:
        from inference.heads import logits, missing

        found = logits(self.model, self.speedups)
        if found is None:
            return None
        if without := missing(self.model, self.speedups):
            why = f"without {' and '.join(without)}, which is for the BERT and RoBERTa families"
            self.described = replace(self.described, padded=why)
        if "graphs" not in self.speedups:
            return found
        from inference.graphs import Graphs

        return Graphs(found, longest=self.max_tokens)


def _laid_end_to_end(batch: Sequence[Encoded], device: str, *, step: int = 1) -> Pack:
    from inference.packed import Pack

    def rows(name: str) -> list[Any]:
        return [
            item.ids[name] if name in item.ids else np.zeros(item.tokens, np.int64)
            for item in batch
        ]

    return Pack.of(rows("input_ids"), rows("token_type_ids"), device, step=step)
