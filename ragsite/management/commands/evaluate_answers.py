"""`manage.py evaluate_answers`, with the processes it needs started where none run."""

from typing import Any

from chat.management.commands.evaluate_answers import Command as Plain
from ingestion import command_options
from ragsite.local_services import NeedsServices


class Command(NeedsServices, Plain):
    """The command of the chat app."""

    services = frozenset({"chroma", "inference"})

    def refuse_early(self, options: dict[str, Any]) -> None:
        """A person who does not exist needs no process to be refused."""
        command_options.person(options)
