"""Packs give what the model itself gives for the same texts, padded."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from inference.graphs import Graphs, _Recorded, to_next_size
from inference.packed import (
    Cores,
    Cuts,
    Pack,
    PackedClassifier,
    PackedEncoder,
    is_packable,
    varlen_attention,
)

SHAPE: dict[str, Any] = {
    "vocab_size": 200,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "num_labels": 1,
}
MODELS: dict[str, Any] = {
    "bert": lambda: BertForSequenceClassification(BertConfig(**SHAPE)),
    "roberta": lambda: RobertaForSequenceClassification(RobertaConfig(**SHAPE)),
    "xlm-roberta": lambda: XLMRobertaForSequenceClassification(XLMRobertaConfig(**SHAPE)),
}
LENGTHS = (5, 1, 40, 12, 12)


@pytest.fixture(params=sorted(MODELS))
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(3)
    made = MODELS[request.param]().eval()
    for name, values in made.named_parameters():
        if name.endswith("bias"):  # 0 before training, and then none could be forgotten
            torch.nn.init.normal_(values.data, std=0.3)
    return made


@pytest.fixture
def texts(model: Any) -> list[torch.Tensor]:
    chooser = torch.Generator().manual_seed(1)
    return [torch.randint(5, 200, (length,), generator=chooser) for length in LENGTHS]


def packed(texts: list[torch.Tensor], types: list[torch.Tensor] | None = None) -> Pack:
    types = types or [torch.zeros_like(text) for text in texts]
    return Pack.of([text.tolist() for text in texts], [text.tolist() for text in types])


def padded(model: Any, texts: list[torch.Tensor], **more: torch.Tensor) -> dict[str, torch.Tensor]:
    pad = model.config.pad_token_id
    ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=pad)
    mask = torch.arange(ids.shape[1]) < torch.tensor([len(t) for t in texts]).unsqueeze(1)
    return {"input_ids": ids, "attention_mask": mask.long(), **more}


def test_logits_are_those_of_the_model(model: Any, texts: list[torch.Tensor]) -> None:
    with torch.inference_mode():
        wanted = model(**padded(model, texts)).logits.reshape(-1)
        found = PackedClassifier(model).logits(packed(texts))
        again = model(**padded(model, texts)).logits.reshape(-1)

    np.testing.assert_allclose(found.numpy(), wanted.numpy(), atol=1e-5)
    np.testing.assert_array_equal(again.numpy(), wanted.numpy())  # its weights are as they were


def test_states_are_those_of_the_model(model: Any, texts: list[torch.Tensor]) -> None:
    with torch.inference_mode():
        rows = model.base_model(**padded(model, texts)).last_hidden_state
        found = PackedEncoder(model.base_model).states(packed(texts))

    wanted = torch.cat([row[: len(text)] for row, text in zip(rows, texts, strict=True)])
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), atol=1e-5)


def test_the_second_text_of_a_pair_keeps_its_type() -> None:
    torch.manual_seed(3)
    model = MODELS["bert"]().eval()
    text, types = torch.arange(10, 20), torch.tensor([0] * 4 + [1] * 6)
    pack = packed([text, text], [types, torch.zeros_like(types)])
    with torch.inference_mode():
        wanted = model(input_ids=text[None], token_type_ids=types[None]).logits.reshape(-1)
        found = PackedClassifier(model).logits(pack)

    np.testing.assert_allclose(found[:1].numpy(), wanted.numpy(), atol=1e-6)
    assert abs(float(found[0] - found[1])) > 2e-5


@pytest.mark.parametrize(
    "changed", [{"hidden_act": "relu"}, {"is_decoder": True}, {"model_type": "deberta-v2"}]
)
def test_a_model_of_another_kind_is_left_alone(changed: dict[str, Any]) -> None:
    model = MODELS["bert"]()
    assert is_packable(model)

    for name, value in changed.items():
        if name == "model_type":
            type(model.config).model_type = value
        else:
            setattr(model.config, name, value)
    try:
        assert not is_packable(model)
    finally:
        type(model.config).model_type = "bert"


@pytest.mark.parametrize("lengths", [[7], [3, 3], [500, 10, 20], [100] * 40, list(range(1, 90))])
def test_every_text_goes_to_one_core(lengths: list[int]) -> None:
    cores = Cores()
    shares = cores.shares(lengths)

    assert sorted(n for share in shares for n in share) == list(range(len(lengths)))
    wait = cores.begin(
        lambda pack: pack.ids.sum().reshape(1),
        [packed([torch.tensor([n]) for n in share]) for share in shares],
    )
    assert [int(total) for total in wait()] == [sum(share) for share in shares]


def test_the_cores_compute_alone_and_other_threads_as_before() -> None:
    wanted = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        cores = Cores()

        assert set(cores.begin(lambda _: torch.get_num_threads(), range(8))()) == {1}
        with ThreadPoolExecutor(1) as later:
            assert later.submit(torch.get_num_threads).result() == 2
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(wanted)


def by_offsets(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, asked: Cuts, read: Cuts
) -> torch.Tensor:
    """What the kernel of `torch.nn.attention.varlen` is documented to give, from the same values:
    the offsets alone say where texts lie."""
    found = torch.zeros_like(query)
    ends = zip(asked.ends.tolist(), asked.ends.tolist()[1:], strict=False)
    others = zip(read.ends.tolist(), read.ends.tolist()[1:], strict=False)
    for (begin, end), (other_begin, other_end) in zip(ends, others, strict=True):
        assert end - begin <= asked.longest
        assert other_end - other_begin <= read.longest
        scores = torch.einsum(
            "qhd,khd->hqk", query[begin:end], key[other_begin:other_end]
        ) / math.sqrt(query.shape[-1])
        found[begin:end] = torch.einsum(
            "hqk,khd->qhd", scores.softmax(-1), value[other_begin:other_end]
        )
    return found


def test_what_the_kernel_of_a_gpu_is_told_gives_the_logits_of_the_model(
    model: Any, texts: list[torch.Tensor]
) -> None:
    with torch.inference_mode():
        wanted = model(**padded(model, texts)).logits.reshape(-1)
        found = PackedClassifier(model, attention=by_offsets).logits(packed(texts))

    np.testing.assert_allclose(found.numpy(), wanted.numpy(), atol=1e-5)


def test_texts_without_meaning_beside_them_change_nothing(
    model: Any, texts: list[torch.Tensor]
) -> None:
    pack = packed(texts)
    with torch.inference_mode():
        wanted = PackedClassifier(model).logits(pack)
        filled = to_next_size(pack, longest=60)
        found = PackedClassifier(model, attention=by_offsets).logits(filled)

    assert (len(filled.ids), len(filled.cuts.lengths)) == (1024, 32)
    assert max(filled.cuts.lengths) == 60
    np.testing.assert_allclose(found[: len(texts)].numpy(), wanted.numpy(), atol=1e-5)


@dataclass
class Replayed:
    """In place of a recording of kernels: computes again from where the texts are put."""

    compute: Callable[[Pack], torch.Tensor]
    pack: Pack
    result: torch.Tensor

    def replay(self) -> None:
        self.result.copy_(self.compute(self.pack))


def test_a_recording_is_made_once_for_a_size_and_gives_each_batch_its_own(
    model: Any, texts: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = PackedClassifier(model, attention=by_offsets)
    recorded: list[Pack] = []

    def record(self: Graphs, pack: Pack) -> _Recorded:
        recorded.append(pack)
        result = torch.zeros(len(pack.cuts.lengths))
        return _Recorded(Replayed(classifier.logits, pack, result), pack, result)

    monkeypatch.setattr(Graphs, "_record", record)
    graphs = Graphs(classifier.logits, longest=60)
    with torch.inference_mode():
        for some in (texts, texts[2:], texts[::-1], texts[:1]):
            types = [(text % 2) * (model.config.type_vocab_size - 1) for text in some]
            pack = packed(some, types)
            np.testing.assert_allclose(graphs(pack), classifier.logits(pack), atol=1e-5)

    assert [(len(pack.ids), len(pack.cuts.lengths)) for pack in recorded] == [(1024, 32)]


def test_product_and_gelu_in_one_are_those_of_the_model(
    model: Any, texts: list[torch.Tensor]
) -> None:
    classifier = PackedClassifier(model)
    classifier.encoder.fuse_gelu()
    with torch.inference_mode():
        wanted = model(**padded(model, texts)).logits.reshape(-1)
        found = classifier.logits(packed(texts))

    np.testing.assert_allclose(found.numpy(), wanted.numpy(), atol=1e-5)


@pytest.mark.parametrize("model", ["bert"], indirect=True)
def test_layers_that_are_compiled_give_the_same_and_are_compiled_once(
    model: Any, texts: list[torch.Tensor]
) -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    classifier = PackedClassifier(model)
    classifier.encoder.compile(backend="aot_eager")
    with torch.inference_mode():
        for some in (texts, texts[:2], texts[1:]):
            wanted = model(**padded(model, some)).logits.reshape(-1)
            found = classifier.logits(packed(some))
            np.testing.assert_allclose(found.numpy(), wanted.numpy(), atol=1e-5)

    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2


def test_the_kernel_of_a_gpu_takes_what_it_is_given() -> None:
    """Its shapes and types, without a GPU: nothing is computed."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():

        def empty(tokens: int) -> torch.Tensor:
            return torch.empty(tokens, 4, 16, device="cuda", dtype=torch.bfloat16)

        ends = torch.zeros(3, device="cuda", dtype=torch.int32)
        read = Cuts(ends, [20, 40], 40)
        whole = varlen_attention(empty(60), empty(60), empty(60), read, read)
        firsts = varlen_attention(empty(2), empty(60), empty(60), Cuts(ends, [1, 1], 1), read)

    assert (whole.shape, firsts.shape) == ((60, 4, 16), (2, 4, 16))
    assert str(whole.device) == "cuda:0"
