"""Write requirements.txt and requirements-dev.txt: exact pins of all that the `.in` files need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = "# Written by `make lock` from {source}: do not edit.\n"


def resolve(*sources: str) -> list[str]:
    """Names and versions that pip would install for these requirement files, sorted."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run"]
    command += ["--ignore-installed", "--report", "-"]
    for source in sources:
        command += ["-r", str(ROOT / source)]
    report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return sorted(
        f"{item['metadata']['name'].lower()}=={item['metadata']['version'].split('+')[0]}"
        for item in report["install"]
        if item["metadata"]["name"] != "pip"  # an installer that replaces itself half way
    )


def main() -> None:
    """Resolve both sets; the second holds only what the first lacks."""
    site = resolve("requirements.in")
    tests = [pin for pin in resolve("requirements.in", "requirements-dev.in") if pin not in site]
    (ROOT / "requirements.txt").write_text(
        HEADER.format(source="requirements.in") + "\n".join(site) + "\n"
    )
    (ROOT / "requirements-dev.txt").write_text(
        HEADER.format(source="requirements-dev.in")
        + "\n".join(["-r requirements.txt", *tests])
        + "\n"
    )


if __name__ == "__main__":
    main()
