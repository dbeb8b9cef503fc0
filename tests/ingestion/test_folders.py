"""Folders that are brought in again and again, and the one that is watched."""

from __future__ import annotations

import os
import time
import zipfile
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client
from filelock import FileLock
from pytest_django.fixtures import Settings

from ingestion import folders, nudges, services
from ingestion.conf import ingestion_settings
from ingestion.folders import Scan
from ingestion.gathering import expanded, fits
from ingestion.models import Corpus, Document, SourceFile

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("tmp_data")]
State = Document.State


@pytest.fixture(autouse=True)
def _no_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nudges, "nudge_waiting", lambda: 0)


@pytest.fixture
def watched(tmp_path_factory: pytest.TempPathFactory, settings: Settings, admin: User) -> Path:
    folder = tmp_path_factory.mktemp("inbox")
    settings.WATCH_FOLDER = str(folder)
    return folder


def write(path: Path, text: str, *, seconds_ago: float = 60) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    then = time.time() - seconds_ago
    os.utime(path, (then, then))
    return path


def scan() -> Scan | None:
    return folders.scan(ingestion_settings())


def test_a_watched_folder_is_taken_in_once_and_what_changes_is_a_new_version(watched: Path) -> None:
    write(watched / "Law" / "deep" / "a.txt", "the first text")
    write(watched / "loose.txt", "beside the folders")
    write(watched / "Law" / "fresh.txt", "still being written", seconds_ago=0)
    assert scan() == Scan(taken=2)
    assert scan() == Scan(unchanged=2)
    assert set(Corpus.objects.values_list("name", flat=True)) == {"Law", watched.name}

    write(watched / "Law" / "deep" / "a.txt", "the first text", seconds_ago=50)  # only touched
    assert scan() == Scan(unchanged=2)
    write(watched / "Law" / "deep" / "a.txt", "the second text", seconds_ago=40)
    assert scan() == Scan(taken=1, unchanged=1)
    rows = Document.objects.filter(name="a.txt").order_by("version")
    assert [row.version for row in rows] == [1, 2]
    assert rows[0].lineage == rows[1].lineage != ""


def test_files_of_one_name_in_two_folders_stay_two_documents(watched: Path) -> None:
    for part in ("x", "y"):
        write(watched / "Law" / part / "readme.txt", f"about {part}")
    scan()

    assert list(Document.objects.values_list("version", flat=True)) == [1, 1]


def test_what_was_deleted_in_the_browser_stays_away_until_its_file_changes(watched: Path) -> None:
    path = write(watched / "Law" / "a.txt", "the first text")
    scan()
    services.request_deletion(documents=Document.objects.all())
    Document.objects.all().delete()  # as the purge does in the end
    assert scan() == Scan(unchanged=1)

    write(path, "the second text", seconds_ago=30)
    assert scan() == Scan(taken=1)


def test_a_refused_file_is_named_on_the_page_and_tried_again_when_it_changes(
    watched: Path, client: Client, admin: User
) -> None:
    path = write(watched / "Law" / "a.pdf", "this is no PDF")
    assert scan() == Scan(refused=1)
    assert scan() == Scan(unchanged=1)
    client.force_login(admin)
    address = f"/corpora/{Corpus.objects.get(name='Law').pk}/"
    page = client.get(address).content.decode()
    assert "a.pdf" in page
    assert SourceFile.objects.get().error_sentence in page

    path.unlink()
    write(watched / "Law" / "a.txt", "this is a text")
    assert scan() == Scan(taken=1)


def test_without_a_folder_or_while_another_scan_runs_nothing_happens(
    watched: Path, settings: Settings
) -> None:
    write(watched / "a.txt", "text")
    with FileLock(ingestion_settings().data_dir / "watch.lock"):
        assert scan() is None
    settings.WATCH_FOLDER = str(watched / "nowhere")
    assert scan() is None
    settings.WATCH_FOLDER = ""
    assert scan() is None
    assert not Document.objects.exists()


def test_a_changed_archive_brings_new_versions_of_its_files_only_where_they_changed(
    tmp_path_factory: pytest.TempPathFactory, corpus: Corpus
) -> None:
    path = tmp_path_factory.mktemp("zip") / "a.zip"
    for text in ("old", "new"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("same.txt", "the same text")
            archive.writestr("other.txt", f"the {text} text")
        folders.take_in(corpus=corpus, person=None, path=path)

    found = Document.objects.order_by("name", "version").values_list("name", "version")
    assert list(found) == [("other.txt", 1), ("other.txt", 2), ("same.txt", 1)]


def test_patterns_name_files_and_a_path_that_exists_is_no_pattern(tmp_path: Path) -> None:
    names = ("a.pdf", "deep/b.pdf", "c.txt", "[x].txt")
    for name in names:
        write(tmp_path / name, name)

    def found(*patterns: str) -> set[str]:
        return {
            str(path.relative_to(tmp_path)) for path in expanded(tmp_path / p for p in patterns)
        }

    assert found("**/*.pdf") == {"a.pdf", "deep/b.pdf"}
    assert found("[x].txt", "c*") == {"[x].txt", "c.txt"}
    assert found("*.nothing") == {"*.nothing"}
    assert fits(Path("x/a.pdf"), include=["*.pdf"], exclude=["*/drafts/*"])
    assert not fits(Path("x/drafts/a.pdf"), include=["*.pdf"], exclude=["*/drafts/*"])
    assert not fits(Path("a.txt"), include=["*.pdf"], exclude=[])
