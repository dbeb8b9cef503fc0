"""Chat: conversations, prompts, generation, citations and streaming."""

from django.apps import AppConfig


class ChatConfig(AppConfig):
    """The chat application."""

    name = "chat"
    verbose_name = "Chat"

    def ready(self) -> None:
        """Have stored answers asked when a document is deleted."""
        from chat.forgetting import StoredAnswers
        from ingestion import holders

        holders.register(StoredAnswers())
