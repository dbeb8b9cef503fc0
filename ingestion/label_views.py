"""What a person says about documents and corpora: labels, versions, pause."""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from ingestion import labels, services
from ingestion.errors import InvalidLabel
from ingestion.models import Corpus, Document, DocumentLabel
from ingestion.views import chosen_documents, count_documents, documents_changed


class LabelsForm(forms.Form):
    """Tags, metadata, and for several documents what is taken from them."""

    tags = forms.CharField(
        required=False,
        max_length=2_000,
        help_text="Separated by commas.",
        widget=forms.TextInput(attrs={"class": "input", "autocomplete": "off", "autofocus": True}),
    )
    metadata = forms.CharField(
        required=False,
        max_length=8_000,
        help_text="One a line, as “name: value”. Questions can be limited to documents by them.",
        widget=forms.Textarea(
            attrs={"class": "input", "rows": 3, "placeholder": "year: 2026\ndepartment: Legal"}
        ),
    )

    def clean(self) -> dict[str, object]:
        """Labels that mean something, as `labels`."""
        cleaned = super().clean() or {}
        try:
            cleaned["labels"] = labels.from_text(
                tags=cleaned.get("tags", ""), metadata=cleaned.get("metadata", "")
            )
        except InvalidLabel as exc:
            raise forms.ValidationError(exc.sentence) from exc
        return cleaned


@require_http_methods(["GET", "POST"])
def edit_labels(request: HttpRequest, corpus_id: int) -> HttpResponse:
    """GET asks for tags and metadata; POST sets one document's, or adds to several or removes."""
    chosen = chosen_documents(request, corpus_id)
    documents = list(chosen.only("pk", "name")[:2_000])
    if request.method == "GET":
        one = documents[0] if len(documents) == 1 else None
        form = LabelsForm(initial=_as_text(one) if one else {})
        return _form(request, form, corpus_id, documents)
    form = LabelsForm(request.POST)
    if not form.is_valid():
        return _form(request, form, corpus_id, documents, status=422)
    given, removes = form.cleaned_data["labels"], request.POST.get("act") == "remove"
    count = services.label(
        documents=chosen,
        add=() if removes else given,
        remove=given if removes else (),
        only=len(documents) == 1 and not removes,
    )
    messages.success(request, f"Tags and metadata of {count_documents(count)} are changed.")
    if "stay" in request.POST and len(documents) == 1:
        return redirect("ingestion:document", documents[0].pk)
    response = documents_changed(request, corpus_id)
    # Nothing goes into the dialog, which what came there would open again.
    response["HX-Retarget"], response["HX-Reswap"] = "#messages", "none"
    return response


def _as_text(document: Document) -> dict[str, str]:
    held = list(DocumentLabel.objects.filter(document=document))
    tags = ", ".join(one.value for one in held if one.name == labels.TAG)
    fields = "\n".join(f"{one.name}: {one.value}" for one in held if one.name != labels.TAG)
    return {"tags": tags, "metadata": fields}


def _form(
    request: HttpRequest,
    form: LabelsForm,
    corpus_id: int,
    documents: list[Document],
    *,
    status: int = 200,
) -> HttpResponse:
    context = {
        "form": form,
        "documents": documents,
        "corpus": get_object_or_404(Corpus, pk=corpus_id),
        "stays": "stay" in request.GET or "stay" in request.POST,
    }
    is_fragment = bool(request.htmx)  # type: ignore[attr-defined]
    name = "_labels_form.html" if is_fragment else "labels.html"
    return render(request, f"ingestion/{name}", context, status=status)


@require_POST
def pause(request: HttpRequest, corpus_id: int) -> HttpResponse:
    """Let the documents of a corpus wait, or go on with them."""
    found = get_object_or_404(Corpus.objects.editable_by(request.user), pk=corpus_id)
    if request.POST.get("paused") == "1":
        services.pause(corpus=found)
        messages.success(request, "Paused. What is being read now is finished; the rest waits.")
    else:
        services.resume(corpus=found)
        messages.success(request, "The documents of this corpus are being read again.")
    return redirect("ingestion:corpus", corpus_id)


@require_POST
def stand_alone(request: HttpRequest, document_id: int) -> HttpResponse:
    """Take a version out of its series: it answers beside the others from now on."""
    found = get_object_or_404(Document.objects.editable_by(request.user), pk=document_id)
    services.stand_alone(document=found)
    messages.success(request, f"{found.name} is a document of its own now.")
    return redirect("ingestion:document", document_id)
