"""Lines of a JSON log: whole objects, with ids, without what exceptions quote."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from telemetry import logs, requests


def formatted(record: logging.LogRecord) -> dict[str, object]:
    line = logs.JsonFormatter().format(record)
    assert "\n" not in line
    found: dict[str, object] = json.loads(line)
    return found


def record(message: str, *arguments: object, exc_info: object = None) -> logging.LogRecord:
    return logging.LogRecord(
        "chat.turns",
        logging.ERROR,
        __file__,
        1,
        message,
        arguments,
        exc_info,  # type: ignore[arg-type]
    )


def test_a_line_names_the_request_and_cannot_be_broken_by_what_it_says() -> None:
    with requests.under("r-1"):
        line = formatted(record("turn %d\n{}", 7))

    assert (line["request_id"], line["message"]) == ("r-1", "turn 7\n{}")
    assert (line["level"], line["logger"]) == ("ERROR", "chat.turns")


def test_values_that_a_database_quotes_are_not_logged() -> None:
    try:
        raise ValueError("duplicate key\nDETAIL: Key (text)=(the secret passage) exists.")
    except ValueError:
        line = formatted(record("failed", exc_info=sys.exc_info()))

    assert line["error"] == "ValueError: duplicate key"
    assert "secret passage" not in json.dumps(line)
    assert str(line["traceback"]).count("test_logs.py") == 1


def test_another_form_is_refused_with_what_to_set() -> None:
    with pytest.raises(ValueError, match="Set it to line or json"):
        logs.configuration(level="INFO", form="xml")
