"""SIGKILL to every process of a site that takes documents in: none lost, none doubled."""

from __future__ import annotations

import hashlib
import io
import random
import time
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from ingestion import pipeline, services
from ingestion.conf import ingestion_settings
from ingestion.models import Chunk, Corpus, Document
from ingestion.verification.run import verify
from tests.faults.mixed import documents
from tests.faults.report import report
from tests.faults.running import Uploader, running_site, unfinished, wait_until_finished
from tests.faults.scale import campaign
from tests.ingestion.workbench import assert_complete

pytestmark = [
    pytest.mark.services,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_url", "chroma_url", "inference_url"),
]
State = Document.State
# How often each is hit: the pool's processes and parsers most of all.
TARGETS = ("child",) * 10 + ("worker",) * 5 + ("upkeep", "beat", "web", "inference", "inference")
SEED = 20261


def passages(document: Document) -> list[tuple[int, str, str]]:
    """What a document was cut into, in order."""
    rows = document.chunks.order_by("ordinal").values_list("ordinal", "heading_path", "text")
    return [(n, path, hashlib.sha256(text.encode()).hexdigest()) for n, path, text in rows]


@campaign(short=3, full=200)
def test_no_kill_loses_or_doubles_anything(alice: User, tmp_data: Path, count: int) -> None:
    is_long = count > 3
    chance = random.Random(SEED)
    files = documents(count * 3 // 2 if is_long else 6, seed=SEED)
    own = ("inference", "web") if is_long else ("web",)
    targets = TARGETS if is_long else tuple(t for t in TARGETS if t != "inference")
    corpus = Corpus.objects.create(name="Killed", owner=alice)
    began = time.monotonic()
    with running_site(tmp_data, own=own) as site:
        uploader = Uploader(site, alice, corpus)

        def kill() -> None:
            target = chance.choice(targets)
            if target == "child":
                site.kill_child(chance)
            else:
                site.kill(target)

        waiting = list(files)
        while waiting or unfinished(corpus):
            while waiting and unfinished(corpus) < 12:
                uploader.upload(*waiting.pop(0))
            # Spread over the whole: a share of the kills for the share that is through.
            through = (len(files) - len(waiting) - unfinished(corpus) + 12) / len(files)
            time.sleep(chance.uniform(0.1, 0.8))
            if sum(site.kills.values()) < min(1.0, through) * count:
                kill()
        wait_until_finished(corpus, seconds=60)
        kills, disturbed = dict(site.kills), time.monotonic() - began

    found = {document.name: document for document in corpus.documents.all()}
    assert found.keys() == {name for name, _ in files}  # none lost, none twice
    assert set(uploader.accepted) == found.keys()
    for name, content in files:
        document = found[name]
        assert document.sha256 == hashlib.sha256(content).hexdigest()
        assert services.blob_path(document).read_bytes() == content
        assert document.crashes == 0
        assert_complete(document)
    assert verify(ingestion_settings(), deep=True).findings == []

    began = time.monotonic()
    calm = Corpus.objects.create(name="Calm", owner=alice)
    for name, content in files:
        upload(calm, name, content)
    for pk in list(calm.documents.values_list("pk", flat=True)):
        pipeline.work_on(pk)
    for document in calm.documents.all():
        assert passages(found[document.name]) == passages(document), document.name
    report(
        "kills",
        seed=SEED,
        documents=len(files),
        passages=Chunk.objects.filter(document__corpus=corpus).count(),
        kills=kills,
        lost=0,
        doubled=0,
        quarantined=0,
        upload_tries=uploader.tries,
        seconds_disturbed=round(disturbed, 1),
        seconds_calm=round(time.monotonic() - began, 1),
    )


def upload(corpus: Corpus, name: str, content: bytes) -> None:
    services.receive(corpus=corpus, person=None, name=name, content=io.BytesIO(content))
