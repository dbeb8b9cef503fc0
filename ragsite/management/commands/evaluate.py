"""`manage.py evaluate`, with the processes it needs started where none run."""

from ragsite.local_services import NeedsServices
from search.management.commands.evaluate import Command as Plain


class Command(NeedsServices, Plain):
    """The command of the search app."""

    services = frozenset({"chroma", "inference"})
