"""A corpus as one ZIP, out and in again, and archives that nobody should believe."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from ingestion import corpus_archive, importing, nudges, services
from ingestion.conf import ingestion_settings
from ingestion.errors import UploadRefused
from ingestion.models import Corpus, CorpusImport, Document
from search.conf import retrieval_settings

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("tmp_data")]


@pytest.fixture(autouse=True)
def _no_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nudges, "nudge_waiting", lambda: 0)
    monkeypatch.setattr(importing, "nudge_imports", lambda: None)


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


def imported(owner: User, path: Path) -> CorpusImport:
    """What became of an import that nobody interrupted."""
    with path.open("rb") as content:
        row = importing.request_import(owner=owner, name=path.name, content=content)
    assert importing.work_on(row.pk)
    row.refresh_from_db()
    assert row.is_finished
    return row


def archives_left() -> list[Path]:
    return [path for path in ingestion_settings().imports_dir.rglob("*") if path.is_file()]


def test_what_is_exported_comes_in_again_as_a_corpus_of_its_own(
    client: Client, corpus: Corpus, alice: User, bob: User, tmp_path: Path
) -> None:
    Corpus.objects.filter(pk=corpus.pk).update(
        description="About things.",
        language="de",
        doubtful="refuse",
        chunk_strategy="sentence",
        chunk_max_tokens=128,
        chunk_overlap_tokens=8,
        context="section",
        context_max_tokens=700,
        retrieval={"pool": 40, "rerank": False, "threshold": 0.5},
    )
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
        done = imported(owner, path)
        assert (done.documents, done.refused, done.error_code) == (2, [], "")
        made = done.corpus
        assert made is not None
        assert (made.name, made.owner, made.visibility) == (name, owner, "private")
        for setting in corpus_archive.SETTINGS:
            assert getattr(made, setting) == getattr(corpus, setting), setting
        assert made.retrieval == {"pool": 40, "rerank": False, "threshold": 0.5}
        rows = Document.objects.filter(corpus=made).order_by("name")
        assert [one.enabled for one in rows] == [True, False]
        assert [str(label) for label in rows[0].labels.all()] == ["law"]
        assert services.blob_path(rows[1]).read_text() == "two text"
    assert archives_left() == []

    client.force_login(bob)
    file = SimpleUploadedFile("x.zip", path.read_bytes())
    page = client.post("/corpora/import/", {"file": file}, follow=True).content.decode()
    assert "Importing x.zip:" in page
    assert "every 2s" in page
    row = CorpusImport.objects.get(owner=bob, finished_at=None)
    assert importing.work_on(row.pk)
    page = client.get("/corpora/imports/").content.decode()
    assert "2 documents imported" in page
    assert "every 2s" not in page
    client.post(f"/corpora/imports/{row.pk}/hide/")
    assert "x.zip" not in client.get("/corpora/imports/").content.decode()


def test_every_setting_of_a_corpus_is_in_its_export() -> None:
    not_settings = {
        *("id", "name", "owner", "visibility", "created_at", "paused_at", "deleted_at"),
        *("quota_mb", "quota_documents"),  # the site's, not the owner's
        "retrieval",  # checked by itself, above
    }
    assert {f.name for f in Corpus._meta.fields} - not_settings == set(corpus_archive.SETTINGS)


def test_knobs_that_none_can_be_are_left_out_of_a_search(alice: User, tmp_path: Path) -> None:
    knobs = {"pool": "many", "top_n": 7, "rerank": False, "threshold": 9, "bm25_k": {"a": 1}}
    path = packed(tmp_path / "a.zip", {**GOOD, "retrieval": knobs}, [], {"files/1": b"x"})
    made = imported(alice, path).corpus
    assert made is not None

    chosen, site = retrieval_settings([made]), retrieval_settings()

    assert (chosen.top_n, chosen.rerank) == (7, False)
    assert (chosen.pool, chosen.threshold, chosen.bm25_k) == (site.pool, None, site.bm25_k)


def three(tmp_path: Path) -> Path:
    texts = [b"first text", b"second text", b"third text"]
    rows = [
        row(t, f"files/{n}", name=f"{n}.txt", labels=[["tag", "x"]]) for n, t in enumerate(texts)
    ]
    return packed(tmp_path / "a.zip", GOOD, rows, {f"files/{n}": t for n, t in enumerate(texts)})


def test_an_import_whose_worker_was_killed_goes_on_where_it_was(
    alice: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between taking a document in and writing so: nothing is lost, nothing comes twice."""
    with three(tmp_path).open("rb") as content:
        row_ = importing.request_import(owner=alice, name="a.zip", content=content)
    label = services.label

    def killed(**given: object) -> int:
        if Document.objects.count() == 2:
            raise SystemExit
        return label(**given)  # type: ignore[arg-type]

    monkeypatch.setattr(services, "label", killed)
    with pytest.raises(SystemExit):
        importing.work_on(row_.pk)
    monkeypatch.setattr(services, "label", label)
    assert Document.objects.count() == 2
    assert not importing.work_on(row_.pk)  # its lease holds
    CorpusImport.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert importing.work_on(row_.pk)

    row_.refresh_from_db()
    assert (row_.documents, row_.refused, row_.error_code, row_.deaths) == (3, [], "", 0)
    assert Corpus.objects.get().name == "Theirs"
    assert sorted(Document.objects.values_list("name", flat=True)) == ["0.txt", "1.txt", "2.txt"]
    assert all(one.labels.exists() for one in Document.objects.all())
    assert archives_left() == []


def test_an_import_that_workers_die_of_ends_as_failed(alice: User, tmp_path: Path) -> None:
    with three(tmp_path).open("rb") as content:
        row_ = importing.request_import(owner=alice, name="a.zip", content=content)
    for _ in range(importing.MAX_DEATHS):
        assert CorpusImport.objects.claim(row_.pk)
        CorpusImport.objects.update(lease_until=timezone.now() - timedelta(seconds=1))

    assert importing.work_on(row_.pk)

    row_.refresh_from_db()
    assert (row_.is_finished, row_.error_code) == (True, "import_crashed")
    assert "given up" in row_.error_sentence
    assert archives_left() == []


def test_an_import_ends_when_its_corpus_or_its_archive_is_gone(alice: User, tmp_path: Path) -> None:
    for gone in ("corpus", "archive"):
        with three(tmp_path).open("rb") as content:
            row_ = importing.request_import(owner=alice, name="a.zip", content=content)
        if gone == "corpus":
            made = Corpus.objects.create(owner=alice, name="Half", deleted_at=timezone.now())
            CorpusImport.objects.filter(pk=row_.pk).update(corpus=made, is_begun=True, position=1)
        else:
            archives_left()[0].unlink()
        importing.work_on(row_.pk)
        row_.refresh_from_db()
        assert row_.error_code == {"corpus": "corpus_gone", "archive": "file_missing"}[gone]


def test_archives_that_no_import_waits_for_are_swept_away(alice: User, tmp_path: Path) -> None:
    with three(tmp_path).open("rb") as content:
        importing.request_import(owner=alice, name="a.zip", content=content)
    folder = ingestion_settings().imports_dir
    (waiting,) = archives_left()
    orphan = folder / "ab" / ("ab" * 8)
    orphan.parent.mkdir()
    orphan.write_bytes(b"x")
    for path in (waiting, orphan):
        os.utime(path, (1, 1))

    importing.sweep(folder)

    assert archives_left() == [waiting]


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
        imported(alice, path)

    assert archives_left() == []
    assert not CorpusImport.objects.exists()
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
    done = imported(alice, packed(tmp_path / "a.zip", about, rows, files))

    made = done.corpus
    assert made is not None
    assert done.documents == 2
    assert [name for name, _ in done.refusals] == ["swapped.txt", "absent.txt"]
    names = set(Document.objects.values_list("name", flat=True))
    assert names == {"good.txt", "escape.txt"}
    assert (made.doubtful, made.language) == ("warn", "en")
    assert made.chunk_max_tokens is None
    stored = [p for p in tmp_data.rglob("*") if p.is_file() and p.suffix != ".zip"]
    assert {path.parent.parent.name for path in stored} == {"blobs"}


def test_a_bomb_is_refused(alice: User, tmp_path: Path) -> None:
    bomb = b"0" * 60_000_000
    path = packed(tmp_path / "a.zip", GOOD, [row(bomb)], {"files/1": bomb})
    done = imported(alice, path)

    assert done.documents == 0
    assert "larger" in done.refusals[0][1]
    not_a_zip = tmp_path / "b.zip"
    not_a_zip.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(UploadRefused):
        imported(alice, not_a_zip)
