"""The sample corpus that a new site starts with."""

from __future__ import annotations

from pathlib import Path

from django.contrib.auth.models import User

from ingestion import services
from ingestion.errors import UploadRefused
from ingestion.models import Corpus
from ragsite.processes import ROOT

SAMPLES_DIR = ROOT / "samples"
SAMPLE_CORPUS = "Samples"
SUFFIXES = {".pdf", ".docx", ".html", ".md", ".txt"}


def sample_files() -> list[Path]:
    """The documents that lie at the top of `samples/`."""
    return sorted(path for path in SAMPLES_DIR.iterdir() if path.suffix in SUFFIXES)


def load_samples(person: User, *, marker: Path) -> int:
    """Upload the samples once in the life of a data folder; returns how many files were new.

    `marker` is left when all are received, so that a corpus that was deleted does not
    come back, and a load that was cut short is finished at the next start.
    """
    if marker.exists():
        return 0
    corpus = Corpus.objects.filter(owner=person, name=SAMPLE_CORPUS).first()
    if corpus is None:
        corpus = services.create_corpus(
            owner=person,
            name=SAMPLE_CORPUS,
            description="How retrieval, reranking and this site work. Ask it anything about them.",
            visibility=Corpus.Visibility.OPEN,
        )
    received = 0
    for path in sample_files():
        try:
            with path.open("rb") as content:
                services.receive(corpus=corpus, person=person, name=path.name, content=content)
        except UploadRefused as exc:
            if exc.code != "duplicate":
                raise
        else:
            received += 1
    marker.touch()
    return received
