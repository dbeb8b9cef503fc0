"""`manage.py status`: each process and model, up or down."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand
from django.db import DatabaseError
from django.db.models import Count

from ingestion.models import Document
from ragsite import health
from search.rerank import place


class Command(BaseCommand):
    """Show what is up; exit status 1 if something the site needs is down."""

    help = "Each process and model: up, device, queue, versions. Exit status 1 if one is down."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """`--json`."""
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *args: object, **options: Any) -> None:
        """Ask once and print."""
        site, findings = health.examine(), health.reranking()
        if options["json"]:
            told = as_json(site) | {"findings": [asdict(finding) for finding in findings]}
            self.stdout.write(json.dumps(told, indent=2))
        else:
            self._print(site)
            for finding in findings:
                self.stdout.write(f"note  {finding.sentence}")
        if not site.is_up:
            sys.exit(1)

    def _print(self, site: health.SiteHealth) -> None:
        for check in site.checks:
            state = "up  " if check.up else "down" if check.required else "off "
            facts = ", ".join(f"{name} {value}" for name, value in check.facts.items() if value)
            self.stdout.write(
                f"{state}  {check.title:<24}{facts or check.reason:<40}{check.ms:7.0f} ms"
            )
            for kind, model in check.models.items():
                if model is not None:
                    where = f"{model.model_id}{place(model.device)}"
                    where += f", {model.dtype}" if model.dtype else ""
                    why = f" ({model.chosen})" if model.chosen else ""
                    self.stdout.write(f"      {kind:<24}{where}{why}")
            if check.advice:
                self.stdout.write(f"      {check.advice}")


def as_json(site: health.SiteHealth) -> dict[str, Any]:
    """What scripts read: processes by name, models, queue, versions."""
    models = dict(site.check("inference").models)
    return {
        "up": site.is_up,
        "processes": {
            check.name: {
                "up": check.up,
                "required": check.required,
                "ms": check.ms,
                "reason": check.reason,
                "advice": check.advice,
                **check.facts,
            }
            for check in site.checks
        },
        "models": {
            **{
                kind: asdict(model) if (model := models.get(kind)) else None
                for kind in ("embedder", "reranker")
            },
            "generator": site.check("ollama").facts.get("model"),
        },
        "queue": queue(),
        "versions": {
            **health.versions(),
            **{c.name: c.facts["version"] for c in site.checks if c.facts.get("version")},
        },
    }


def queue() -> dict[str, int]:
    """Documents by state; empty when the database cannot be asked."""
    try:
        counted = Document.objects.order_by().values_list("state").annotate(Count("pk"))
        return dict(counted)
    except DatabaseError:
        return {}
