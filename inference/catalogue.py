"""Every reranker the product knows by name: what it is, what it may be used for, what it costs.

`RERANKER` takes any of these names, a folder, or a model id of the hub. Licences are those their
publishers state on the page that is named; some forbid commercial use.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

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
    it. device, dtype: where and in what it runs by default. relevance: how its score becomes
    one. cost: in words. page: where licence and figures are stated.
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


_LOGISTIC = "logistic function of the logit"
_COSINE = "mean of the best cosine of each token of the question, 0 to 1: no probability"
# Theirs runs only where RERANKER_REMOTE_CODE allows it.
_WITH_CODE = ", brings code of its own"
_FREE = "none"
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


CATALOGUE = (
    Entry(
        BUNDLED,
        Kind.INTERACTION,
        0.14,
        "Apache-2.0",
        "English, Japanese, Chinese",
        512,
        "cpu",
        "float32, bfloat16 where the processor has it",
        "fitted on labelled pairs, with the fused place",
        _FREE,
        "inference/models/reranker/README.md",
    ),
    _model(WITH_NETWORK, 17, "Apache-2.0", "English", device="cpu", dtype="float32"),
    _model(WITH_CUDA, 568, "Apache-2.0", "over 100", device="cuda", dtype="bfloat16"),
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
        "Apache-2.0",
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
        "over 100",
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
        "89",
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
    Entry(
        "cohere:rerank-v3.5",
        Kind.SERVICE,
        0,
        "terms of Cohere",
        "over 100",
        4096,
        "Cohere",
        "",
        "the service's own, 0 to 1",
        "2 US dollars for 1,000 questions of up to 100 passages",
        "https://docs.cohere.com/v2/reference/rerank",
    ),
    Entry(
        "voyage:rerank-2.5",
        Kind.SERVICE,
        0,
        "terms of Voyage AI",
        "many",
        32000,
        "Voyage AI",
        "",
        "the service's own, 0 to 1",
        "by the tokens of passages and question; see the page",
        "https://docs.voyageai.com/docs/reranker",
    ),
    Entry(
        "jina:jina-reranker-v2-base-multilingual",
        Kind.SERVICE,
        278,
        "terms of Jina AI (the weights: CC BY-NC 4.0)",
        "over 100",
        1024,
        "Jina AI",
        "",
        "the service's own, 0 to 1",
        "by the tokens of passages and question; see the page",
        "https://jina.ai/reranker",
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


def known(name: str) -> Entry | None:
    """The entry of this name, or None for a folder or a model that is not in the catalogue."""
    return next((entry for entry in CATALOGUE if entry.name == name), None)
