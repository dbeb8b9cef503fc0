"""What `benchmarks/ingestion.py` compares: each way to bring a folder into an index, run alone.

    python benchmarks/_ingestion_arms.py {ours,langchain,txtai} FOLDER DATA

The clock begins when the libraries are imported and the model is loaded, or the site is up, and
stops when every document can be found. One JSON object is printed. The two others are what their
documentation shows: a loader for each kind of file, the recursive splitter at 1,000 characters
with an overlap of 200, and the embedding model with its defaults.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("ANONYMIZED_TELEMETRY", "False")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

CORPUS = "Benchmark"
CHUNK_CHARACTERS, OVERLAP_CHARACTERS = 1000, 200
# Loaders of langchain-community that need neither a service nor a download.
LOADERS = {
    ".pdf": "PyPDFLoader",
    ".docx": "Docx2txtLoader",
    ".html": "BSHTMLLoader",
    ".htm": "BSHTMLLoader",
    ".csv": "CSVLoader",
}
TEXTS = {".txt", ".md", ".rst", ".json", ".jsonl", ".eml", ".log", ".ipynb"}


def ours(folder: Path, data: Path) -> dict[str, Any]:
    """The site that runs on `data`, by its own command; what it lost is told by SQL."""
    os.environ["DATA_DIR"] = str(data)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ragsite.settings")
    import django

    django.setup()
    from django.core.management import call_command

    from ingestion.models import Chunk, Document

    told = io.StringIO()
    began, spent = time.perf_counter(), time.process_time()
    with suppress(SystemExit):  # some file failed
        call_command("ingest", str(folder), corpus=CORPUS, wait=True, json=True, stdout=told)
    seconds, cpu = time.perf_counter() - began, time.process_time() - spent
    chunks = Chunk.objects.filter(document__in=Document.objects.searchable())
    tokens = [min(256, count) for count in chunks.values_list("tokens", flat=True)]
    ready = {row["path"] for row in json.loads(told.getvalue())["documents"] if row["chunks"]}
    return _told(seconds, cpu, ready, folder, tokens)


def _read(path: Path) -> list[Any]:
    """The documents of one file as LangChain loads them; none where it has no loader."""
    loaders = importlib.import_module("langchain_community.document_loaders")
    suffix = path.suffix.lower()
    if suffix in LOADERS:
        found: list[Any] = getattr(loaders, LOADERS[suffix])(str(path)).load()
    elif suffix in TEXTS:
        found = loaders.TextLoader(str(path), autodetect_encoding=True).load()
    else:
        found = []
    return found


def _pieces(folder: Path) -> Iterator[Any]:
    """What the splitter makes of all files, one after the other; a file that fails is left out."""
    splitters = importlib.import_module("langchain_text_splitters")
    splitter = splitters.RecursiveCharacterTextSplitter(
        chunk_size=CHUNK_CHARACTERS, chunk_overlap=OVERLAP_CHARACTERS
    )
    for path in _files(folder):
        try:
            pieces = splitter.split_documents(_read(path))
        except Exception as exc:  # noqa: BLE001 (whatever a loader raises, the file is lost)
            print(f"{path.name}: {exc}", file=sys.stderr)
            continue
        for piece in pieces:
            piece.metadata = {"source": str(path)}
        yield from pieces


def langchain(folder: Path, data: Path) -> dict[str, Any]:
    """Loader, splitter and Chroma, as the documentation puts them together."""
    model = _model()
    huggingface = importlib.import_module("langchain_huggingface")
    chroma = importlib.import_module("langchain_chroma")
    embeddings = huggingface.HuggingFaceEmbeddings(model_name=model)
    embeddings.embed_query("warm")
    began, spent = time.perf_counter(), time.process_time()
    pieces = list(_pieces(folder))
    store = chroma.Chroma.from_documents(pieces, embeddings, persist_directory=str(data / "index"))
    store.similarity_search("harbour", k=5)
    seconds, cpu = time.perf_counter() - began, time.process_time() - spent
    found = {row["source"] for row in store.get(include=["metadatas"])["metadatas"]}
    return _told(seconds, cpu, found, folder, _tokens([piece.page_content for piece in pieces]))


def txtai(folder: Path, data: Path) -> dict[str, Any]:
    """The embeddings database of txtai over the same pieces: its own reader needs Java."""
    model = _model()
    database = importlib.import_module("txtai").Embeddings(path=model, content=True)
    database.batchtransform(["warm"])
    began, spent = time.perf_counter(), time.process_time()
    pieces = list(_pieces(folder))
    database.index(
        (number, {"text": piece.page_content, "source": piece.metadata["source"]}, None)
        for number, piece in enumerate(pieces)
    )
    database.save(str(data / "index"))
    database.search("harbour", 5)
    seconds, cpu = time.perf_counter() - began, time.process_time() - spent
    rows = database.search("select source from txtai", len(pieces) + 1)
    found = {row["source"] for row in rows}
    return _told(seconds, cpu, found, folder, _tokens([piece.page_content for piece in pieces]))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _model() -> str:
    from inference.models_on_disk import DEFAULT_EMBEDDER, embedder_folder

    return str(embedder_folder(DEFAULT_EMBEDDER))


def _tokens(texts: list[str]) -> list[int]:
    """How many tokens of each text the model reads."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(_model())
    return [min(256, len(ids)) for ids in tokenizer(texts, verbose=False)["input_ids"]]


def _told(
    seconds: float, cpu: float, found: set[str], folder: Path, tokens: list[int]
) -> dict[str, Any]:
    """The figures; `lost` names the files of which nothing can be found."""
    files = _files(folder)
    lost = [path.name for path in files if not _is_among(path, found)]
    told = {"seconds": seconds, "cpu": cpu, "documents": len(files), "lost": lost}
    return told | {"tokens": tokens}


def _is_among(path: Path, found: set[str]) -> bool:
    return any(name == str(path) or name.startswith(f"{path}/") for name in found)


ARMS: dict[str, Callable[[Path, Path], dict[str, Any]]] = {
    "ours": ours,
    "langchain": langchain,
    "txtai": txtai,
}

if __name__ == "__main__":
    name, folder, data = sys.argv[1:]
    print(json.dumps(ARMS[name](Path(folder), Path(data))))
