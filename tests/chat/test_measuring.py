"""How often quotes hold the answer: counted by the real pipeline on a small collection."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.core.management import CommandError, call_command

from chat.management.commands.evaluate_answers import Command
from chat.measuring import Asked, read_answers
from ingestion.models import Corpus
from search.evaluation.beir import CollectionError
from tests.search.evaluation.test_beir import write

if TYPE_CHECKING:
    from django.contrib.auth.models import User

COLOURS = {"Paris": "green", "Oslo": "yellow", "Cairo": "purple", "Lima": "orange"}

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """Passages whose fourth sentence answers, so that their beginning never does."""
    folder = tmp_path / "flags"
    folder.mkdir()
    text = (
        "{0} is a city that many people call their home. It lies by the water, as so many do. "
        "In summer there are concerts in its old streets. The flag of {0} is {1} all over."
    )
    return write(
        folder,
        corpus=[
            {"_id": place, "title": "", "text": text.format(place, colour)}
            for place, colour in COLOURS.items()
        ],
        queries=[{"_id": "q", "text": "What colour is the flag of Paris?"}],
        qrels="q\tParis\t1\n",
    )


@pytest.mark.services
def test_it_counts_answers_in_quotes_and_in_the_beginning(
    collection: Path, admin: User, tmp_data: Path, chroma_url: str, inference_url: str
) -> None:
    answers = tmp_data / "answers.jsonl"
    rows = [
        {"question": f"What colour is the flag of {place}?", "answers": [colour.upper()]}
        for place, colour in COLOURS.items()
    ]
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = StringIO()

    call_command(Command(stdout=out), str(collection), str(answers), "--json")

    found = json.loads(out.getvalue())
    assert found["questions"] == len(COLOURS)
    assert found["quotes"]["mean"] == 1.0
    assert found["beginning"]["mean"] == 0.0
    assert found["read"]["mean"] == 1.0
    assert not Corpus.objects.exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"question": "Why?"}\n', "line 1: expected one JSON object"),
        ('{"question": "Why?", "answers": ["so"]}\n{"question": "", "answers": ["x"]}', "line 2"),
        ('{"question": "Why?", "answers": []}', "line 1"),
        ("\n", "holds no question"),
    ],
)
def test_a_wrong_file_of_answers_is_refused_in_a_sentence(
    collection: Path, admin: User, tmp_path: Path, content: str, sentence: str
) -> None:
    answers = tmp_path / "answers.jsonl"
    answers.write_text(content)

    with pytest.raises(CommandError, match=sentence):
        call_command(Command(), str(collection), str(answers))


def test_a_missing_file_of_answers_is_named(collection: Path, admin: User) -> None:
    with pytest.raises(CommandError, match=r"gone\.jsonl cannot be read"):
        call_command(Command(), str(collection), "gone.jsonl")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "holds no question"),
        (b'{"question": "Who?"}\n', "line 1: expected one JSON object"),
        (b'{"question": "Who?", "answers": ["a"]}\n{"question": " ", "answers": ["a"]}', "line 2"),
        (b'{"question": "Who?", "answers": [""]}', "line 1: expected one JSON object"),
        (b"\xff\xfe", "is not UTF-8"),
    ],
)
def test_answers_that_cannot_be_read_are_named(
    tmp_path: Path, content: bytes, sentence: str
) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_bytes(content)

    with pytest.raises(CollectionError, match=sentence):
        read_answers(file)
    with pytest.raises(CollectionError, match="cannot be read"):
        read_answers(tmp_path / "gone")


def test_answers_may_hold_any_sign(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_text('\ufeff{"question": "Who?", "answers": ["a\u2028b"]}\r\n\r\n')

    assert read_answers(file) == [Asked("Who?", ["a\u2028b"])]
