"""Chat: conversations, prompts, generation, citations and streaming."""

from django.apps import AppConfig


class ChatConfig(AppConfig):
    """The chat application."""

    name = "chat"
    verbose_name = "Chat"
