"""Every setting of a corpus: the value in force, and whether it is the corpus's own or inherited.

Inherited is what the site is set to by its environment, or where that says nothing the product's
default.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, cast

from django import forms
from django.conf import settings as site_settings

from ingestion.conf import ingestion_settings, quota_settings
from ingestion.models import Corpus
from search.conf import OF_A_CORPUS, retrieval_settings
from search.difference import KNOBS, in_words
from search.forms import KnobsForm, knobs_initial
from search.types import Fusion, RetrievalSettings

HINTS = {
    "bm25_k": "How many passages the keyword search finds.",
    "dense_k": "How many passages the vector search finds.",
    "fusion": "How both rankings become one.",
    "rrf_k": "Of reciprocal rank fusion: the larger, the less the first places count.",
    "bm25_weight": "Of weighted fusion: 0 is vectors alone, 1 keywords alone.",
    "pool": "How many fused passages the reranker may read.",
    "top_n": "How many passages go on to the answer.",
    "rerank": "Whether the reranker decides the order.",
    "threshold": "The relevance below which the best passage is doubtful.",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """One setting. origin: in words. inherited: what it would be if it were not its own."""

    label: str
    value: str
    is_own: bool
    origin: str
    inherited: str = ""
    name: str = ""
    hint: str = ""
    field: Any = None


class OwnKnobsForm(forms.Form):
    """The knobs a corpus may set for itself; an empty one is inherited."""

    def __init__(self, data: Any = None, *, corpus: Corpus) -> None:
        super().__init__(data)
        self._inherited = retrieval_settings()
        own = corpus.retrieval
        for name in OF_A_CORPUS:
            made = KnobsForm().fields[name]
            made.required = False
            value = asdict(self._inherited)[name]
            if isinstance(made, forms.ChoiceField):
                choices: list[Any] = list(cast("Any", made.choices))
                inherited = f"As the site ({in_words(name, value)})"
                made.choices = [("", inherited), *choices]
                made.widget.attrs["class"] = "input"
                made.initial = knobs_initial(_with(self._inherited, own))[name]
                made.initial = made.initial if name in own else ""
            else:
                made.widget.attrs |= {"class": "input", "placeholder": in_words(name, value)}
                made.initial = own.get(name)
            if isinstance(made, forms.TypedChoiceField):
                made.empty_value = None
            self.fields[name] = made

    def own(self) -> dict[str, Any]:
        """What a valid form sets that is not inherited anyway."""
        inherited = asdict(self._inherited)
        given = {name: self.cleaned_data.get(name) for name in OF_A_CORPUS}
        if given["fusion"]:
            given["fusion"] = Fusion(given["fusion"])
        return {
            name: value
            for name, value in given.items()
            if value not in (None, "") and value != inherited[name]
        }

    def clean(self) -> dict[str, Any]:
        """At least one arm has to search, with what is inherited counted in."""
        cleaned: dict[str, Any] = super().clean() or {}
        both = [
            getattr(self._inherited, name) if cleaned.get(name) is None else cleaned[name]
            for name in ("bm25_k", "dense_k")
        ]
        if both == [0, 0]:
            self.add_error("dense_k", "With both k at 0 nothing is searched. Raise one of them.")
        return cleaned


def knobs(corpus: Corpus, form: OwnKnobsForm) -> Iterator[Shown]:
    """The knobs of the search, each with its field."""
    site, now = asdict(retrieval_settings()), asdict(retrieval_settings([corpus]))
    for name in OF_A_CORPUS:
        is_own = name in corpus.retrieval
        yield Shown(
            label=KNOBS[name],
            value=in_words(name, now[name]),
            is_own=is_own,
            origin="this corpus" if is_own else "the product's default",
            inherited=in_words(name, site[name]),
            name=name,
            hint=HINTS[name],
            field=form[name],
        )
    yield _of_site("Time for reranking", site["rerank_budget_ms"], "RERANK_BUDGET_MS", 2000, " ms")


def reading(corpus: Corpus) -> Iterator[Shown]:
    """How documents are cut and what of them the language model reads."""
    site = ingestion_settings().chunk
    yield _own_or_default("Cut at", corpus, "chunk_strategy")
    for label, own, given, variable in (
        ("Size of a passage", corpus.chunk_max_tokens, site.max_tokens, "CHUNK_MAX_TOKENS"),
        (
            "Overlap",
            corpus.chunk_overlap_tokens,
            site.overlap_tokens,
            "CHUNK_OVERLAP_TOKENS",
        ),
    ):
        yield _inheriting(label, own, given, variable, " tokens")
    yield _own_or_default("The language model reads", corpus, "context")
    yield _own_or_default("Most tokens with what stands around", corpus, "context_max_tokens")
    yield _own_or_default("Language of the keywords", corpus, "language")


def answering(corpus: Corpus) -> Iterator[Shown]:
    """How questions are answered, and what the corpus may hold."""
    yield _own_or_default("When no passage seems to answer", corpus, "doubtful")
    yield _own_or_default("Instructions for the language model", corpus, "instructions")
    quota = quota_settings()
    for label, own, given, variable, unit in (
        ("Most MB of files", corpus.quota_mb, quota.corpus_mb, "QUOTA_CORPUS_MB", " MB"),
        (
            "Most documents",
            corpus.quota_documents,
            quota.corpus_documents,
            "QUOTA_CORPUS_DOCUMENTS",
            "",
        ),
    ):
        yield _inheriting(label, own, given, variable, unit, none_at=0)


def _with(base: RetrievalSettings, own: dict[str, Any]) -> RetrievalSettings:
    known = {name: own[name] for name in OF_A_CORPUS if name in own}
    return RetrievalSettings.from_json({**asdict(base), **known})


def _of_site(label: str, value: int, variable: str, default: int, unit: str) -> Shown:
    is_set = getattr(site_settings, variable) != default
    origin = f"the site ({variable})" if is_set else f"the product's default ({variable})"
    return Shown(label, f"{value:,}{unit}", is_own=False, origin=origin)


def _inheriting(
    label: str, own: int | None, given: int, variable: str, unit: str, *, none_at: int | None = None
) -> Shown:
    def words(value: int) -> str:
        return "no limit" if value == none_at else f"{value:,}{unit}"

    value = given if own is None else own
    origin = f"the site ({variable})" if own is None else "this corpus"
    return Shown(label, words(value), own is not None, origin, inherited=words(given))


def _own_or_default(label: str, corpus: Corpus, name: str) -> Shown:
    """A setting that is the corpus's alone; what it is made with counts as the default."""
    described: Any = Corpus._meta.get_field(name)
    default = described.get_default()
    value = getattr(corpus, name)
    told = getattr(corpus, f"get_{name}_display", lambda: value)()
    is_own = value != default
    origin = "this corpus" if is_own else "the product's default"
    return Shown(label, str(told) or "none", is_own, origin)
