"""The processes a command needs, for as long as it runs.

A command uses the processes of the running site, or those that the environment names.
Where there are none it starts its own on the same data and stops them when it is done.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from ragsite import processes, sign_in, supervisor
from ragsite.runtime import running_services

START_SECONDS = 120.0
VARIABLES = {"redis": "REDIS_URL", "chroma": "CHROMA_URL", "inference": "INFERENCE_URL"}


@contextmanager
def local_services(wanted: Collection[str], *, say: Callable[[str], None]) -> Iterator[None]:
    """Have the wanted services ("redis", "chroma", "inference") reachable inside the block.

    Raises:
        CannotStart: another command or a starting site holds the data folder, or a
            service did not come up; the text says what to do.
    """
    running = running_services(settings.DATA_DIR)
    missing = {
        name
        for name in wanted
        if not supervisor.is_given(VARIABLES[name]) and VARIABLES[name] not in running
    }
    if not missing:
        yield
        return
    with supervisor.only_one(settings.DATA_DIR):
        say(f"The site is not running; starting {', '.join(sorted(missing))} for this command …")
        started: list[processes.Process] = []
        try:
            for service in supervisor.backing_services(settings.DATA_DIR, wanted=missing):
                log = settings.DATA_DIR / "logs" / f"{service.name}.log"
                started.append(processes.Process(service, env={}, log=log))
            for process in started:
                _wait(process)
            yield
        finally:
            processes.stop_all(started)
            for name in missing:
                os.environ.pop(VARIABLES[name], None)


def _wait(process: processes.Process) -> None:
    """Wait until a process is of use; the model server until its models are loaded."""
    deadline = time.monotonic() + START_SECONDS
    healthy = process.wait_until_healthy(START_SECONDS)
    if healthy and process.service.name == "inference":
        url = f"{settings.INFERENCE_URL}/health"
        while not (healthy := processes.answers(url)):
            if time.monotonic() > deadline or process.exit_status() is not None:
                break
            time.sleep(0.2)
    if not healthy:
        raise supervisor.CannotStart(
            f"{process.service.name} did not start. The reason stands at the end of {process.log}"
        )


if TYPE_CHECKING:
    _Command = BaseCommand
else:
    _Command = object


class NeedsServices(_Command):
    """Mix-in for a command that needs services: put it before the command's own class."""

    services: ClassVar[frozenset[str]] = frozenset()

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command with its services at hand and the database in its latest shape.

        A command that acts as a person makes the first administrator of a site that has nobody.
        """
        try:
            call_command("migrate", verbosity=0, interactive=False)
            if "username" in options and not User.objects.exists():
                person = sign_in.first_administrator()
                self.note(
                    f"The site is new: “{person}” was made its administrator. "
                    "`manage.py sign_in_link` prints a link to come in."
                )
            self.refuse_early(options)
            with local_services(self.needed(options), say=self.note):
                return super().execute(*args, **options)
        except supervisor.CannotStart as exc:
            raise CommandError(str(exc)) from exc

    def needed(self, options: dict[str, Any]) -> frozenset[str]:
        """The services that this call needs."""
        return self.services

    def refuse_early(self, options: dict[str, Any]) -> None:
        """Raise CommandError for what can be refused before a process is started for it."""

    def note(self, line: str) -> None:
        """Tell the person at the terminal; standard output is for results alone."""
        sys.stderr.write(line + "\n")
