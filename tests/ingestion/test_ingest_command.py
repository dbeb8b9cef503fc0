"""`manage.py ingest` with real stores: what it prints, reports and exits with."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from ingestion.gathering import files_under
from ingestion.management.commands.ingest import Command
from ingestion.models import Corpus, Document
from tests.ingestion.workbench import assert_complete

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from pytest_django.fixtures import Settings

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("tmp_data")]
State = Document.State


@pytest.fixture(autouse=True)
def _no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker and nobody to tell one."""
    monkeypatch.setattr("ingestion.nudges.nudge_waiting", lambda: 0)
    monkeypatch.setattr("ingestion.nudges.worker_answers", lambda seconds: False)


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two good files, one bad one, and what must not be touched."""
    folder = tmp_path_factory.mktemp("library")
    (folder / "one.md").write_text("# One\n\nThe first text is about fusion.")
    (folder / "deeper").mkdir()
    (folder / "deeper" / "two.txt").write_text("The second text is about reranking.")
    (folder / "empty.txt").write_bytes(b"")
    (folder / ".hidden.txt").write_text("not for others")
    (folder / ".git").mkdir()
    (folder / ".git" / "config.txt").write_text("nor this")
    return folder


def run(*arguments: str | Path) -> tuple[int, str]:
    """Exit status and standard output."""
    out = io.StringIO()
    status = 0
    try:
        call_command(Command(), *map(str, arguments), stdout=out)
    except SystemExit as exc:
        status = int(str(exc.code))
    return status, out.getvalue()


def run_json(*arguments: str | Path) -> tuple[int, dict[str, Any]]:
    status, out = run(*arguments, "--json")
    return status, json.loads(out)


@pytest.mark.services
@pytest.mark.usefixtures("chroma_url", "inference_url")
def test_a_folder_becomes_searchable_where_no_worker_runs(admin: User, folder: Path) -> None:
    status, report = run_json(folder, "--corpus", "Library", "--wait")

    assert status == 1  # the empty file
    assert report["corpus"] == "Library"
    rows = {Path(row["path"]).name: row for row in report["documents"]}
    assert set(rows) == {"one.md", "two.txt", "empty.txt"}
    assert {name: row["state"] for name, row in rows.items()} == {
        "one.md": "ready",
        "two.txt": "ready",
        "empty.txt": "refused",
    }
    assert rows["empty.txt"]["error_code"] == "empty"
    assert "The file is empty." in rows["empty.txt"]["error"]
    assert rows["empty.txt"]["document_id"] is None
    one = Document.objects.get(pk=rows["one.md"]["document_id"])
    assert one.corpus.owner == admin
    assert_complete(one)
    assert set(rows["one.md"]) >= {
        *("path", "document_id", "state", "error_code", "error", "pages", "chunks", "seconds")
    }
    assert rows["one.md"]["chunks"] == one.chunk_count
    assert rows["one.md"]["seconds"] > 0
    assert (rows["one.md"]["error_code"], rows["one.md"]["error"]) == ("", "")


@pytest.mark.services
@pytest.mark.usefixtures("chroma_url", "inference_url")
def test_a_person_reads_one_line_for_each_file(admin: User, folder: Path) -> None:
    status, out = run(folder, "--corpus", "Library", "--wait")

    lines = out.splitlines()
    assert status == 1
    assert len(lines) == 3
    assert [line for line in lines if line.startswith("✗")] == [
        f"✗ {folder / 'empty.txt'}: The file is empty. Check that it was saved and upload it again."
    ]
    assert sum("1 passages" in line for line in lines) == 2


def test_waiting_for_a_paused_corpus_ends_with_a_sentence(admin: User, folder: Path) -> None:
    run(folder / "one.md", "--corpus", "Library")
    Corpus.objects.update(paused_at=timezone.now())

    with pytest.raises(CommandError, match=r"“Library” is paused; documents .* wait: 2\."):
        run(folder, "--corpus", "Library", "--wait")


def test_without_wait_files_are_only_received(admin: User, folder: Path) -> None:
    status, report = run_json(folder / "one.md", "--corpus", "Library")

    assert status == 0
    assert [row["state"] for row in report["documents"]] == ["received"]
    assert Document.objects.get().state == State.RECEIVED


def test_a_duplicate_is_reported_with_the_document_that_is_there(admin: User, folder: Path) -> None:
    run(folder / "one.md", "--corpus", "Library")
    (folder / "copy.md").write_bytes((folder / "one.md").read_bytes())

    status, report = run_json(folder / "copy.md", "--corpus", "Library")

    assert status == 0
    row = report["documents"][0]
    assert row["document_id"] == Document.objects.get().pk
    assert (row["already_there"], row["error_code"]) == (True, "")
    assert run(folder / "copy.md", "--corpus", "Library")[1].startswith("= ")


def test_one_missing_file_does_not_stop_the_others(admin: User, folder: Path) -> None:
    status, report = run_json(folder / "gone.pdf", folder / "one.md", "--corpus", "Library")

    assert status == 1
    assert [row["error_code"] for row in report["documents"]] == ["not_found", ""]
    assert Document.objects.count() == 1


def test_files_go_to_the_corpus_of_the_person_named(
    admin: User, alice: User, corpus: Corpus, folder: Path
) -> None:
    run(folder / "one.md", "--corpus", corpus.name, "--as", "alice")

    document = Document.objects.get()
    assert document.corpus == corpus
    assert document.uploaded_by == alice


def test_an_empty_folder_and_an_empty_name_are_refused_in_a_sentence(
    admin: User, tmp_path: Path, folder: Path
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    with pytest.raises(CommandError, match="There are no files"):
        run(bare, "--corpus", "Library")
    with pytest.raises(CommandError, match="cannot be made"):
        run(folder, "--corpus", " ")


def test_a_site_that_does_not_run_is_said_in_a_sentence(
    admin: User, folder: Path, settings: Settings
) -> None:
    settings.CHROMA_URL = "http://127.0.0.1:1"

    with pytest.raises(CommandError, match="make run"):
        run(folder / "one.md", "--corpus", "Library", "--wait")

    assert Document.objects.get().state == State.RECEIVED


def test_links_in_a_circle_come_to_an_end(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "file.txt").write_text("x")
    (tmp_path / "a" / "b" / "back").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "same.txt").symlink_to(tmp_path / "a" / "file.txt")
    (tmp_path / "a" / "broken.txt").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "a" / "pipe")

    found = list(files_under([tmp_path, tmp_path / "a" / "file.txt"]))

    assert found == [tmp_path / "a" / "file.txt"]


def test_a_file_named_by_itself_may_be_hidden(tmp_path: Path) -> None:
    hidden = tmp_path / ".notes.txt"
    hidden.write_text("x")

    assert list(files_under([hidden, tmp_path / "gone"])) == [hidden, tmp_path / "gone"]
