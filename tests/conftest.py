"""Fixtures that several test packages share: people, corpora, and the real processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.conf import settings as django_settings
from redis import Redis
from redis.exceptions import RedisError

from ragsite import processes

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from pytest_django.fixtures import Settings

    from ingestion.models import Corpus


def _start(service: processes.Service, folder: Path) -> processes.Process:
    process = processes.Process(service, env={}, log=folder / f"{service.name}.log")
    if not process.wait_until_healthy(60):
        log = process.log.read_text(errors="replace")[-3000:]
        process.stop()
        pytest.fail(f"{service.name} did not start:\n{log}")
    return process


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis-compatible server; the site's settings point at it."""
    folder = tmp_path_factory.mktemp("redis")
    port = processes.free_port()
    process = _start(processes.redis_service(port, folder), folder)
    url = f"redis://127.0.0.1:{port}/0"
    django_settings.REDIS_URL = django_settings.CELERY_BROKER_URL = url
    from ragsite.celery import app

    app.conf.update(broker_url=url)
    app._after_fork()  # type: ignore[attr-defined]  # forgets the connections that an earlier test made elsewhere
    yield url
    process.stop()


@pytest.fixture(scope="session")
def chroma_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real `chroma run` server; the site's settings point at it."""
    folder = tmp_path_factory.mktemp("chroma")
    port = processes.free_port()
    process = _start(processes.chroma_service(port, folder), folder)
    django_settings.CHROMA_URL = url = f"http://127.0.0.1:{port}"
    django_settings.CHROMA_DIR = folder
    yield url
    process.stop()


@pytest.fixture(scope="session")
def inference_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The real model server with the real embedder loaded; the settings point at it."""
    folder = tmp_path_factory.mktemp("inference")
    port = processes.free_port()
    process = _start(processes.inference_service(port), folder)
    django_settings.INFERENCE_URL = url = f"http://127.0.0.1:{port}"
    django_settings.EMBED_URL = django_settings.RERANK_URL = url
    while process.exit_status() is None and not processes.answers(f"{url}/health"):
        process.wait_until_healthy(1)
    yield url
    process.stop()


@pytest.fixture
def empty_stores(chroma_url: str) -> Iterator[None]:
    """Nothing in the Chroma of all tests before the test, nor after it; no scores in Redis either.

    Databases forget what a test put into them, those two do not: what stayed would be of documents
    that do not exist, which is what a comparison of the stores looks for.
    """
    from tests.ingestion.workbench import store

    def empty() -> None:
        there = store()
        for collection in there.collections():
            there.drop(collection.name)

    empty()
    with suppress(RedisError), Redis.from_url(django_settings.REDIS_URL) as connection:
        for key in connection.scan_iter("ragsite:scores*"):
            connection.delete(key)
    yield
    empty()


@pytest.fixture
def tmp_data(tmp_path: Path, settings: Settings) -> Path:
    """A data folder of this test's own, for blobs and lexical indexes."""
    settings.DATA_DIR = tmp_path
    return tmp_path


@pytest.fixture(autouse=True)
def fast_passwords(settings: Settings) -> None:
    """Hashing that is slow on purpose would be most of what the page tests do."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def _user(name: str) -> User:
    from django.contrib.auth.models import User

    return User.objects.create_user(name, password=f"{name}-long-password")


@pytest.fixture
def alice(db: None) -> User:
    """The owner."""
    return _user("alice")


@pytest.fixture
def bob(db: None) -> User:
    """A stranger."""
    return _user("bob")


@pytest.fixture
def viv(db: None) -> User:
    """A reader: sees what is open to everybody signed in."""
    return _user("viv")


@pytest.fixture
def admin(db: None) -> User:
    """The administrator."""
    from django.contrib.auth.models import User

    return User.objects.create_superuser("admin", password="admin-long-password")


@pytest.fixture
def corpus(alice: User) -> Corpus:
    """A private corpus of alice's."""
    from ingestion.models import Corpus

    return Corpus.objects.create(name="Papers", owner=alice)
