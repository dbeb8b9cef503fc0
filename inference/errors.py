"""What can go wrong when a model is asked.

InferenceError
├── InferencePermanentError     asking again gives the same answer
│   ├── NoModel                 the server has no model of this kind installed
│   └── InferenceRejected       the request is malformed or too large
└── InferenceTransientError     asking again may work
    ├── InferenceUnreachable    no connection, or the connection broke
    ├── InferenceLate           no answer within the time allowed
    ├── ModelLoading            the model is still being loaded
    ├── DeviceLost              the GPU failed, and does until the server is started again
    └── InferenceBusy           the queue is full; `retry_after_seconds` says when to return
"""

from __future__ import annotations


class InferenceError(Exception):
    """Root of every error of the model server. `code` is stored, the text is for logs."""

    code = "inference_error"


class InferencePermanentError(InferenceError):
    """Asking again gives the same answer."""


class InferenceTransientError(InferenceError):
    """Asking again may work."""


class NoModel(InferencePermanentError):
    """The server has no model of the kind that was asked for."""

    code = "no_model"


class InferenceRejected(InferencePermanentError):
    """The server refused the request as malformed or too large."""

    code = "inference_rejected"


class InferenceUnreachable(InferenceTransientError):
    """No connection to the model server, or the connection broke."""

    code = "inference_unreachable"


class InferenceLate(InferenceTransientError):
    """The model server did not answer within the time allowed."""

    code = "inference_late"


class ModelLoading(InferenceTransientError):
    """The model is still being loaded."""

    code = "model_loading"


class DeviceLost(InferenceTransientError):
    """The server's GPU fails in whatever it is given, until the server is started again."""

    code = "device_lost"


class InferenceBusy(InferenceTransientError):
    """The server's queue is full."""

    code = "inference_busy"

    def __init__(self, message: str, *, retry_after_seconds: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


def first_line(exc: Exception) -> str:
    """What an exception says, short enough for a clause."""
    return str(exc).strip().partition("\n")[0][:300]
