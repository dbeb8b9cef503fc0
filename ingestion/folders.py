"""Files of folders that are brought into a corpus again and again: only what changed is taken.

Where a file changed, its document gets a new version; where nothing changed, nothing happens. A
document that a person deleted does not come back from a watched folder until its file changes.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from django.contrib.auth.models import User
from django.utils import timezone
from filelock import FileLock, Timeout

from ingestion import services
from ingestion.errors import UploadRefused
from ingestion.gathering import files_under
from ingestion.models import Corpus, Document, SourceFile
from ingestion.services import Received

if TYPE_CHECKING:
    from ingestion.types import IngestionSettings

logger = logging.getLogger(__name__)

READ_BYTES = 1024 * 1024
MAX_PATH = 1_000
# A file that was written to a moment ago may not be whole yet.
SETTLED_SECONDS = 5.0
SCAN_SECONDS = 8 * 60.0


def unchanged(corpus: Corpus, path: Path) -> Document | None:
    """The document that came from this very file with this very content, if it is still there.

    Raises:
        OSError: the file cannot be read.
    """
    row = _row(corpus, path)
    document = row.document if row else None
    if row is None or document is None or document.state in services.NOT_HELD:
        return None
    return document if row.sha256 == _sha256(path) else None


def take_in(
    *, corpus: Corpus, person: User | None, path: Path, is_watched: bool = False
) -> Received:
    """Bring a file into a corpus, as a new version where an earlier content of it is there.

    Raises:
        UploadRefused: as `services.receive_all`; the reason is kept with the file's row.
        OSError: the file cannot be read.
    """
    row = _row(corpus, path)
    earlier = row.document if row else None
    stamp, sha256 = _stamp(path), _sha256(path)
    kept = {"stamp": stamp, "sha256": sha256, "is_watched": is_watched, "seen_at": timezone.now()}
    try:
        with path.open("rb") as content:
            received = services.receive_all(
                corpus=corpus,
                person=person,
                name=path.name,
                content=content,
                replace=earlier is None and _is_archive(path),
                earlier=earlier,
            )
    except UploadRefused as exc:
        found = exc.document_id or (earlier.pk if earlier else None)
        code = "" if exc.code == "duplicate" else exc.code
        _keep(corpus, path, **kept, document_id=found, error_code=code)
        raise
    document = None if received.is_archive else received.documents[0][1]
    refused = received.refusals[0].error.code if received.refusals else ""
    _keep(corpus, path, **kept, document=document, error_code="" if document else refused)
    return received


@dataclass(frozen=True, slots=True)
class Scan:
    """What a look at the watched folder came to: files taken, refused, and left as they were."""

    taken: int = 0
    refused: int = 0
    unchanged: int = 0


def scan(settings: IngestionSettings) -> Scan | None:
    """Take in what is new or changed in the watched folder.

    Each folder in it is a corpus of this name of the first administrator's, made if it is
    missing; files beside them go to a corpus named like the watched folder. What was refused is
    tried again when it changes.

    Returns:
        None where there is nothing to watch, nobody to own it, or another scan is at it.
    """
    folder = settings.watch_folder
    owner = User.objects.filter(is_superuser=True, is_active=True).order_by("pk").first()
    if folder is None or owner is None:
        return None
    if not folder.is_dir():
        logger.warning("the watched folder %s is not there; make it or change WATCH_FOLDER", folder)
        return None
    try:
        with FileLock(settings.data_dir / "watch.lock", timeout=0):
            return _scan(folder, owner)
    except Timeout:
        return None


def _scan(folder: Path, owner: User) -> Scan:
    taken = refused = same = 0
    until = time.monotonic() + SCAN_SECONDS
    corpora: dict[str, Corpus] = {}
    for name, path in _watched(folder):
        if time.monotonic() > until:
            break
        try:
            if time.time() - path.stat().st_mtime < SETTLED_SECONDS:
                continue
            if name not in corpora:
                corpora[name] = corpus_named(owner, name)
            if _is_known(corpora[name], path):
                same += 1
                continue
            take_in(corpus=corpora[name], person=owner, path=path, is_watched=True)
            taken += 1
        except UploadRefused as exc:
            if exc.code == "disk_full":
                logger.warning("the watched folder waits: %s", exc.sentence)
                break
            refused += exc.code != "duplicate"
        except OSError as exc:
            logger.warning("%s cannot be read: %s", path, exc)
            refused += 1
    if taken or refused:
        logger.info("watched folder: %d taken, %d refused, %d unchanged", taken, refused, same)
    return Scan(taken, refused, same)


def corpus_named(owner: User, name: str) -> Corpus:
    """The person's corpus of this name; made if there is none.

    Raises:
        django.core.exceptions.ValidationError: it cannot be made.
    """
    found = Corpus.objects.editable_by(owner).filter(owner=owner, name=name.strip()).first()
    return found or services.create_corpus(owner=owner, name=name)


def _watched(folder: Path) -> Iterator[tuple[str, Path]]:
    """(corpus, file) of all that lies in the watched folder."""
    for path in files_under([folder]):
        inside = path.relative_to(folder).parts
        yield (inside[0] if len(inside) > 1 else folder.name)[:120], path


def _is_known(corpus: Corpus, path: Path) -> bool:
    """Whether the file was looked at with this content before; read only if it was touched."""
    row = _row(corpus, path)
    if row is None:
        return False
    stamp = _stamp(path)
    if row.stamp == stamp:
        return True
    if row.sha256 != _sha256(path):
        return False
    SourceFile.objects.filter(pk=row.pk).update(stamp=stamp, seen_at=timezone.now())
    return True


def _row(corpus: Corpus, path: Path) -> SourceFile | None:
    rows = SourceFile.objects.filter(corpus=corpus, path=_name(path))
    return rows.select_related("document").first()


def _keep(corpus: Corpus, path: Path, **values: object) -> None:
    if len(_name(path)) <= MAX_PATH:
        SourceFile.objects.update_or_create(corpus=corpus, path=_name(path), defaults=values)


def _name(path: Path) -> str:
    return str(path.resolve()).encode(errors="replace").decode()


def _is_archive(path: Path) -> bool:
    return path.suffix.lower() == ".zip"


def _stamp(path: Path) -> str:
    found = path.stat()
    return f"{found.st_mtime_ns}:{found.st_size}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
