"""Known vulnerabilities in the pinned packages, by pip-audit.

Exit status 1 for one that is not among the exceptions below. Where the vulnerability service
cannot be reached it says so and passes, since `make check` must work without a network;
`AUDIT=required` makes that a failure, too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT_SECONDS = 90
# Vulnerabilities that do not apply, by id, each with the reason.
EXCEPTIONS: dict[str, str] = {}


def report() -> list[dict[str, Any]]:
    """What pip-audit says of each pin; nothing where it could not ask."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    command += ["--no-deps", "--disable-pip", "--timeout", "10"]
    for name in ("requirements.txt", "requirements-dev.txt"):
        command += ["-r", str(ROOT / name)]
    try:
        asked = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
        )
        packages: list[dict[str, Any]] = json.loads(asked.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return []
    return packages


def main() -> int:
    """Print what was found; the exit status."""
    packages = report()
    # A package index without the service answers "not found", which pip-audit calls skipped.
    audited = [package for package in packages if "vulns" in package]
    if not audited:
        print("pip-audit: the vulnerability service could not be reached; NO package was audited.")
        return 1 if os.environ.get("AUDIT") == "required" else 0
    found = [
        f"{package['name']} {package['version']}: {one['id']}, fixed in {one['fix_versions']}"
        for package in audited
        for one in package["vulns"]
        if one["id"] not in EXCEPTIONS
    ]
    left = len(packages) - len(audited)
    print(f"pip-audit: {len(audited)} packages audited, {left} could not be, {len(found)} findings")
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
