"""The site itself: sign-in, status, and the supervisor of its processes."""

from django.apps import AppConfig


class SiteConfig(AppConfig):
    """The site application."""

    name = "ragsite"
