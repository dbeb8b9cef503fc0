"""Forms of the ingestion pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.auth.models import User
from django.db import models

from ingestion import labels
from ingestion.models import MAX_INSTRUCTIONS, Corpus, Document
from ingestion.parsing.formats import EXTENSIONS
from ingestion.types import (
    MAX_PASSAGE_TOKENS,
    MIN_PASSAGE_TOKENS,
    WINDOW_TOKENS,
    ChunkOptions,
    DocumentFilter,
    Strategy,
)

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser

ACCEPTED = tuple(extension for group in EXTENSIONS.values() for extension in group)

MAX_CONTEXT_TOKENS = 4_000
MAX_DOCUMENTS = 50


class RowsField(forms.ModelMultipleChoiceField):  # type: ignore[type-arg]  # not subscriptable at run time
    """Rows to choose from; numbers that no database holds name none of them."""

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


class LabelsField(forms.Field):
    """Labels as forms carry them, `name=value`; what is none is left out."""

    widget = forms.MultipleHiddenInput

    def clean(self, value: Any) -> tuple[labels.Label, ...]:
        """The labels, each once."""
        return labels.read_all(map(str, value or ()))


class ScopeForm(forms.Form):
    """What a question is put to: corpora, or single documents of them, and a filter by labels.

    What the person may not see is refused like what does not exist. With documents, the corpora
    are those that hold them. `only` is then what is searched of the corpora.
    """

    documents = RowsField(
        queryset=Document.objects.none(),
        required=False,
        error_messages=dict.fromkeys(
            ("invalid_choice", "invalid_pk_value"),
            "One of the chosen documents no longer exists. Go on without it, or choose another.",
        ),
    )
    labels = LabelsField(required=False)
    corpora = RowsField(
        queryset=Corpus.objects.none(),
        required=False,
        error_messages=dict.fromkeys(
            ("invalid_choice", "invalid_pk_value"),
            "One of the chosen corpora no longer exists. Reload the page and choose again.",
        ),
    )

    def __init__(self, *args: Any, person: User | AnonymousUser, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        corpora, documents = self.fields["corpora"], self.fields["documents"]
        assert isinstance(corpora, RowsField)
        assert isinstance(documents, RowsField)
        corpora.queryset = Corpus.objects.readable_by(person)
        documents.queryset = Document.objects.readable_by(person)

    @property
    def only(self) -> DocumentFilter:
        """What is searched of the corpora, after `is_valid`."""
        keys = sorted(document.pk for document in self.cleaned_data["documents"])
        return DocumentFilter(labels=self.cleaned_data["labels"], documents=tuple(keys))

    def clean_documents(self) -> list[Document]:
        """Refuse documents that cannot be searched now, and too many."""
        chosen = list(self.cleaned_data["documents"])
        if len(chosen) > MAX_DOCUMENTS:
            raise forms.ValidationError(
                f"At most {MAX_DOCUMENTS} single documents can be chosen. Give them a tag, and "
                "filter by the tag.",
                code="too_many",
            )
        for document in chosen:
            is_this = DocumentFilter(documents=(document.pk,))
            if not Document.objects.searchable().passing(is_this).exists():
                raise forms.ValidationError(
                    f"“{document}” cannot be searched now: it is still being read, has failed, or "
                    "is switched off for answers. Untick it, or look at its page.",
                    code="not_searchable",
                )
        return chosen

    def clean_corpora(self) -> list[Corpus]:
        """Refuse a scope in which there is nothing to search yet."""
        documents = self.cleaned_data.get("documents")
        if documents is None:  # refused already
            return []
        if documents:
            holders = {document.corpus_id for document in documents}
            return list(Corpus.objects.filter(pk__in=holders))
        chosen = list(self.cleaned_data["corpora"])
        if not chosen:
            raise forms.ValidationError("Choose at least one corpus to ask.", code="required")
        if not Document.objects.searchable().filter(corpus__in=chosen).exists():
            names = ", ".join(f"“{corpus}”" for corpus in chosen)
            raise forms.ValidationError(
                f"{names} {'holds' if len(chosen) == 1 else 'hold'} no document that is ready. "
                "Upload one there, or wait until it has been read.",
                code="nothing_ready",
            )
        return chosen


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
