"""A ZIP: each file in it becomes a document, and what is bad in it spoils nothing else."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.core.management import call_command
from django.urls import reverse

from ingestion import archives
from ingestion.errors import SENTENCES, UploadRefused
from ingestion.models import Corpus, Document
from ingestion.parsing import zips
from ingestion.services import Received, blob_path, receive, receive_all
from tests.ingestion.parsing.made import zipped
from tests.ingestion.sample_files import write, zip_with_false_sizes

if TYPE_CHECKING:
    from django.test import Client
    from pytest_django.fixtures import Settings

pytestmark = [pytest.mark.django_db]

SOUND: dict[str, bytes | str] = {
    "reports/2024/harbour.txt": "The harbour opened in 1911.",
    "notes.md": "# Notes\n\nAsk Ben.",
}


def taken(corpus: Corpus, content: bytes) -> Received:
    return receive_all(
        corpus=corpus, person=corpus.owner, name="files.zip", content=io.BytesIO(content)
    )


def refusals(received: Received) -> dict[str, str]:
    return {refusal.path: refusal.error.code for refusal in received.refusals}


def test_each_file_of_a_zip_is_a_document(corpus: Corpus, tmp_data: Path) -> None:
    received = taken(corpus, zipped(SOUND))

    assert received.is_archive
    assert [path for path, _ in received.documents] == list(SOUND)
    documents = Document.objects.order_by("pk")
    assert [d.name for d in documents] == ["harbour.txt", "notes.md"]
    assert [d.format for d in documents] == ["text", "markdown"]
    assert all(d.uploaded_by == corpus.owner for d in documents)
    assert blob_path(documents[0]).read_text() == SOUND["reports/2024/harbour.txt"]
    assert not list((tmp_data / "blobs" / "incoming").iterdir())


def test_a_bad_member_is_refused_alone(corpus: Corpus, tmp_data: Path) -> None:
    content = zipped(
        {
            **SOUND,
            "inner.zip": zipped(SOUND),
            "tool.exe": bytes(range(256)),
            "empty.txt": b"",
            "zeros.txt": bytes(40 * 1024 * 1024),
            "again.txt": SOUND["notes.md"],
        }
    )
    received = taken(corpus, content)

    assert len(received.documents) == 2
    assert refusals(received) == {
        "inner.zip": "nested_archive",
        "tool.exe": "unsupported",
        "empty.txt": "empty",
        "zeros.txt": "too_large",
        "again.txt": "duplicate",
    }
    assert len(list((tmp_data / "blobs").glob("??/*"))) == 2


def test_a_path_in_an_archive_is_only_a_name(corpus: Corpus, tmp_data: Path) -> None:
    content = zipped(
        {
            "../../escape.txt": "One.",
            "/etc/absolute.txt": "Two.",
            "a\\b\\windows.txt": "Three.",
            "__MACOSX/._notes.txt": "litter",
            "folder/.DS_Store": "litter",
        }
    )
    names = [document.name for _, document in taken(corpus, content).documents]

    assert names == ["escape.txt", "absolute.txt", "windows.txt"]
    assert not list(tmp_data.parent.glob("escape.txt"))


def encrypted(content: bytes, *, every: bool) -> bytes:
    """Set the mark of encryption on the first entry, or on all."""
    raw = bytearray(content)
    for signature, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        place = raw.find(signature)
        while place >= 0:
            struct.pack_into("<H", raw, place + offset, 1)
            place = raw.find(signature, place + 1) if every else -1
    return bytes(raw)


def test_encrypted_files_are_named_and_a_wholly_encrypted_archive_refused(
    corpus: Corpus, tmp_data: Path
) -> None:
    received = taken(corpus, encrypted(zipped(SOUND), every=False))
    assert refusals(received) == {"reports/2024/harbour.txt": "password"}
    assert [path for path, _ in received.documents] == ["notes.md"]

    with pytest.raises(UploadRefused) as refused:
        taken(corpus, encrypted(zipped(SOUND), every=True))
    assert refused.value.code == "password"


def test_an_archive_that_would_burst_is_refused_whole(
    corpus: Corpus, tmp_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = zipped({f"{n}.txt": b"x" for n in range(archives.MAX_MEMBERS + 1)})
    monkeypatch.setattr(zips, "MAX_UNPACKED_BYTES", 1000)
    for content in (many, zipped({"a.txt": bytes(600), "b.txt": bytes(600)})):
        with pytest.raises(UploadRefused) as refused:
            taken(corpus, content)
        assert refused.value.code == "too_large"
    assert not Document.objects.exists()


def test_sizes_that_lie_are_found_out(corpus: Corpus, tmp_data: Path) -> None:
    content = zip_with_false_sizes("a.txt", b"word " * 10_000, declared=100)
    received = taken(corpus, content)
    # `zipfile` reads no more than was declared; the check sum is that of the part.
    assert [d.size_bytes for _, d in received.documents] == [100]


def test_old_names_come_in_their_own_letters(corpus: Corpus, tmp_data: Path) -> None:
    name = "Größe.txt".encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        # As archivers did that wrote UTF-8 without saying so.
        archive.writestr(name.decode("cp437"), "Words.")
    marked = name.decode("cp437").encode()
    content = out.getvalue().replace(marked, name)
    received = taken(corpus, _relabelled(content, len(marked), len(name)))
    assert [document.name for _, document in received.documents] == ["Größe.txt"]


def _relabelled(content: bytes, before: int, after: int) -> bytes:
    """Put the length of the names and the places right, and take the mark of UTF-8 away."""
    raw = bytearray(content)
    central = raw.find(b"PK\x01\x02")
    for place, flags, length in ((0, 6, 26), (central, 8, 28)):
        struct.pack_into("<H", raw, place + flags, 0)
        assert struct.unpack_from("<H", raw, place + length)[0] == before
        struct.pack_into("<H", raw, place + length, after)
    end = raw.find(b"PK\x05\x06")
    struct.pack_into("<LL", raw, end + 12, end - central, central)
    return bytes(raw)


def test_a_zip_is_not_taken_as_one_document(corpus: Corpus, tmp_data: Path) -> None:
    with pytest.raises(UploadRefused) as refused:
        receive(corpus=corpus, person=None, name="a.zip", content=io.BytesIO(zipped(SOUND)))
    assert refused.value.code == "nested_archive"
    assert not list((tmp_data / "blobs" / "incoming").iterdir())


def test_the_page_is_told_what_became_of_an_archive(
    client: Client, corpus: Corpus, tmp_data: Path
) -> None:
    client.force_login(corpus.owner)
    address = reverse("ingestion:upload", args=[corpus.pk])
    content = zipped({**SOUND, "tool.exe": bytes(range(256))})
    answer = client.post(
        address, {"file": _named("a.zip", content)}, headers={"Accept": "application/json"}
    )

    assert answer.status_code == 201
    told = answer.json()
    assert [one["name"] for one in told["documents"]] == ["harbour.txt", "notes.md"]
    assert [(one["name"], one["code"]) for one in told["refused"]] == [("tool.exe", "unsupported")]
    assert told["sentence"].startswith("2 documents uploaded. Not taken: tool.exe: This kind of")

    again = client.post(
        address, {"file": _named("a.zip", content)}, headers={"Accept": "application/json"}
    )
    assert again.status_code == 422
    assert again.json()["error"] == (
        "No file of the archive was taken. reports/2024/harbour.txt, notes.md: This corpus already "
        f"holds a file with exactly this content. tool.exe: {SENTENCES['unsupported']}"
    )


def _named(name: str, content: bytes) -> io.BytesIO:
    file = io.BytesIO(content)
    file.name = name
    return file


def test_the_command_names_each_file_of_an_archive(
    corpus: Corpus, tmp_data: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_data / "given"
    folder.mkdir()
    path = write(folder, "a.zip", zipped({**SOUND, "tool.exe": bytes(range(256))}))
    with pytest.raises(SystemExit) as ended:
        call_command(
            "ingest", str(path), corpus=corpus.name, json=True, username=corpus.owner.username
        )

    assert ended.value.code == 1
    rows = json.loads(capsys.readouterr().out)["documents"]
    assert {Path(row["path"]).relative_to(path).as_posix(): row["error_code"] for row in rows} == {
        "reports/2024/harbour.txt": "",
        "notes.md": "",
        "tool.exe": "unsupported",
    }
