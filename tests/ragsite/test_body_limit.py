"""Bodies over the limit are refused by the real server while they arrive."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from ragsite import processes

MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def small_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The web process alone, which accepts files of 1 MB: its address and its data folder."""
    data = tmp_path_factory.mktemp("small-site")
    port = processes.free_port()
    process = processes.Process(
        processes.web_service(port),
        env={"DATA_DIR": str(data), "UPLOAD_MAX_MB": "1"},
        log=data / "web.log",
    )
    assert process.wait_until_healthy(60), process.log.read_text()
    yield f"http://127.0.0.1:{port}", data
    process.stop()


def pieces(count: int) -> Iterator[bytes]:
    """A body of so many MiB, sent in chunks without a declared length."""
    for _ in range(16 * count):
        yield bytes(MEBIBYTE // 16)


def post(url: str, body: bytes | Iterator[bytes]) -> httpx.Response:
    """Post a body to the sign-in page, which anybody may call."""
    return httpx.post(
        f"{url}/login/",
        content=body,
        headers={"Accept": "application/json", "Content-Type": "application/octet-stream"},
        trust_env=False,
        timeout=30,
    )


def test_a_declared_length_over_the_limit_is_refused(small_site: tuple[str, Path]) -> None:
    answer = post(small_site[0], bytes(3 * MEBIBYTE))

    assert answer.status_code == 413
    assert answer.json()["error"].startswith("The file is larger than this site accepts (1 MB).")


def test_a_body_without_a_length_is_refused_when_it_passes_the_limit(
    small_site: tuple[str, Path],
) -> None:
    url, data = small_site
    sent = 0

    def counted() -> Iterator[bytes]:
        nonlocal sent
        for piece in pieces(200):
            sent += len(piece)
            yield piece

    # The server may hang up, having answered, while we are still sending.
    with suppress(httpx.WriteError, httpx.ReadError):
        assert post(url, counted()).status_code == 413
    assert sent < 100 * MEBIBYTE
    assert not list((data / "tmp").iterdir())
    assert httpx.get(f"{url}/healthz", trust_env=False).is_success


def test_a_body_within_the_limit_reaches_the_site(small_site: tuple[str, Path]) -> None:
    assert post(small_site[0], pieces(1)).status_code == 403  # by Django, for want of a CSRF token
