"""Forms of the ingestion pages."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.models import User
from django.db import models

from ingestion.models import MAX_INSTRUCTIONS, Corpus
from ingestion.parsing.formats import EXTENSIONS
from ingestion.types import (
    MAX_PASSAGE_TOKENS,
    MIN_PASSAGE_TOKENS,
    WINDOW_TOKENS,
    ChunkOptions,
    Strategy,
)

ACCEPTED = tuple(extension for group in EXTENSIONS.values() for extension in group)

MAX_CONTEXT_TOKENS = 4_000


class CorporaField(forms.ModelMultipleChoiceField):  # type: ignore[type-arg]  # not subscriptable at run time
    """Corpora to choose from; numbers that no database holds name none of them."""

    def clean(self, value: Any) -> Any:
        """Refuse what cannot be an id before SQLite is asked for it, which would fail."""
        for key in value or ():
            if str(key).isdecimal() and int(key) > models.BigAutoField.MAX_BIGINT:
                raise forms.ValidationError(
                    self.error_messages["invalid_choice"],
                    code="invalid_choice",
                    params={"value": key},
                )
        return super().clean(value)


class CorpusForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    """Name, description, visibility and manners of a person's corpus."""

    class Meta:
        model = Corpus
        fields = ("name", "description", "visibility", "doubtful", "instructions")
        widgets = {
            "name": forms.TextInput(attrs={"class": "input", "autocomplete": "off"}),
            "description": forms.Textarea(attrs={"class": "input", "rows": 2}),
            "instructions": forms.Textarea(
                attrs={"class": "input", "rows": 4, "maxlength": MAX_INSTRUCTIONS}
            ),
            "visibility": forms.RadioSelect,
            "doubtful": forms.RadioSelect,
        }

    def __init__(self, *args: Any, owner: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.instance.owner = owner
        self.fields["doubtful"].required = False

    def clean_doubtful(self) -> str:
        """What was chosen, or what it was: the short form for a new corpus does not ask."""
        chosen: str = self.cleaned_data["doubtful"]
        return chosen or self.instance.doubtful

    def clean_instructions(self) -> str:
        """What was written, or what it was where the form did not ask."""
        if self.add_prefix("instructions") not in self.data:
            return str(self.instance.instructions)
        written: str = self.cleaned_data["instructions"]
        return written.replace("\x00", "").strip()

    def clean_name(self) -> str:
        """A name that this owner has not given to another corpus."""
        name: str = self.cleaned_data["name"]
        others = Corpus.objects.filter(owner=self.instance.owner, name=name)
        if others.exclude(pk=self.instance.pk).exists():
            raise forms.ValidationError("You already have a corpus of this name. Choose another.")
        return name


class OptionsForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    """How a corpus's documents are cut, and what the language model reads around a passage."""

    class Meta:
        model = Corpus
        fields = (
            *("chunk_strategy", "chunk_max_tokens", "chunk_overlap_tokens"),
            *("context", "context_max_tokens"),
        )
        labels = {
            "chunk_strategy": "Cut at",
            "chunk_max_tokens": "Passage size",
            "chunk_overlap_tokens": "Overlap",
            "context": "What the language model reads",
            "context_max_tokens": "At most",
        }

    def __init__(
        self, *args: Any, site: ChunkOptions, model_tokens: int = 0, **kwargs: Any
    ) -> None:
        """`site` is how documents are cut otherwise; `model_tokens` what the embedder reads."""
        super().__init__(*args, **kwargs)
        self._site = site
        self._most = min(MAX_PASSAGE_TOKENS, model_tokens or MAX_PASSAGE_TOKENS)
        self._is_model = self._most < MAX_PASSAGE_TOKENS
        options = self.instance.chunk_options(site=site)
        self.initial["chunk_max_tokens"] = options.max_tokens
        self.initial["chunk_overlap_tokens"] = options.overlap_tokens
        for name, least in (
            ("chunk_max_tokens", MIN_PASSAGE_TOKENS),
            ("chunk_overlap_tokens", 0),
            ("context_max_tokens", MIN_PASSAGE_TOKENS),
        ):
            field = self.fields[name]
            field.widget = forms.NumberInput(attrs={"class": "input", "min": least})
            field.help_text = ""

    def clean_chunk_max_tokens(self) -> int:
        """Within what the models read of a passage."""
        size: int | None = self.cleaned_data["chunk_max_tokens"]
        if size is None:
            size = self._site.max_tokens
        if not MIN_PASSAGE_TOKENS <= size <= self._most:
            why = (
                f"the embedding model reads no more than {self._most} tokens"
                if self._is_model
                else f"rerankers read {WINDOW_TOKENS} tokens, the question's among them"
            )
            raise forms.ValidationError(
                f"A passage may have {MIN_PASSAGE_TOKENS} to {self._most} tokens: {why}."
            )
        return size

    def clean_chunk_overlap_tokens(self) -> int:
        """Not more than a third of a passage."""
        overlap: int | None = self.cleaned_data["chunk_overlap_tokens"]
        if overlap is None:
            overlap = self._site.overlap_tokens
        size = self.cleaned_data.get("chunk_max_tokens")
        if size is not None and overlap > size // 3:
            raise forms.ValidationError(
                f"Passages of {size} tokens may overlap by {size // 3}, a third, at most."
            )
        return overlap

    def clean_context_max_tokens(self) -> int:
        """Not less than a passage has, and not more than a small model's context."""
        limit: int = self.cleaned_data["context_max_tokens"]
        least = self.cleaned_data.get("chunk_max_tokens") or MIN_PASSAGE_TOKENS
        if not least <= limit <= MAX_CONTEXT_TOKENS:
            raise forms.ValidationError(
                f"Choose {least}, the size of a passage, to {MAX_CONTEXT_TOKENS} tokens."
            )
        return limit

    @property
    def options(self) -> ChunkOptions:
        """How to cut, of a valid form."""
        return ChunkOptions(
            strategy=Strategy(self.cleaned_data["chunk_strategy"]),
            max_tokens=self.cleaned_data["chunk_max_tokens"],
            overlap_tokens=self.cleaned_data["chunk_overlap_tokens"],
        )


class DeleteCorpusForm(forms.Form):
    """The corpus's name, typed by who wants it gone."""

    name = forms.CharField(
        widget=forms.TextInput(attrs={"class": "input", "autocomplete": "off"}), strip=True
    )

    def __init__(self, *args: Any, corpus: Corpus, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.corpus = corpus
        self.fields["name"].label = "Type its name to confirm"
        self.fields["name"].widget.attrs["data-must-equal"] = corpus.name

    def clean_name(self) -> str:
        """The very name."""
        name: str = self.cleaned_data["name"]
        if name != self.corpus.name.strip():
            raise forms.ValidationError(
                f"That is not its name, so nothing was deleted. Type: {self.corpus.name}"
            )
        return name
