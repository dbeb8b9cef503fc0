"""Search: fusion, reranking, the retrieval pipeline and its trace."""

from django.apps import AppConfig


class SearchConfig(AppConfig):
    """The search application."""

    name = "search"
    verbose_name = "Search"

    def ready(self) -> None:
        """Have cached scores go with their document."""
        from ingestion import holders
        from search.score_cache import KeptScores

        holders.register(KeptScores())
