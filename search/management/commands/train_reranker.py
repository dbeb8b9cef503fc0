"""`manage.py train_reranker`: a cross-encoder from labelled pairs, measured and calibrated."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from inference.errors import InferenceError
from inference.training import LOSSES, UNTRAINED, TrainingSettings
from ingestion import command_options
from search.evaluation.beir import CollectionError
from search.evaluation.indexing import IndexingFailed
from search.training import runs
from search.training.runs import RunFailed, RunPlan, Source


class Command(BaseCommand):
    """Mine, train, measure; the model ends in OUT/model, to be named by RERANKER."""

    help = "Train or fine-tune a reranker on labelled pairs, and measure what it is worth."

    def add_arguments(self, parser: CommandParser) -> None:
        """`train_reranker --pairs FILE… --out FOLDER [--validate FILE…] …`."""
        usual = TrainingSettings()
        parser.add_argument(
            "--pairs",
            nargs="+",
            required=True,
            metavar="SOURCE",
            help="Files of pairs (JSON lines: query, passage, label, and perhaps title, lang, "
            "group) or folders in BEIR's layout. After a path may stand, separated by commas, "
            "limit=N, titles=no, licence=TEXT.",
        )
        parser.add_argument(
            "--validate",
            nargs="+",
            default=[],
            metavar="SOURCE",
            help="Sets that are left out whole and decide which checkpoint is kept. "
            "Default: a tenth of each training set, split by group.",
        )
        parser.add_argument("--out", type=Path, metavar="FOLDER", help="Of the run.")
        parser.add_argument(
            "--base",
            default=usual.base,
            help="A cross-encoder to go on with: a folder, a model id, or bundled; by default "
            f"({UNTRAINED}) a new head of the bundled kind.",
        )
        parser.add_argument("--loss", choices=LOSSES, default=usual.loss)
        parser.add_argument("--epochs", type=float, default=usual.epochs)
        parser.add_argument("--learning-rate", type=float, default=usual.learning_rate)
        parser.add_argument("--batch", type=int, default=usual.questions_per_batch)
        parser.add_argument("--teacher", default="", help="A larger reranker to learn from.")
        parser.add_argument("--teacher-share", type=float, default=usual.teacher_share)
        parser.add_argument("--evaluations", type=int, default=usual.evaluations)
        parser.add_argument("--patience", type=int, default=usual.patience)
        parser.add_argument("--seed", type=int, default=usual.seed)
        parser.add_argument("--memory", type=float, default=usual.memory_gib, metavar="GIB")
        parser.add_argument("--json", action="store_true", help="Print the run card as JSON.")
        command_options.add_person(parser)

    def handle(self, *args: object, **options: Any) -> None:
        """Stopped by Ctrl-C or killed, the same command goes on where it was."""
        plan = _plan(options)
        folder = options["out"] or django_settings.DATA_DIR / "training" / "reranker"
        try:
            with tqdm(file=sys.stderr, disable=not sys.stderr.isatty()) as bar:

                def progress(done: int, total: int, what: str) -> None:
                    bar.total, bar.n, bar.unit = total, done, f" {what}"
                    bar.refresh()

                owner = command_options.person(options)
                card = runs.carry_out(plan, folder, owner=owner, progress=progress)
        except (CollectionError, IndexingFailed, RunFailed) as exc:
            raise CommandError(str(exc)) from exc
        except InferenceError as exc:
            raise CommandError(
                f"The model server cannot be used ({exc}). Look at `manage.py status`."
            ) from exc
        except KeyboardInterrupt:
            self.stderr.write("\nStopped. The same command goes on where this one was.")
            sys.exit(130)
        if options["json"]:
            self.stdout.write(json.dumps(card, indent=1, ensure_ascii=False))
            return
        for name, found in card["gains"].items():
            final = found["calibrated"]
            difference = final["difference"]
            self.stdout.write(
                f"{name}: nDCG@10 {100 * final['fused']['mean']:.1f} fused, "
                f"{100 * final['reranked']['mean']:.1f} reranked "
                f"({100 * difference['mean']:+.1f}, 95 % from {100 * difference['low']:+.1f} to "
                f"{100 * difference['high']:+.1f})"
            )
        self.stdout.write(f"The model is in {folder / 'model'}; set RERANKER to that folder.")


def _plan(options: dict[str, Any]) -> RunPlan:
    for name, least in (("epochs", 0), ("learning_rate", 0), ("batch", 1), ("memory", 0)):
        if options[name] < least or options[name] == 0:
            raise CommandError(f"--{name.replace('_', '-')} must be greater than 0.")
    if not 0 <= options["teacher_share"] <= 1:
        raise CommandError("--teacher-share is a share from 0 to 1.")
    settings = TrainingSettings(
        base=options["base"],
        loss=options["loss"],
        epochs=options["epochs"],
        learning_rate=options["learning_rate"],
        questions_per_batch=options["batch"],
        teacher=options["teacher"],
        teacher_share=options["teacher_share"],
        evaluations=options["evaluations"],
        patience=options["patience"],
        seed=options["seed"],
        memory_gib=options["memory"],
    )
    sources = {name: [_source(text) for text in options[name]] for name in ("pairs", "validate")}
    return RunPlan(sources["pairs"], sources["validate"], settings)


def _source(text: str) -> Source:
    """`PATH[,limit=N][,titles=no][,licence=TEXT]`."""
    path, *given = text.split(",")
    values: dict[str, Any] = {}
    for option in given:
        name, _, value = option.partition("=")
        if name == "limit" and value.isdecimal() and int(value):
            values["limit"] = int(value)
        elif name == "titles" and value in ("yes", "no"):
            values["titles"] = value == "yes"
        elif name == "licence" and value:
            values["licence"] = value
        else:
            raise CommandError(
                f"“{option}” is not understood: after the path may stand limit=N, titles=yes or "
                "no, licence=TEXT, separated by commas."
            )
    return Source(Path(path), **values)
