"""The GPU benchmark runs on a CPU with a tiny model, and what it compares computes the same."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import _gpu_ladder
from benchmarks import _gpu_models as gpu
from benchmarks.rerank_gpu import main
from inference.scheduler import Lane, Scheduler
from tests.inference.stand_ins import BREAKS, HeldEngine, encoded

QUICK = ("--shape", "tiny", "--pairs", "6", "--rounds", "1", "--lengths", "nq")


@pytest.fixture(scope="module", params=["tiny", "tiny-bert"])
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> gpu.Models:
    return gpu.Models(request.param, str(tmp_path_factory.mktemp("weights")), "cpu")


@pytest.fixture
def asked() -> gpu.Pairs:
    return gpu.pairs("uniform", count=12)


@pytest.fixture
def wanted(models: gpu.Models, asked: gpu.Pairs) -> Any:
    scores = gpu.predict(models.exact).score(asked)
    assert scores.std() > 0.01  # or any two ways would agree
    return scores


def test_the_re_headed_model_gives_the_scores_of_the_model_itself(
    models: gpu.Models, asked: gpu.Pairs, wanted: Any
) -> None:
    modular, note = gpu.re_headed(models, torch.float32)

    np.testing.assert_allclose(gpu.predict(modular).score(asked), wanted, atol=1e-5)
    assert note == "padded: no flash attention wheel"


@pytest.mark.parametrize("make", [gpu.padded_linears, gpu.whole_last_layer])
def test_steps_on_the_way_to_packs_give_the_scores_of_the_model_itself(
    models: gpu.Models, asked: gpu.Pairs, wanted: Any, make: Any
) -> None:
    engine = models.with_logits(make, models.load(torch.float32))

    np.testing.assert_allclose(gpu.ours(engine).score(asked), wanted, atol=1e-5)


@pytest.mark.parametrize("is_packed", [True, False])
def test_batches_are_those_of_the_queue(is_packed: bool) -> None:
    engine = HeldEngine(batch_tokens=60, is_packed=is_packed)
    engine.gate.set()
    lengths = [n for n in range(1, 40) if n != BREAKS]
    texts = encoded(*random.Random(2).choices(lengths, k=40))
    scheduler = Scheduler()
    try:
        scheduler.submit(engine, texts, lane=Lane.QUESTION).result(20)
    finally:
        scheduler.close()

    found = gpu.batches(texts, 60, is_packed=is_packed)

    assert [[texts[n].tokens for n in batch] for batch in found] == engine.batches


def test_every_part_runs_and_its_figures_are_kept(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    load = ("--users", "4", "--candidates", "50", "--every", "0.5", "--seconds", "0.2")
    main([*QUICK, *load, "--out", str(out)])

    kept = json.loads(out.read_text())
    assert [name for name in kept if name.endswith(("failed", "left out"))] == []
    parts = kept["parts"]
    assert list(parts) == ["ladder", "parity", "where", "budget", "shapes", "load"]
    steps = {row["arm"]: row for row in parts["ladder"][0]["rows"]}
    for arm in ("predict bf16", "predict re-headed bf16", "padded, varlen attention", "ours"):
        assert steps[arm]["pairs/s"] > 0
        assert steps[arm]["difference"] < 0.02
    apart = {row["arm"]: row["Kendall tau"] for row in parts["parity"][0]["rows"]}
    assert apart["predict fp32"] == pytest.approx(1.0)
    assert apart["ours"] > 0.6
    answers, target = parts["load"]
    assert [row["questions"] > 0 for row in answers["rows"]] == [True] * 3
    assert [row["users"] for row in answers["rows"]] == [4] * 3
    assert target["title"] == "Target"


def test_a_step_that_fails_is_a_row_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Any) -> None:
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(gpu.Models, "in_float8", refuse)
    kept = main([*QUICK, "--parts", "ladder"])

    rows = {row["arm"]: row for row in kept["parts"]["ladder"][0]["rows"]}
    assert rows["ours float8"]["note"] == "failed: RuntimeError: no kernel image is available"
    assert rows["ours"]["pairs/s"] > 0


def test_what_was_measured_before_the_device_broke_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, calls = tmp_path / "figures.json", [0]

    def broken(_: str) -> None:
        calls[0] += 1
        if calls[0] > 10:  # two for each of two steps in two turns that warm up, and the first
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(_gpu_ladder, "wait", broken)
    main([*QUICK, "--parts", "ladder", "--arms", "predict fp32,ours", "--out", str(out)])

    first, second = json.loads(out.read_text())["parts"]["ladder"][0]["rows"]
    assert (first["arm"], first["pairs/s"] > 0, first["note"]) == ("predict fp32", True, "")
    assert (second["arm"], second["pairs/s"]) == ("ours", "")
    assert second["note"].endswith("an illegal memory access was encountered")


def test_the_ladder_can_leave_steps_out() -> None:
    kept = main([*QUICK, "--parts", "ladder", "--arms", "ours,packed"])

    rows = kept["parts"]["ladder"][0]["rows"]
    assert [row["arm"] for row in rows] == ["packed", "ours"]
    assert all(row["pairs/s"] > 0 for row in rows)


def test_what_has_no_time_left_is_named() -> None:
    kept = main([*QUICK, "--parts", "ladder,where", "--limit", "0"])

    assert kept["left out"] == ["ladder", "where"]


def test_operations_are_those_of_the_large_shape() -> None:
    # 24 layers of 12 * 1024² weights, two operations each; attention: 4 * 1024 * 24 * 512².
    assert gpu.operations("large", [512]) == 512 * 2 * 24 * 12 * 1024**2 + 4 * 1024 * 24 * 512**2
    assert math.isclose(gpu.operations("large", [512]), 335e9, rel_tol=0.01)
