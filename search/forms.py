"""What the inspector is asked: a question, corpora, and the knobs of the search."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from django import forms

from ingestion import labels
from ingestion.forms import ScopeForm
from search.types import Fusion, RetrievalSettings

MAX_QUESTION_CHARACTERS = 10_000
MAX_POOL = 400
_NUMBERS = {
    "bm25_k": ("Keyword search, k", 0, 200),
    "dense_k": ("Vector search, k", 0, 200),
    "rrf_k": ("RRF constant", 1, 1000),
    "pool": ("Pool", 1, MAX_POOL),
    "top_n": ("Top n", 1, 100),
    "rerank_budget_ms": ("Time for reranking, ms", 1, 60_000),
    "rerank_at_most": ("Rerank at most (0: all)", 0, MAX_POOL),
}


def _number(name: str, *, required: bool = True) -> forms.IntegerField:
    label, least, most = _NUMBERS[name]
    return forms.IntegerField(label=label, min_value=least, max_value=most, required=required)


def _share(label: str, *, required: bool) -> forms.FloatField:
    widget = forms.NumberInput(attrs={"step": "any"})
    return forms.FloatField(label=label, min_value=0, max_value=1, required=required, widget=widget)


class KnobsForm(forms.Form):
    """Every knob; `settings` makes the frozen value of them."""

    bm25_k = _number("bm25_k")
    dense_k = _number("dense_k")
    fusion = forms.ChoiceField(
        label="Fusion", choices=[(Fusion.RRF, "RRF (ranks)"), (Fusion.WEIGHTED, "Weighted scores")]
    )
    rrf_k = _number("rrf_k")
    bm25_weight = _share("Weight of keywords", required=True)
    rerank = forms.TypedChoiceField(
        label="Reranker", choices=[("1", "The site's"), ("0", "None")], coerce=lambda v: v == "1"
    )
    rerank_budget_ms = _number("rerank_budget_ms")
    rerank_at_most = _number("rerank_at_most")
    pool = _number("pool")
    top_n = _number("top_n")
    threshold = _share("Threshold", required=False)

    def clean(self) -> dict[str, Any]:
        """At least one arm has to search."""
        cleaned: dict[str, Any] = super().clean() or {}
        if cleaned.get("bm25_k") == 0 and cleaned.get("dense_k") == 0:
            self.add_error("dense_k", "With both k at 0 nothing is searched. Raise one of them.")
        return cleaned

    def settings(self) -> RetrievalSettings:
        """The knobs of a valid form."""
        names = {field.name for field in fields(RetrievalSettings)} & set(KnobsForm.base_fields)
        given = {name: value for name, value in self.cleaned_data.items() if name in names}
        return RetrievalSettings.from_json(given)


def knobs_initial(settings: RetrievalSettings) -> dict[str, Any]:
    """What the form shows for these settings."""
    return {
        **asdict(settings),
        "rerank": "1" if settings.rerank else "0",
        "labels": [labels.key(label) for label in settings.labels],
    }


class InspectForm(ScopeForm, KnobsForm):
    """A question to corpora, or to single documents, with knobs."""

    question = forms.CharField(
        max_length=MAX_QUESTION_CHARACTERS,
        widget=forms.Textarea(attrs={"rows": 3}),
        error_messages={"required": "Type a question first."},
    )

    def settings(self) -> RetrievalSettings:
        """The knobs of a valid form, for the documents that it names."""
        return super().settings().limited_to(self.only)


class CutForm(forms.Form):
    """The knobs that need no new search; empty ones stay as they are."""

    pool = _number("pool", required=False)
    top_n = _number("top_n", required=False)
    threshold = _share("Threshold", required=False)
