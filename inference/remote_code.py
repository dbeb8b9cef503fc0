"""Models that bring Python code of their own: refused, unless the operator allows exactly it.

What runs in the model server has the rights of the model server. RERANKER_REMOTE_CODE names one
version: on the hub the commit of the model, behind a colon that of the repository with its code
where that is another one; for a folder the digest of its code, which the refusal tells.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inference.errors import NoModel

SETTING = "RERANKER_REMOTE_CODE"
_COMMIT = re.compile(r"[0-9a-f]{40}")


def permit(
    place: str, config: Mapping[str, Any], environment: Mapping[str, str] = os.environ
) -> dict[str, Any]:
    """What loaders of transformers are to be told about the code of a model; nothing without any.

    Args:
        place: a folder, or a model id of the hub.
        config: its `config.json`.

    Raises:
        NoModel: it has code that was not allowed; one clause that says how to.
    """
    classes = (config.get("auto_map") or {}).values()
    named = [name for given in classes for name in ([given] if isinstance(given, str) else given)]
    if not named:
        return {}
    allowed, _, other = environment.get(SETTING, "").partition(":")
    if Path(place).is_dir():
        digest = code_digest(Path(place))
        if allowed != digest:
            raise _refusal(place, f"{SETTING}={digest}")
        return {"trust_remote_code": True}
    elsewhere = sorted({name.partition("--")[0] for name in named if name and "--" in name})
    if not _COMMIT.fullmatch(allowed) or (elsewhere and not _COMMIT.fullmatch(other)):
        pins = "its commit on the hub, 40 hexadecimal digits"
        if elsewhere:
            pins += f", a colon and the commit of {elsewhere[0]}, where its code is"
        raise _refusal(place, f"{SETTING} set to {pins}")
    found = {"trust_remote_code": True, "revision": allowed}
    return {**found, "code_revision": other} if elsewhere else found


def code_digest(folder: Path) -> str:
    """Names the Python code of a folder: 40 hexadecimal digits of a SHA-256."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        whole.update(path.relative_to(folder).as_posix().encode() + b"\0")
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()[:40]


def _refusal(place: str, how: str) -> NoModel:
    return NoModel(
        f"{place} brings code of its own, which would run with the rights of the model server; "
        f"read it, then allow this version with {how}"
    )
