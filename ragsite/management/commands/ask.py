"""`manage.py ask`, with the processes it needs started where none run."""

from chat.management.commands.ask import Command as Plain
from ragsite.local_services import NeedsServices


class Command(NeedsServices, Plain):
    """The command of the chat app."""

    services = frozenset({"chroma", "inference"})
