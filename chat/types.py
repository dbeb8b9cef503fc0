"""Values that pass between the parts of the answering engine; frozen, without vendor types."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from chat.errors import GeneratorUnreachable
from inference.types import ServerInfo
from search.arms import Embedder
from search.rerank import Reranker

if TYPE_CHECKING:
    from chat.admission import Line
    from chat.errors import GenerationError
    from ingestion.models import Corpus
    from search.types import Trace


@dataclass(frozen=True, slots=True)
class Message:
    """One message to the language model."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Exchange:
    """An earlier question of the conversation and its answer."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class TurnOptions:
    """What one turn is to be done with, where that differs from its conversation and corpora.

    model: name of a language model; "" for the conversation's.
    top_n, pool, rerank: as in `search.types.RetrievalSettings`; None for the corpora's own.
    """

    model: str = ""
    top_n: int | None = None
    pool: int | None = None
    rerank: bool | None = None

    def to_json(self) -> dict[str, Any]:
        """Only what is set."""
        return {name: value for name, value in asdict(self).items() if value not in ("", None)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> TurnOptions:
        """Read what `to_json` wrote."""
        return cls(**stored)

    @property
    def retrieval(self) -> dict[str, Any]:
        """The knobs of the search among them that are set."""
        return {name: value for name, value in self.to_json().items() if name != "model"}


class GeneratorKind(StrEnum):
    """Which API the language model's server speaks."""

    OLLAMA = "ollama"
    OPENAI = "openai"


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """Where the language model is and how it is asked.

    host: as Ollama writes it, with or without scheme and port; of another server the address
        under which its API begins.
    model: "" for the first one that a server of OpenAI's API lists.
    keep_alive: how long Ollama keeps the model loaded after an answer ("5m", "-1").
    max_context_tokens: most that prompt and answer take together.
    """

    host: str
    model: str
    kind: GeneratorKind = GeneratorKind.OLLAMA
    api_key: str = field(default="", repr=False)
    keep_alive: str = "5m"
    temperature: float = 0.1
    max_context_tokens: int = 8192
    max_answer_tokens: int = 1024
    connect_seconds: float = 2.0
    first_token_seconds: float = 120.0
    silence_seconds: float = 30.0

    def unreachable(self, detail: str) -> GeneratorUnreachable:
        """The error that nothing answers there."""
        if self.kind == GeneratorKind.OPENAI:
            return GeneratorUnreachable(detail, advice="Check OPENAI_BASE_URL, and that it runs.")
        return GeneratorUnreachable(detail)

    @property
    def max_prompt_tokens(self) -> int:
        """What is left for the prompt when the longest answer has its room."""
        return max(self.max_context_tokens - self.max_answer_tokens, self.max_context_tokens // 2)


@dataclass(frozen=True, slots=True)
class GeneratorStatus:
    """What the language model's server said of itself.

    model: the one that answers will come from.
    problem: why it cannot answer now; None when it can.
    """

    model: str
    reachable: bool = False
    version: str = ""
    models: Sequence[str] = ()
    problem: GenerationError | None = None

    @property
    def has_model(self) -> bool:
        """Whether the configured model is installed; `name` means `name:latest`."""
        return self.model in self.models or f"{self.model}:latest" in self.models

    @property
    def pull_command(self) -> str:
        """What to type where the model is missing."""
        return f"ollama pull {self.model}"


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How far the download of a model is. `total_bytes` is 0 while it is not known."""

    status: str
    completed_bytes: int = 0
    total_bytes: int = 0


class SentenceModels(Embedder, Reranker, Protocol):
    """What compares sentences with a question: `inference.client.InferenceClient`."""


class AnswerModels(SentenceModels, Protocol):
    """The same, which also tells what its scores mean."""

    def info(self, timeout_seconds: float = 2.0) -> ServerInfo:
        """The models it has. Raises `inference.errors.InferenceError`."""
        ...


Retrieve: TypeAlias = "Callable[[str, Sequence[Corpus], Callable[[str], None]], Trace]"


@dataclass(frozen=True, slots=True)
class ChatServices:
    """What an answer is made with; the one seam at which tests put stand-ins.

    retrieve: from a question and the corpora to a trace, calling back with stage lines.
    line: where requests to the language model wait for each other.
    """

    retrieve: Retrieve
    generation: GenerationSettings
    sentences: AnswerModels
    line: Line


@dataclass(frozen=True, slots=True)
class Fonts:
    """Files of the letters of a PDF. fallback: for what the others lack; "" for none."""

    regular: str
    bold: str
    fallback: str = ""
