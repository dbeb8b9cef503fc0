"""The documentation names every setting, and nothing that does not exist."""

import re

from ragsite.processes import ROOT
from telemetry import tracing

READS = re.compile(r'(?:env\.(?:str|int|bool|list|db|float)\(|_service\()\s*"([A-Z_]+)"')
DOCUMENTED = re.compile(r"^\| `([A-Z_]+)` \|", re.MULTILINE)


def test_every_variable_is_documented_and_every_documented_variable_is_read() -> None:
    read = set(READS.findall((ROOT / "ragsite" / "settings.py").read_text()))
    read |= {"DATA_DIR", tracing.ENDPOINT}
    documented = set(DOCUMENTED.findall((ROOT / "docs" / "configuration.md").read_text()))

    assert read - documented == set()
    assert documented - read == set()
