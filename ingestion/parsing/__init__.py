"""From a file to its elements: what format it is, and reading it in a throw-away child process.

`sniffing.py` decides the format by content; `isolation.py` runs `child.py`, which runs one of the
parsers (`pdf.py`, `docx.py`, `html.py`, `markdown.py`, `text.py`) under limits and answers in
the JSON of `wire.py`. Importing this package loads no parser: `formats.py` names the modules,
and only the child imports one.
"""

from ingestion.parsing.formats import Format
from ingestion.parsing.isolation import parse_in_child
from ingestion.parsing.sniffing import sniff

__all__ = ["Format", "parse_in_child", "sniff"]
