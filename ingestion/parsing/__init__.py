"""From a file to its elements: what format it is, and reading it in a throw-away child process.

`sniffing.py` decides the format by content; `reading.py` has `isolation.py` run `child.py`, which
runs one of the parsers (one file for each format) under limits and answers in the JSON of
`wire.py`; `recognition.py` adds the text of pages that are pictures. Importing this package
loads no parser: `formats.py` names the modules, and only `zygote.py` and its children import one.
"""

from ingestion.parsing.formats import Format
from ingestion.parsing.reading import parse_in_child
from ingestion.parsing.recognition import OcrSettings
from ingestion.parsing.sniffing import sniff

__all__ = ["Format", "OcrSettings", "parse_in_child", "sniff"]
