"""The models: texts in, unit vectors or logits out.

An engine computes on one thread. Tokenising is separate from computing, so that the
scheduler can form batches by tokens and requests can be tokenised while the model works.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from inference.catalogue import BUNDLED, languages
from inference.choice import fetched_commit
from inference.devices import (
    best_device,
    half_type,
    is_ampere,
    memory_for_states,
    multiplies_bfloat16,
)
from inference.errors import NoModel
from inference.models_on_disk import (
    BUNDLED_RERANKER,
    CALIBRATION_FILE,
    embedder_folder,
    revision,
)
from inference.precision import AUTO, Options, in_quicker_type, needs_trial, unfit
from inference.remote_code import permit
from inference.types import Calibration, ModelInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from inference.packed import Cores, Pack

logger = logging.getLogger(__name__)

RERANKER_MAX_TOKENS = 512
# For each core: a question waits for the batch that is running, and larger ones are no quicker.
CORE_BATCH_TOKENS = 512
# Of the bundled reranker, whose head computes what the cores have read.
CORE_READING_TOKENS = 1024
GPU_BATCH_TOKENS = 32768
# Vectors with half the bits must be nearer than this to those in float32, which questions have.
HALF_COSINE = 0.999
# The measured speed is that of about the last ten batches.
SPEED_MEMORY = 0.9
# Weights are read as safetensors alone: other formats are pickles.
SAFE_WEIGHTS_ONLY = {"use_safetensors": True}
PICKLED = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
# By how much the scores of a model may differ from its own library's: bfloat16 on a GPU, no more.
READING_SHARE, READING_LOGITS = 0.05, 0.25
# Pairs on whose order any reranker must agree: (question, answering passage, other passage).
KNOWN_PAIRS = (
    (
        "What is the capital of France?",
        "Paris is the capital and largest city of France.",
        "Photosynthesis turns light, water and carbon dioxide into sugar.",
    ),
    (
        "How does a bicycle stay upright?",
        "A moving bicycle stays upright because steering into a fall brings the wheels back under "
        "the rider.",
        "The recipe needs two eggs, a cup of flour and a pinch of salt.",
    ),
    (
        "When was the telephone invented?",
        "Alexander Graham Bell patented the telephone in 1876.",
        "Penguins live in the southern hemisphere and cannot fly.",
    ),
)


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
            if max(lengths, default=0) > limit:
                kept = tokenizer(*columns, truncation=cut, max_length=limit, verbose=False)
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
        return next((str(m.pooling_mode) for m in self.model if hasattr(m, "pooling_mode")), "")

    def _forward(self, tensors: dict[str, Any]) -> Any:
        import torch

        vectors = self.model(tensors)["sentence_embedding"].float()
        return torch.nn.functional.normalize(vectors, dim=1)

    def _on_packs(self) -> Callable[[Pack], Tensor] | None:
        import torch
        from sentence_transformers.sentence_transformer.modules import Normalize

        from inference.packed import PackedEncoder, is_packable

        reader, *others = self.model
        inner = getattr(reader, "auto_model", None)
        # After the one that pools.
        plain = bool(others) and all(isinstance(module, Normalize) for module in others[1:])
        if self.pooling not in ("mean", "cls") or not plain or not is_packable(inner):
            return None
        encoder, means = PackedEncoder(inner), self.pooling == "mean"

        def vectors(pack: Pack) -> Tensor:
            states = encoder.states(pack, first_only=not means)
            if means:
                lengths = pack.cuts.ends.diff().long()
                states = torch.segment_reduce(states.float(), "mean", lengths=lengths)
            return torch.nn.functional.normalize(states.float(), dim=1)

        return vectors


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
                    self.pad(f"texts are padded, because packs failed: {_first_line(exc)}")
                    return
                asked, self.speedups = " and ".join(self.speedups), ()
                self.pad(f"without {asked}, which failed: {_first_line(exc)}")
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
        from inference.packed import PackedClassifier, is_packable

        inner = getattr(self.model[0], "auto_model", None)
        classifies = type(inner).__name__.endswith("ForSequenceClassification")
        if len(self.model) > 1 or not classifies or not is_packable(inner):
            return None
        classifier = PackedClassifier(inner)
        if "compile" in self.speedups:
            classifier.encoder.compile()
        if "graphs" in self.speedups:
            from inference.graphs import Graphs

            return Graphs(classifier.logits, longest=self.max_tokens)
        return classifier.logits


def _laid_end_to_end(batch: Sequence[Encoded], device: str, *, step: int = 1) -> Pack:
    from inference.packed import Pack

    def rows(name: str) -> list[Any]:
        return [
            item.ids[name] if name in item.ids else np.zeros(item.tokens, np.int64)
            for item in batch
        ]

    return Pack.of(rows("input_ids"), rows("token_type_ids"), device, step=step)


def load_embedder(model: str) -> Embedder:
    """Load the embedding model.

    Args:
        model: the name of the packaged model, a folder, or a model id of the hub.

    Raises:
        NoModel: it cannot be had; the text is one sentence that says why.
    """
    folder = embedder_folder(model)
    _check_folder(model)
    device = best_device()
    try:
        loaded = _bi_encoder(model, device)
    except (OSError, ValueError) as exc:
        raise NoModel(f"the embedding model {model} cannot be loaded: {_first_line(exc)}") from exc
    info = ModelInfo(
        model_id=model,
        revision=revision(folder, hub_revision=_hub_commit(model)),
        device=device,
        dtype=_dtype(loaded),
        max_tokens=int(loaded.max_seq_length or 512),
        dimension=int(loaded.get_embedding_dimension() or 0),
    )
    engine = Embedder(info, loaded)
    engine.warm_up(engine.encode([KNOWN_PAIRS[0][1] * 8] * 8))
    if device == "cuda" or multiplies_bfloat16():
        engine.half = _in_half(engine)
    return engine


def _bi_encoder(model: str, device: str) -> Any:
    """The model of sentence-transformers; on a CPU in float32, whatever it was saved in.

    Raises:
        OSError, ValueError: it cannot be loaded.
    """
    from sentence_transformers import SentenceTransformer

    place = str(embedder_folder(model) or model)
    loaded = SentenceTransformer(place, device=device, model_kwargs=SAFE_WEIGHTS_ONLY)
    return loaded.float().eval() if device == "cpu" else loaded.eval()


def _in_half(exact: Embedder) -> Embedder | None:
    """The same model with half the bits, if its vectors are those of `exact` to HALF_COSINE.

    Only where texts are computed without padding: of those kinds of model it is known quicker.
    """
    import torch

    info = replace(exact.described, dtype=half_type(exact.described.device))
    # Loaded again, because engines replace layers of their models.
    copied = _bi_encoder(info.model_id, info.device).to(getattr(torch, info.dtype))
    half = Embedder(info, copied)
    if not half.is_packed:
        return None
    texts = exact.encode([text for pair in KNOWN_PAIRS for text in pair])
    try:
        cosines = (exact.compute(texts) * half.compute(texts)).sum(axis=1)
    except RuntimeError:  # a kernel that this GPU lacks
        logger.exception("embedding in %s failed, so it is done in float32", info.dtype)
        return None
    if not cosines.min() > HALF_COSINE:  # nor where it is no number
        return None
    half.warm_up(exact.encode([KNOWN_PAIRS[0][1] * 8] * 8))
    return half


def load_reranker(model: str, *, chosen: str = "", options: Options = Options()) -> Reranker:  # noqa: B008 - frozen
    """Load the cross-encoder and try it on pairs whose order is known.

    Args:
        model: "bundled" for the one that comes with the project, a folder, or a model id of
            the hub; "none" for no reranking.
        chosen: why it is this one, if nobody named it.
        options: what the operator asks of it; a type that cannot be had is left out, and
            `ModelInfo.dtype_refused` says why.

    Raises:
        NoModel: there is none, it is no cross-encoder, or it fails the trial; the text
            is one clause for people.
    """
    if model == "none":
        raise NoModel("reranking is switched off (RERANKER=none)")
    bundled = model == BUNDLED
    if bundled and not (BUNDLED_RERANKER / "model.safetensors").is_file():
        raise NoModel("no reranker is installed")
    place = str(BUNDLED_RERANKER) if bundled else model
    _check_folder(place)
    from inference.interaction import Interaction, StateMemory
    from inference.late_interaction import is_late_interaction
    from inference.layerwise import is_layerwise

    device = best_device()
    try:
        config, saved = _configurations(place)
        # Of the layerwise ones the code is not needed.
        allowed = {} if is_layerwise(config) else permit(place, config)
        if is_late_interaction(config, saved):
            engine = _late_interaction(place, device=device, chosen=chosen, allowed=allowed)
            return _of_one_type(engine, options)
        if not saved and _is_language_model(config):
            engine = _language_model(place, config, device=device, chosen=chosen, allowed=allowed)
            return _of_one_type(engine, options)
        if not _is_cross_encoder(config, saved):
            raise NoModel(f"{model} is not a cross-encoder with one output, so it cannot rerank")
        loaded = cross_encoder(place, device=device, **allowed)
    except (OSError, ValueError) as exc:
        raise NoModel(f"the reranker {model} cannot be loaded: {_first_line(exc)}") from exc
    compares_states = isinstance(loaded[0], Interaction)
    loaded, dtype, refused = _in_type(loaded, options.dtype, device=device)
    folder = Path(place) if Path(place).is_dir() else None
    meaning = _meaning(folder)
    info = ModelInfo(
        model_id=BUNDLED if bundled else model,
        revision=revision(folder, hub_revision=_hub_commit(place, **allowed)),
        device=device,
        dtype=dtype,
        dtype_refused=refused,
        max_tokens=min(RERANKER_MAX_TOKENS, loaded.max_seq_length or RERANKER_MAX_TOKENS),
        calibration=Calibration(**meaning.get("calibration", {})),
        languages=tuple(meaning.get("languages", ())) or languages(model),
        chosen=chosen,
    )
    engine = Reranker(info, loaded.eval(), speedups=options.speedups if device == "cuda" else ())
    question, good, _ = KNOWN_PAIRS[0]
    if device == "cuda":
        engine.try_packs(engine.encode(question, [good, good * 8]))
    try_out(engine)
    _check_reading(engine)
    engine.warm_up(engine.encode(question, [good * 8] * 8))
    if device == "cpu" and compares_states:
        loaded[0].memory = StateMemory(loaded[0], memory_for_states())
    return engine


def _in_type(loaded: Any, wanted: str, *, device: str) -> tuple[Any, str, str]:
    """The cross-encoder in the type that is wanted, or in that of its device and why not.

    Returns: the model, the type's name, and one clause why it is not the one that was wanted.
    """
    from inference.interaction import Interaction

    compares_states = isinstance(loaded[0], Interaction)
    if device == "cpu":  # whatever it was saved in
        loaded.float()
    why = unfit(wanted, device=device, compares_states=compares_states)
    if needs_trial(wanted, device=device) and not why:

        def engine_of(model: Any) -> Reranker:
            most = min(RERANKER_MAX_TOKENS, model.max_seq_length or RERANKER_MAX_TOKENS)
            return Reranker(ModelInfo("trial", "", device, _dtype(model), most), model.eval())

        quick, why = in_quicker_type(loaded, wanted, engine_of=engine_of)
        if quick is not None:
            return quick, wanted, ""
    refused = f"{wanted} was asked for: {why}" if why else ""
    chosen = AUTO if why else wanted
    if device == "cuda" and not compares_states and chosen != "float32":
        in_half = half_type(device) if chosen == AUTO else chosen
        loaded.half() if in_half == "float16" else loaded.bfloat16()
    return loaded, _dtype(loaded), refused


def _of_one_type(engine: Reranker, options: Options) -> Reranker:
    """A reranker of a kind whose type is fixed, with what is to be said about the wanted one."""
    if options.dtype not in (AUTO, engine.described.dtype):
        refused = f"{options.dtype} was asked for: only cross-encoders can choose their type"
        engine.described = replace(engine.described, dtype_refused=refused)
    return engine


def _language_model(
    place: str,
    config: Mapping[str, Any],
    *,
    device: str,
    chosen: str,
    allowed: Mapping[str, Any],
) -> Reranker:
    """A causal language model as a reranker, tried like any other."""
    from inference.language_model import LanguageModelReranker, load

    loaded = load(place, config, device=device, **allowed)
    info = _described(place, loaded, device=device, chosen=chosen, allowed=allowed)
    engine = LanguageModelReranker(info, loaded)
    try_out(engine)
    question, good, _ = KNOWN_PAIRS[0]
    engine.warm_up(engine.encode(question, [good] * 2))
    return engine


def _late_interaction(
    place: str, *, device: str, chosen: str, allowed: Mapping[str, Any]
) -> Reranker:
    """A model of one vector per token as a reranker, tried like any other."""
    import torch

    from inference.late_interaction import LateInteractionReranker, load

    loaded = load(place, device=device, **allowed)
    loaded.to(getattr(torch, half_type(device)) if device == "cuda" else torch.float32)
    info = _described(place, loaded, device=device, chosen=chosen, allowed=allowed)
    most = min(RERANKER_MAX_TOKENS, loaded.max_seq_length or RERANKER_MAX_TOKENS)
    engine = LateInteractionReranker(replace(info, max_tokens=most), loaded.eval())
    try_out(engine)
    question, good, _ = KNOWN_PAIRS[0]
    engine.warm_up(engine.encode(question, [good * 8] * 8))
    return engine


def _described(
    place: str, loaded: Any, *, device: str, chosen: str, allowed: Mapping[str, Any]
) -> ModelInfo:
    folder = Path(place) if Path(place).is_dir() else None
    return ModelInfo(
        model_id=place,
        revision=revision(folder, hub_revision=_hub_commit(place, **allowed)),
        device=device,
        dtype=_dtype(loaded),
        max_tokens=RERANKER_MAX_TOKENS,
        languages=languages(place),
        chosen=chosen,
    )


def try_out(engine: Reranker) -> None:
    """Refuse a reranker that prefers an unrelated passage to the answering one.

    Raises:
        NoModel: it does so on one of KNOWN_PAIRS, or gives no usable numbers.
    """
    for question, good, bad in KNOWN_PAIRS:
        better, worse = engine.compute(engine.encode(question, [good, bad]))
        if not (np.isfinite(better) and np.isfinite(worse) and better > worse):
            raise NoModel(
                f"the reranker {engine.described.model_id} failed its trial: it gives "
                f"{better:.3f} to a passage that answers “{question}” and {worse:.3f} to one "
                "that does not"
            )


def _check_reading(engine: Reranker) -> None:
    """Refuse a cross-encoder whose own library makes other scores of the same pairs.

    It would be given them without the prompt or the template that it was trained with.

    Raises:
        NoModel: it is of that kind.
    """
    pairs = [(question, text) for question, *texts in KNOWN_PAIRS for text in texts]
    scores = [engine.compute(engine.encode(question, [text]))[0] for question, text in pairs]
    its_own = engine.model.predict(pairs, show_progress_bar=False)
    if not np.allclose(scores, its_own, rtol=READING_SHARE, atol=READING_LOGITS):
        raise NoModel(
            f"the reranker {engine.described.model_id} wants its pairs with a prompt or template "
            "of its own, which this server does not give"
        )


def cross_encoder(place: str, *, device: str | None = None, **allowed: Any) -> Any:
    """Load one from a folder or the hub, to give raw logits.

    The project's own network is known by its class, any other by what its files say.

    Args:
        allowed: what `remote_code.permit` gave.

    Raises:
        OSError, ValueError: it cannot be loaded.
    """
    import torch
    from sentence_transformers import CrossEncoder

    from inference.interaction import MODULE_TYPE, Interaction

    listed = Path(place) / "modules.json"
    if listed.is_file() and MODULE_TYPE in listed.read_text():
        modules = [Interaction.load(place)]
        return CrossEncoder(modules=modules, device=device, activation_fn=torch.nn.Identity())
    code = {"code_revision": allowed.pop("code_revision")} if "code_revision" in allowed else {}
    return CrossEncoder(
        place,
        device=device,
        activation_fn=torch.nn.Identity(),
        model_kwargs={**SAFE_WEIGHTS_ONLY, **code},
        config_kwargs=code,
        **allowed,
    )


def _meaning(folder: Path | None) -> dict[str, Any]:
    """What training found out about the model's logits, if the folder tells."""
    if folder is None or not (folder / CALIBRATION_FILE).is_file():
        return {}
    found: dict[str, Any] = json.loads((folder / CALIBRATION_FILE).read_text())
    return found


def _configurations(place: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The model's `config.json` and what sentence-transformers saved beside it; nothing is run.

    Raises:
        OSError: there is no `config.json`.
    """
    from sentence_transformers.util import load_file_path
    from transformers import PretrainedConfig

    found = load_file_path(place, "config_sentence_transformers.json")
    saved: dict[str, Any] = json.loads(Path(found).read_text()) if found else {}
    if saved.get("model_type") == "CrossEncoder" and not load_file_path(place, "config.json"):
        return {}, saved  # its first module has the configuration
    config, _ = PretrainedConfig.get_config_dict(place)
    if not config:
        raise OSError("there is no config.json")
    return config, saved


def _is_cross_encoder(config: Mapping[str, Any], saved: Mapping[str, Any]) -> bool:
    """Whether the model has a trained head with one output; loading would invent a missing one."""
    if saved.get("model_type") == "CrossEncoder":
        return True
    classifies = any("SequenceClassification" in name for name in config.get("architectures") or ())
    labels = len(config.get("id2label") or {}) or config.get("num_labels", 2)
    return classifies and labels == 1


def _is_language_model(config: Mapping[str, Any]) -> bool:
    """Whether it is a causal language model."""
    return any(name.endswith("ForCausalLM") for name in config.get("architectures") or ())


def _check_folder(model: str) -> None:
    folder = Path(model)
    if model.startswith(("/", ".", "~")) and not folder.is_dir():
        raise NoModel(f"the folder {model} does not exist")
    pickled = next((path for path in sorted(folder.rglob("*")) if path.suffix in PICKLED), None)
    if folder.is_dir() and pickled and not any(pickled.parent.glob("*.safetensors")):
        raise NoModel(
            f"{model} has weights in a format that can run code ({pickled.name}); save the model "
            "again as safetensors"
        )


def _dtype(loaded: Any) -> str:
    return str(loaded.dtype).removeprefix("torch.")


def _hub_commit(model: str, *, revision: str = "", **_: Any) -> str:
    """The commit of a model of the hub: the one that was allowed, or the one that was fetched."""
    return revision or fetched_commit(model) or "unknown"


def _first_line(exc: Exception) -> str:
    return str(exc).strip().partition("\n")[0][:300]
