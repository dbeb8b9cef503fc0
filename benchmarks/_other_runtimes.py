"""The same cross-encoder in ONNX Runtime and in OpenVINO: as the backends run it, and at its best.

Needs `onnx`, `onnxscript`, `onnxruntime` (which comes with Chroma) and `openvino`, and `nncf` for
OpenVINO's int8; what is not installed is left out. They go beside the project's environment by

    pip install --no-deps --target DIR onnx onnx-ir ml-dtypes onnxscript openvino \\
        nncf openvino-telemetry pydot pyparsing tabulate ninja

and `PYTHONPATH=DIR`. `CrossEncoder(backend="onnx")` and `backend="openvino"` load models by
optimum, which cannot be installed beside the pinned transformers. So torch's exporter, by
which optimum exports too, writes the model here, and what the backend does is done by hand:

- backend: `CrossEncoder.predict`'s own batches of 32, sorted and padded as it does, one after the
  other on all cores, the runtime at its defaults. On a processor that multiplies bfloat16
  OpenVINO's default is to compute in that, which the arm's name says.
- stream per core: the best that was found. Texts are tokenised all at once, as ours are, and
  sorted by tokens, the longest first; ONNX Runtime reads one at a time, without padding, OpenVINO
  four, and each core takes the next ones as soon as it is free.
- int8: the same way, linear layers quantised as sentence-transformers' exports do it: ONNX
  Runtime's by the batch (dynamic, per channel), OpenVINO's by `nncf.quantize` for transformers,
  calibrated on 300 pairs made of the samples.

Of ONNX Runtime's own optimizer for BERT (fused attention) nothing is used: it was slower here.

All of them read the token ids that `predict` reads. The last layer is computed for all tokens:
to compute it for the first one alone is ours.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from inference.engines import Encoded, Reranker

PACKAGES = ("onnx", "onnxscript", "onnxruntime", "openvino", "nncf")
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
BACKEND_BATCH = 32
# Of one stream: of 1, 2 and 4, what took least processor time for the MiniLM-L6 shape, 120 tokens.
ONNXRUNTIME_BATCH, OPENVINO_BATCH = 1, 4
CALIBRATION_PAIRS = 300
OPSET = 17
TYPES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}

Array = np.ndarray[Any, Any]
Arm = Callable[[str, Sequence[str]], Array]
# Inputs by name, each (n, t), to the logits of n pairs.
Feed = dict[str, Array]
Run = Callable[[Feed], Array]
RunAll = Callable[[Sequence[Feed]], Sequence[Array]]


def arms(model: Any, engine: Reranker, calibration: Sequence[tuple[str, str]]) -> dict[str, Arm]:
    """Each runtime's arms around one cross-encoder of sentence-transformers.

    Args:
        engine: ours around the same weights, which tokenises for the streams.
        calibration: pairs of question and passage to quantise by.
    """
    there, missing = _installed()
    if missing:
        print(f"without {', '.join(missing)}, so some other runtimes are left out", flush=True)
    if not {"onnx", "onnxscript", "onnxruntime"} <= there.keys():
        return {}
    made: dict[str, Arm] = {}
    with tempfile.TemporaryDirectory() as folder, _quiet():
        exported = _export(model, Path(folder))
        made |= _onnxruntime(there["onnxruntime"], exported, model, engine)
        if "openvino" in there:
            made |= _openvino(
                there["openvino"], there.get("nncf"), exported, model, engine, calibration
            )
    return made


def _onnxruntime(
    runtime: ModuleType, exported: Path, model: Any, engine: Reranker
) -> dict[str, Arm]:
    cores = torch.get_num_threads()

    def session(path: Path, threads: int) -> Run:
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        made = runtime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        takes = [given.name for given in made.get_inputs()]
        return lambda feed: made.run(None, {name: feed[name] for name in takes})[0]

    def streams(path: Path) -> RunAll:
        run, pool = session(path, 1), ThreadPoolExecutor(cores)
        return lambda feeds: list(pool.map(run, feeds))

    eight = exported.with_name("int8.onnx")
    quantization = importlib.import_module("onnxruntime.quantization")
    quantization.quantize_dynamic(str(exported), str(eight), per_channel=True)
    return {
        "onnxruntime, backend": _as_predict(model, session(exported, cores)),
        "onnxruntime, stream per core": _in_streams(engine, streams(exported), ONNXRUNTIME_BATCH),
        "onnxruntime int8, stream per core": _in_streams(engine, streams(eight), ONNXRUNTIME_BATCH),
    }


def _openvino(
    runtime: ModuleType,
    nncf: ModuleType | None,
    exported: Path,
    model: Any,
    engine: Reranker,
    calibration: Sequence[tuple[str, str]],
) -> dict[str, Arm]:
    core, cores = runtime.Core(), torch.get_num_threads()
    # What optimum sets; the rest is the runtime's to choose.
    whole = core.compile_model(str(exported), "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    usual = TYPES[whole.get_property("INFERENCE_PRECISION_HINT").to_string()]

    def streams(network: Any, **settings: str) -> RunAll:
        each = {"NUM_STREAMS": cores, "INFERENCE_NUM_THREADS": cores, **settings}
        queue = runtime.AsyncInferQueue(core.compile_model(network, "CPU", each), cores)

        def run(feeds: Sequence[Feed]) -> Sequence[Array]:
            found: dict[int, Array] = {}
            queue.set_callback(
                lambda request, n: found.update({n: request.get_output_tensor(0).data.copy()})
            )
            for n, feed in enumerate(feeds):
                queue.start_async(feed, n)
            queue.wait_all()
            return [found[n] for n in range(len(feeds))]

        return run

    exact = streams(str(exported), INFERENCE_PRECISION_HINT="f32")
    made = {
        f"openvino {usual}, backend": _as_predict(model, lambda feed: np.array(whole(feed)[0])),
        "openvino float32, stream per core": _in_streams(engine, exact, OPENVINO_BATCH),
    }
    if usual != TYPES["f32"]:
        name = f"openvino {usual}, stream per core"
        made[name] = _in_streams(engine, streams(str(exported)), OPENVINO_BATCH)
    if nncf is not None:
        feeds = [_padded(engine.encode(asked, [text])) for asked, text in calibration]
        nncf.set_log_level(logging.ERROR)
        eight = nncf.quantize(
            core.read_model(str(exported)),
            nncf.Dataset(feeds),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(feeds),
        )
        made["openvino int8, stream per core"] = _in_streams(engine, streams(eight), OPENVINO_BATCH)
    return made


def _as_predict(model: Any, run: Run) -> Arm:
    """The loop of `CrossEncoder.predict` around another runtime."""

    def score(question: str, texts: Sequence[str]) -> Array:
        order = sorted(range(len(texts)), key=lambda n: -len(texts[n]))
        logits = np.zeros(len(texts), np.float32)
        for begin in range(0, len(texts), BACKEND_BATCH):
            some = order[begin : begin + BACKEND_BATCH]
            features = model.preprocess([(question, texts[n]) for n in some])
            logits[some] = run({name: features[name].numpy() for name in INPUTS}).reshape(-1)
        return logits

    return score


def _in_streams(engine: Reranker, run: RunAll, size: int) -> Arm:
    """Texts of about one length together, the longest first, each stream for itself."""

    def score(question: str, texts: Sequence[str]) -> Array:
        encoded = engine.encode(question, texts)
        order = sorted(range(len(texts)), key=lambda n: -encoded[n].tokens)
        groups = [order[n : n + size] for n in range(0, len(order), size)]
        feeds = [_padded([encoded[n] for n in group]) for group in groups]
        logits = np.zeros(len(texts), np.float32)
        for group, found in zip(groups, run(feeds), strict=True):
            logits[group] = found.reshape(-1)
        return logits

    return score


def _padded(batch: Sequence[Encoded]) -> Feed:
    width = max(item.tokens for item in batch)
    feed = {name: np.zeros((len(batch), width), np.int64) for name in INPUTS}
    for row, item in enumerate(batch):
        for name in INPUTS:
            feed[name][row, : item.tokens] = item.ids[name]
    return feed


def _export(model: Any, folder: Path) -> Path:
    """Write the model as ONNX. Attention in single steps: the runtimes know how to fuse those."""
    path, inner = folder / "model.onnx", model[0].auto_model
    usual = inner.config._attn_implementation
    inner.set_attn_implementation("eager")
    torch.onnx.export(
        inner,
        tuple(torch.ones(2, 8, dtype=torch.long) for _ in INPUTS),
        str(path),
        input_names=list(INPUTS),
        output_names=["logits"],
        dynamic_axes={name: {0: "n", 1: "t"} for name in INPUTS},
        opset_version=OPSET,
        dynamo=False,
    )
    inner.set_attn_implementation(usual)
    return path


def _installed() -> tuple[dict[str, ModuleType], list[str]]:
    # nncf reports its use to its makers otherwise.
    os.environ["NNCF_CI"] = "1"
    there: dict[str, ModuleType] = {}
    for name in PACKAGES:
        with contextlib.suppress(ImportError):
            there[name] = importlib.import_module(name)
    return there, [name for name in PACKAGES if name not in there]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the notes and progress of exporters and quantisers."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
