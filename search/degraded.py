"""The sentences people read when a stage of retrieval was missing or late."""

from __future__ import annotations

from collections.abc import Sequence

from inference.catalogue import in_words
from inference.errors import (
    InferenceBusy,
    InferenceError,
    InferenceLate,
    InferenceUnreachable,
    ModelLoading,
    NoModel,
)
from inference.types import HOSTED, ModelInfo
from search.types import Degradation, DegradedCode

# What happened and what to do, by the kind of failure of the model server.
_REASONS: tuple[tuple[type[InferenceError], DegradedCode, str, str], ...] = (
    (
        NoModel,
        DegradedCode.NO_RERANKER,
        "no {model} is installed",
        "Ask the administrator to install one.",
    ),
    (
        ModelLoading,
        DegradedCode.RERANKER_LOADING,
        "the {model} is still being loaded",
        "Ask again in a minute.",
    ),
    (
        InferenceUnreachable,
        DegradedCode.RERANKER_UNREACHABLE,
        "the model server is not reachable",
        "Ask the administrator to start it.",
    ),
    (
        InferenceLate,
        DegradedCode.RERANKER_LATE,
        "{server} did not answer in time",
        "Ask again when it is less busy.",
    ),
    (
        InferenceBusy,
        DegradedCode.RERANKER_LATE,
        "{server} is busy",
        "Ask again in a moment.",
    ),
    (
        InferenceError,
        DegradedCode.RERANKER_FAILED,
        "{server} reported an error",
        "The administrator finds the details in the log.",
    ),
)


def _reason(
    error: InferenceError, model: str, *, server: str = "the model server"
) -> tuple[DegradedCode, str, str]:
    for kind, code, what, remedy in _REASONS:
        if isinstance(error, kind):
            return code, what.format(model=model, server=server), remedy
    raise TypeError(f"{error!r} is no InferenceError")


def no_reranker(reason: str) -> Degradation:
    """The model server has none (yet); `reason` is its own clause about why."""
    reason = reason or "no reranker is installed"
    if "loading" in reason:
        return not_reranked(ModelLoading(reason), reranked=0, pool=0)
    return Degradation(
        DegradedCode.NO_RERANKER, f"Not reranked: {reason}. The order is that of fusion."
    )


def unread_script(script: str, languages: Sequence[str]) -> Degradation:
    """The reranker was never shown this script, so its scores would do harm."""
    return Degradation(
        DegradedCode.RERANKER_SCRIPT,
        f"Not reranked: the text is in {script} script, and the reranker was trained on "
        f"{in_words(languages)} only. The order is that of fusion. The administrator can set "
        "RERANKER to a multilingual model.",
    )


def flat_scores() -> Degradation:
    """The reranker tells no passage from another, so it is broken or no reranker at all."""
    return Degradation(
        DegradedCode.RERANKER_FLAT,
        "Not reranked: the reranker gave every passage the same score. The order is that of "
        "fusion. The administrator can set RERANKER to another model.",
    )


def not_reranked(
    error: InferenceError, *, reranked: int, pool: int, model: ModelInfo | None = None
) -> Degradation:
    """The reranker failed, before the first passage or on the way; a hosted one is named."""
    server = model.model_id if model and model.device == HOSTED else "the model server"
    code, what, remedy = _reason(error, "reranker", server=server)
    if reranked:
        return Degradation(
            code,
            f"Only {reranked} of {pool} passages were reranked: {what}. The others follow in "
            "the order of fusion.",
        )
    if code is DegradedCode.NO_RERANKER:
        return no_reranker(str(error) or what)
    return Degradation(code, f"Not reranked: {what}. The order is that of fusion. {remedy}")


def question_not_embedded(error: InferenceError) -> Degradation:
    """No vector of the question, so no search by meaning."""
    _, what, remedy = _reason(error, "embedding model")
    return Degradation(
        DegradedCode.EMBEDDER_UNREACHABLE, f"Not searched by meaning: {what}. {remedy}"
    )


def vectors_unavailable(corpora: Sequence[str], *, of: int, reason: str) -> Degradation:
    """The vector store failed for these corpora out of all that were asked."""
    where = "" if len(corpora) == of else f" in {_listed(corpora)}"
    return Degradation(
        DegradedCode.VECTORS_UNAVAILABLE,
        f"Not searched by meaning{where}: {reason}. Ask the administrator to look at the "
        "status page.",
    )


def embedder_changed(corpora: Sequence[str], *, of: int) -> Degradation:
    """These corpora were indexed with another embedding model than the server has now."""
    where = "" if len(corpora) == of else f" in {_listed(corpora)}"
    which = "this corpus was" if len(corpora) == 1 else "these corpora were"
    return Degradation(
        DegradedCode.EMBEDDER_CHANGED,
        f"Not searched by meaning{where}, only by keywords: {which} indexed with another embedding "
        "model than the one that runs now. The owner can rebuild it on the corpus's page “Index”; "
        "or ask the administrator to set the former model again.",
    )


def lexical_unavailable(corpora: Sequence[str], *, of: int, reason: str) -> Degradation:
    """The keyword index failed for these corpora out of all that were asked."""
    where = "" if len(corpora) == of else f" in {_listed(corpora)}"
    return Degradation(
        DegradedCode.LEXICAL_UNAVAILABLE,
        f"Not searched by keywords{where}: {reason}. Ask the administrator to rebuild the "
        "keyword index.",
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"“{name}”" for name in names)
