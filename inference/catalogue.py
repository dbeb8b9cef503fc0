"""Every reranker and embedder the product knows by name: what it is, may be used for, and costs.

`RERANKER` and `EMBEDDING_MODEL` take any of these names, a folder, or a model id of the hub.
Licences are those their publishers state on the page that is named; some forbid commercial use.
docs/rerankers.md says where each figure was looked up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from inference.models_on_disk import DEFAULT_EMBEDDER

BUNDLED = "bundled"
WITH_CUDA = "BAAI/bge-reranker-v2-m3"
WITH_NETWORK = "cross-encoder/ettin-reranker-17m-v1"


class Kind(StrEnum):
    """How a score comes about."""

    INTERACTION = "token interaction"  # states of both texts compared by a small network
    CROSS_ENCODER = "cross-encoder"  # both texts in one pass, one number
    LATE_INTERACTION = "late interaction"  # a vector per token, the best match of each
    LANGUAGE_MODEL = "language model"  # the logit of “Yes” to whether the passage answers
    LAYERWISE = "layerwise language model"  # the same, read after a layer that is chosen
    SERVICE = "hosted service"  # somebody else's server; the passages leave this site
    SERVER = "own server"  # a server of yours that speaks TEI's protocol


@dataclass(frozen=True, slots=True)
class Entry:
    """One reranker.

    name: what RERANKER (or, for an own server, RERANK_URL) is set to. parameters: in millions, 0
    where the publisher does not say. max_tokens: of question and passage together, as we use
    it; of a service, what it reads. device, dtype: where and in what it runs by default.
    relevance: how its score becomes one. cost: in words. page: where licence and figures are
    stated.
    """

    name: str
    kind: Kind
    parameters: float
    licence: str
    languages: str
    max_tokens: int
    device: str
    dtype: str
    relevance: str
    cost: str
    page: str


_CODES = {"English": "en", "Chinese": "zh", "Japanese": "ja"}
_LOGISTIC = "logistic function of the logit"
_COSINE = "mean of the best cosine of each token of the question, 0 to 1: no probability"
# Theirs runs only where RERANKER_REMOTE_CODE allows it.
_WITH_CODE = ", brings code of its own"
_FREE = "none"
_JINA_COST = "by the tokens of the request, bought in advance"
_HUB = "https://huggingface.co/"


def _model(
    name: str, parameters: float, licence: str, languages: str, *, device: str, dtype: str
) -> Entry:
    return Entry(
        name,
        Kind.CROSS_ENCODER,
        parameters,
        licence,
        languages,
        512,
        device,
        dtype,
        _LOGISTIC,
        _FREE,
        _HUB + name,
    )


def _service(
    name: str,
    languages: str,
    max_tokens: int,
    *,
    cost: str,
    page: str,
    parameters: float = 0,
    licence: str = "",
    relevance: str = "the service's own, 0 to 1",
) -> Entry:
    title = {"cohere": "Cohere", "voyage": "Voyage AI", "jina": "Jina AI"}[name.partition(":")[0]]
    return Entry(
        name,
        Kind.SERVICE,
        parameters,
        licence or f"terms of {title}",
        languages,
        max_tokens,
        title,
        "",
        relevance,
        cost,
        page,
    )


CATALOGUE = (
    Entry(
        BUNDLED,
        Kind.INTERACTION,
        0.14,
        "Apache-2.0",
        "English, Japanese, Chinese",
        512,
        "cpu",
        "float32",
        "fitted on labelled pairs, with the fused place",
        _FREE,
        "inference/models/reranker/README.md",
    ),
    _model(WITH_NETWORK, 17, "Apache-2.0", "English", device="cpu", dtype="float32"),
    _model(WITH_CUDA, 568, "Apache-2.0", "many", device="cuda", dtype="bfloat16"),
    _model(
        "BAAI/bge-reranker-large", 560, "MIT", "Chinese, English", device="cuda", dtype="bfloat16"
    ),
    _model(
        "mixedbread-ai/mxbai-rerank-large-v1",
        435,
        "Apache-2.0",
        "English",
        device="cuda",
        dtype="bfloat16",
    ),
    _model(
        "mixedbread-ai/mxbai-rerank-base-v1",
        184,
        "Apache-2.0",
        "English",
        device="cuda",
        dtype="bfloat16",
    ),
    Entry(
        "BAAI/bge-reranker-v2-gemma",
        Kind.LANGUAGE_MODEL,
        2510,
        "Apache-2.0 (of Gemma, on which it rests: the Gemma terms of use)",
        "many",
        512,
        "cuda",
        "bfloat16",
        _LOGISTIC,
        _FREE,
        _HUB + "BAAI/bge-reranker-v2-gemma",
    ),
    Entry(
        "BAAI/bge-reranker-v2-minicpm-layerwise",
        Kind.LAYERWISE,
        2725,
        "Apache-2.0 (of MiniCPM, on which it rests: OpenBMB's terms for its weights)",
        "Chinese, English, many more",
        512,
        "cuda",
        "bfloat16",
        f"{_LOGISTIC} after layer 28, or RERANKER_LAYER from 8 to 40",
        _FREE,
        _HUB + "BAAI/bge-reranker-v2-minicpm-layerwise",
    ),
    Entry(
        "jinaai/jina-reranker-v2-base-multilingual",
        Kind.CROSS_ENCODER,
        278,
        f"CC BY-NC 4.0: not for business{_WITH_CODE}",
        "108, trained on 24",
        512,
        "cuda",
        "bfloat16",
        _LOGISTIC,
        _FREE,
        _HUB + "jinaai/jina-reranker-v2-base-multilingual",
    ),
    Entry(
        "jinaai/jina-colbert-v2",
        Kind.LATE_INTERACTION,
        560,
        f"CC BY-NC 4.0: not for business{_WITH_CODE}",
        "108, trained on 89",
        512,
        "cuda",
        "bfloat16",
        _COSINE,
        _FREE,
        "https://jina.ai/models/jina-colbert-v2",
    ),
    Entry(
        "colbert-ir/colbertv2.0",
        Kind.LATE_INTERACTION,
        110,
        "MIT",
        "English",
        180,
        "cpu",
        "float32",
        _COSINE,
        _FREE,
        _HUB + "colbert-ir/colbertv2.0",
    ),
    _service(
        "cohere:rerank-v5.0-fast",
        "over 100",
        32768,
        cost="by the tokens read; 0.02 US dollars for a million are named by resellers",
        page="https://docs.cohere.com/changelog/rerank-v5",
    ),
    _service(
        "cohere:rerank-v3.5",
        "over 100",
        4096,
        cost="by the search, a question with up to 100 passages; long ones count more than once",
        page="https://docs.cohere.com/docs/rerank",
    ),
    _service(
        "voyage:rerank-2.5",
        "many",
        32000,
        cost="0.05 US dollars for a million tokens, the question's counted with each passage",
        page="https://docs.voyageai.com/docs/reranker",
    ),
    _service(
        "jina:jina-reranker-v3",
        "93, trained on 24",
        131072,
        parameters=597,
        licence="terms of Jina AI (the weights: CC BY-NC 4.0)",
        relevance="a cosine, below 0 as 0: no probability",
        cost=_JINA_COST,
        page="https://jina.ai/models/jina-reranker-v3",
    ),
    _service(
        "jina:jina-reranker-v2-base-multilingual",
        "108, trained on 24",
        1024,
        parameters=278,
        licence="terms of Jina AI (the weights: CC BY-NC 4.0)",
        cost=_JINA_COST,
        page="https://jina.ai/models/jina-reranker-v2-base-multilingual",
    ),
    Entry(
        "a TEI server (RERANK_URL)",
        Kind.SERVER,
        0,
        "of the model it serves",
        "of the model it serves",
        512,
        "its own",
        "its own",
        _LOGISTIC,
        _FREE,
        "https://github.com/huggingface/text-embeddings-inference",
    ),
)


@dataclass(frozen=True, slots=True)
class EmbedderEntry:
    """One embedding model: `name` for EMBEDDING_MODEL, parameters in millions, page as above."""

    name: str
    parameters: float
    licence: str
    languages: str
    max_tokens: int
    dimension: int
    page: str


EMBEDDERS = (
    EmbedderEntry(
        DEFAULT_EMBEDDER,
        22.7,
        "Apache-2.0",
        "English",
        256,
        384,
        _HUB + "sentence-transformers/all-MiniLM-L6-v2",
    ),
    EmbedderEntry(
        "BAAI/bge-small-en-v1.5",
        33.4,
        "MIT",
        "English",
        512,
        384,
        _HUB + "BAAI/bge-small-en-v1.5",
    ),
    EmbedderEntry("BAAI/bge-m3", 568, "MIT", "over 100", 8192, 1024, _HUB + "BAAI/bge-m3"),
)


def languages(name: str) -> tuple[str, ...]:
    """The languages of a reranker by ISO 639 code, where the catalogue lists them all."""
    entry = known(name)
    named = entry.languages.split(", ") if entry else []
    if not named or not all(language in _CODES for language in named):
        return ()
    return tuple(_CODES[language] for language in named)


def in_words(codes: Sequence[str]) -> str:
    """Languages for people: “English, Japanese and Chinese”; a code that has no name here stays."""
    names = {code: name for name, code in _CODES.items()}
    *others, last = (names.get(code, code) for code in codes)
    return f"{', '.join(others)} and {last}" if others else last


def known(name: str) -> Entry | None:
    """The entry of this name, or None for a folder or a model that is not in the catalogue."""
    return next((entry for entry in CATALOGUE if entry.name == name), None)
