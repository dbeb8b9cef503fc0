"""The Celery tasks of the search app.

task            soft / hard limit   expires   runs twice
train_reranker  none                never     harmless: a run goes on from its folder
evaluate        55 / 58 min         never     harmless: only the claimer works
resume          50 / 60 s           60 s      harmless: it only sends messages
"""

from __future__ import annotations

import logging
from typing import Any

from celery import shared_task
from django.conf import settings
from django.contrib.auth.models import User

from search.evaluation import runs as evaluations
from search.training import runs

logger = logging.getLogger(__name__)


@shared_task(ignore_result=True, acks_late=True)
def train_reranker(plan: dict[str, Any], *, owner_id: int, name: str) -> None:
    """Train in a worker what `manage.py train_reranker` trains in a terminal.

    Args:
        plan: `dataclasses.asdict` of a `RunPlan`, paths as text.
        owner_id: whose corpora the sets are while negatives are mined.
        name: of the run's folder under DATA_DIR/training; the model ends in its `model`.
    """
    card = runs.carry_out(
        runs.plan_from_json(plan),
        settings.DATA_DIR / "training" / name,
        owner=User.objects.get(pk=owner_id),
        progress=lambda done, total, what: logger.info("%s: %s of %s %s", name, done, total, what),
    )
    logger.info("%s: trained, %s", name, card["training"])


@shared_task(ignore_result=True, acks_late=True, soft_time_limit=55 * 60, time_limit=58 * 60)
def evaluate(run_id: int) -> None:
    """Measure what a run asks for; what is left after its turn is found by `resume`."""
    evaluations.carry_out(run_id)


@shared_task(ignore_result=True, soft_time_limit=50, time_limit=60, expires=60)
def resume() -> None:
    """Have runs gone on with whose worker is gone."""
    evaluations.resume()
