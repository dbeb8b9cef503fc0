"""The documentation names every setting, and nothing that does not exist."""

import re

from inference import devices, layerwise, precision, remote_code
from ragsite.processes import ROOT
from telemetry import tracing

READS = re.compile(r'(?:env\.(?:str|int|bool|list|db|float)\(|_service\()\s*"([A-Z_]+)"')
ROW = re.compile(r"^\| (`[A-Z_]+`(?:, `[A-Z_]+`)*) \|", re.MULTILINE)
# Read by the model server.
HOSTED = re.compile(r"(?:COHERE|VOYAGE|JINA)_")


def test_every_variable_is_documented_and_every_documented_variable_is_read() -> None:
    read = set(READS.findall((ROOT / "ragsite" / "settings.py").read_text()))
    read |= {"DATA_DIR", tracing.ENDPOINT, layerwise.SETTING, remote_code.SETTING}
    read |= {devices.MEMORY_SETTING}
    read.add("FORWARDED_ALLOW_IPS")  # by uvicorn
    read |= {precision.DTYPE_SETTING, precision.SPEEDUPS_SETTING}
    rows = ROW.findall((ROOT / "docs" / "configuration.md").read_text())
    named = {name for row in rows for name in re.findall(r"[A-Z_]+", row)}
    documented = {name for name in named if not HOSTED.match(name)}

    assert read - documented == set()
    assert documented - read == set()
