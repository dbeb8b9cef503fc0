"""A judged collection in a language of which there is no other: manual pages by their one line.

    apt-get download manpages-de && dpkg -x manpages-de_*.deb pages
    python benchmarks/collections/man_pages.py pages/usr/share/man/de FOLDER
    manage.py evaluate FOLDER --language de

The questions are the lines under NAME (“ls - list directory contents”, without the name), the
passages the first words of what follows, without that line; each question has one answer.
FOLDER is in BEIR's layout.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
from hashlib import sha256
from pathlib import Path

WORDS, FEWEST_WORDS, SHORTEST_QUESTION = 180, 60, 15
DASH = re.compile(r"\s[-–—]\s")
SECTION = re.compile(r"\.\s*S[hH]\s+(.*)")
# Macros whose words are text.
SPOKEN = re.compile(r"\.(B|I|BR|IR|RB|RI|BI|IB|SS|IP|TP|Nm|Nd|Xr|Ar|Fl|Dq|Em)$")
FONT = re.compile(r"\\f(?:\[[^]]*\]|\(..|.)")
CHARACTER = re.compile(r"\\(?:\((..)|\[([^]]*)\])")
NAMED = {"aq": "'", "dq": '"', "Fo": "«", "Fc": "»", "em": "—", "en": "–", "bu": "•"}
ESCAPES = {"\\-": "-", "\\~": " ", "\\ ": " ", "\\e": "\\"}


def sections(source: str) -> list[str]:
    """The text of each section of a page, markup removed. Source: groff_man(7), groff_char(7)."""
    found: list[list[str]] = []
    for line in source.splitlines():
        if SECTION.match(line):
            found.append([])
        if not found or line.startswith(('.\\"', "'\\\"")) or SECTION.match(line):
            continue
        text = line
        if line.startswith((".", "'")):
            macro, _, rest = line.partition(" ")
            text = rest if SPOKEN.match(macro) else ""
        text = FONT.sub("", text)
        text = CHARACTER.sub(lambda m: NAMED.get(m.group(1) or m.group(2), ""), text)
        for escape, meant in ESCAPES.items():
            text = text.replace(escape, meant)
        text = re.sub(r"\\[&,/%|:]", "", text).strip()
        if text:
            found[-1].append(text)
    return [" ".join(lines) for lines in found if lines]


def pages(folder: Path) -> dict[str, tuple[str, str]]:
    """Question and passage of each page, in an order that is no alphabet's."""
    found: dict[str, tuple[str, str]] = {}
    taken: set[str] = set()
    for path in sorted(folder.glob("man[1-8]/*.gz")):
        if path.is_symlink():
            continue
        text = sections(gzip.decompress(path.read_bytes()).decode("utf-8", "replace"))
        words = " ".join(text[2:]).split()
        if len(words) < FEWEST_WORDS:
            continue
        passage = " ".join(words[:WORDS])
        _, *rest = DASH.split(text[0], maxsplit=1)
        question = "".join(rest).strip()
        if len(question) < SHORTEST_QUESTION:
            continue
        if question not in taken and passage not in taken:
            found[path.stem] = (question, passage)
            taken |= {question, passage}
    return dict(sorted(found.items(), key=lambda item: sha256(item[0].encode()).digest()))


def main() -> None:
    """Write the collection."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("pages", type=Path)
    options.add_argument("folder", type=Path)
    options.add_argument("--passages", type=int, default=1200)
    options.add_argument("--queries", type=int, default=150)
    given = options.parse_args()
    found = list(pages(given.pages).items())[: given.passages]
    (given.folder / "qrels").mkdir(parents=True, exist_ok=True)
    asked = found[: given.queries]
    tables = {
        "corpus.jsonl": [{"_id": key, "title": "", "text": page[1]} for key, page in found],
        "queries.jsonl": [{"_id": f"q-{key}", "text": page[0]} for key, page in asked],
    }
    for name, rows in tables.items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (given.folder / name).write_text(lines, encoding="utf-8")
    judged = "".join(f"q-{key}\t{key}\t1\n" for key, _ in asked)
    (given.folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    print(f"{len(asked)} questions, {len(found)} passages in {given.folder}")


if __name__ == "__main__":
    main()
