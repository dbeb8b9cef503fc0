"""Trains a bundled reranker: `python inference/models/reranker/make.py DATA RUN`.

DATA holds `training/` with the pairs (squad-dev, policyqa-dev-test, medquad, jaquad-ja and
cmrc2018-zh for training; the three squadshifts sets only to choose) and `retrieval/` with
Cranfield and PubMedQA; RUN is the folder of the run. The model is then RUN/model with its card.
What the weights beside this file learned from, and how, stands in README.md. The half of
SQuAD that is held out becomes RUN/sets/squad-dev-held-out, for `manage.py evaluate`.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parents[3]
# Every how-many-th article is kept from training: to report on, and to validate with.
HELD_OUT = {"squad-dev": 2, "jaquad-ja": 8, "cmrc2018-zh": 8}
TRAIN = {
    "squad-dev": "limit=4000,licence=CC BY-SA 4.0",
    "policyqa-dev-test": "licence=MIT",
    "medquad": "limit=1500,licence=CC BY 4.0",
    "jaquad-ja": "limit=1500,licence=CC BY-SA 3.0",
    "cmrc2018-zh": "limit=1500,licence=CC BY-SA 4.0",
}
CHOOSE = {
    "retrieval/cranfield": ",limit=150",
    "retrieval/pubmedqa": ",limit=100",
    "training/squadshifts-new-wiki.jsonl.gz": ",limit=120",
    "training/squadshifts-reddit.jsonl.gz": ",limit=120,titles=no",
    "training/squadshifts-amazon-reviews.jsonl.gz": ",limit=120,titles=no",
}


def split(source: Path, folder: Path, every: int) -> tuple[Path, Path]:
    """Two files of the pairs of a set: all but every n-th article by title, and those."""
    with gzip.open(source, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    held = set(sorted({row["title"] for row in rows})[::every])
    name = source.name.removesuffix(".jsonl.gz")
    files = folder / f"{name}.jsonl", folder / f"{name}-held-out.jsonl"
    for file, wanted in zip(files, (False, True), strict=True):
        with file.open("w", encoding="utf-8") as out:
            for row in rows:
                if (row["title"] in held) == wanted:
                    out.write(json.dumps(row, ensure_ascii=False) + "\n")
    return files


def as_collection(pairs: tuple[Path, Path], folder: Path) -> None:
    """The held-out questions over the passages of both files, in BEIR's layout."""
    rows = [
        [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        for file in pairs
    ]
    passages = {(row["title"], row["passage"]): "" for row in rows[0] + rows[1]}
    passages = {passage: f"d{n}" for n, passage in enumerate(passages)}
    asked = [row for row in rows[1] if row["label"]]
    # In no order of theirs, so that the first so many are of all articles.
    texts = sorted({row["query"] for row in asked}, key=lambda t: sha256(t.encode()).digest())
    queries = {text: f"q{n}" for n, text in enumerate(texts)}
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    judged = [(queries[r["query"]], passages[r["title"], r["passage"]]) for r in asked]
    tables = {
        "corpus.jsonl": [
            {"_id": key, "title": title, "text": text} for (title, text), key in passages.items()
        ],
        "queries.jsonl": [{"_id": key, "text": text} for text, key in queries.items()],
    }
    for name, table in tables.items():
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in table)
        (folder / name).write_text("".join(lines), encoding="utf-8")
    lines = ("\t".join((*pair, "1\n")) for pair in dict.fromkeys(judged))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines))


def main() -> int:
    """Split, then train; the status of the training command."""
    data, run = (Path(argument).resolve() for argument in sys.argv[1:3])
    (run / "sets").mkdir(parents=True, exist_ok=True)
    pairs, validate = [], [f"{data / path}{options}" for path, options in CHOOSE.items()]
    for name, options in TRAIN.items():
        source = data / "training" / f"{name}.jsonl.gz"
        if name in HELD_OUT:
            source, held = split(source, run / "sets", HELD_OUT[name])
            if name == "squad-dev":
                as_collection((source, held), run / "sets" / "squad-dev-held-out")
            else:
                validate.append(f"{held},limit=80")
        pairs.append(f"{source},{options}")
    command = [sys.executable, "manage.py", "train_reranker", "--out", str(run)]
    command += [
        "--epochs",
        "0.7",
        "--evaluations",
        "3",
        "--memory",
        "8",
        "--pairs",
        *pairs,
        "--validate",
        *validate,
    ]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
