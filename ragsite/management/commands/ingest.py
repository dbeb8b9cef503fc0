"""`manage.py ingest`, with the processes it needs started where none run."""

from typing import Any

from ingestion import command_options
from ingestion.management.commands.ingest import Command as Plain
from ragsite.local_services import NeedsServices


class Command(NeedsServices, Plain):
    """The command of the ingestion app."""

    services = frozenset({"chroma", "inference", "redis"})

    def needed(self, options: dict[str, Any]) -> frozenset[str]:
        """Nothing to leave files for the next start of the site; all to wait for them now."""
        return self.services if options.get("wait") else frozenset()

    def refuse_early(self, options: dict[str, Any]) -> None:
        """A person who does not exist needs no process to be refused."""
        command_options.person(options)
