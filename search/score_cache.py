"""Scores that a reranker gave before, kept in Redis: a question asked again costs it nothing.

Exact: a score is found again only for the same weights, the same question and the same text,
whatever the passage is called by then. Kept by document, so that deleting a document takes its
scores with it. Redis being away only costs time, and nothing is kept longer than a week.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import cast

import redis
from django.conf import settings

from inference.types import ModelInfo, RerankScore
from ingestion.models import Document
from search.rerank import Reranker

PREFIX = "ragsite:scores:"
RECENT = "ragsite:scores-recent"
KEPT_SECONDS = 7 * 24 * 3600
# Some 100 bytes each: at most about 200 MB, and of one document as much as a thousand
# questions about one of its passages.
SCORES_PER_DOCUMENT = 1_000
DOCUMENTS = 2_000
WAIT_SECONDS = 0.2

logger = logging.getLogger(__name__)


class ScoreCache:
    """The scores in one Redis. Any number of threads may use it."""

    def __init__(self, url: str) -> None:
        """Nothing is connected until it is used."""
        self._redis = redis.Redis.from_url(
            url, socket_timeout=WAIT_SECONDS, socket_connect_timeout=WAIT_SECONDS
        )

    def close(self) -> None:
        """Close the connections; a later use opens new ones."""
        self._redis.close()

    def known(
        self, model: ModelInfo, question: str, passages: Sequence[tuple[int, str]]
    ) -> dict[str, RerankScore]:
        """By text, the scores that this model gave for the question before; {} without Redis.

        Args:
            passages: (document id, text as the reranker reads it) of each.
        """
        fields = [_field(model, question, text) for _, text in passages]
        try:
            pipe = self._redis.pipeline(transaction=False)
            for (document, _), field in zip(passages, fields, strict=True):
                pipe.hget(_key(document), field)
            found = pipe.execute()
        except redis.RedisError as exc:
            logger.info("scores are not looked up: %s", exc)
            return {}
        return {
            text: score
            for (_, text), value in zip(passages, found, strict=True)
            if value and (score := _score(value))
        }

    def keep(
        self,
        model: ModelInfo,
        question: str,
        scored: Sequence[tuple[int, str, RerankScore]],
    ) -> None:
        """Keep scores of (document id, text, score); without Redis nothing is kept."""
        if not scored:
            return
        documents = sorted({document for document, _, _ in scored})
        try:
            sizes = self._redis.pipeline(transaction=False)
            for document in documents:
                sizes.hlen(_key(document))
            full = [
                document
                for document, size in zip(documents, sizes.execute(), strict=True)
                if size >= SCORES_PER_DOCUMENT
            ]
            pipe = self._redis.pipeline(transaction=False)
            for document in full:
                pipe.delete(_key(document))
            for document, text, score in scored:
                value = f"{score.logit!r} {int(score.truncated)}"
                pipe.hset(_key(document), _field(model, question, text), value)
            for document in documents:
                pipe.expire(_key(document), KEPT_SECONDS)
            pipe.zadd(RECENT, {str(document): time.time() for document in documents})
            pipe.execute()
            self._drop_oldest()
        except redis.RedisError as exc:
            logger.info("scores are not kept: %s", exc)

    def _drop_oldest(self) -> None:
        oldest = cast("list[bytes]", self._redis.zrange(RECENT, 0, -DOCUMENTS - 1))
        for document in oldest:
            self.forget(int(document))

    def forget(self, document_id: int) -> int:
        """Remove what is kept of a document. Returns how many scores that was.

        Without Redis nothing is removed: what it may have kept on its disk are digests and
        numbers, which `strays` finds, the nightly comparison removes, and a week ends.
        """
        try:
            pipe = self._redis.pipeline()
            pipe.hlen(_key(document_id))
            pipe.delete(_key(document_id))
            pipe.zrem(RECENT, str(document_id))
            return int(pipe.execute()[0])
        except redis.RedisError as exc:
            logger.warning("scores of document %d are not removed: %s", document_id, exc)
            return 0

    def holds(self, document_id: int) -> bool:
        """Whether scores of a document are kept; without Redis there is nobody to ask."""
        try:
            return bool(self._redis.exists(_key(document_id)))
        except redis.RedisError:
            return False

    def strays(self) -> list[int]:
        """Documents with scores that are not in the database any more; [] without Redis."""
        kept: set[int] = set()
        with suppress(redis.RedisError):
            kept = {
                int(key.decode().removeprefix(PREFIX))
                for key in self._redis.scan_iter(f"{PREFIX}*", count=1000)
            }
        there = set(Document.objects.filter(pk__in=kept).values_list("pk", flat=True))
        return sorted(kept - there)


class KeptScores:
    """The cache that the settings name now; an `ingestion.holders.Holder`."""

    name = "scores"

    def forget(self, document_id: int) -> int:
        """Remove what is kept of a document."""
        return shared_cache(settings.REDIS_URL).forget(document_id)

    def holds(self, document_id: int) -> bool:
        """Whether scores of a document are kept."""
        return shared_cache(settings.REDIS_URL).holds(document_id)

    def strays(self) -> list[int]:
        """Documents with scores that do not exist any more."""
        return shared_cache(settings.REDIS_URL).strays()


class Remembering:
    """A reranker that asks another one only for what is not known yet."""

    def __init__(self, reranker: Reranker, known: Mapping[str, RerankScore]) -> None:
        self._reranker, self._known = reranker, known

    def rerank(
        self, question: str, texts: Sequence[str], *, timeout_seconds: float | None = None
    ) -> list[RerankScore]:
        """One score per text, in their order. Raises what the other one raises."""
        unknown = [n for n, text in enumerate(texts) if text not in self._known]
        asked: list[RerankScore] = []
        if unknown:
            asked = self._reranker.rerank(
                question, [texts[n] for n in unknown], timeout_seconds=timeout_seconds
            )
        fresh = dict(zip(unknown, asked, strict=True))
        scores = [fresh.get(n) or self._known[text] for n, text in enumerate(texts)]
        return [
            RerankScore(n, score.logit, truncated=score.truncated) for n, score in enumerate(scores)
        ]


@cache
def shared_cache(url: str) -> ScoreCache:
    """The cache at an address; connections are kept and shared."""
    return ScoreCache(url)


def _key(document_id: int) -> str:
    return f"{PREFIX}{document_id}"


def _field(model: ModelInfo, question: str, text: str) -> bytes:
    whole = "\x1f".join((model.model_id, model.revision, model.dtype, question, text))
    return hashlib.sha256(whole.encode()).digest()


def _score(value: bytes) -> RerankScore | None:
    try:
        logit, truncated = value.split()
        return RerankScore(0, float(logit), truncated=truncated == b"1")
    except ValueError:
        return None
