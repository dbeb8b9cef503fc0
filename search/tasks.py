"""The Celery tasks of the search app.

task            soft / hard limit   expires   runs twice
train_reranker  none                never     harmless: a run goes on from its folder
"""

from __future__ import annotations

import logging
from typing import Any

from celery import shared_task
from django.conf import settings
from django.contrib.auth.models import User

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
