"""What can go wrong while an answer is written.

ChatError
├── QuestionRefused             the question was not taken; nothing was stored
├── PassageGone                 what was to be judged is not there, or not for this person
└── GenerationError             the language model gave no (complete) answer; `sentence` says so
    ├── GeneratorUnreachable    nothing answers at the configured address
    ├── GeneratorRefused        the server does not take our key
    ├── GeneratorModelMissing   the server lacks the model; `pull_command` is what to type
    ├── GeneratorBusy           the server's queue is full
    ├── GeneratorLate           the model did not begin to answer in time
    ├── GeneratorFailed         the server answered with an error
    ├── GenerationInterrupted   the stream broke off before its end
    ├── AnswerCut               the answer reached the longest length allowed
    └── PullFailed              Ollama could not fetch a model
"""

from __future__ import annotations


class ChatError(Exception):
    """Root of every chat error. `code` of a GenerationError is a `search.types.DegradedCode`."""

    code = "generator_failed"
    sentence = "The language model could not answer. Try again, or ask the administrator."


class QuestionRefused(ChatError):
    """The question was not taken; nothing was stored. `sentence` says why."""

    code = "question_refused"

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class PassageGone(ChatError):
    """The passage is not there any more, or not for this person to read."""

    code = "passage_gone"
    sentence = "This passage is no longer there. Reload the page to see what is."


class GenerationError(ChatError):
    """The language model gave no (complete) answer."""


class GeneratorUnreachable(GenerationError):
    """Nothing answers at the configured address; `advice` says what to do."""

    code = "generator_unreachable"
    advice = "Start Ollama, or set OLLAMA_HOST to where it runs."

    def __init__(self, detail: str = "", *, advice: str = "") -> None:
        super().__init__(detail)
        self.sentence = (
            "The language model is not reachable, so the best passages are quoted instead. "
            f"{advice or self.advice}"
        )


class GeneratorRefused(GenerationError):
    """The server does not take our key."""

    sentence = (
        "The language model's server refused the site's key, so the best passages are quoted "
        "instead. The administrator sets the right one in OPENAI_API_KEY."
    )


class GeneratorModelMissing(GenerationError):
    """The server lacks the model; `advice` says what to do."""

    code = "generator_model_missing"

    def __init__(self, model: str, *, advice: str = "") -> None:
        super().__init__(model)
        self.model = model
        advice = advice or f"Install it with: ollama pull {model}"
        self.sentence = (
            f"The language model {model} is not installed, so the best passages are quoted "
            f"instead. {advice}"
        )


class GeneratorBusy(GenerationError):
    """The server's queue is full."""

    sentence = (
        "The language model is busy, so the best passages are quoted instead. Try again soon."
    )


class GeneratorLate(GenerationError):
    """The model did not begin to answer in time."""

    sentence = (
        "The language model did not begin to answer in time, so the best passages are quoted "
        "instead. If it was still being loaded, ask again in a minute."
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

    def __init__(
        self, detail: str = "", *, why: str = "the connection to the language model was lost"
    ) -> None:
        super().__init__(detail)
        self.why = why
        self.sentence = f"The answer broke off because {why}. Ask again to get a whole one."


class AnswerCut(GenerationError):
    """The answer reached the longest length allowed."""

    code = "answer_cut"

    def __init__(self, max_tokens: int) -> None:
        super().__init__(f"{max_tokens} tokens")
        self.sentence = (
            f"The answer ends here because it reached its longest length, {max_tokens:,} tokens. "
            "Ask for the part that is missing."
        )


class PullFailed(GenerationError):
    """Ollama could not fetch a model."""

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(reason)
        self.sentence = f"{model} could not be fetched. Ollama says: {reason[:300]}"
