"""`manage.py rebuild`: a corpus's index built anew beside the one in use."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from inference.errors import InferenceError
from ingestion import command_options, rebuild, stages
from ingestion.errors import IngestionError
from ingestion.forms import OptionsForm
from ingestion.generations import live_generation
from ingestion.models import Corpus, IndexGeneration
from ingestion.types import ChunkOptions, Strategy
from ingestion.waiting import CannotFinish, until_built
from search import comparison
from search.conf import retrieval_settings, search_services

# What --compare stands for without a file, and how many questions that asks.
JUDGED = Path()
MAX_JUDGED = 200


class Command(BaseCommand):
    """Exit status 1 if it cannot be done, or documents could not be built."""

    help = (
        "Build the index of a corpus anew beside the one in use; then --flip puts it into use. "
        "--cancel stops it, --roll-back goes back to the former one within a day."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """`CORPUS`, how to cut, what to do, `--wait`, `--json`, `--as`."""
        parser.add_argument("corpus", metavar="CORPUS", help="Name of a corpus of yours.")
        parser.add_argument("--strategy", choices=[s.value for s in Strategy])
        parser.add_argument("--max-tokens", type=int, metavar="N", help="size of a passage")
        parser.add_argument("--overlap", type=int, metavar="N", help="tokens said twice")
        act = parser.add_mutually_exclusive_group()
        act.add_argument("--cancel", action="store_true", help="stop building")
        act.add_argument("--retry", action="store_true", help="try again what failed")
        act.add_argument("--roll-back", action="store_true", help="the former index again")
        act.add_argument("--state", action="store_true", help="only say how it stands")
        parser.add_argument("--flip", action="store_true", help="put it into use when complete")
        parser.add_argument(
            "--without-failed", action="store_true", help="with --flip: even if documents failed"
        )
        parser.add_argument("--wait", action="store_true", help="until it is complete")
        parser.add_argument(
            "--compare",
            type=Path,
            nargs="?",
            const=JUDGED,
            metavar="FILE",
            help="ask both indexes the questions of a file, one a line; after => the document "
            "that answers it; without FILE those with a passage that was judged relevant",
        )
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
        command_options.add_person(parser)

    def handle(self, *args: object, **options: Any) -> None:
        """Do what is asked for and say how it stands then."""
        began = time.monotonic()
        corpus = own_corpus(options)
        try:
            report = self._do(corpus, options)
        except IngestionError as exc:
            raise CommandError(exc.sentence) from exc
        except CannotFinish as exc:
            raise CommandError(str(exc)) from exc
        except InferenceError as exc:
            raise CommandError(
                "The model server does not answer. Start the site with `make run`, then run this "
                "again."
            ) from exc
        report["seconds"] = round(time.monotonic() - began, 1)
        if options["json"]:
            self.stdout.write(json.dumps(report, ensure_ascii=False, indent=1))
        else:
            self.stdout.write(_as_lines(report))
        if report["building"] and report["building"]["documents"]["failed"]:
            sys.exit(1)

    def _do(self, corpus: Corpus, options: dict[str, Any]) -> dict[str, Any]:
        generation = rebuild.building(corpus)
        if options["cancel"]:
            rebuild.cancel(_named(generation))
        elif options["roll_back"]:
            rebuild.roll_back(corpus)
        elif options["retry"]:
            rebuild.retry(_named(generation))
        elif not options["state"] and (generation is None or _says_how(options)):
            generation = self._start(corpus, options)
        generation = rebuild.building(corpus)
        compared = None
        if generation is not None and options["wait"]:
            self._wait(generation, quiet=options["json"])
        if generation is not None and options["compare"]:
            asked = _questions(corpus, options)
            compared = _compared(corpus, generation, asked)
        if generation is not None and options["flip"]:
            rebuild.flip(generation, without_failed=options["without_failed"])
        return {**_report(corpus), "comparison": compared}

    def _start(self, corpus: Corpus, options: dict[str, Any]) -> IndexGeneration:
        given = stages.tools()
        wanted = _options(corpus, options, site=given.settings.chunk)
        return rebuild.start(corpus, options=wanted, client=given.client, store=given.store)

    def _wait(self, generation: IndexGeneration, *, quiet: bool) -> None:
        with tqdm(unit="document", disable=True if quiet else None, leave=False) as bar:

            def tell(reached: rebuild.Progress) -> None:
                bar.total, bar.n = reached.total, reached.done
                bar.set_description(reached.blocked or "building")

            until_built(generation, tell=tell)


def own_corpus(options: dict[str, Any]) -> Corpus:
    """The corpus of this name that the person may change.

    Raises:
        CommandError: there is none.
    """
    owner = command_options.person(options)
    corpus = Corpus.objects.editable_by(owner).filter(name=options["corpus"]).first()
    if corpus is None:
        raise CommandError(
            f"{owner.get_username()} has no corpus called “{options['corpus']}”. Check the "
            "spelling, or name its owner with --as."
        )
    return corpus


def _named(generation: IndexGeneration | None) -> IndexGeneration:
    if generation is None:
        raise CommandError("No rebuild of this corpus is under way.")
    return generation


def _says_how(options: dict[str, Any]) -> bool:
    named = ("strategy", "max_tokens", "overlap")
    return any(options[name] is not None for name in named)


def _options(corpus: Corpus, options: dict[str, Any], *, site: ChunkOptions) -> ChunkOptions:
    """How to cut: as the corpus says, changed by the command line and kept with the corpus."""
    wanted = corpus.chunk_options(site=site)
    if not _says_how(options):
        return wanted
    if options["strategy"]:
        wanted = replace(wanted, strategy=Strategy(options["strategy"]))
    if options["max_tokens"] is not None:
        wanted = replace(wanted, max_tokens=options["max_tokens"])
    if options["overlap"] is not None:
        wanted = replace(wanted, overlap_tokens=options["overlap"])
    form = OptionsForm(
        {
            "chunk_strategy": wanted.strategy,
            "chunk_max_tokens": wanted.max_tokens,
            "chunk_overlap_tokens": wanted.overlap_tokens,
            "context": corpus.context,
            "context_max_tokens": max(corpus.context_max_tokens, wanted.max_tokens),
        },
        instance=corpus,
        site=site,
    )
    if not form.is_valid():
        raise CommandError(" ".join(str(e) for errors in form.errors.values() for e in errors))
    form.save()
    return form.options


def _questions(corpus: Corpus, options: dict[str, Any]) -> list[comparison.Question]:
    file: Path = options["compare"]
    if file == JUDGED:
        reader = command_options.person(options)
        if found := comparison.judged_questions(corpus, reader=reader, count=MAX_JUDGED):
            return found
        raise CommandError(
            "Nobody has judged a passage of this corpus relevant yet. Do that in the chat or the "
            "inspector, or name a file of questions after --compare."
        )
    try:
        return comparison.parse_questions(file.read_text())
    except (OSError, UnicodeDecodeError) as exc:
        raise CommandError(f"{file} cannot be read: {exc}.") from exc


def _compared(
    corpus: Corpus, generation: IndexGeneration, questions: Sequence[comparison.Question]
) -> dict[str, Any]:
    live = live_generation(corpus)
    assert live is not None  # a rebuild needs one
    found = comparison.compare(
        live,
        generation,
        questions,
        settings=retrieval_settings([live.corpus]),
        services=search_services(),
    )
    names = ("live", "building")
    measured = found.measured or (None, None)
    return {
        "facts": dict(zip(names, map(asdict, found.facts), strict=True)),
        "measured": {n: asdict(m) if m else None for n, m in zip(names, measured, strict=True)},
        "questions": [
            {
                "question": question.text,
                "document": question.document,
                **{
                    name: {"place": side.place, "sources": side.trace.sources()[:5]}
                    for name, side in zip(names, sides, strict=True)
                },
            }
            for question, *sides in found.questions
        ],
    }


def _report(corpus: Corpus) -> dict[str, Any]:
    live, building = live_generation(corpus), rebuild.building(corpus)
    former = rebuild.former(corpus)
    until = rebuild.kept_until(former) if former else None
    return {
        "corpus": corpus.name,
        "live": _described(live) if live else None,
        "building": _described(building) | _progress(building) if building else None,
        "former": _described(former) if former else None,
        "former_until": until.isoformat() if until else None,
    }


def _described(generation: IndexGeneration) -> dict[str, Any]:
    facts = rebuild.facts(generation)
    return {
        "key": generation.key,
        "strategy": generation.chunk_strategy,
        "max_tokens": generation.chunk_max_tokens,
        "overlap_tokens": generation.chunk_overlap_tokens,
        "embedding_model": generation.embedding_model,
        "embedding_revision": generation.embedding_revision,
        "dimension": generation.dimension,
        "passages": facts.passages,
        "tokens": facts.tokens,
    }


def _progress(generation: IndexGeneration) -> dict[str, Any]:
    reached = rebuild.progress(generation)
    return {
        "complete": reached.is_complete,
        "waits_for": reached.blocked,
        "documents": {
            "total": reached.total,
            "ready": reached.ready,
            "failed": reached.failed,
            "left": reached.left,
        },
        "failures": [
            {
                "document_id": build.document_id,
                "document": build.document.name,
                "error_code": build.error_code,
                "error": build.error_sentence,
            }
            for build in rebuild.failures(generation)
        ],
    }


def _as_lines(report: dict[str, Any]) -> str:
    lines = []
    for name in ("live", "building", "former"):
        if (one := report[name]) is None:
            continue
        lines.append(
            f"{name:9} {one['strategy']}, up to {one['max_tokens']} tokens, overlap "
            f"{one['overlap_tokens']}, {one['embedding_model']}: {one['passages']} passages"
        )
        if name == "building":
            count = one["documents"]
            state = "complete" if one["complete"] else f"{count['left']} left"
            lines.append(f"          {count['ready']} of {count['total']} documents, {state}")
            lines += [f"          {f['document']}: {f['error']}" for f in one["failures"]]
            if one["waits_for"]:
                lines.append(f"          {one['waits_for']}")
    if compared := report["comparison"]:
        lines += _comparison_lines(compared)
    return "\n".join(lines) or "This corpus has no index yet."


def _comparison_lines(compared: dict[str, Any]) -> list[str]:
    lines = []
    for name, measured in compared["measured"].items():
        if measured:
            lines.append(
                f"{name:9} recall@{comparison.DEPTH} {measured['recall']:.3f}, "
                f"MRR {measured['mrr']:.3f} over {measured['questions']} questions"
            )
    lines += [
        f"{row['question']}: {_first(row['live'])} / {_first(row['building'])}"
        for row in compared["questions"]
    ]
    return lines


def _first(side: dict[str, Any]) -> str:
    return str(side["sources"][0]["document"]) if side["sources"] else "nothing"
