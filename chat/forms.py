"""What a person may send to the chat: a question with its scope, a new title."""

from __future__ import annotations

from django import forms

from chat.types import TurnOptions
from ingestion.forms import ScopeForm

MAX_QUESTION_CHARACTERS = 10_000


class AskForm(ScopeForm):
    """A question, its scope, and the conversation it goes on with."""

    question = forms.CharField(error_messages={"required": "Type a question first."})
    model = forms.CharField(required=False, max_length=200)

    def clean_question(self) -> str:
        """Refuse a question that is too long, saying by how much."""
        question = str(self.cleaned_data["question"])
        if len(question) > MAX_QUESTION_CHARACTERS:
            raise forms.ValidationError(
                f"The question has {len(question):,} characters; at most "
                f"{MAX_QUESTION_CHARACTERS:,} are possible. Shorten it, or upload the text as a "
                "document and ask about it.",
                code="too_long",
            )
        return question


class PullForm(forms.Form):
    """A language model to be fetched: a name as Ollama's library has it."""

    pull = forms.RegexField(
        r"^[\w./:-]{1,200}$",
        error_messages={
            "required": "Type the name of a model first, like qwen3:4b-instruct.",
            "invalid": "A model's name has letters, digits and . _ - / : only.",
        },
    )


class AgainForm(forms.Form):
    """A question asked once more: in other words, with another model, or with other knobs.

    What is left empty is as it was in the conversation and its corpora.
    """

    question = forms.CharField(required=False)
    model = forms.CharField(required=False, max_length=200)
    top_n = forms.IntegerField(required=False, min_value=1, max_value=50)
    pool = forms.IntegerField(required=False, min_value=1, max_value=500)
    rerank = forms.ChoiceField(required=False, choices=[("", "as set"), ("1", "on"), ("0", "off")])

    def options(self) -> TurnOptions:
        """What was chosen, after `is_valid`."""
        rerank = self.cleaned_data["rerank"]
        return TurnOptions(
            model=self.cleaned_data["model"].strip(),
            top_n=self.cleaned_data["top_n"],
            pool=self.cleaned_data["pool"],
            rerank=None if rerank == "" else rerank == "1",
        )


class RenameForm(forms.Form):
    """A conversation's title."""

    title = forms.CharField(max_length=200)
