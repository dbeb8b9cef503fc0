"""What a GPU is given, without one: tensors that have a device, a type and a shape, and no values.

A tensor on the wrong device, a type that a kernel does not take, and whatever would wait for the
host fail here as they would there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from inference import loading, modernbert
from inference.eight_bits import convert
from inference.engines import Embedder, Reranker
from inference.graphs import to_next_size
from inference.models_on_disk import DEFAULT_EMBEDDER, embedder_folder
from inference.packed import Pack, PackedClassifier
from inference.precision import FLOAT8
from inference.types import ModelInfo

GPU = "cuda:0"
LAYERS = 3
SHAPE: dict[str, Any] = {
    "vocab_size": 200,
    "hidden_size": 64,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "max_position_embeddings": 64,
    "num_labels": 1,
}
MODELS: dict[str, Callable[[], Any]] = {
    "bert": lambda: BertForSequenceClassification(BertConfig(**SHAPE)),
    "xlm-roberta": lambda: XLMRobertaForSequenceClassification(XLMRobertaConfig(**SHAPE)),
}
TEXTS = [[5] * 3, [6], [7] * 40]


# What is called for an array that is on its way to the GPU, and launches nothing.
BEFORE_THE_COPY = ("aten.lift_fresh", "prim.device")


class Kernels(TorchDispatchMode):  # type: ignore[misc]
    """Counts what is launched, and refuses what a GPU would refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.launched: Counter[str] = Counter()

    def __torch_dispatch__(self, operator: Any, _: Any, given: Any = (), named: Any = None) -> Any:
        name = str(operator).removesuffix(".default")
        tensors = [value for value in given if isinstance(value, torch.Tensor)]
        found = operator(*given, **(named or {}))
        if name in BEFORE_THE_COPY:
            return found
        made = found if isinstance(found, tuple | list) else [found]
        assert all(value.is_cuda for value in made if isinstance(value, torch.Tensor)), name
        if name != "aten._to_copy":
            assert all(value.is_cuda for value in tensors), f"{name} reads from the host"
        if name == "torch_attn._varlen_attn":
            query, key, value, *ends = tensors
            for states in (query, key, value):
                assert states.dtype in (torch.float16, torch.bfloat16)
                assert states.stride(-1) == 1
                assert states.shape[-1] % 8 == 0
            assert [each.dtype for each in ends] == [torch.int32] * 2
            assert [type(most) for most in given[5:7]] == [int, int]
        if name == "aten._scaled_mm":
            rows, weights = tensors[:2]
            assert rows.is_contiguous()
            assert weights.t().is_contiguous()
            assert rows.shape[1] % 16 == weights.shape[1] % 16 == 0
        if name == "aten.segment_reduce":
            assert named["unsafe"], "it checks the lengths, on the host"
        self.launched[name] += 1
        return found


class Indexing(TorchFunctionMode):  # type: ignore[misc]
    """Indexing asks the driver which GPU is at work, and there is none: these operators do not."""

    def __torch_function__(self, function: Any, _: Any, given: Any = (), named: Any = None) -> Any:
        if function is torch.Tensor.contiguous:
            return given[0].clone(memory_format=torch.contiguous_format)
        if function is not torch.Tensor.__getitem__:
            return function(*given, **(named or {}))
        found, keys = given
        axis, keys = 0, keys if isinstance(keys, tuple) else (keys,)
        for n, key in enumerate(keys):
            if isinstance(key, int):
                found = found.select(axis, key)
                continue
            if key is ...:
                axis = found.ndim - sum(later is not None for later in keys[n + 1 :])
                continue
            if key is None:
                found = found.unsqueeze(axis)
            elif isinstance(key, slice):
                begin, end, _step = key.indices(found.shape[axis])
                found = found.narrow(axis, begin, max(0, end - begin))
            else:
                found = found.index_select(axis, key)
            axis += 1
        return found


@contextmanager
def gpu(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """With a model on a GPU of the Ampere generation, as far as anything here can tell."""
    read = torch.from_numpy
    mode = FakeTensorMode()
    monkeypatch.setattr(torch, "from_numpy", lambda values: mode.from_tensor(read(values)))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    with mode, Indexing(), torch.no_grad():
        for module in model.modules():
            for held in (module._parameters, module._buffers):
                for name, value in held.items():
                    if value is not None:
                        there = torch.empty(value.shape, dtype=value.dtype, device=GPU)
                        parameter = isinstance(value, nn.Parameter)
                        held[name] = (
                            nn.Parameter(there, requires_grad=False) if parameter else there
                        )
        yield


def pack() -> Pack:
    return Pack.of(TEXTS, [[0] * len(text) for text in TEXTS], GPU)


@pytest.mark.parametrize("kind", sorted(MODELS))
@pytest.mark.parametrize("fused", [False, True])
def test_a_layer_is_ten_operators_and_none_waits_for_the_host(
    kind: str, fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = MODELS[kind]().bfloat16().eval()
    with gpu(model, monkeypatch):
        classifier = PackedClassifier(model)
        if fused:
            classifier.encoder.fuse_gelu()
        given = pack()
        with Kernels() as kernels:
            logits = classifier.logits(given)
            filled = classifier.logits(to_next_size(given, longest=60))

    assert (logits.shape, logits.dtype, str(logits.device)) == ((3,), torch.bfloat16, GPU)
    assert filled.shape == (32,)
    one_pass = {name: count / 2 for name, count in kernels.launched.items()}
    head = 2
    # Queries, keys and values are one product, but apart in the last layer.
    products = 4 * LAYERS + 1 + head
    assert one_pass["torch_attn._varlen_attn"] == LAYERS
    assert one_pass["aten.native_layer_norm"] == 2 * LAYERS + 1
    assert one_pass["aten.add.Tensor"] == 2 * LAYERS + 3
    assert one_pass["aten.addmm"] == products - (LAYERS if fused else 0)
    assert one_pass.get("aten.gelu", 0) == (0 if fused else LAYERS)
    assert one_pass.get("aten._addmm_activation", 0) == (LAYERS if fused else 0)


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_products_in_float8_are_given_what_their_kernel_takes(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = MODELS[kind]().bfloat16().eval()
    convert(model, FLOAT8)
    with gpu(model, monkeypatch):
        classifier = PackedClassifier(model)
        given = pack()
        with Kernels() as kernels:
            logits = classifier.logits(given)

    assert (logits.shape, logits.dtype) == ((3,), torch.bfloat16)
    assert kernels.launched["aten._scaled_mm"] == 4 * LAYERS + 1


def test_a_modernbert_computes_its_windows_on_the_gpu_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    special: dict[str, Any] = {
        f"{name}_token_id": n for n, name in enumerate(("pad", "bos", "eos", "cls", "sep"))
    }
    config = ModernBertConfig(**SHAPE, **special, local_attention=8, classifier_pooling="cls")
    model: Any = ModernBertForSequenceClassification(config).bfloat16().eval()
    with gpu(model, monkeypatch):
        compute = modernbert.classifier(model)
        assert compute is not None
        given = pack()
        with Kernels() as kernels:
            logits = compute(given)

    assert (logits.shape, logits.dtype, str(logits.device)) == ((3,), torch.bfloat16, GPU)
    assert kernels.launched["torch_attn._varlen_attn"] == LAYERS


def test_a_reranker_and_an_embedder_compute_a_batch_on_the_gpu_alone(
    cross_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentence_transformers import SentenceTransformer

    info = ModelInfo("tiny", "r", GPU, "bfloat16", 64)
    reader = loading.cross_encoder(str(cross_encoder), device="cpu").bfloat16().eval()
    with gpu(reader, monkeypatch):
        reranker = Reranker(info, reader)
        pairs = reranker.encode("Which engine?", ["a copper engine", "the harbour " * 60])
        with Kernels() as kernels:
            assert reranker._together(pairs).shape == (2,)
    assert kernels.launched["torch_attn._varlen_attn"] == 2

    folder = str(embedder_folder(DEFAULT_EMBEDDER))
    bi_encoder = SentenceTransformer(folder, device="cpu").bfloat16().eval()
    with gpu(bi_encoder, monkeypatch):
        embedder = Embedder(info, bi_encoder)
        texts = embedder.encode(["a copper engine", "the harbour " * 60])
        with Kernels() as kernels:
            vectors = embedder._together(texts)
    assert (vectors.shape, str(vectors.device)) == ((2, 384), GPU)
    assert kernels.launched["torch_attn._varlen_attn"] == 6
