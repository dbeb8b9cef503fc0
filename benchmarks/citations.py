"""Which citations get the mark "?": of the passage that a sentence is from, and of others.

    python benchmarks/citations.py [--sentences 240] [BEIR_DIR …]

Sentences of passages are scored against passages as the site scores the sentences of an answer:
by the default reranker, its calibration, and the mark's share of its threshold. Each is put to

- own: the passage that it is from;
- thinned: the same, the sentence without a third of its words, as an answer shortens;
- near: another passage with the same title, which a search finds as well;
- far: any other passage.

Passages are the paragraphs of samples/*.md, and the documents of the BEIR folders that are named.
Printed is the share of the sentences that get the mark, and the middle relevance.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from chat.claims import WEAK_SHARE
from inference import loading
from inference.engines import Reranker
from inference.models_on_disk import BUNDLED_RERANKER
from inference.types import probability
from ingestion.sentences import sentence_spans

ROOT = Path(__file__).resolve().parent.parent
SEED = 7
WORDS_OF_A_SENTENCE = range(8, 40)
WORDS_OF_A_PASSAGE = 25


@dataclass(frozen=True, slots=True)
class Passage:
    """A text under the title of its document."""

    title: str
    text: str


def of_samples() -> list[Passage]:
    """The paragraphs of the sample corpus."""
    return [
        Passage(path.stem, " ".join(block.split()))
        for path in sorted((ROOT / "samples").glob("*.md"))
        for block in path.read_text("utf-8").split("\n\n")
        if len(block.split()) >= WORDS_OF_A_PASSAGE and not block.startswith(("#", "|"))
    ]


def of_beir(folder: Path) -> list[Passage]:
    """The documents of a collection."""
    path = next(folder.glob("corpus.jsonl*"))
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    rows = [json.loads(line) for line in content.splitlines()]
    return [
        Passage(str(row.get("title", "")), str(row["text"]))
        for row in rows
        if len(str(row["text"]).split()) >= WORDS_OF_A_PASSAGE
    ]


def sentences(passage: Passage) -> Iterator[str]:
    """Those of a passage that are neither scraps nor endless."""
    for begin, end in sentence_spans(passage.text):
        if len(passage.text[begin:end].split()) in WORDS_OF_A_SENTENCE:
            yield passage.text[begin:end]


def thinned(sentence: str, chooser: random.Random) -> str:
    """Without a third of its words."""
    words = sentence.split()
    kept = sorted(chooser.sample(range(len(words)), k=len(words) - len(words) // 3))
    return " ".join(words[n] for n in kept)


def pairs(
    passages: Sequence[Passage], count: int, chooser: random.Random
) -> dict[str, list[tuple[str, str]]]:
    """Sentence and passage of every kind."""
    of_title: dict[str, list[Passage]] = defaultdict(list)
    for passage in passages:
        of_title[passage.title].append(passage)
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    every = [(passage, sentence) for passage in passages for sentence in sentences(passage)]
    for passage, sentence in chooser.sample(every, k=min(count, len(every))):
        found["own"].append((sentence, passage.text))
        found["thinned"].append((thinned(sentence, chooser), passage.text))
        near = [one for one in of_title[passage.title] if one is not passage]
        if near and passage.title:
            found["near"].append((sentence, chooser.choice(near).text))
        far = [one for one in passages if one.title != passage.title or not passage.title]
        found["far"].append((sentence, chooser.choice(far).text))
    return found


def relevance(engine: Reranker, sentence: str, text: str) -> float:
    """What the check of citations makes of a pair, 0 to 1."""
    logit = float(engine.compute(engine.encode(sentence, [text]))[0])
    return probability(engine.info.calibration.log_odds(logit, 1))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("collections", nargs="*", type=Path, metavar="BEIR_DIR")
    parser.add_argument("--sentences", type=int, default=240)
    options = parser.parse_args()

    engine = loading.load_reranker(str(BUNDLED_RERANKER))
    assert engine.info.calibration.threshold is not None
    mark = WEAK_SHARE * engine.info.calibration.threshold
    print(f"the bundled reranker, {engine.info.revision}, mark below {mark:.3f}\n")
    print("| passages | sentence and passage | pairs | marked | relevance, middle |")
    print("|---|---|---:|---:|---:|")
    texts = {"samples": of_samples()} | {path.name: of_beir(path) for path in options.collections}
    for name, passages in texts.items():
        chooser = random.Random(SEED)
        for kind, asked in pairs(passages, options.sentences, chooser).items():
            found = [relevance(engine, sentence, text) for sentence, text in asked]
            marked = sum(one < mark for one in found) / len(found)
            middle = statistics.median(found)
            print(f"| {name} | {kind} | {len(found)} | {marked:.1%} | {middle:.3f} |", flush=True)


if __name__ == "__main__":
    main()
