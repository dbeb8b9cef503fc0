"""What stands on an encoder without padding: packs of n texts in, unit vectors or logits out.

Of classifiers of transformers, and of models of sentence-transformers that are an encoder, a
pooling and layers behind it. Each function gives None for a model that has to be padded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from inference import modernbert, packed

if TYPE_CHECKING:
    from torch import Tensor

    from inference.packed import Pack

OnPacks = Callable[["Pack"], "Tensor"]


def vectors(modules: Any) -> OnPacks | None:
    """Unit vectors (n, d) of a bi-encoder, in float32."""
    from sentence_transformers.sentence_transformer.modules import Normalize

    pooled = _pooled(modules)
    if pooled is None or not all(isinstance(module, Normalize) for module in list(modules)[2:]):
        return None
    return lambda pack: torch.nn.functional.normalize(pooled(pack).float(), dim=1)


def logits(modules: Any, speedups: Sequence[str] = ()) -> OnPacks | None:
    """Logits (n,) of a cross-encoder.

    Args:
        speedups: of `precision.SPEEDUPS`; those of the encoder are used, if it has them.
    """
    if len(modules) > 1:
        return _scores(modules, speedups)
    inner = getattr(modules[0], "auto_model", None)
    if not type(inner).__name__.endswith("ForSequenceClassification"):
        return None
    if packed.is_packable(inner):
        classifier = packed.PackedClassifier(inner)
        _speed_up(classifier.encoder, speedups)
        return classifier.logits
    return modernbert.classifier(inner) if modernbert.is_packable(inner) else None


def missing(modules: Any, speedups: Sequence[str]) -> list[str]:
    """Those of the speed-ups that the model's encoder does not have."""
    if packed.is_packable(getattr(modules[0], "auto_model", None)):
        return []
    return [name for name in speedups if name != "graphs"]


def pooling_mode(modules: Any) -> str:
    """How states of tokens become one, as the model's own configuration names it."""
    return str(getattr(modules[1], "pooling_mode", "")) if len(modules) > 1 else ""


def _scores(modules: Any, speedups: Sequence[str]) -> OnPacks | None:
    pooled = _pooled(modules, speedups)
    if pooled is None:
        return None

    def scores(pack: Pack) -> Tensor:
        features = {"sentence_embedding": pooled(pack)}
        for module in list(modules)[2:]:
            features = module(features)
        return features["scores"].reshape(-1)

    return scores


def _pooled(modules: Any, speedups: Sequence[str] = ()) -> OnPacks | None:
    """One state (n, d) of each text, as the encoder and the pooling give that come first."""
    encoder = _encoder(getattr(modules[0], "auto_model", None))
    pooling = pooling_mode(modules)
    if encoder is None or pooling not in ("mean", "cls"):
        return None
    _speed_up(encoder, speedups)

    def pooled(pack: Pack) -> Tensor:
        if pooling == "cls":
            return encoder.states(pack, first_only=True)
        states, lengths = encoder.states(pack), pack.cuts.ends.diff().long()
        # Unchecked: the checks would wait for the device.
        means = torch.segment_reduce(states.float(), "mean", lengths=lengths, unsafe=True)
        return means.to(states.dtype)

    return pooled


def _encoder(model: Any) -> packed.PackedEncoder | modernbert.PackedModernBert | None:
    if packed.is_packable(model):
        return packed.PackedEncoder(model)
    return modernbert.PackedModernBert(model) if modernbert.is_packable(model) else None


def _speed_up(encoder: Any, speedups: Sequence[str]) -> None:
    if not isinstance(encoder, packed.PackedEncoder):
        return
    if "gelu" in speedups:
        encoder.fuse_gelu()
    if "compile" in speedups:
        encoder.compile()
