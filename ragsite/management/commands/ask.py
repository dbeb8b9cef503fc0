"""`manage.py ask`, with the processes it needs started where none run."""

from typing import Any

from chat.management.commands.ask import Command as Plain
from ingestion import command_options
from ragsite.local_services import NeedsServices


class Command(NeedsServices, Plain):
    """The command of the chat app."""

    services = frozenset({"chroma", "inference"})

    def refuse_early(self, options: dict[str, Any]) -> None:
        """A person or corpus that does not exist needs no model to be refused."""
        command_options.readable_corpus(options, command_options.person(options))
