"""The site: settings, addresses, sign-in, status, and `up`, which runs all processes."""

from ragsite.celery import app as celery_app

__all__ = ["celery_app"]
