"""Hostile files among good ones: each ends with a reason, soon and small; the others are ready."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import psutil
import pytest
from django.contrib.auth.models import User

from ingestion import pipeline, services
from ingestion.errors import SENTENCES, UploadRefused
from ingestion.models import Corpus, Document
from ingestion.parsing import isolation
from tests.faults.mixed import documents, hostile
from tests.faults.report import report
from tests.faults.scale import campaign
from tests.ingestion.workbench import assert_complete

pytestmark = [
    pytest.mark.services,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("tmp_data", "chroma_url", "inference_url"),
]
MEBIBYTE = 2**20
FAR_SECONDS, FAR_BYTES = 30, 1024 * MEBIBYTE
PARENT_BYTES = 50 * MEBIBYTE


def rss() -> int:
    return int(psutil.Process(os.getpid()).memory_info().rss)


@campaign(short=1, full=8)
def test_hostile_files_end_with_a_reason_and_harm_nobody(
    alice: User, count: int, tmp_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingestion.nudges.nudge_waiting", lambda: 0)
    peaks: list[int] = []
    wait = isolation._wait

    def watched(*args: object) -> isolation._End:
        end = wait(*args)  # type: ignore[arg-type]
        peaks.append(end.peak_bytes)
        return end

    monkeypatch.setattr(isolation, "_wait", watched)
    outcomes: dict[str, int] = {}
    slowest, grown, files, good = 0.0, 0, 0, []
    for seed in range(count):
        corpus = Corpus.objects.create(name=f"Hostile {seed}", owner=alice)
        calm = [
            services.receive(corpus=corpus, person=None, name=name, content=io.BytesIO(content))
            for name, content in documents(4 if count == 1 else 10, seed=seed)
        ]
        for document in calm:
            pipeline.work_on(document.pk)
        good += calm
        for name, content in hostile(seed=seed):
            files += 1
            before, began = rss(), time.monotonic()
            try:
                document = services.receive(
                    corpus=corpus, person=None, name=name, content=io.BytesIO(content)
                )
            except UploadRefused as exc:
                code = exc.code
            else:
                while not document.is_terminal:
                    pipeline.work_on(document.pk)
                    document.refresh_from_db()
                code = document.error_code or document.state
                if document.state == Document.State.READY:
                    assert_complete(document)
            taken = time.monotonic() - began
            slowest, grown = max(slowest, taken), max(grown, rss() - before)
            outcomes[code] = outcomes.get(code, 0) + 1
            assert code == Document.State.READY or code in SENTENCES, (name, code)
            assert code != "internal_error", (name, document.error_detail)
            assert taken < FAR_SECONDS, (name, taken)
        late = services.receive(
            corpus=corpus, person=None, name="late.md", content=io.BytesIO(b"# Late\n\nStill here.")
        )
        pipeline.work_on(late.pk)
        good.append(late)
    assert max(peaks) < FAR_BYTES
    assert grown < PARENT_BYTES
    for document in good:
        assert_complete(document)
    assert not list((tmp_data / "tmp").glob("parse-*"))
    report(
        "hostile",
        files=files,
        good=len(good),
        outcomes=outcomes,
        slowest_seconds=round(slowest, 1),
        child_peak_megabytes=round(max(peaks) / MEBIBYTE),
        parent_growth_megabytes=round(grown / MEBIBYTE, 1),
    )
