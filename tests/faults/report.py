"""What a campaign measured, printed and kept: `FAULTS_REPORT=file` collects one JSON line each."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def report(name: str, **figures: Any) -> None:
    """Print the figures of a campaign, and append them to the file that FAULTS_REPORT names."""
    line = json.dumps({"campaign": name, "at": time.strftime("%F %T"), **figures})
    sys.stdout.write(f"\n{line}\n")
    if path := os.environ.get("FAULTS_REPORT"):
        with Path(path).open("a") as file:
            file.write(line + "\n")
