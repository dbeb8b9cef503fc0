"""Search: fusion, reranking, the retrieval pipeline and its trace."""

from django.apps import AppConfig


class SearchConfig(AppConfig):
    """The search application."""

    name = "search"
    verbose_name = "Search"
