"""The options `--corpus` and `--as`, which mean the same to every command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import CommandError, CommandParser

from ingestion import labels
from ingestion.models import Corpus, Document
from ingestion.types import DocumentFilter


def add_person_and_corpus(parser: CommandParser) -> None:
    """Declare `--corpus NAME` (required) and `--as USERNAME`."""
    parser.add_argument("--corpus", required=True, metavar="NAME", help="Name of the corpus.")
    add_person(parser)


def add_person(parser: CommandParser) -> None:
    """Declare `--as USERNAME`."""
    parser.add_argument(
        "--as",
        dest="username",
        metavar="USERNAME",
        help="Act as this person (default: the first administrator).",
    )


def add_filter(parser: CommandParser) -> None:
    """Declare `--tag TAG`, `--where NAME=VALUE` and `--document NAME`, each as often as wanted."""
    parser.add_argument(
        "--document", action="append", default=[], metavar="NAME", help="Only this document."
    )
    parser.add_argument(
        "--tag", action="append", default=[], metavar="TAG", help="Only documents with this tag."
    )
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="Only documents whose metadata say so. Values of one name are alternatives.",
    )


def filter_of(options: Mapping[str, Any], corpus: Corpus) -> DocumentFilter:
    """What `--tag`, `--where` and `--document` say.

    Raises:
        CommandError: one is not written as it must be, or there is no such document.
    """
    texts = [*(f"{labels.TAG}={tag}" for tag in options["tag"]), *options["where"]]
    for text in texts:
        if labels.read_one(text) is None:
            raise CommandError(f"“{text}” is no filter. Write --tag TAG or --where NAME=VALUE.")
    searchable = Document.objects.searchable().filter(corpus=corpus)
    found = dict(searchable.filter(name__in=options["document"]).values_list("name", "pk"))
    for name in options["document"]:
        if name not in found:
            raise CommandError(
                f"“{corpus}” has no document called “{name}” that is ready. Check the spelling."
            )
    return DocumentFilter(labels=labels.read_all(texts), documents=tuple(found.values()))


def person(options: Mapping[str, Any]) -> User:
    """The person a command acts as: the one named by `--as`, or the first administrator.

    Raises:
        CommandError: there is nobody of that name, or no administrator at all.
    """
    username = options["username"]
    if username is None:
        administrators = User.objects.filter(is_superuser=True, is_active=True)
        first = administrators.order_by("pk").first()
        if first is None:
            raise CommandError(
                "There is no administrator yet. Make one with `manage.py createsuperuser`, "
                "or name a person with --as USERNAME."
            )
        return first
    try:
        return User.objects.get(username=username, is_active=True)
    except User.DoesNotExist as exc:
        raise CommandError(
            f"There is no active person called “{username}”. Check the spelling of --as."
        ) from exc


def readable_corpus(options: Mapping[str, Any], reader: User) -> Corpus:
    """The corpus named by `--corpus` among those this person may search.

    The person's own corpus wins over an open one of the same name.

    Raises:
        CommandError: there is none of that name, or several of other owners.
    """
    name = options["corpus"]
    readable = Corpus.objects.readable_by(reader).select_related("owner")
    named = list(readable.filter(name=name))
    own = [corpus for corpus in named if corpus.owner_id == reader.pk]
    if own or len(named) == 1:
        return (own or named)[0]
    if named:
        owners = ", ".join(sorted(corpus.owner.get_username() for corpus in named))
        raise CommandError(
            f"Several people have an open corpus called “{name}”: {owners}. "
            "Name one of them with --as."
        )
    names = ", ".join(f"“{corpus}”" for corpus in readable)
    raise CommandError(
        f"There is no corpus called “{name}” that {reader.get_username()} may search. "
        + (f"There is: {names}." if names else "There is none yet: make one with `ingest`.")
    )
