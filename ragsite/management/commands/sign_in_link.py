"""`manage.py sign_in_link`: a link that signs one person in once."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError

from ragsite.sign_in import first_administrator, one_time_link


class Command(BaseCommand):
    """Print a one-time sign-in link."""

    help = (
        "Print a link that signs USERNAME in once; it expires after a day. Without a name: the "
        "first administrator, who is made where there is none."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """USERNAME and `--base-url`."""
        parser.add_argument("username", metavar="USERNAME", nargs="?")
        parser.add_argument(
            "--base-url", default=settings.WEB_URL, help="address of the site (%(default)s)"
        )

    def handle(self, *args: object, **options: Any) -> None:
        """Fails when nobody active has this name."""
        person: User | None
        if options["username"] is None:
            person = first_administrator()
        else:
            person = User.objects.filter(username=options["username"], is_active=True).first()
        if person is None:
            names = User.objects.filter(is_active=True).order_by("username")
            known = ", ".join(names.values_list("username", flat=True)[:10]) or "nobody yet"
            raise CommandError(f"Nobody active is called {options['username']}. There is: {known}.")
        self.stdout.write(one_time_link(person, base_url=options["base_url"]))
