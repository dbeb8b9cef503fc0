"""A corpus as one ZIP, out and in again, and archives that nobody should believe."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from ingestion import corpus_archive, nudges, services
from ingestion.errors import UploadRefused
from ingestion.models import Corpus, Document

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("tmp_data")]


@pytest.fixture(autouse=True)
def _no_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nudges, "nudge_waiting", lambda: 0)


def upload(corpus: Corpus, text: str, name: str) -> Document:
    content = io.BytesIO(text.encode())
    return services.receive(corpus=corpus, person=None, name=name, content=content)


def packed(path: Path, about: object, rows: Sequence[object], files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("corpus.json", json.dumps(about))
        archive.writestr("documents.jsonl", "\n".join(map(json.dumps, rows)))
        for name, content in files.items():
            archive.writestr(name, content)
    return path


GOOD = {"format": "ragsite-corpus", "version": 1, "name": "Theirs"}


def row(content: bytes, file: str = "files/1", **changes: object) -> dict[str, object]:
    digest = hashlib.sha256(content).hexdigest()
    return {"name": "a.txt", "sha256": digest, "file": file, "labels": [], **changes}


def test_what_is_exported_comes_in_again_as_a_corpus_of_its_own(
    client: Client, corpus: Corpus, alice: User, bob: User, tmp_path: Path
) -> None:
    Corpus.objects.filter(pk=corpus.pk).update(doubtful="refuse", chunk_max_tokens=128)
    first, second = upload(corpus, "one text", "a.txt"), upload(corpus, "two text", "b.txt")
    services.label(documents=Document.objects.filter(pk=first.pk), add=[("tag", "law")])
    Document.objects.filter(pk=second.pk).update(enabled=False)
    corpus.refresh_from_db()
    path = tmp_path / "out.zip"
    path.write_bytes(b"".join(corpus_archive.exported(corpus)))
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.read("files/000001") == b"one text"

    for owner, name in ((bob, corpus.name), (alice, f"{corpus.name} (2)")):
        made = corpus_archive.import_corpus(owner=owner, path=path)
        assert (made.corpus.name, made.documents, made.refused) == (name, 2, [])
        assert (made.corpus.doubtful, made.corpus.chunk_max_tokens) == ("refuse", 128)
        assert made.corpus.visibility == "private"
        rows = Document.objects.filter(corpus=made.corpus).order_by("name")
        assert [one.enabled for one in rows] == [True, False]
        assert [str(label) for label in rows[0].labels.all()] == ["law"]
        assert services.blob_path(rows[1]).read_text() == "two text"

    client.force_login(bob)
    file = SimpleUploadedFile("x.zip", path.read_bytes())
    answer = client.post("/corpora/import/", {"file": file}, follow=True)
    assert "2 documents imported" in answer.content.decode()


@pytest.mark.parametrize(
    ("about", "rows"),
    [
        ({}, []),
        ({**GOOD, "version": 99}, []),
        ({**GOOD, "name": ""}, []),
        ({**GOOD, "name": 7}, []),
        ([], []),
        (GOOD, [7]),
        (GOOD, [{"name": "a"}]),
        (GOOD, [row(b"x", labels=[["a", 1]])]),
        (GOOD, [row(b"x", name="a\ud800" * 3, labels=7)]),
    ],
)
def test_what_is_no_export_is_refused_whole(
    about: object, rows: list[object], alice: User, tmp_path: Path
) -> None:
    path = packed(tmp_path / "a.zip", about, rows, {"files/1": b"x"})
    with pytest.raises(UploadRefused) as refusal:
        corpus_archive.import_corpus(owner=alice, path=path)

    assert refusal.value.code == "no_export"
    assert "Export" in refusal.value.sentence
    assert not Corpus.objects.exists()


def test_bad_files_and_settings_are_left_out_and_good_ones_kept(
    alice: User, tmp_path: Path, tmp_data: Path
) -> None:
    about = {**GOOD, "doubtful": "nonsense", "language": ["en"], "chunk_max_tokens": -3}
    good, escape = b"a good text", b"an escaping text"
    files = {"files/1": good, "files/2": b"other bytes", "../../escape": escape}
    rows = [
        row(good, name="../../../etc/good.txt"),
        row(b"declared", "files/2", name="swapped.txt"),
        row(b"", "files/9", name="absent.txt"),
        row(escape, "../../escape", name="escape.txt"),
    ]
    made = corpus_archive.import_corpus(
        owner=alice, path=packed(tmp_path / "a.zip", about, rows, files)
    )

    assert made.documents == 2
    assert [name for name, _ in made.refused] == ["swapped.txt", "absent.txt"]
    names = set(Document.objects.values_list("name", flat=True))
    assert names == {"good.txt", "escape.txt"}
    assert (made.corpus.doubtful, made.corpus.language) == ("warn", "en")
    assert made.corpus.chunk_max_tokens is None
    stored = [p for p in tmp_data.rglob("*") if p.is_file() and p.suffix != ".zip"]
    assert {path.parent.parent.name for path in stored} == {"blobs"}


def test_a_bomb_is_refused(alice: User, tmp_path: Path) -> None:
    bomb = b"0" * 60_000_000
    path = packed(tmp_path / "a.zip", GOOD, [row(bomb)], {"files/1": bomb})
    made = corpus_archive.import_corpus(owner=alice, path=path)

    assert made.documents == 0
    assert "larger" in made.refused[0][1]
    not_a_zip = tmp_path / "b.zip"
    not_a_zip.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(UploadRefused):
        corpus_archive.import_corpus(owner=alice, path=not_a_zip)
