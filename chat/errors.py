"""What can go wrong while an answer is written.

ChatError
└── GenerationError             the language model gave no (complete) answer; `sentence` says so
    ├── GeneratorUnreachable    no Ollama server answers at the configured address
    ├── GeneratorModelMissing   the server lacks the model; `pull_command` is what to type
    ├── GeneratorBusy           the server's queue is full
    ├── GeneratorFailed         the server answered with an error
    └── GenerationInterrupted   the stream broke off before its end
"""

from __future__ import annotations


class ChatError(Exception):
    """Root of every chat error. `code` is a `search.types.DegradedCode` value."""

    code = "generator_failed"
    sentence = "The language model could not answer. Try again, or ask the administrator."


class GenerationError(ChatError):
    """The language model gave no (complete) answer."""


class GeneratorUnreachable(GenerationError):
    """No Ollama server answers at the configured address."""

    code = "generator_unreachable"
    sentence = (
        "The language model is not reachable, so the best passages are quoted instead. "
        "Start Ollama, or set OLLAMA_HOST to where it runs."
    )


class GeneratorModelMissing(GenerationError):
    """The server lacks the model."""

    code = "generator_model_missing"

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self.model = model
        self.pull_command = f"ollama pull {model}"
        self.sentence = (
            f"The language model {model} is not installed, so the best passages are quoted "
            f"instead. Install it with: {self.pull_command}"
        )


class GeneratorBusy(GenerationError):
    """The server's queue is full."""

    sentence = (
        "The language model is busy, so the best passages are quoted instead. Try again soon."
    )


class GeneratorFailed(GenerationError):
    """The server answered with an error."""

    sentence = (
        "The language model reported an error, so the best passages are quoted instead. "
        "The administrator finds the details in the log."
    )


class GenerationInterrupted(GenerationError):
    """The stream broke off before its end."""

    code = "generation_interrupted"
    sentence = "The answer broke off because the connection to the language model was lost."
