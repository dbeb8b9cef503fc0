"""The kinds of drift that are injected: each makes one store differ from SQL, in one way.

Each function takes the site and a seeded generator, changes something behind the product's
back and returns the code that `verify` has to report for it.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
from django.conf import settings as site_settings
from django.utils import timezone
from numpy.typing import NDArray

from ingestion.conf import ingestion_settings
from ingestion.lexical import LexicalEntry, LexicalIndex
from ingestion.models import Chunk, Document, IndexGeneration
from ingestion.purge import lexical_index
from ingestion.services import blob_path
from ingestion.vectors import VectorStore
from tests.ingestion.workbench import store

LONG_AGO_SECONDS = 3 * 3600
Inject = Callable[[random.Random], str]


@dataclass(frozen=True)
class Kind:
    """One kind of drift; `deep` where only `--deep` can see it."""

    inject: Inject
    deep: bool = False


def _generation(chance: random.Random) -> IndexGeneration:
    return chance.choice(list(IndexGeneration.objects.select_related("corpus").order_by("pk")))


def _document(chance: random.Random) -> Document:
    return chance.choice(list(Document.objects.order_by("pk")))


def _ids(generation: IndexGeneration, chance: random.Random) -> list[str]:
    ids = sorted(generation.chunks.values_list("pk", flat=True))
    return chance.sample(ids, chance.randint(1, max(1, len(ids) // 2)))


def _random_units(n: int, dimension: int, chance: random.Random) -> NDArray[np.float32]:
    numbers = np.random.default_rng(chance.randrange(2**32)).standard_normal((n, dimension))
    unit: NDArray[np.float32] = (numbers / np.linalg.norm(numbers, axis=1, keepdims=True)).astype(
        np.float32
    )
    return unit


def _folder(chance: random.Random) -> Path:
    return ingestion_settings().lexical_dir / _generation(chance).key


def _age(path: Path) -> None:
    then = time.time() - LONG_AGO_SECONDS
    os.utime(path, (then, then))


def missing_vectors(chance: random.Random) -> str:
    """Vectors that Chroma has lost."""
    generation = _generation(chance)
    store().delete(generation.collection_name, _ids(generation, chance))
    return "missing_vectors"


def unknown_vectors(chance: random.Random) -> str:
    """Vectors of passages that SQL does not know."""
    generation = _generation(chance)
    ids = [uuid.UUID(int=chance.getrandbits(128)).hex for _ in range(chance.randint(1, 5))]
    vectors = _random_units(len(ids), generation.dimension, chance)
    store().add_missing(generation.collection_name, ids, vectors)
    return "unknown_vectors"


def wrong_vectors(chance: random.Random) -> str:
    """A vector in Chroma that is another one than in SQL."""
    generation = _generation(chance)
    ids = _ids(generation, chance)[:1]
    store().delete(generation.collection_name, ids)
    vectors = _random_units(1, generation.dimension, chance)
    store().add_missing(generation.collection_name, ids, vectors)
    return "wrong_vectors"


def lost_collection(chance: random.Random) -> str:
    """A collection that is gone."""
    store().drop(_generation(chance).collection_name)
    return "lost_collection"


def wrong_dimension(chance: random.Random) -> str:
    """A collection that holds the right ids with vectors of another dimension."""
    generation = _generation(chance)
    store().drop(generation.collection_name)
    store().ensure(generation.collection_name, 8)
    ids = sorted(generation.chunks.values_list("pk", flat=True))
    store().add_missing(generation.collection_name, ids, _random_units(len(ids), 8, chance))
    return "wrong_dimension"


def broken_collection(chance: random.Random) -> str:
    """A collection of which every call fails, while the server and the others are well."""
    generation = _generation(chance)
    with sqlite3.connect(Path(site_settings.CHROMA_DIR) / "chroma.sqlite3", timeout=20) as database:
        database.execute(
            "DELETE FROM segments WHERE scope = 'VECTOR' AND collection IN "
            "(SELECT id FROM collections WHERE name = ?)",
            [generation.collection_name],
        )
    database.close()
    return "wedged_collection"


def missing_words(chance: random.Random) -> str:
    """A document that the keyword index has lost."""
    document = _document(chance)
    generation = document.corpus.generations.get()
    lexical_index(generation, ingestion_settings()).delete_document(document.pk)
    return "missing_words"


def unknown_words(chance: random.Random) -> str:
    """A document in the keyword index that SQL does not know."""
    index = LexicalIndex(_folder(chance))
    index.replace_document(10**9 + chance.randrange(1000), [LexicalEntry("nobody", "some words")])
    return "unknown_words"


def damaged_words(chance: random.Random) -> str:
    """A file of the keyword index that is gone."""
    folder = _folder(chance)
    victims = [
        path for path in sorted(folder.iterdir()) if path.suffix in (".idx", ".store", ".term")
    ]
    chance.choice(victims).unlink()
    return "damaged_words"


def lost_blob(chance: random.Random) -> str:
    """An uploaded file that is gone from the disk."""
    blob_path(_document(chance)).unlink()
    return "lost_blob"


def cut_blob(chance: random.Random) -> str:
    """An uploaded file that has lost its end."""
    path = blob_path(_document(chance))
    path.write_bytes(path.read_bytes()[: -chance.randint(1, 50)])
    return "damaged_blob"


def altered_blob(chance: random.Random) -> str:
    """An uploaded file in which one byte has changed."""
    path = blob_path(_document(chance))
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1
    path.write_bytes(content)
    return "damaged_blob"


def ownerless_blob(chance: random.Random) -> str:
    """A file that belongs to no document."""
    key = f"{chance.getrandbits(64):016x}"
    path = ingestion_settings().blobs_dir / key[:2] / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"nobody's")
    _age(path)
    return "ownerless_blob"


def ownerless_collection(chance: random.Random) -> str:
    """A collection of this site that no generation has."""
    given = ingestion_settings()
    mine = VectorStore(given.chroma_url, site=given.site)
    mine.ensure(f"c-{chance.getrandbits(64):016x}", 8)
    return "ownerless_collection"


def ownerless_words(chance: random.Random) -> str:
    """A keyword index that no generation has."""
    folder = ingestion_settings().lexical_dir / f"{chance.getrandbits(64):016x}"
    LexicalIndex(folder).replace_document(1, [LexicalEntry("nobody", "some words")])
    _age(folder)
    return "ownerless_words"


def ownerless_files(chance: random.Random) -> str:
    """The folder of a collection that was dropped."""
    folder = Path(site_settings.CHROMA_DIR) / str(uuid.UUID(int=chance.getrandbits(128)))
    folder.mkdir()
    (folder / "data_level0.bin").write_bytes(b"\0" * 1000)
    _age(folder)
    return "ownerless_files"


def stale_lease(chance: random.Random) -> str:
    """A lease that no worker can have set, or one that was forgotten."""
    days = chance.choice([-2, 2])
    Document.objects.filter(pk=_document(chance).pk).update(
        lease_until=timezone.now() + timedelta(days=days)
    )
    return "impossible_time"


def lost_passages(chance: random.Random) -> str:
    """Passages that SQL has lost."""
    ids = list(_document(chance).chunks.values_list("pk", flat=True))
    Chunk.objects.filter(pk__in=chance.sample(ids, chance.randint(1, len(ids)))).delete()
    return "lost_passages"


def lost_embeddings(chance: random.Random) -> str:
    """Embeddings that are gone, or not whole."""
    ids = list(_document(chance).chunks.values_list("pk", flat=True))
    damaged = chance.choice([None, b"", b"\0\1\2"])
    Chunk.objects.filter(pk=chance.choice(ids)).update(embedding=damaged)
    return "lost_embeddings"


def altered_passages(chance: random.Random) -> str:
    """A passage that is not what was read from the file."""
    chunk = chance.choice(list(_document(chance).chunks.all()))
    Chunk.objects.filter(pk=chunk.pk).update(text=chunk.text + " not")
    return "altered_passages"


KINDS = {
    kind.inject.__name__: kind
    for kind in (
        Kind(missing_vectors),
        Kind(unknown_vectors),
        Kind(wrong_vectors, deep=True),
        Kind(lost_collection),
        Kind(wrong_dimension),
        Kind(broken_collection),
        Kind(missing_words),
        Kind(unknown_words),
        Kind(damaged_words),
        Kind(lost_blob),
        Kind(cut_blob),
        Kind(altered_blob, deep=True),
        Kind(ownerless_blob),
        Kind(ownerless_collection),
        Kind(ownerless_words),
        Kind(ownerless_files),
        Kind(stale_lease),
        Kind(lost_passages),
        Kind(lost_embeddings),
        Kind(altered_passages, deep=True),
    )
}
