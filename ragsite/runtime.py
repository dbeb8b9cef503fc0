"""Where the processes of one machine are found while `manage.py up` runs them.

`up` gives every process a free loopback port and writes the addresses to
`DATA_DIR/run/services.json`. Commands typed in another terminal read them from
there, so that they reach the same processes as the site. The file counts only
while the supervisor that wrote it is alive. Pure standard library: settings
import this module before Django is configured.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

SERVICE_VARIABLES = ("REDIS_URL", "CHROMA_URL", "INFERENCE_URL", "WEB_URL")


def services_file(data_dir: Path) -> Path:
    """The file in which `up` leaves the addresses of its processes."""
    return data_dir / "run" / "services.json"


def running_services(data_dir: Path) -> dict[str, str]:
    """Addresses of the running processes by variable name; empty when none run.

    A file left behind by a supervisor that is gone, or one that is half
    written, counts as none.
    """
    try:
        content = json.loads(services_file(data_dir).read_text())
        os.kill(int(content["pid"]), 0)
    except PermissionError:
        pass  # alive, but another person's
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {name: str(content[name]) for name in SERVICE_VARIABLES if content.get(name)}


def write_services(data_dir: Path, urls: dict[str, str]) -> None:
    """Leave the addresses of this supervisor's processes, in one atomic step."""
    path = services_file(data_dir)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps({"pid": os.getpid(), **urls}, indent=1))
    draft.replace(path)
