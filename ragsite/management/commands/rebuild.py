"""`manage.py rebuild`, with the processes it needs started where none run."""

from typing import Any

from ragsite.local_services import NeedsServices
from search.management.commands.rebuild import Command as Plain
from search.management.commands.rebuild import own_corpus


class Command(NeedsServices, Plain):
    """The command of the search app."""

    services = frozenset({"chroma", "inference", "redis"})

    def needed(self, options: dict[str, Any]) -> frozenset[str]:
        """Nothing to change rows; all to begin, to wait or to compare."""
        acts = ("cancel", "retry", "roll_back", "state")
        if any(options.get(act) for act in acts) and not options.get("wait"):
            return frozenset()
        return self.services

    def refuse_early(self, options: dict[str, Any]) -> None:
        """A person or corpus that does not exist needs no process to be refused."""
        own_corpus(options)
