"""Ingestion: corpora, documents, chunks and the indexes built from them."""

from django.apps import AppConfig


class IngestionConfig(AppConfig):
    """The ingestion application."""

    name = "ingestion"
    verbose_name = "Documents"

    def ready(self) -> None:
        """Register the system checks."""
        from ingestion import checks  # noqa: F401
