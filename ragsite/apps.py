"""The site itself: sign-in, status, and the supervisor of its processes."""

from django.apps import AppConfig


class SiteConfig(AppConfig):
    """The site application."""

    name = "ragsite"

    def ready(self) -> None:
        """Let the audit log hear of sign-ins and of changes in the admin panel."""
        from ragsite import panel_log, sign_in_log

        sign_in_log.listen()
        panel_log.listen()
