"""`manage.py up`: all processes of one machine, until Ctrl-C."""

from __future__ import annotations

import os
import sys
import webbrowser
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, connection

from ragsite import processes, samples, sign_in, supervisor

WEB_START_SECONDS = 60.0


class Command(BaseCommand):
    """Start everything on this machine, print the address, stop everything together."""

    help = "Start all processes of one machine and stop them together with Ctrl-C."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """`--port`, `--host`, `--no-browser`, `--no-samples`."""
        parser.add_argument("--port", type=int, default=8000, help="port of the site (8000)")
        parser.add_argument(
            "--host", default=processes.HOST, help="address to listen on (loopback)"
        )
        parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
        parser.add_argument("--no-samples", action="store_true", help="no sample corpus")

    def handle(self, *args: object, **options: Any) -> None:
        """Run until told to stop. Exit status 1 when the site cannot start or go on."""
        data_dir = settings.DATA_DIR
        try:
            supervisor.check_room(data_dir, floor_bytes=settings.DISK_FLOOR_MB * 2**20)
            with supervisor.only_one(data_dir):
                supervisor.check_port(options["port"])
                status = self._run(supervisor.Supervisor(data_dir, self.say), options)
        except supervisor.CannotStart as exc:
            raise CommandError(str(exc)) from exc
        if status:
            sys.exit(status)

    def say(self, line: str) -> None:
        """Print one line; a terminal that is gone is no reason to stop half way."""
        try:
            self.stdout.write(line)
            self.stdout.flush()
        except OSError:
            return

    def _run(self, site: supervisor.Supervisor, options: dict[str, Any]) -> int:
        site.listen_to_signals()
        url = f"http://{_shown(options['host'])}:{options['port']}"
        try:
            self.say("Starting ragsite …")
            wanted = {"redis", "chroma", "inference"}
            backing = supervisor.backing_services(site.data_dir, wanted=wanted)
            supervisor.use_address("WEB_URL", url)
            started = [site.start(service) for service in backing]
            self._prepare_database()
            web = site.start(processes.web_service(options["port"], host=options["host"]))
            site.start(processes.worker_service(is_healthy=supervisor.worker_answers))
            site.start(processes.upkeep_service(is_healthy=supervisor.worker_answers))
            site.start(processes.beat_service(site.data_dir / "run"))
            site.announce(
                WEB_URL=url,
                REDIS_URL=settings.REDIS_URL,
                CHROMA_URL=settings.CHROMA_URL,
                INFERENCE_URL=settings.INFERENCE_URL,
            )
            if not site.wait_for(web, timeout_seconds=WEB_START_SECONDS) and not site.stopping:
                raise supervisor.CannotStart(
                    f"The web process did not start. {supervisor.where_to_look(web)}"
                )
            if not site.stopping:
                self._welcome(site, url, options)
                for process in started:
                    if not site.wait_for(process, timeout_seconds=20) and not site.stopping:
                        self.say(f"{process.service.name} is not up yet. {process.service.advice}")
            return site.watch()
        finally:
            self.say("Stopping …")
            site.stop()
            self.say("Stopped. Nothing was lost; `make run` starts it again.")

    def _prepare_database(self) -> None:
        try:
            call_command("migrate", verbosity=0, interactive=False)
        except OperationalError as exc:
            raise supervisor.CannotStart(
                f"The database cannot be used ({exc}). Check DATABASE_URL, and that its disk is "
                "not full."
            ) from exc

    def _welcome(self, site: supervisor.Supervisor, url: str, options: dict[str, Any]) -> None:
        person = sign_in.first_administrator()
        if not options["no_samples"]:
            samples.load_samples(person, marker=site.data_dir / "samples-loaded")
        link = sign_in.one_time_link(person, base_url=url)
        connection.close()
        self.say("")
        self.say(f"  ragsite runs at {url}")
        self.say(f"  Sign in once as {person.username} with this link:")
        self.say(f"  {link}")
        self.say("")
        self.say(f"  Data: {site.data_dir}   Logs: {site.data_dir / 'logs'}   Stop: Ctrl-C")
        self.say("")
        if not options["no_browser"] and sys.stdout.isatty() and _has_display():
            webbrowser.open(link)


def _shown(host: str) -> str:
    """A host that a browser on this machine can open."""
    return processes.HOST if host in ("0.0.0.0", "::") else host  # noqa: S104 (compared, not bound)


def _has_display() -> bool:
    return sys.platform == "darwin" or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
