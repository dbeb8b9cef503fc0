"""Sixty hostile file names, by every way in and out: none of them ever is a path."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from urllib.parse import unquote

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from ingestion.models import Corpus, Document
from ingestion.services import receive_all

pytestmark = [pytest.mark.django_db]

BASES = ("evil", "../evil", "../../../../tmp/evil", "/etc/evil", "//host/evil", "~/evil")
WINDOWS = ("..\\evil", "C:\\evil", "\\\\host\\share\\evil", "CON", "NUL", "evil:stream")
ENCODED = ("%2e%2e%2fevil", "..%c0%af..%c0%afevil", "..;/evil", "....//evil", ".%00./evil")
UNSEEN = ("evil\x00", "evil\r\nX-Evil: 1", "evil\t", "\u202elive", "e\u200bvil", "\ufeffevil")
LONG = ("x" * 5000, "文" * 500, "a/" * 2000 + "evil", "." * 300, "🙂" * 200)
SHELL = ("-rf", "--help", "$(id)", "`id`", "a;id", "a|id", "a&id", "*", "?", "'", '"', "a b")
MARKUP = ("<script>alert(1)</script>", "{{ 7*7 }}", "{% debug %}", "%s%n", "{0.__class__}")
DOTTED = ("", ".", "..", "...", " ", ".htaccess", "evil.", "evil.txt.exe", "evil.tar.gz", "\u2025")
SPECIAL = (
    "javascript:alert(1)",
    "data:text/html,evil",
    "file:///etc/evil",
    "http://evil/evil",
    "evil?x#y",
)
NAMES = BASES + WINDOWS + ENCODED + UNSEEN + LONG + SHELL + MARKUP + DOTTED + SPECIAL


def below(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def beside(folder: Path) -> set[Path]:
    """Files of the parent that are not in the folder."""
    inside = {folder.name / path for path in below(folder)}
    return below(folder.parent) - inside


def stored(tmp_data: Path, *, since: set[Path]) -> set[Path]:
    """What is new beside the blobs of the documents there are."""
    blobs = {Path("blobs") / d.blob_key[:2] / d.blob_key for d in Document.objects.all()}
    return below(tmp_data) - since - blobs


def test_none_of_them_is_a_path_when_it_is_uploaded(
    client: Client, alice: User, corpus: Corpus, tmp_data: Path
) -> None:
    client.force_login(alice)
    around, before = beside(tmp_data), below(tmp_data)
    upload = reverse("ingestion:upload", args=[corpus.pk])

    for n, name in enumerate(NAMES):
        file = SimpleUploadedFile("a.txt", f"words of {n}".encode())
        file._name = f"{name}.txt"  # type: ignore[attr-defined]  # as no browser would send it
        assert client.post(upload, {"file": file}).status_code in (302, 400, 422), name

    assert Document.objects.count() >= len(NAMES) - 5  # a broken header may be refused as a whole
    for document in Document.objects.all():
        assert not set(document.name) & set("/\\\0\r\n\u202e\u200b"), document.name
        response = client.get(reverse("ingestion:original", args=[document.pk]))
        shown = response.headers["Content-Disposition"]
        assert response.status_code == 200
        assert shown.startswith("attachment")
        plain, _, encoded = shown.partition("''")
        assert "/" not in (unquote(encoded) if encoded else plain)
        assert "X-Evil" not in response.headers
    page = client.get(reverse("ingestion:corpus", args=[corpus.pk])).content.decode()
    assert "<script>alert(1)" not in page
    assert stored(tmp_data, since=before) == set()
    assert beside(tmp_data) == around


def test_none_of_them_is_a_path_in_an_archive(corpus: Corpus, tmp_data: Path) -> None:
    before, packed = below(tmp_data), io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for n, name in enumerate(NAMES):
            entry = zipfile.ZipInfo("a")
            entry.filename = f"{name}.txt"
            archive.writestr(entry, f"words of {n}")
    packed.seek(0)

    received = receive_all(corpus=corpus, person=corpus.owner, name="files.zip", content=packed)

    assert len(received.documents) + len(received.refusals) >= len(NAMES) - 10  # hidden ones
    assert len(received.documents) > len(NAMES) / 2
    for document in Document.objects.all():
        assert not set(document.name) & set("/\\\0\r\n\u202e\u200b"), document.name
    assert stored(tmp_data, since=before) == set()
