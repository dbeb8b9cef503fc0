"""The embedding model is changed under a corpus: answers go on, and a rebuild mends it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from ingestion import nudges, rebuild
from ingestion.models import Corpus, Document, IndexGeneration
from ragsite import processes
from search.conf import retrieval_settings, search_services
from search.pipeline import retrieve
from search.types import DegradedCode, Trace
from tests.ingestion.test_rebuild import begin, ready, work_off
from tests.ingestion.workbench import assert_complete, eventually, upload

pytestmark = [
    pytest.mark.services,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("tmp_data", "chroma_url", "inference_url"),
]
QUESTION = "What does a cross-encoder read?"


@pytest.fixture
def other_url(tmp_path: Path) -> Iterator[str]:
    """A real model server with a small model of 64 dimensions."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import AutoTokenizer, BertConfig, BertModel

    from inference.models_on_disk import embedder_folder

    folder = tmp_path / "small"
    tokenizer = AutoTokenizer.from_pretrained(str(embedder_folder("all-MiniLM-L6-v2")))
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    transformer = Transformer(str(folder), max_seq_length=256)
    SentenceTransformer(
        modules=[transformer, Pooling(64)],
        device="cpu",
    ).save(str(folder), create_model_card=False)
    port = processes.free_port()
    process = processes.Process(
        processes.inference_service(port),
        env={"EMBEDDING_MODEL": str(folder)},
        log=tmp_path / "other.log",
    )
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: processes.answers(f"{url}/health"), seconds=90)
        yield url
    finally:
        process.stop()


def ask(corpus: Corpus) -> Trace:
    return retrieve(
        QUESTION, corpora=[corpus], settings=retrieval_settings(), services=search_services()
    )


def codes(trace: Trace) -> set[DegradedCode]:
    return {d.code for d in trace.degraded} - {DegradedCode.NO_RERANKER}


def test_answers_go_on_until_the_corpus_is_rebuilt(
    corpus: Corpus, other_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nudges, "nudge_waiting", lambda: 0)
    monkeypatch.setattr(nudges, "nudge_generations", lambda: None)
    (document,) = ready(corpus, "It is slow.")
    before = ask(corpus)
    assert before.candidates[0].dense_rank
    assert not codes(before)
    first = settings.EMBED_URL

    settings.EMBED_URL = other_url
    changed = ask(corpus)
    assert codes(changed) == {DegradedCode.EMBEDDER_CHANGED}
    assert {c.chunk_id for c in changed.candidates} <= {c.chunk_id for c in before.candidates}
    assert changed.candidates
    assert all(c.dense_rank is None for c in changed.candidates)
    late = upload(corpus, "uploaded after the change")
    work_off()
    late.refresh_from_db()
    assert (late.is_terminal, late.error_code) == (False, "embedder_changed")

    new = begin(corpus)
    assert new.dimension == 64
    assert codes(ask(corpus)) == {DegradedCode.EMBEDDER_CHANGED}
    work_off()
    rebuild.flip(new)
    mended = ask(corpus)
    assert not codes(mended)
    assert any(c.dense_rank for c in mended.candidates)
    work_off()
    assert_complete(document)
    assert_complete(late)

    rebuild.roll_back(corpus)
    assert codes(ask(corpus)) == {DegradedCode.EMBEDDER_CHANGED}
    settings.EMBED_URL = first
    again = ask(corpus)
    assert not codes(again)
    Document.objects.update(retry_at=None)
    work_off()
    assert_complete(late)
    assert IndexGeneration.objects.count() == 2
