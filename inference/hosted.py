"""Rerankers that somebody else runs: Cohere, Voyage AI, Jina AI. The one gateway to their APIs.

Passages and questions leave the site, so nothing here is used unless RERANKER names it. The key
comes from the environment or from a file that the environment names.

Sources: https://docs.cohere.com/v2/reference/rerank, https://docs.voyageai.com/docs/reranker,
https://jina.ai/reranker
"""

from __future__ import annotations

import logging
import math
import os
import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from inference.answers import Answer, Part
from inference.catalogue import known
from inference.errors import InferenceBusy, InferenceLate, InferenceUnreachable, NoModel
from inference.types import HOSTED, ModelInfo
from telemetry.requests import Threads

# Requests that are under way at once, and that wait for one of those to end.
AT_ONCE = 16
WAITING = 48
ATTEMPTS = 4
FIRST_PAUSE_SECONDS = 0.5
SECONDS = 10.0
CONNECT_SECONDS = 3.0
RETRY_AFTER_SECONDS = 2.0
# Scores of exactly 0 and 1 have no log-odds.
SMALLEST = 1e-6
TOO_BUSY = (429, 503)
TRY_AGAIN = (*TOO_BUSY, 500, 502, 504)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Service:
    """Where an API is, and how its messages look.

    extra: fields of the request beside model, query and documents. rows: the field of the
    reply that holds the scores.
    """

    title: str
    url: str
    key: str
    rows: str
    extra: Mapping[str, Any]


SERVICES = {
    "cohere": Service(
        "Cohere", "https://api.cohere.com/v2/rerank", "COHERE_API_KEY", "results", {}
    ),
    "voyage": Service(
        "Voyage AI",
        "https://api.voyageai.com/v1/rerank",
        "VOYAGE_API_KEY",
        "data",
        {"truncation": True},
    ),
    "jina": Service(
        "Jina AI",
        "https://api.jina.ai/v1/rerank",
        "JINA_API_KEY",
        "results",
        {"return_documents": False},
    ),
}


def service_of(name: str) -> tuple[str, str] | None:
    """`cohere:rerank-v3.5` as service and model; None for what names no service."""
    service, colon, model = name.partition(":")
    return (service, model) if colon and model and service in SERVICES else None


class HostedReranker:
    """One model of one service; any number of threads may use it at once.

    It has threads of its own, so that a service that is slow keeps nobody else waiting.
    """

    def __init__(
        self, name: str, *, environment: Mapping[str, str] = os.environ, url: str = ""
    ) -> None:
        """Find the key; nothing is sent yet.

        Args:
            name: such as "cohere:rerank-v3.5".
            environment: holds the key, as COHERE_API_KEY or in the file COHERE_API_KEY_FILE.
            url: another address of the same API, such as a proxy's.

        Raises:
            NoModel: there is no key.
        """
        found = service_of(name)
        assert found is not None
        self._service, self._model = SERVICES[found[0]], found[1]
        self._url = url or environment.get(f"{found[0].upper()}_RERANK_URL") or self._service.url
        self._key = _secret(self._service.key, environment)
        entry = known(name)
        self.info = ModelInfo(
            model_id=name,
            revision=self._model,
            device=HOSTED,
            dtype="",
            max_tokens=entry.max_tokens if entry else 0,
        )
        self._http = httpx.Client(headers={"Authorization": f"Bearer {self._key}"})
        self._threads = Threads(AT_ONCE, thread_name_prefix="hosted")
        self._places = threading.BoundedSemaphore(AT_ONCE + WAITING)

    @property
    def batch_tokens(self) -> int:
        """How many tokens the service takes at once is its own affair."""
        return 0

    def submit(self, question: str, passages: Sequence[str]) -> Answer:
        """Ask for the logits of passages, (n,); cancel what waits to have it skipped.

        Raises:
            InferenceBusy: too many requests wait for this service.
        """
        if not self._places.acquire(blocking=False):
            raise InferenceBusy(
                f"too many requests wait for {self._service.title}",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        answer, since = Answer(), time.perf_counter()
        answer.add_done_callback(lambda _: self._places.release())

        def ask() -> None:
            if not answer.set_running_or_notify_cancel():
                return
            began = time.perf_counter()
            try:
                logits = self.logits(question, passages)
            except Exception as exc:  # noqa: BLE001 (goes to the caller)
                logger.warning("%s scored nothing: %s", self.info.model_id, exc)
                answer.set_exception(exc)
                return
            took = time.perf_counter() - began
            answer.parts.append(Part(len(passages), began - since, took))
            answer.set_result(np.asarray(logits, np.float32))

        self._threads.submit(ask)
        return answer

    def logits(self, question: str, passages: Sequence[str]) -> list[float]:
        """The log-odds of the service's relevance of each passage, in their order.

        A refusal for being too busy or a broken connection is tried again, with growing pauses or
        as long as the service says, within SECONDS.

        Raises:
            NoModel: the service refuses the key, the model or the request.
            InferenceBusy, InferenceLate, InferenceUnreachable: it could not be had in time.
        """
        body = {
            "model": self._model,
            "query": question,
            "documents": list(passages),
            **self._service.extra,
        }
        reply = self._asked(body)
        try:
            rows = [
                (int(row["index"]), float(row["relevance_score"]))
                for row in reply.json()[self._service.rows]
            ]
        except (ValueError, KeyError, TypeError) as exc:
            raise self._nonsense() from exc
        scores = dict(rows)
        if sorted(index for index, _ in rows) != list(range(len(passages))) or not all(
            math.isfinite(score) for score in scores.values()
        ):
            raise self._nonsense()
        return [_log_odds(scores[n]) for n in range(len(passages))]

    def close(self) -> None:
        """Drop what waits, and the connections of what is under way."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._http.close()

    def _asked(self, body: Mapping[str, Any]) -> httpx.Response:
        until = time.monotonic() + SECONDS
        title = self._service.title
        for attempt in range(ATTEMPTS):
            pause = FIRST_PAUSE_SECONDS * 2**attempt * random.uniform(0.75, 1.25)  # noqa: S311
            last: Exception
            left = max(FIRST_PAUSE_SECONDS, until - time.monotonic())
            try:
                reply = self._http.post(
                    self._url, json=body, timeout=httpx.Timeout(left, connect=CONNECT_SECONDS)
                )
            except httpx.TimeoutException:
                last = InferenceLate(f"{title} did not answer within {SECONDS:.0f} seconds")
            except httpx.HTTPError as exc:
                last = InferenceUnreachable(f"{title} cannot be reached: {exc}")
            else:
                if reply.status_code == httpx.codes.OK:
                    return reply
                if reply.status_code not in TRY_AGAIN:
                    raise self._refusal(reply)
                pause = _seconds(reply.headers.get("Retry-After")) or pause
                trouble = "is too busy" if reply.status_code in TOO_BUSY else "has failed"
                last = InferenceBusy(
                    f"{title} {trouble} ({reply.status_code})", retry_after_seconds=pause
                )
            if attempt == ATTEMPTS - 1 or time.monotonic() + pause > until:
                raise last
            logger.info("%s; again in %.1f s", last, pause)
            time.sleep(pause)
        raise AssertionError("unreachable")

    def _nonsense(self) -> NoModel:
        return NoModel(
            f"{self._service.title} answered with something that is not a score for each passage"
        )

    def _refusal(self, reply: httpx.Response) -> NoModel:
        title, key = self._service.title, self._service.key
        if reply.status_code in (401, 403):
            return NoModel(f"{title} refuses the key in {key}")
        if reply.status_code == httpx.codes.PAYMENT_REQUIRED:
            return NoModel(f"{title} wants to be paid first: the account of {key} has no credit")
        try:
            told = reply.json()
            said = str(told.get("message") or told.get("detail") or "")
        except (ValueError, AttributeError):
            said = ""
        refused = f"{title} refuses the request ({reply.status_code})"
        return NoModel(f"{refused}: {said}"[:300] if said else refused)


def _secret(name: str, environment: Mapping[str, str]) -> str:
    value = environment.get(name, "").strip()
    file = environment.get(f"{name}_FILE", "")
    if not value and file:
        try:
            value = Path(file).read_text(encoding="utf-8").strip()
        except OSError as exc:
            raise NoModel(f"{name}_FILE names a file that cannot be read: {exc.strerror}") from exc
    if not value:
        raise NoModel(f"the key is missing: set {name} or {name}_FILE for the model server")
    return value


def _seconds(header: str | None) -> float:
    """Retry-After in seconds; 0 where it is missing or a date."""
    try:
        return max(0.0, float(header or 0))
    except ValueError:
        return 0.0


def _log_odds(score: float) -> float:
    """Of a relevance from 0 to 1; what lies beyond, such as a cosine below 0, keeps its order."""
    inside = min(1 - SMALLEST, max(SMALLEST, score))
    return math.log(inside / (1 - inside)) + (score - inside)
