"""The Celery tasks of the chat.

task       soft / hard limit   expires   runs twice
diagnose   50 / 60 s           1 h       harmless: it only reads
"""

from __future__ import annotations

import logging

from celery import shared_task

from chat.diagnosis import diagnose as diagnosed
from inference.errors import InferenceError
from search.conf import search_services

logger = logging.getLogger(__name__)


@shared_task(ignore_result=True, soft_time_limit=50, time_limit=60, expires=3600)
def diagnose() -> None:
    """Write what is wrong with reranking into the log, as the status page shows it."""
    try:
        info = search_services().inference.info()
    except InferenceError:
        info = None
    for finding in diagnosed(info):
        logger.warning("reranking, %s: %s", finding.fault, finding.sentence)
