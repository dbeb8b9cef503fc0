"""Log lines, for people or, with LOG_FORMAT=json, for machines; both with the request's id.

A JSON line has `time`, `level`, `logger`, `message`, `process`, `request_id` and, for an
exception, `error` (type and first line of its message) and `traceback` (places, without source).
Databases and parsers quote values on later lines of their messages, which are left out.
"""

from __future__ import annotations

import json
import logging
import os
import traceback
from datetime import UTC, datetime
from typing import Any

from telemetry import requests, tracing

LINE = "{asctime} {levelname} {name}: {message}"
ERROR_CHARACTERS = 300


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": tracing.role(),
            "pid": record.process,
            "request_id": requests.current(),
        }
        if record.exc_info and (error := record.exc_info[1]) is not None:
            first = next(iter(str(error).splitlines()), "")[:ERROR_CHARACTERS]
            line["error"] = f"{type(error).__name__}: {first}"
            line["traceback"] = [
                f"{frame.filename}:{frame.lineno} {frame.name}"
                for frame in traceback.extract_tb(error.__traceback__)
            ]
        return json.dumps(line, ensure_ascii=False)


class CountErrors(logging.Handler):
    """Counts what is logged as an error."""

    def emit(self, record: logging.LogRecord) -> None:
        """One more of this logger."""
        from telemetry import metrics  # which find their folder when they are imported

        metrics.ERRORS.labels(record.name).inc()


def configuration(*, level: str, form: str) -> dict[str, Any]:
    """The value of Django's LOGGING, and of `logging.config.dictConfig`.

    Args:
        level: of the root logger.
        form: "line" or "json".

    Raises:
        ValueError: it is another form.
    """
    formatters: dict[str, Any] = {
        "line": {"format": LINE, "style": "{"},
        "json": {"()": JsonFormatter},
    }
    if form not in formatters:
        raise ValueError(f"LOG_FORMAT is {form!r}. Set it to line or json.")
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": formatters,
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "formatter": form},
            "count": {"()": CountErrors, "level": "ERROR"},
        },
        "root": {"handlers": ["stderr", "count"], "level": level},
        "loggers": {
            "httpx": {"level": "WARNING"},
            "httpx2": {"level": "WARNING"},  # what the model hub's library asks with
            "sentence_transformers": {"level": "WARNING"},
            "pypdfium2": {"level": "WARNING"},
            "opentelemetry": {"level": "ERROR"},
            "django.request": {"level": "ERROR"},
        },
    }


def from_environment() -> dict[str, Any]:
    """The configuration that LOG_LEVEL and LOG_FORMAT name."""
    return configuration(
        level=os.environ.get("LOG_LEVEL") or "INFO", form=os.environ.get("LOG_FORMAT") or "line"
    )
