"""`manage.py evaluate_answers`: how often the answer stands in the quotes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from chat import measuring
from inference.errors import InferenceError
from ingestion import command_options, services
from ingestion.conf import ingestion_settings
from ingestion.purge import purge_corpus_soon
from search.evaluation.beir import CollectionError, load
from search.evaluation.indexing import IndexingFailed, corpus_of


class Command(BaseCommand):
    """Index the collection, ask, count; exit status 1 if it cannot."""

    help = "Measure the answers that are made of quotes: is the known answer among them?"

    def add_arguments(self, parser: CommandParser) -> None:
        """`evaluate_answers BEIR_DIR ANSWERS [--language …] [--keep] [--json]`."""
        parser.add_argument("folder", type=Path, metavar="BEIR_DIR", help="Its documents are read.")
        parser.add_argument(
            "answers",
            type=Path,
            metavar="ANSWERS",
            help="JSON lines with question and answers, a list of texts of which one suffices.",
        )
        parser.add_argument("--language", default="en", help="Analyser of the keyword index.")
        parser.add_argument("--keep", action="store_true", help="Keep the corpus afterwards.")
        parser.add_argument("--json", action="store_true", help="Print one JSON document.")
        command_options.add_person(parser)

    def handle(self, *args: object, **options: Any) -> None:
        """Three figures: the quotes, the first sentences of the best passage, what was read."""
        try:
            asked = measuring.read_answers(options["answers"])
            collection = load(options["folder"])
            with tqdm(file=sys.stderr, disable=not sys.stderr.isatty()) as bar:

                def progress(done: int, total: int, what: str) -> None:
                    bar.total, bar.n, bar.unit = total, done, f" {what}"
                    bar.refresh()

                corpus, _ = corpus_of(
                    collection,
                    owner=command_options.person(options),
                    language=options["language"],
                    progress=progress,
                )
                found = measuring.measure(asked, corpus=corpus, progress=progress)
        except (CollectionError, IndexingFailed) as exc:
            raise CommandError(str(exc)) from exc
        except InferenceError as exc:
            raise CommandError(
                f"The model server cannot be used ({exc}). Look at `manage.py status`."
            ) from exc
        if not options["keep"]:
            services.delete_corpus(corpus=corpus)
            purge_corpus_soon(corpus.pk, ingestion_settings())
        if options["json"]:
            self.stdout.write(json.dumps(measuring.as_json(found), indent=1))
        else:
            self.stdout.write(measuring.as_table(found))
