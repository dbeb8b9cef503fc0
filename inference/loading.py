"""From a name to an engine: models are loaded, tried, and refused with a reason."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from inference.catalogue import BUNDLED, languages
from inference.choice import NONE, PATHS, fetched_commit
from inference.devices import best_device, half_type, memory_for_states, multiplies_bfloat16
from inference.engines import Embedder, Reranker
from inference.errors import NoModel, first_line
from inference.models_on_disk import (
    BUNDLED_RERANKER,
    CALIBRATION_FILE,
    embedder_folder,
    revision,
)
from inference.precision import AUTO, Options, cast, in_quicker_type, needs_trial, unfit
from inference.remote_code import permit
from inference.types import Calibration, ModelInfo

logger = logging.getLogger(__name__)

RERANKER_MAX_TOKENS = 512
# Vectors with half the bits must be nearer than this to those in float32, which questions have.
HALF_COSINE = 0.999
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
    except (OSError, ValueError, SafetensorError) as exc:
        raise NoModel(f"the embedding model {model} cannot be loaded: {first_line(exc)}") from exc
    info = ModelInfo(
        model_id=model,
        revision=revision(folder, hub_revision=_hub_commit(model)),
        device=device,
        dtype=_dtype(loaded),
        max_tokens=int(loaded.max_seq_length or 512),
        dimension=int(loaded.get_embedding_dimension() or 0),
    )
    engine = Embedder(info, loaded)
    _check_vocabulary("embedding model", engine)
    engine.warm_up(engine.encode([KNOWN_PAIRS[0][1] * 8] * 8))
    if device == "cuda" or multiplies_bfloat16():
        engine.half = in_half(engine)
    return engine


def _bi_encoder(model: str, device: str) -> Any:
    """The model of sentence-transformers in float32, whatever it was saved in.

    Raises:
        OSError, ValueError: it cannot be loaded.
    """
    from sentence_transformers import SentenceTransformer

    place = str(embedder_folder(model) or model)
    loaded = SentenceTransformer(place, device=device, model_kwargs=SAFE_WEIGHTS_ONLY)
    return cast(loaded, "float32").eval()


def in_half(exact: Embedder) -> Embedder | None:
    """The same model with half the bits, if its vectors are those of `exact` to HALF_COSINE.

    Only where texts are computed without padding: of those kinds of model it is known quicker.
    """
    info = replace(exact.described, dtype=half_type(exact.described.device))
    # Loaded again, because engines replace layers of their models.
    half = Embedder(info, cast(_bi_encoder(info.model_id, info.device), info.dtype))
    if not half.is_packed:
        return None
    texts = exact.encode([text for pair in KNOWN_PAIRS for text in pair])
    try:
        cosines = (exact.compute(texts) * half.compute(texts)).sum(axis=1)
    except (RuntimeError, TypeError):  # a kernel that this GPU or this torch lacks
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
    if model == NONE:
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
            if _is_bi_encoder(place):
                raise NoModel(
                    f"{model} is an embedding model (a bi-encoder), not a cross-encoder, so it "
                    "cannot rerank"
                )
            raise NoModel(f"{model} is not a cross-encoder with one output, so it cannot rerank")
        loaded = cross_encoder(place, device=device, **allowed)
    except (OSError, ValueError, SafetensorError) as exc:
        raise NoModel(f"the reranker {model} cannot be loaded: {first_line(exc)}") from exc
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
        cast(loaded, half_type(device) if chosen == AUTO else chosen)
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

    from inference.late_interaction import LateInteractionReranker, load

    loaded = load(place, device=device, **allowed)
    cast(loaded, half_type(device) if device == "cuda" else "float32")
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
        NoModel: it does so on one of KNOWN_PAIRS, gives no usable numbers, or knows no words.
    """
    _check_vocabulary("reranker", engine)
    for question, good, bad in KNOWN_PAIRS:
        better, worse = engine.compute(engine.encode(question, [good, bad]))
        if not (np.isfinite(better) and np.isfinite(worse) and better > worse):
            raise NoModel(
                f"the reranker {engine.described.model_id} failed its trial: it gives "
                f"{better:.3f} to a passage that answers “{question}” and {worse:.3f} to one "
                "that does not"
            )


def _check_vocabulary(kind: str, engine: Embedder | Reranker) -> None:
    """Refuse a model whose tokenizer transformers has made up, because its files are missing.

    Raises:
        NoModel: it knows nothing but its special tokens.
    """
    tokenizer = engine.model.tokenizer
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        name = engine.described.model_id
        raise NoModel(f"the {kind} {name} knows no words: the files of its tokenizer are missing")


def _check_reading(engine: Reranker) -> None:
    """Refuse a cross-encoder whose own library makes other scores of the same pairs.

    It would be given them without the prompt or the template that it was trained with.

    Raises:
        NoModel: it is of that kind.
    """
    pairs = [(question, text) for question, *texts in KNOWN_PAIRS for text in texts]
    pairs.append((pairs[0][0], pairs[0][1] * 8))  # longer than a window of attention
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


def _is_bi_encoder(place: str) -> bool:
    """Whether sentence-transformers has saved it as a model of vectors."""
    from sentence_transformers.util import load_file_path

    return load_file_path(place, "modules.json") is not None


def _is_language_model(config: Mapping[str, Any]) -> bool:
    """Whether it is a causal language model."""
    return any(name.endswith("ForCausalLM") for name in config.get("architectures") or ())


def _check_folder(model: str) -> None:
    folder = Path(model)
    if model.startswith(PATHS) and not folder.is_dir():
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
