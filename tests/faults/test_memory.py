"""What a document of the most pages that are read takes of a worker's memory."""

from __future__ import annotations

import io
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from django.contrib.auth.models import User

from ingestion import nudges, services
from ingestion.models import Corpus
from ingestion.parsing import sandbox
from tests.faults.mixed import WORDS
from tests.faults.report import report
from tests.faults.running import running_site, wait_until_finished
from tests.faults.scale import scaled
from tests.ingestion import sample_files
from tests.ingestion.workbench import assert_complete

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2 * 3600),
    pytest.mark.services,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_url", "chroma_url", "inference_url"),
]
PAGES, LINES, SEED = 3_000, 45, 20262
MOST_BYTES = 600 * 2**20


def long_pdf(lines: int) -> bytes:
    """3,000 pages of so many lines, no two alike."""
    chance = random.Random(SEED)

    def page() -> list[sample_files.Line]:
        return sample_files.paragraph(
            *(f"{' '.join(chance.choices(WORDS, k=11))} {chance.randint(1, 10**6)}."[:92]
              for _ in range(lines)), top=760
        )  # fmt: skip

    return sample_files.pdf([page() for _ in range(PAGES)], title="All of it")


@contextmanager
def peaks_below(pid: int) -> Iterator[dict[int, int]]:
    """The most bytes that each process below this one had, by its id, as the kernel counts it."""
    peaks: dict[int, int] = {}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            with suppress(psutil.NoSuchProcess):
                for process in psutil.Process(pid).children(recursive=True):
                    peaks[process.pid] = max(
                        peaks.get(process.pid, 0), sandbox.peak_bytes(process.pid)
                    )

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peaks
    finally:
        done.set()
        thread.join()


def test_three_thousand_pages_take_less_than_600_mib_of_a_worker(
    alice: User, tmp_data: Path
) -> None:
    lines = scaled(LINES)
    corpus = Corpus.objects.create(name="Long", owner=alice)
    content = long_pdf(lines)
    with running_site(tmp_data) as site, peaks_below(site.running["worker"].pid) as peaks:
        pool = {p.pid for p in psutil.Process(site.running["worker"].pid).children()}
        before = max(sandbox.peak_bytes(pid) for pid in pool)
        began = time.monotonic()
        document = services.receive(
            corpus=corpus, person=alice, name="long.pdf", content=io.BytesIO(content)
        )
        nudges.nudge_waiting()
        wait_until_finished(corpus, seconds=3600)
        seconds = time.monotonic() - began
        worker = max(peaks.get(pid, 0) for pid in pool)
        reader = max((size for pid, size in peaks.items() if pid not in pool), default=0)

    assert_complete(document)
    report(
        "memory",
        pages=document.pages,
        lines=lines,
        passages=document.chunk_count,
        seconds=round(seconds),
        worker_mib=worker >> 20,
        worker_idle_mib=before >> 20,
        reader_mib=reader >> 20,
    )
    assert document.pages == PAGES
    assert reader > 0
    assert worker + reader < MOST_BYTES
