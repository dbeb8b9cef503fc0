"""`manage.py verify`: whether all stores agree, and repairing them."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from ingestion.conf import ingestion_settings
from ingestion.models import Verification
from ingestion.verification.run import verify
from ragsite.local_services import NeedsServices


class Command(NeedsServices, BaseCommand):
    """Exit status 1 if anything is wrong and was not repaired."""

    help = "Compare files, passages, keyword indexes and Chroma with SQL, and repair them from it."
    services = frozenset({"chroma"})

    def add_arguments(self, parser: ArgumentParser) -> None:
        """`--repair`, `--deep`, `--json`."""
        parser.add_argument("--repair", action="store_true", help="set right what can be")
        parser.add_argument("--deep", action="store_true", help="read every file and every vector")
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *args: object, **options: Any) -> None:
        """Compare once and print what differs."""
        record = verify(
            ingestion_settings(), repair=options["repair"], deep=options["deep"], tell=self.note
        )
        if options["json"]:
            self.stdout.write(json.dumps(as_json(record), indent=2))
        else:
            self._print(record)
        if record.unrepaired:
            sys.exit(1)

    def _print(self, record: Verification) -> None:
        for finding in record.findings:
            mark = "repaired" if finding["repaired"] else "found"
            self.stdout.write(f"{mark:<9}{finding['subject']} ({finding['count']}): ")
            self.stdout.write(f"         {finding['sentence']}")
        examined = ", ".join(f"{count} {name}" for name, count in record.examined.items())
        self.stdout.write(f"Compared {examined or 'nothing'}.")
        if not record.findings:
            self.stdout.write("All stores agree.")
        elif record.unrepaired and not record.repair:
            self.stdout.write("Run it again with --repair to set right what can be.")


def as_json(record: Verification) -> dict[str, Any]:
    """What scripts read."""
    assert record.ended_at is not None  # it was made by a run that ended
    return {
        "clean": not record.findings,
        "unrepaired": record.unrepaired,
        "deep": record.deep,
        "repair": record.repair,
        "seconds": round((record.ended_at - record.started_at).total_seconds(), 3),
        "examined": record.examined,
        "findings": record.findings,
    }
