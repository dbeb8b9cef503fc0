"""Forms of the ingestion pages."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.models import User

from ingestion.models import Corpus
from ingestion.parsing.formats import EXTENSIONS

ACCEPTED = tuple(extension for group in EXTENSIONS.values() for extension in group)


class CorpusForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    """Name, description, visibility and manners of a person's corpus."""

    class Meta:
        model = Corpus
        fields = ("name", "description", "visibility", "doubtful")
        widgets = {
            "name": forms.TextInput(attrs={"class": "input", "autocomplete": "off"}),
            "description": forms.Textarea(attrs={"class": "input", "rows": 2}),
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

    def clean_name(self) -> str:
        """A name that this owner has not given to another corpus."""
        name: str = self.cleaned_data["name"]
        others = Corpus.objects.filter(owner=self.instance.owner, name=name)
        if others.exclude(pk=self.instance.pk).exists():
            raise forms.ValidationError("You already have a corpus of this name. Choose another.")
        return name


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
