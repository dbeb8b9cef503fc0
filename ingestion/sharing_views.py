"""The page on which owners share a corpus, and the way out for those it was shared with."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from ingestion import sharing
from ingestion.errors import SharingRefused
from ingestion.models import Corpus, Share


class ShareForm(forms.Form):
    """Whom to share with, and as what."""

    name = forms.CharField(
        label="Person or group",
        max_length=260,
        help_text="A user name, an e-mail address, or group:NAME.",
        widget=forms.TextInput(
            attrs={"class": "input", "autocomplete": "off", "list": "people", "spellcheck": "false"}
        ),
    )
    role = forms.ChoiceField(
        label="As",
        choices=Share.Role.choices,
        initial=Share.Role.VIEWER,
        widget=forms.Select(attrs={"class": "input"}),
    )


class TransferForm(forms.Form):
    """Who is to own the corpus."""

    to = forms.CharField(
        label="New owner",
        max_length=260,
        widget=forms.TextInput(attrs={"class": "input", "autocomplete": "off", "list": "heirs"}),
    )


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # everybody else was sent to sign in
    return request.user


def _own(request: HttpRequest, corpus_id: int) -> Corpus:
    owned = Corpus.objects.owned_by(_person(request)).select_related("owner")
    return get_object_or_404(owned, pk=corpus_id)


@require_http_methods(["GET", "POST"])
def share(request: HttpRequest, corpus_id: int) -> HttpResponse:
    """Whom a corpus is shared with; POST shares it with one more."""
    corpus = _own(request, corpus_id)
    form = ShareForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        wanted = form.cleaned_data
        try:
            made = sharing.share(
                corpus=corpus, by=_person(request), name=wanted["name"], role=wanted["role"]
            )
        except SharingRefused as exc:
            form.add_error("name", exc.sentence)
        else:
            messages.success(request, f"Shared with {made.holder} as {made.role}.")
            return redirect("ingestion:share", corpus_id)
    return _page(request, corpus, form=form)


def _page(
    request: HttpRequest,
    corpus: Corpus,
    *,
    form: ShareForm | None = None,
    transfer_form: TransferForm | None = None,
) -> HttpResponse:
    shares = list(corpus.shares.select_related("person", "group", "granted_by"))
    context: dict[str, Any] = {
        "corpus": corpus,
        "shares": shares,
        "roles": Share.Role.choices,
        "form": form or ShareForm(),
        "transfer_form": transfer_form or TransferForm(),
        "offered": list(sharing.names_to_offer(corpus)),
        "heirs": [one.person for one in shares if one.person and one.person.is_active],
    }
    is_wrong = any(one is not None and one.errors for one in (form, transfer_form))
    return render(request, "ingestion/sharing.html", context, status=422 if is_wrong else 200)


@require_POST
def change_share(request: HttpRequest, corpus_id: int, share_id: int) -> HttpResponse:
    """Another role, or with `act=revoke` no share any more."""
    corpus, person = _own(request, corpus_id), _person(request)
    shared = get_object_or_404(corpus.shares.select_related("corpus", "person"), pk=share_id)
    if request.POST.get("act") == "revoke":
        sharing.revoke(shared=shared, by=person)
        messages.success(request, f"{shared.holder} no longer has this corpus by a share.")
    elif request.POST.get("role") in Share.Role.values:
        sharing.change(shared=shared, by=person, role=request.POST["role"])
        messages.success(request, f"{shared.holder} is {shared.role} now.")
    else:
        messages.error(request, "Choose viewer, editor or owner.")
    # Who has just taken away their own rights has nothing left to see there.
    still = Corpus.objects.owned_by(person).filter(pk=corpus_id).exists()
    return redirect("ingestion:share", corpus_id) if still else redirect("ingestion:corpora")


@require_POST
def transfer(request: HttpRequest, corpus_id: int) -> HttpResponse:
    """Give the corpus to another owner."""
    corpus = _own(request, corpus_id)
    form = TransferForm(request.POST)
    if form.is_valid():
        try:
            heir = sharing.transfer(corpus=corpus, by=_person(request), to=form.cleaned_data["to"])
        except SharingRefused as exc:
            form.add_error("to", exc.sentence)
        else:
            messages.success(request, f"{corpus.name} belongs to {heir} now.")
            return redirect("ingestion:corpus", corpus_id)
    return _page(request, corpus, transfer_form=form)


@require_POST
def leave(request: HttpRequest, corpus_id: int) -> HttpResponse:
    """Give up what was shared with oneself by name."""
    person = _person(request)
    corpus = get_object_or_404(Corpus.objects.readable_by(person), pk=corpus_id)
    shared = corpus.shares.select_related("corpus", "person").filter(person=person).first()
    if shared is None:
        messages.warning(request, "This corpus is not shared with you by name.")
        return redirect("ingestion:corpus", corpus_id)
    sharing.revoke(shared=shared, by=person)
    messages.success(request, f"{corpus.name} is no longer shared with you.")
    return redirect("ingestion:corpora")
