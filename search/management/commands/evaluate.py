"""`manage.py evaluate`: what each stage of retrieval is worth on a judged collection."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from inference.errors import InferenceError
from ingestion import command_options, services
from ingestion.conf import ingestion_settings
from ingestion.purge import purge_corpus_soon
from search.conf import search_services
from search.evaluation import indexing, report, runner, runs
from search.evaluation.beir import Collection, CollectionError, load
from search.evaluation.runner import Report

DEFAULT_POOLS = (10, 20, 30, 50, 100, 200)


class Command(BaseCommand):
    """Index the collection, ask its queries, print the figures; exit status 1 if it cannot."""

    help = "Measure each stage of retrieval on a collection in BEIR's layout."

    def add_arguments(self, parser: CommandParser) -> None:
        """`evaluate BEIR_DIR [--stages …] [--pool …] [--limit N] [--json] [--svg FILE] …`."""
        parser.add_argument("folder", type=Path, metavar="BEIR_DIR")
        parser.add_argument("--stages", default=",".join(runner.STAGES), help="Which to report.")
        parser.add_argument("--pool", help="Pool sizes of the sweep, such as 20,50,100.")
        parser.add_argument("--limit", type=int, metavar="N", help="Ask only the first N queries.")
        parser.add_argument("--language", default="en", help="Analyser of the keyword index.")
        parser.add_argument("--svg", type=Path, metavar="FILE", help="Write a chart, too.")
        parser.add_argument("--keep", action="store_true", help="Keep the corpus afterwards.")
        parser.add_argument("--json", action="store_true", help="Print one JSON document.")
        command_options.add_person(parser)

    def handle(self, *args: object, **options: Any) -> None:
        """Stopped by Ctrl-C it keeps what it has; the same command goes on from there."""
        stages = _stages(options["stages"])
        pools = _pools(options["pool"])
        if options["limit"] is not None and options["limit"] < 1:
            raise CommandError("--limit must be at least 1.")
        try:
            collection = load(options["folder"], limit=options["limit"])
            finished = self._evaluate(collection, stages, pools, options)
        except (CollectionError, indexing.IndexingFailed) as exc:
            raise CommandError(str(exc)) from exc
        except InferenceError as exc:
            raise CommandError(
                f"The model server cannot be used ({exc}). Look at `manage.py status`."
            ) from exc
        except KeyboardInterrupt:
            self.stderr.write("\nStopped. The same command goes on where this one was.")
            sys.exit(130)
        if options["svg"]:
            options["svg"].write_text(report.as_svg(finished), encoding="utf-8")
        if options["json"]:
            self.stdout.write(json.dumps(report.as_json(finished), indent=1))
        else:
            self.stdout.write(report.as_table(finished))

    def _evaluate(
        self, collection: Collection, stages: list[str], pools: list[int], options: dict[str, Any]
    ) -> Report:
        reached = search_services()
        info = reached.inference.info()
        notes = list(collection.notes)
        if info.reranker is None and "reranked" in stages:
            notes.append(f"not reranked: {info.reranker_reason}")
            stages = [stage for stage in stages if stage != "reranked"]
        owner = command_options.person(options)
        with _Bar() as bar:
            corpus, documents = indexing.corpus_of(
                collection,
                owner=owner,
                language=options["language"],
                progress=bar,
            )
            settings = runner.evaluation_settings(pools=pools, rerank="reranked" in stages)
            results_path = runner.results_file(
                django_settings.DATA_DIR / "evaluations",
                collection,
                settings,
                models=" ".join(
                    f"{model.model_id} {model.revision}"
                    for model in (info.embedder, info.reranker)
                    if model
                ),
            )
            measured = runner.measure(
                collection,
                corpus=corpus,
                documents=documents,
                stages=stages,
                pools=pools,
                settings=settings,
                services=reached,
                models={
                    "embedder": info.embedder.model_id if info.embedder else "",
                    "reranker": info.reranker.model_id if info.reranker else "",
                },
                results=results_path,
                notes=notes,
                progress=bar,
            )
        runs.keep(
            measured,
            owner=owner,
            texts=collection.queries,
            plan={"pools": pools, "settings": asdict(settings)},
        )
        if not options["keep"]:
            services.delete_corpus(corpus=corpus)
            purge_corpus_soon(corpus.pk, ingestion_settings())
            results_path.unlink(missing_ok=True)
        return measured.report


def _stages(value: str) -> list[str]:
    wanted = [name.strip() for name in value.split(",") if name.strip()]
    if unknown := [name for name in wanted if name not in runner.STAGES] or not wanted:
        raise CommandError(
            f"--stages knows {', '.join(runner.STAGES)}"
            + (f", not {', '.join(unknown)}." if isinstance(unknown, list) else ".")
        )
    return [stage for stage in runner.STAGES if stage in wanted]


def _pools(value: str | None) -> list[int]:
    if value is None:
        return list(DEFAULT_POOLS)
    try:
        pools = sorted({int(size) for size in value.split(",")})
    except ValueError:
        pools = []
    if not pools or pools[0] < 1 or pools[-1] > 2 * runner.DEPTH:
        raise CommandError(f"--pool takes numbers from 1 to {2 * runner.DEPTH}: 20,50,100.")
    return pools


class _Bar:
    """One progress bar on standard error, renamed from phase to phase."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] = tqdm(file=sys.stderr, disable=not sys.stderr.isatty())

    def __call__(self, done: int, total: int, what: str) -> None:
        self._bar.total, self._bar.n, self._bar.unit = total, done, f" {what}"
        self._bar.refresh()

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()
