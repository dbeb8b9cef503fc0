"""`manage.py train_reranker`, with the processes it needs started where none run."""

from typing import Any

from ingestion import command_options
from ragsite.local_services import NeedsServices
from search.management.commands.train_reranker import Command as Plain


class Command(NeedsServices, Plain):
    """The command of the search app."""

    services = frozenset({"chroma", "inference"})

    def refuse_early(self, options: dict[str, Any]) -> None:
        """A person who does not exist needs no process to be refused."""
        command_options.person(options)
